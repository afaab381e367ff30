//! The lock table of a volume with those who wait in it: a queued request is answered by whoever frees its way.

use std::collections::{HashMap, HashSet};
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
    /// Clients whose lease is over: they keep their locks until somebody wants one.
    lapsed: HashSet<MountId>,
    /// Those of them that have lost their locks to somebody.
    dispossessed: HashSet<MountId>,
}

impl Inner {
    /// Takes the locks away from every client whose lease is over; false when there is none.
    fn dispossess(&mut self, due: &mut Due) -> bool {
        let lapsed = std::mem::take(&mut self.lapsed);
        let mut any = false;
        for mount in lapsed {
            if self.table.held_by_mount(mount) == 0 {
                self.lapsed.insert(mount);
                continue;
            }
            any = true;
            let released = self.table.release_mount(mount);
            self.dispossessed.insert(mount);
            due.0.extend(self.due(released.woken).0);
        }
        any
    }

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

/// The answer to who does not wait.
fn now(outcome: Outcome) -> Result<(), Errno> {
    match outcome {
        Outcome::Granted => Ok(()),
        Outcome::Deadlock => Err(Errno(libc::EDEADLK)),
        Outcome::LimitExceeded(exceeded) => Err(limit(exceeded)),
        Outcome::WouldBlock | Outcome::Queued(_) => Err(Errno(libc::EAGAIN)),
    }
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
        let mut due = Due::default();
        let (mut outcome, woken) = inner.table.lock(request, false);
        due.0.extend(inner.due(woken).0);
        let taken = outcome == Outcome::WouldBlock && !inner.table.is_held_back();
        if taken && inner.dispossess(&mut due) {
            let again = inner.table.lock(request, false);
            outcome = again.0;
            due.0.extend(inner.due(again.1).0);
        }
        (now(outcome), due)
    }

    /// Takes a lock that its owner held before a restart.
    pub fn reclaim(&self, request: Request) -> (Result<(), Errno>, Due) {
        let mut inner = self.inner();
        let (outcome, woken) = inner.table.reclaim(request);
        (now(outcome), inner.due(woken))
    }

    /// Nobody gets a lock but by [`Locks::reclaim`], until [`Locks::resume`].
    pub fn hold_back(&self) {
        self.inner().table.hold_back();
    }

    pub fn is_held_back(&self) -> bool {
        self.inner().table.is_held_back()
    }

    /// Everybody is served again.
    pub fn resume(&self) -> Due {
        let mut inner = self.inner();
        let woken = inner.table.resume();
        let mut due = inner.due(woken);
        if inner.table.waiting() > 0 {
            inner.dispossess(&mut due);
        }
        due
    }

    /// Takes a lock or queues for it; then the ticket is returned and `answer` is called once, later.
    pub fn lock(&self, request: Request, answer: Answer) -> (Option<Ticket>, Due) {
        let mut inner = self.inner();
        let mut due = Due::default();
        let yields = !inner.lapsed.is_empty() && !inner.table.is_held_back();
        if yields && inner.table.test(&request).is_some() {
            inner.dispossess(&mut due);
        }
        let (outcome, woken) = inner.table.lock(request, true);
        due.0.extend(inner.due(woken).0);
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
        inner.lapsed.remove(&mount);
        inner.dispossessed.remove(&mount);
        let released = inner.table.release_mount(mount);
        let mut due = inner.due(released.woken);
        for ticket in released.cancelled {
            if let Some(answer) = inner.waiting.remove(&ticket) {
                due.0.push((answer, Err(Errno(libc::EINTR))));
            }
        }
        due
    }

    /// The lease of a client is over: from now on its locks yield to whoever wants them.
    pub fn lapse(&self, mount: MountId) -> Due {
        let mut inner = self.inner();
        inner.lapsed.insert(mount);
        let mut due = Due::default();
        if inner.table.waiting() > 0 && !inner.table.is_held_back() {
            inner.dispossess(&mut due);
        }
        due
    }

    /// The client is back. False when it has lost its locks meanwhile.
    pub fn renew(&self, mount: MountId) -> bool {
        let mut inner = self.inner();
        inner.lapsed.remove(&mount);
        !inner.dispossessed.remove(&mount)
    }

    pub fn holds(&self, file: FileId, owner: Owner) -> bool {
        self.inner().table.holds(file, owner)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::locks::Kind;

    fn wish(mount: MountId) -> Request {
        Request {
            file: 1,
            space: Space::Posix,
            owner: Owner { mount, owner: 1 },
            pid: 0,
            kind: Kind::Write,
            range: Range::WHOLE,
        }
    }

    #[test]
    fn a_lapsed_client_keeps_its_locks_until_somebody_wants_them() {
        let locks = Locks::default();
        assert_eq!(locks.try_lock(wish(1)).0, Ok(()));
        locks.lapse(1).give();
        assert!(locks.renew(1), "nobody came");
        assert_eq!(locks.try_lock(wish(2)).0, Err(Errno(libc::EAGAIN)));
        locks.lapse(1).give();
        assert_eq!(locks.try_lock(wish(2)).0, Ok(()));
        assert!(!locks.renew(1), "it lost them");
        assert!(locks.renew(1));
    }

    #[test]
    fn who_waits_for_a_lapsed_client_waits_no_longer() {
        let locks = Locks::default();
        assert_eq!(locks.try_lock(wish(1)).0, Ok(()));
        let (told, answer) = std::sync::mpsc::channel();
        let told = Box::new(move |result| {
            let _ = told.send(result);
        });
        let (ticket, due) = locks.lock(wish(2), told);
        due.give();
        assert!(ticket.is_some());
        locks.lapse(1).give();
        assert_eq!(answer.recv(), Ok(Ok(())));
    }
}
