//! What must survive a restart: which clients held state, and of which volumes they held locks. Until they have reclaimed it,
//! or the grace period is over, nobody may take new state (RFC 8881 section 8.4.2), and in those volumes functions take no locks.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak,
};
use std::time::{Duration, Instant};

use ring::digest;

use super::attributes::LEASE_SECONDS;
use crate::identity;
use crate::later::Later;
use crate::volume::Volume;

/// A client that has not noticed the restart yet notices it when it renews its lease.
const GRACE: Duration = Duration::from_secs(LEASE_SECONDS as u64 + LEASE_SECONDS as u64 / 2);
/// While clients go on to reclaim it lasts as much longer as they may pause, within limits.
const RECLAIMING: Duration = Duration::from_secs(10);
const LONGEST_GRACE: Duration = Duration::from_secs(3 * LEASE_SECONDS as u64);

/// When grace is over, after the start, when somebody reclaimed something last at that other time after it.
fn ends(reclaimed: Duration) -> Duration {
    GRACE.max(LONGEST_GRACE.min(reclaimed + RECLAIMING))
}

const CLIENTS: &str = "clients";

/// Names a client's record: the digest of its realm and its owner string.
pub type RecordName = String;

pub fn record_name(realm: u64, owner: &[u8]) -> RecordName {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&realm.to_le_bytes());
    context.update(owner);
    let digest = context.finish();
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Who is waited for.
#[derive(Debug, Default)]
struct Expected {
    /// Clients of the last life that have not said that they are done with reclaiming, and the volumes that they had locked.
    clients: HashMap<RecordName, HashSet<String>>,
    /// Open volumes that are held back for them.
    held_back: Vec<Weak<Volume>>,
}

impl Expected {
    fn locked(&self, volume: &str) -> bool {
        self.clients.values().any(|locked| locked.contains(volume))
    }

    /// Volumes that nobody is waited for any more.
    fn freed(&mut self) -> Vec<Arc<Volume>> {
        let held_back = std::mem::take(&mut self.held_back);
        let (waiting, freed) = held_back
            .into_iter()
            .filter_map(|volume| volume.upgrade())
            .partition(|volume| self.locked(&volume.name));
        let waiting: Vec<Arc<Volume>> = waiting;
        self.held_back = waiting.iter().map(Arc::downgrade).collect();
        freed
    }
}

fn resume(volumes: Vec<Arc<Volume>>) {
    for volume in volumes {
        tracing::info!(volume = volume.name, "functions take locks again");
        volume.locks.resume().give();
    }
}

#[derive(Debug)]
pub struct Recovery {
    directory: PathBuf,
    /// Where records are written before they take their place.
    beside: PathBuf,
    expected: Mutex<Expected>,
    /// Clients of this life.
    present: RwLock<HashSet<RecordName>>,
    /// All clients of the last life.
    before: HashSet<RecordName>,
    began: Mutex<Instant>,
    /// When somebody reclaimed something last, in milliseconds.
    reclaimed: AtomicU64,
    grace: AtomicBool,
    next: AtomicU64,
}

impl Recovery {
    /// Whether there ever were clients.
    pub fn is_in(state: &Path) -> bool {
        state.join(CLIENTS).exists()
    }

    /// Reads the records in `state`/clients; the grace period begins if there are any.
    pub fn open(state: &Path) -> std::io::Result<Recovery> {
        let directory = state.join(CLIENTS);
        let beside = state.join("unfinished");
        if beside.exists() {
            std::fs::remove_dir_all(&beside)?;
        }
        std::fs::create_dir_all(&directory)?;
        std::fs::create_dir(&beside)?;
        let mut clients = HashMap::new();
        for entry in std::fs::read_dir(&directory)? {
            let entry = entry?;
            let locked = std::fs::read_to_string(entry.path()).unwrap_or_default();
            let locked = locked.lines().map(str::to_owned).collect();
            clients.insert(entry.file_name().to_string_lossy().into_owned(), locked);
        }
        Ok(Recovery {
            directory,
            beside,
            before: clients.keys().cloned().collect(),
            present: RwLock::default(),
            grace: AtomicBool::new(!clients.is_empty()),
            expected: Mutex::new(Expected {
                clients,
                held_back: Vec::new(),
            }),
            began: Mutex::new(Instant::now()),
            reclaimed: AtomicU64::new(0),
            next: AtomicU64::new(0),
        })
    }

