//! File handles that survive restarts, and that nobody but this server can make.
//!
//! A handle holds the backing file system's own handle of the file and the tag of the export it was given for, under a MAC
//! whose key lies in the server's state directory. A handle of one access point is worth nothing at another.

use std::io::{Read, Write};
use std::path::Path;

use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

use crate::sys::file::Handle;

const KEY_BYTES: usize = 32;
const KEY_FILE: &str = "handles.key";
const FORMAT: u8 = 1;
const MAC_BYTES: usize = 16;
/// Format, tag, kind and length of the inner handle.
const HEAD_BYTES: usize = 1 + 8 + 4 + 1;
const MOST: usize = HEAD_BYTES + Handle::ROOM + MAC_BYTES;

/// A handle as it goes over the wire.
#[derive(Clone, Copy, Debug)]
pub struct WireHandle {
    len: usize,
    bytes: [u8; MOST],
}

impl WireHandle {
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// What a handle stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// The directory of all exports.
    PseudoRoot,
    File {
        /// Of the export it belongs to.
        tag: u64,
        handle: Handle,
    },
}

/// The key that makes handles.
pub struct Seal(hmac::Key);

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal")
    }
}

impl Seal {
    /// The key of a state directory; made there, readable by its owner alone, when it is missing.
    pub fn open(directory: &Path) -> std::io::Result<Seal> {
        use std::os::unix::fs::OpenOptionsExt;
        let path = directory.join(KEY_FILE);
        let mut key = [0u8; KEY_BYTES];
        match std::fs::File::open(&path) {
            Ok(mut file) => file.read_exact(&mut key)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                SystemRandom::new()
                    .fill(&mut key)
                    .map_err(|_| std::io::Error::other("no random numbers"))?;
                let part = path.with_extension("part");
                let _ = std::fs::remove_file(&part);
                let mut options = std::fs::OpenOptions::new();
                let mut file = options
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(&part)?;
                file.write_all(&key)?;
                file.sync_all()?;
                std::fs::rename(&part, &path)?;
            }
            Err(error) => return Err(error),
        }
        Ok(Seal(hmac::Key::new(hmac::HMAC_SHA256, &key)))
    }

    /// A number for a name that means nothing without the key; never 0.
    pub fn tag(&self, name: &str) -> u64 {
        let tag = hmac::sign(&self.0, name.as_bytes());
        let tag = tag.as_ref().first_chunk::<8>();
        tag.map_or(1, |bytes| u64::from_le_bytes(*bytes)).max(1)
    }

    pub fn pseudo_root(&self) -> WireHandle {
        self.seal(0, 0, &[])
    }

    pub fn file(&self, tag: u64, handle: &Handle) -> WireHandle {
        self.seal(tag, handle.kind(), handle.bytes())
    }

    fn seal(&self, tag: u64, kind: i32, inner: &[u8]) -> WireHandle {
        let mut wire = WireHandle {
            len: HEAD_BYTES + inner.len() + MAC_BYTES,
            bytes: [0; MOST],
        };
        let end = HEAD_BYTES + inner.len();
        wire.bytes[0] = FORMAT;
        wire.bytes[1..9].copy_from_slice(&tag.to_le_bytes());
        wire.bytes[9..13].copy_from_slice(&kind.to_le_bytes());
        wire.bytes[13] = inner.len() as u8;
        wire.bytes[HEAD_BYTES..end].copy_from_slice(inner);
        let mac = hmac::sign(&self.0, &wire.bytes[..end]);
        wire.bytes[end..end + MAC_BYTES].copy_from_slice(&mac.as_ref()[..MAC_BYTES]);
        wire
    }

    /// What a handle that a client shows stands for; `None` when it is not of our making.
    pub fn open_handle(&self, wire: &[u8]) -> Option<Meaning> {
        let (head, rest) = wire.split_at_checked(HEAD_BYTES)?;
        let len = usize::from(*head.get(13)?);
        if head.first() != Some(&FORMAT) || rest.len() != len + MAC_BYTES {
            return None;
        }
        let tag = u64::from_le_bytes(*head.get(1..)?.first_chunk()?);
        let kind = i32::from_le_bytes(*head.get(9..)?.first_chunk()?);
        let (inner, _) = rest.split_at_checked(len)?;
        // A MAC of this length is no offer to guess at, but the comparison still takes the same time for all.
        let own = if len > Handle::ROOM {
            return None;
        } else {
            self.seal(tag, kind, inner)
        };
        let differs = own
            .as_bytes()
            .iter()
            .zip(wire)
            .fold(0, |differs, (own, given)| differs | (own ^ given));
        if differs != 0 {
            return None;
        }
        if tag == 0 {
            return Some(Meaning::PseudoRoot);
        }
        let handle = Handle::from_parts(kind, inner)?;
        Some(Meaning::File { tag, handle })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn directory(name: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("fsd-handles-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory");
        path
    }

    #[test]
    fn handles_are_the_same_after_a_restart_and_the_key_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let path = directory("restart");
        let handle = Handle::from_parts(1, &[1, 2, 3, 4, 5, 6, 7, 8]).expect("a handle");
        let first = Seal::open(&path).expect("a key");
        let wire = first.file(first.tag("fs-1"), &handle);
        let second = Seal::open(&path).expect("the key");
        let tag = second.tag("fs-1");
        assert_eq!(
            second.open_handle(wire.as_bytes()),
            Some(Meaning::File { tag, handle })
        );
        assert_ne!(tag, second.tag("fsap-1"));
        let mode = std::fs::metadata(path.join(KEY_FILE)).expect("the file");
        assert_eq!(mode.permissions().mode() & 0o777, 0o600);
        let other = Seal::open(&directory("other")).expect("another key");
        assert_eq!(other.open_handle(wire.as_bytes()), None);
        let root = second.pseudo_root();
        assert_eq!(
            second.open_handle(root.as_bytes()),
            Some(Meaning::PseudoRoot)
        );
    }

    proptest! {
        #[test]
        fn no_changed_bit_passes(at in 0usize..200, bit in 0u8..8, cut in 0usize..60) {
            let seal = Seal::open(&directory("forged")).expect("a key");
            let handle = Handle::from_parts(1, &[9; 8]).expect("a handle");
            let wire = seal.file(7, &handle);
            let mut forged = wire.as_bytes().to_vec();
            let at = at % forged.len();
            forged[at] ^= 1 << bit;
            prop_assert_eq!(seal.open_handle(&forged), None);
            let whole = wire.as_bytes();
            prop_assert_eq!(seal.open_handle(&whole[..cut.min(whole.len() - 1)]), None);
        }
    }
}
