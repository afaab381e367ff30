//! The lock table of a volume with those who wait in it: a queued request is answered by whoever frees its way.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::locks::{
    Conflict, FileId, LimitExceeded, LockTable, MountId, Outcome, Owner, Range, Request, Space,
    Ticket, Woken,
};
use crate::sys::Errno;

/// Tells a waiting client what became of its request. Called on any thread, without the table locked.
pub type Answer = Box<dyn FnOnce(Result<(), Errno>) + Send>;

/// Answers that are due, to be given after the caller has let go of its own locks.
#[must_use]
#[derive(Default)]
pub struct Due(Vec<(Answer, Result<(), Errno>)>);

impl std::fmt::Debug for Due {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Due({})", self.0.len())
    }
}

impl Due {
    pub fn give(self) {
        for (answer, result) in self.0 {
            answer(result);
        }
    }
}

#[derive(Default)]
struct Inner {
    table: LockTable,
    waiting: HashMap<Ticket, Answer>,
}

impl Inner {
    fn due(&mut self, woken: Vec<Woken>) -> Due {
        let answers = woken.into_iter().filter_map(|woken| {
            let answer = self.waiting.remove(&woken.ticket)?;
            Some((answer, woken.result.map_err(limit)))
        });
        Due(answers.collect())
    }
}

fn limit(_: LimitExceeded) -> Errno {
    Errno(LimitExceeded::ERRNO)
}

/// A volume's locks.
#[derive(Default)]
pub struct Locks(Mutex<Inner>);

impl std::fmt::Debug for Locks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Locks")
    }
}

impl Locks {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a lock now or not at all.
    pub fn try_lock(&self, request: Request) -> (Result<(), Errno>, Due) {
        let mut inner = self.inner();
        let (outcome, woken) = inner.table.lock(request, false);
        let result = match outcome {
            Outcome::Granted => Ok(()),
            Outcome::Deadlock => Err(Errno(libc::EDEADLK)),
            Outcome::LimitExceeded(exceeded) => Err(limit(exceeded)),
            Outcome::WouldBlock | Outcome::Queued(_) => Err(Errno(libc::EAGAIN)),
        };
        (result, inner.due(woken))
    }

    /// Takes a lock or queues for it; then the ticket is returned and `answer` is called once, later.
    pub fn lock(&self, request: Request, answer: Answer) -> (Option<Ticket>, Due) {
        let mut inner = self.inner();
        let (outcome, woken) = inner.table.lock(request, true);
        let mut due = inner.due(woken);
        let result = match outcome {
            Outcome::Queued(ticket) => {
                inner.waiting.insert(ticket, answer);
                return (Some(ticket), due);
            }
            Outcome::Granted => Ok(()),
            Outcome::WouldBlock => Err(Errno(libc::EAGAIN)),
            Outcome::Deadlock => Err(Errno(libc::EDEADLK)),
            Outcome::LimitExceeded(exceeded) => Err(limit(exceeded)),
        };
        due.0.push((answer, result));
        (None, due)
    }

    pub fn unlock(
        &self,
        file: FileId,
        space: Space,
        owner: Owner,
        range: Range,
    ) -> (Result<(), Errno>, Due) {
        let mut inner = self.inner();
        match inner.table.unlock(file, space, owner, range) {
            Ok(woken) => (Ok(()), inner.due(woken)),
            Err(exceeded) => (Err(limit(exceeded)), Due::default()),
        }
    }

    /// Ends a queued request with EINTR; nothing happens if it has its answer already.
    pub fn interrupt(&self, ticket: Ticket) -> Due {
        let mut inner = self.inner();
        let Some(answer) = inner.waiting.remove(&ticket) else {
            return Due::default();
        };
        let woken = inner.table.cancel(ticket);
        let mut due = inner.due(woken);
        due.0.push((answer, Err(Errno(libc::EINTR))));
        due
    }

    pub fn release_owner(&self, file: FileId, space: Space, owner: Owner) -> Due {
        let mut inner = self.inner();
        let woken = inner.table.release_owner(file, space, owner);
        inner.due(woken)
    }

    pub fn release_mount(&self, mount: MountId) -> Due {
        let mut inner = self.inner();
        let released = inner.table.release_mount(mount);
        let mut due = inner.due(released.woken);
        for ticket in released.cancelled {
            if let Some(answer) = inner.waiting.remove(&ticket) {
                due.0.push((answer, Err(Errno(libc::EINTR))));
            }
        }
        due
    }

    pub fn test(&self, request: &Request) -> Option<Conflict> {
        self.inner().table.test(request)
    }

    pub fn waiting(&self) -> usize {
        self.inner().table.waiting()
    }

    pub fn held_by_mount(&self, mount: MountId) -> usize {
        self.inner().table.held_by_mount(mount)
    }
}
