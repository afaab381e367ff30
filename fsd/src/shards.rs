//! A hash map cut into pieces, each behind its own lock, for tables that many threads touch on every request.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

const PIECES: usize = 16;

/// A quick hasher for keys that no stranger chooses: inode ids and file handles.
#[derive(Clone, Copy, Default, Debug)]
pub struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0u8; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_ne_bytes(word));
        }
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }
    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }
    fn write_i32(&mut self, value: i32) {
        self.write_u64(value as u64);
    }
    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }
}

#[derive(Clone, Copy, Default, Debug)]
pub struct Mixed;

impl BuildHasher for Mixed {
    type Hasher = Mix;
    fn build_hasher(&self) -> Mix {
        Mix(0)
    }
}

pub type Piece<K, V> = HashMap<K, V, Mixed>;

#[derive(Debug)]
pub struct Shards<K, V>([Mutex<Piece<K, V>>; PIECES]);

impl<K: Hash + Eq, V> Default for Shards<K, V> {
    fn default() -> Self {
        Shards(std::array::from_fn(|_| Mutex::new(Piece::default())))
    }
}

impl<K: Hash + Eq, V> Shards<K, V> {
    /// The locked piece that holds `key`.
    pub fn piece(&self, key: &K) -> MutexGuard<'_, Piece<K, V>> {
        let hash = Mixed.hash_one(key);
        let index = (hash >> 48) as usize % PIECES;
        self.0[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Empties the map and hands over what it held.
    pub fn drain(&self) -> Vec<(K, V)> {
        self.0
            .iter()
            .flat_map(|piece| {
                let mut piece = piece.lock().unwrap_or_else(PoisonError::into_inner);
                std::mem::take(&mut *piece)
            })
            .collect()
    }

    /// What `pick` makes of the values.
    pub fn collect<T>(&self, pick: impl Fn(&V) -> Option<T>) -> Vec<T> {
        let mut found = Vec::new();
        for piece in &self.0 {
            let piece = piece.lock().unwrap_or_else(PoisonError::into_inner);
            found.extend(piece.values().filter_map(&pick));
        }
        found
    }

    pub fn len(&self) -> usize {
        self.0
            .iter()
            .map(|piece| piece.lock().unwrap_or_else(PoisonError::into_inner).len())
            .sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
