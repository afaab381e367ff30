//! Answers that are given later than their request is served, and what they wait for.

use std::sync::Arc;
use std::time::Instant;

use super::inbox::RingSlot;
use super::session::Session;
use crate::inode::Inode;
use crate::sys::Errno;
use crate::{pacing, spreading};

/// Who gets the answer to a request that is not answered at once.
#[derive(Debug)]
pub struct Responder {
    pub session: Arc<Session>,
    pub unique: u64,
    /// The client's thread.
    pub thread: u32,
    /// The ring entry that waits for it; `None` on the classic transport.
    pub slot: Option<RingSlot>,
    /// The reply's body on the classic transport; on a ring it is in the entry's payload already.
    pub body: Vec<u8>,
}

impl Responder {
    /// Answers with `result` bytes of body.
    pub fn answer(self, result: Result<usize, Errno>) {
        match self.slot {
            Some(slot) => slot.answer(self.unique, result),
            None => {
                let body = result.map(|len| self.body.get(..len).unwrap_or_default());
                self.session.reply(self.unique, body);
            }
        }
    }

    /// Answers when nothing stands in the way any more.
    pub fn answer_after(self, deferral: Deferral, result: Result<usize, Errno>) {
        let Deferral {
            time,
            changed,
            behind,
        } = deferral;
        let volume = Arc::clone(&self.session.mount.volume);
        let answer = move || match time.filter(|time| *time > Instant::now()) {
            Some(time) => self.answer_at(time, result),
            None => self.answer(result),
        };
        if changed.is_empty() && !behind {
            answer();
        } else {
            volume.content_changed(changed, Box::new(answer));
        }
    }

    /// Answers at `time`, or when a signal ends the client's wait: what was done is done.
    pub fn answer_at(self, time: Instant, result: Result<usize, Errno>) {
        let session = Arc::clone(&self.session);
        session.hold_back(self, time, result);
    }
}

/// Why the operation at hand is not answered at once.
#[derive(Debug)]
pub struct Deferral {
    /// A limit holds the answer back until then.
    time: Option<Instant>,
    /// What it changed that clients cache.
    changed: Vec<Arc<Inode>>,
    /// It waits for what was changed before.
    behind: bool,
}

impl Deferral {
    /// What the operation served last on this thread left; `None` when it may be answered.
    pub fn take() -> Option<Deferral> {
        let time = pacing::settle();
        let changed = spreading::take();
        let behind = spreading::behind();
        (time.is_some() || behind || !changed.is_empty()).then_some(Deferral {
            time,
            changed,
            behind,
        })
    }

    /// Both reasons of the two halves of an operation.
    pub fn and(self, other: Option<Deferral>) -> Deferral {
        let Some(other) = other else {
            return self;
        };
        Deferral {
            time: self.time.max(other.time),
            changed: [self.changed, other.changed].concat(),
            behind: self.behind || other.behind,
        }
    }
}
