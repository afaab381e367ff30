//! Who a request acts as, and the switch of the thread's credentials.
//!
//! The kernel decides permissions: a thread takes on the identity of the mount whose request it serves, for the file
//! system alone (`setfsuid` and friends), and asks the backing directory. The switch is remembered per thread, so a run of
//! requests of one identity costs it once.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::sys::{cred, Errno};

/// A POSIX user: an access point's `PosixUser`, or the constant ids of a mount without one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Posix {
    pub uid: u32,
    pub gid: u32,
    /// Secondary groups.
    pub groups: Vec<u32>,
}

impl Posix {
    /// The same user with root's ids squashed, each of them, as an NFS server does for clients without root access.
    pub fn squashed(&self) -> Posix {
        let squash = |id| if id == 0 { NOBODY } else { id };
        Posix {
            uid: squash(self.uid),
            gid: squash(self.gid),
            groups: self.groups.iter().copied().map(squash).collect(),
        }
    }
}

/// NFS' nobody: who root is without root access, and a client without an identity unless it is told otherwise.
pub const NOBODY: u32 = 65_534;

/// An interned [`Posix`]: equal ones have equal numbers, so that a thread can tell at a glance what it is.
#[derive(Clone, Debug)]
pub struct Identity {
    posix: Posix,
    number: u64,
}

/// Identities that are interned at a time; clients of other doors may show any.
const MOST_KNOWN: usize = 16_384;
const ROOT: u64 = 0;
/// No identity has this number: the thread's credentials are in an unknown state.
const UNKNOWN: u64 = u64::MAX;

thread_local! {
    static CURRENT: Cell<u64> = const { Cell::new(ROOT) };
    static CURRENT_UID: Cell<u32> = const { Cell::new(0) };
}

fn known() -> &'static Mutex<HashMap<Posix, u64>> {
    static KNOWN: OnceLock<Mutex<HashMap<Posix, u64>>> = OnceLock::new();
    KNOWN.get_or_init(Mutex::default)
}

impl Identity {
    pub fn new(posix: Posix) -> Identity {
        static NEXT: AtomicU64 = AtomicU64::new(ROOT + 1);
        let mut known = known().lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_KNOWN {
            // Numbers are never used again: two of one identity share less, that is all.
            known.clear();
        }
        let fresh = || NEXT.fetch_add(1, Relaxed);
        let number = *known.entry(posix.clone()).or_insert_with(fresh);
        Identity { posix, number }
    }

    pub fn squashed(&self) -> Identity {
        Identity::new(self.posix.squashed())
    }

    /// The same for the same identity, as long as it is interned; never the same for another.
    pub fn number(&self) -> u64 {
        self.number
    }

    pub fn uid(&self) -> u32 {
        self.posix.uid
    }

    pub fn gid(&self) -> u32 {
        self.posix.gid
    }

    /// The calling thread acts as this identity until it assumes another.
    ///
    /// # Errors
    /// EPERM when the process lacks the right to; the thread then acts as nobody until the next success.
    pub fn assume(&self) -> Result<(), Errno> {
        if CURRENT.get() == self.number {
            return Ok(());
        }
        CURRENT.set(UNKNOWN);
        cred::assume(self.posix.uid, self.posix.gid, &self.posix.groups)?;
        CURRENT.set(self.number);
        CURRENT_UID.set(self.posix.uid);
        Ok(())
    }
}

/// The calling thread acts as the server itself.
pub fn assume_root() -> Result<(), Errno> {
    if CURRENT.get() == ROOT {
        return Ok(());
    }
    CURRENT.set(UNKNOWN);
    cred::assume(0, 0, &[])?;
    CURRENT.set(ROOT);
    CURRENT_UID.set(0);
    Ok(())
}

/// Runs `act` with the server's file system capabilities and goes back to the identity the thread had.
pub fn with_capabilities<T>(act: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
    let uid = CURRENT_UID.get();
    if CURRENT.get() == UNKNOWN {
        assume_root()?;
    } else if uid != 0 {
        cred::set_fsuid(0);
    }
    let result = act();
    if uid != 0 && CURRENT.get() != ROOT {
        cred::set_fsuid(uid);
    }
    result
}
