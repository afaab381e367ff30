//! Work that may wait for the disk, done where it holds up no ring.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::inbox::RingSlot;
use super::request::Job;
use super::responder::{Deferral, Responder};
use super::session::Session;

/// Work for the threads that may wait for the disk.
pub(super) struct SlowWork {
    pub(super) job: Job,
    pub(super) session: Arc<Session>,
    pub(super) unique: u64,
    pub(super) thread: u32,
    pub(super) slot: RingSlot,
    /// Why it will not be answered at once when it is done.
    pub(super) deferral: Option<Deferral>,
}

#[derive(Default)]
pub(super) struct SlowQueue {
    jobs: Mutex<VecDeque<SlowWork>>,
    ready: Condvar,
}

impl SlowQueue {
    pub(super) fn push(&self, work: SlowWork) {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.push_back(work);
        self.ready.notify_one();
    }

    fn next(&self) -> SlowWork {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match jobs.pop_front() {
                Some(work) => return work,
                None => {
                    jobs = self
                        .ready
                        .wait(jobs)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    pub(super) fn run(&self) {
        loop {
            let mut work = self.next();
            let result = (work.job)(work.slot.memory.payload());
            let responder = Responder {
                session: work.session,
                unique: work.unique,
                thread: work.thread,
                slot: Some(work.slot),
                body: Vec::new(),
            };
            let deferral = match work.deferral {
                Some(first) => Some(first.and(Deferral::take())),
                None => Deferral::take(),
            };
            match deferral {
                Some(deferral) => responder.answer_after(deferral, result),
                None => responder.answer(result),
            }
        }
    }
}