    fn expected(&self) -> MutexGuard<'_, Expected> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn present(&self) -> RwLockReadGuard<'_, HashSet<RecordName>> {
        self.present.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn presence(&self) -> RwLockWriteGuard<'_, HashSet<RecordName>> {
        self.present.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn began(&self) -> MutexGuard<'_, Instant> {
        self.began.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Clients can come from now on: the time that they have begins.
    pub fn begin(&self) {
        *self.began() = Instant::now();
    }

    /// When grace is over if nobody reclaims anything meanwhile.
    fn over(&self) -> Instant {
        *self.began() + ends(Duration::from_millis(self.reclaimed.load(SeqCst)))
    }

    pub fn in_grace(&self) -> bool {
        if !self.grace.load(SeqCst) {
            return false;
        }
        if Instant::now() < self.over() {
            return true;
        }
        self.end("its time is over");
        false
    }

    /// Ends the grace period when its time is over, though no client may ask for anything any more.
    pub fn watch(recovery: &Weak<Recovery>, later: &Arc<Later>) {
        let Some(present) = recovery.upgrade().filter(|recovery| recovery.in_grace()) else {
            return;
        };
        let (recovery, again) = (Weak::clone(recovery), Arc::clone(later));
        let deed = move || Recovery::watch(&recovery, &again);
        later.at(present.over(), Box::new(deed));
    }

    fn end(&self, why: &str) {
        if self.grace.swap(false, SeqCst) {
            tracing::info!(why, "the grace period is over");
            let (forgotten, freed) = {
                let mut expected = self.expected();
                let forgotten = std::mem::take(&mut expected.clients);
                (forgotten, expected.freed())
            };
            for name in forgotten.into_keys() {
                if !self.present().contains(&name) {
                    self.erase(&name);
                }
            }
            resume(freed);
        }
    }

    /// Nobody takes locks in a volume that was just opened before those have who held some there.
    pub fn guard(&self, volume: &Arc<Volume>) {
        if !self.in_grace() {
            return;
        }
        let mut expected = self.expected();
        if expected.locked(&volume.name) {
            tracing::info!(
                volume = volume.name,
                "functions' locks wait until NFS clients have reclaimed theirs"
            );
            volume.locks.hold_back();
            expected.held_back.push(Arc::downgrade(volume));
        }
    }

    /// Whether the client may reclaim what it held before the restart.
    pub fn may_reclaim(&self, name: &RecordName) -> bool {
        let may = self.in_grace() && self.before.contains(name);
        if may {
            let now = self.began().elapsed().as_millis() as u64;
            self.reclaimed.store(now, SeqCst);
        }
        may
    }

    /// The client holds state from now on: durable before this returns.
    pub fn record(&self, name: &RecordName) -> std::io::Result<()> {
        self.presence().insert(name.clone());
        // What it had locked counts until it has reclaimed it.
        if self.directory.join(name).exists() && self.expected().clients.contains_key(name) {
            return Ok(());
        }
        self.write(name, &HashSet::new())
    }

    /// Besides, it holds locks of these volumes and of no others: likewise. Nothing happens if it was forgotten.
    pub fn record_locked(
        &self,
        name: &RecordName,
        volumes: &HashSet<String>,
    ) -> std::io::Result<()> {
        let present = self.present();
        if !present.contains(name) {
            return Ok(());
        }
        let mut locked = volumes.clone();
        if let Some(before) = self.expected().clients.get(name) {
            locked.extend(before.iter().cloned());
        }
        self.write(name, &locked)
    }

    fn write(&self, name: &RecordName, locked: &HashSet<String>) -> std::io::Result<()> {
        // The thread may act as a client's user.
        identity::assume_root().map_err(|errno| std::io::Error::from_raw_os_error(errno.0))?;
        let path = self.directory.join(name);
        let lines: String = locked.iter().map(|volume| format!("{volume}\n")).collect();
        let number = self.next.fetch_add(1, SeqCst);
        let beside = self.beside.join(number.to_string());
        let mut file = File::create(&beside)?;
        file.write_all(lines.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, &path)?;
        File::open(&self.directory)?.sync_all()
    }

    /// The client has nothing any more.
    pub fn forget(&self, name: &RecordName) {
        let mut present = self.presence();
        present.remove(name);
        // One that is expected may have a new client id and still reclaim.
        if !self.expected().clients.contains_key(name) {
            self.erase(name);
        }
    }

    fn erase(&self, name: &RecordName) {
        if identity::assume_root().is_ok() {
            let _ = std::fs::remove_file(self.directory.join(name));
        }
    }

    /// The client has reclaimed all that it wants. The answer: the volumes that it had locked before.
    pub fn complete(&self, name: &RecordName) -> HashSet<String> {
        let (before, none_left, freed) = {
            let mut expected = self.expected();
            let before = expected.clients.remove(name).unwrap_or_default();
            (before, expected.clients.is_empty(), expected.freed())
        };
        resume(freed);
        if none_left {
            self.end("all clients have reclaimed");
        }
        before
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inode::DescriptorCache;

    #[test]
    fn grace_lasts_longer_while_clients_reclaim_and_not_for_ever() {
        let seconds = Duration::from_secs;
        assert_eq!(ends(seconds(0)), seconds(45));
        assert_eq!(ends(seconds(35)), seconds(45));
        assert_eq!(ends(seconds(36)), seconds(46));
        assert_eq!(ends(seconds(88)), seconds(90));
    }

    #[test]
    fn grace_lasts_until_the_last_client_has_reclaimed() {
        let state = std::env::temp_dir().join(format!("fsd-recovery-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&state);
        let (one, two) = (record_name(1, b"one"), record_name(1, b"two"));
        assert_ne!(one, record_name(2, b"one"));
        let first = Recovery::open(&state).expect("state");
        assert!(!first.in_grace(), "nobody was there before");
        first.record(&one).expect("recorded");
        first.record(&two).expect("recorded");
        drop(first);
        let second = Recovery::open(&state).expect("state");
        assert!(second.may_reclaim(&one) && second.may_reclaim(&two));
        assert!(!second.may_reclaim(&record_name(1, b"three")));
        assert!(second.complete(&one).is_empty());
        assert!(second.in_grace());
        second.complete(&two);
        assert!(!second.in_grace() && !second.may_reclaim(&two));
        second.forget(&one);
        let third = Recovery::open(&state).expect("state");
        assert!(!third.may_reclaim(&one) && third.may_reclaim(&two));
        let _ = std::fs::remove_dir_all(&state);
    }

    #[test]
    fn a_volume_is_held_back_for_as_long_as_one_that_had_locked_it_is_expected() {
        let state = std::env::temp_dir().join(format!("fsd-locked-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&state);
        std::fs::create_dir_all(&state).expect("made");
        let cache = Arc::new(DescriptorCache::new(8));
        let volume = |name: &str| {
            let opened = Volume::open(name, &state, false, Arc::clone(&cache));
            Arc::new(opened.expect("opened"))
        };
        let locked = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let clients = [b"one", b"two", b"red"].map(|owner| record_name(1, owner));
        let first = Recovery::open(&state).expect("state");
        for (client, names) in clients.iter().zip([&["a", "b"][..], &["b"], &[]]) {
            first.record(client).expect("recorded");
            first
                .record_locked(client, &locked(names))
                .expect("recorded");
        }
        drop(first);
        let second = Recovery::open(&state).expect("state");
        let volumes = ["a", "b", "c"].map(volume);
        for volume in &volumes {
            second.guard(volume);
        }
        let held_back = || volumes.each_ref().map(|volume| volume.locks.is_held_back());
        assert_eq!(held_back(), [true, true, false]);
        second
            .record(&clients[0])
            .expect("it is back, and has reclaimed nothing yet");
        assert_eq!(second.complete(&clients[0]), locked(&["a", "b"]));
        assert_eq!(held_back(), [false, true, false]);
        second.end("its time is over");
        assert_eq!(held_back(), [false, false, false]);
        let third = Recovery::open(&state).expect("state");
        assert!(!third.may_reclaim(&clients[1]), "it did not come");
        let _ = std::fs::remove_dir_all(&state);
    }
}
