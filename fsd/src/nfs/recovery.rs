//! What must survive a restart: which clients held state. Until they have reclaimed it, or the grace period is over, nobody
//! may take new state (RFC 8881 section 8.4.2).

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ring::digest;

use super::attributes::LEASE_SECONDS;
use crate::identity;

/// A client that has not noticed the restart yet notices it when it renews its lease.
const GRACE: Duration = Duration::from_secs(LEASE_SECONDS as u64 + LEASE_SECONDS as u64 / 2);
/// While clients go on to reclaim it lasts as much longer as they may pause, within limits.
const RECLAIMING: Duration = Duration::from_secs(10);
const LONGEST_GRACE: Duration = Duration::from_secs(3 * LEASE_SECONDS as u64);

/// Whether there is grace at that time after the start, when somebody reclaimed something last at that other one.
fn lasts(now: Duration, reclaimed: Duration) -> bool {
    now < GRACE || now < LONGEST_GRACE.min(reclaimed + RECLAIMING)
}

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

#[derive(Debug)]
pub struct Recovery {
    directory: PathBuf,
    /// Clients of the last life that have not said that they are done with reclaiming.
    expected: Mutex<HashSet<RecordName>>,
    /// Clients of this life.
    present: Mutex<HashSet<RecordName>>,
    /// All clients of the last life.
    before: HashSet<RecordName>,
    began: Instant,
    /// When somebody reclaimed something last, in milliseconds.
    reclaimed: AtomicU64,
    grace: AtomicBool,
}

impl Recovery {
    /// Reads the records in `state`/clients; the grace period begins if there are any.
    pub fn open(state: &Path) -> std::io::Result<Recovery> {
        let directory = state.join("clients");
        std::fs::create_dir_all(&directory)?;
        let mut before = HashSet::new();
        for entry in std::fs::read_dir(&directory)? {
            before.insert(entry?.file_name().to_string_lossy().into_owned());
        }
        Ok(Recovery {
            directory,
            expected: Mutex::new(before.clone()),
            present: Mutex::default(),
            grace: AtomicBool::new(!before.is_empty()),
            before,
            began: Instant::now(),
            reclaimed: AtomicU64::new(0),
        })
    }

    fn expected(&self) -> MutexGuard<'_, HashSet<RecordName>> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn present(&self) -> MutexGuard<'_, HashSet<RecordName>> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn in_grace(&self) -> bool {
        if !self.grace.load(SeqCst) {
            return false;
        }
        let reclaimed = Duration::from_millis(self.reclaimed.load(SeqCst));
        if lasts(self.began.elapsed(), reclaimed) {
            return true;
        }
        self.end("its time is over");
        false
    }

    fn end(&self, why: &str) {
        if self.grace.swap(false, SeqCst) {
            tracing::info!(why, "the grace period is over");
            let mut forgotten = std::mem::take(&mut *self.expected());
            forgotten.retain(|name| !self.present().contains(name));
            for name in forgotten {
                self.erase(&name);
            }
        }
    }

    /// Whether the client may reclaim what it held before the restart.
    pub fn may_reclaim(&self, name: &RecordName) -> bool {
        let may = self.in_grace() && self.before.contains(name);
        if may {
            let now = self.began.elapsed().as_millis() as u64;
            self.reclaimed.store(now, SeqCst);
        }
        may
    }

    /// The client holds state from now on: durable before this returns.
    pub fn record(&self, name: &RecordName) -> std::io::Result<()> {
        self.present().insert(name.clone());
        let path = self.directory.join(name);
        // The thread may act as a client's user.
        identity::assume_root().map_err(|errno| std::io::Error::from_raw_os_error(errno.0))?;
        if !path.exists() {
            File::create(&path)?.sync_all()?;
            File::open(&self.directory)?.sync_all()?;
        }
        Ok(())
    }

    /// The client has nothing any more.
    pub fn forget(&self, name: &RecordName) {
        self.present().remove(name);
        // One that is expected may have a new client id and still reclaim.
        if !self.expected().contains(name) {
            self.erase(name);
        }
    }

    fn erase(&self, name: &RecordName) {
        if identity::assume_root().is_ok() {
            let _ = std::fs::remove_file(self.directory.join(name));
        }
    }

    /// The client has reclaimed all that it wants.
    pub fn complete(&self, name: &RecordName) {
        let none_left = {
            let mut expected = self.expected();
            expected.remove(name);
            expected.is_empty()
        };
        if none_left {
            self.end("all clients have reclaimed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grace_lasts_longer_while_clients_reclaim_and_not_for_ever() {
        let seconds = Duration::from_secs;
        assert!(lasts(seconds(44), seconds(0)));
        assert!(!lasts(seconds(45), seconds(0)));
        assert!(!lasts(seconds(45), seconds(35)));
        assert!(lasts(seconds(45), seconds(36)));
        assert!(lasts(seconds(89), seconds(88)));
        assert!(!lasts(seconds(90), seconds(89)));
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
        second.complete(&one);
        assert!(second.in_grace());
        second.complete(&two);
        assert!(!second.in_grace() && !second.may_reclaim(&two));
        second.forget(&one);
        let third = Recovery::open(&state).expect("state");
        assert!(!third.may_reclaim(&one) && third.may_reclaim(&two));
        let _ = std::fs::remove_dir_all(&state);
    }
}
