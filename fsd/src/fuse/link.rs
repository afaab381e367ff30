//! The client's way to the server. A door of this machine has no network that could fail, so whoever keeps the connection
//! that stands for it says when it does: then requests wait unserved, and are served later or fail.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::abi::{opcode, InHeader};
use super::classic;
use super::responder::Responder;
use super::session::{Phase, Session};
use crate::sys::{signal, Errno};
use crate::volume::Observer;

/// How the way is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    Up = 0,
    /// Nothing comes through; it may again.
    Stalled = 1,
    /// Nothing will come through.
    Failed = 2,
}

/// A request that was not served yet.
#[derive(Debug)]
pub struct Unserved {
    pub responder: Responder,
    pub header: InHeader,
    pub fixed: Box<[u8; 128]>,
    /// Bytes of the variable part: in the ring entry's payload, or in `body` on the classic transport.
    pub len: usize,
    pub body: Vec<u8>,
}

impl Unserved {
    fn fail(self, errno: i32) {
        self.responder.answer(Err(Errno(errno)));
    }

    fn serve(self) {
        let Unserved {
            responder,
            header,
            fixed,
            len,
            body,
        } = self;
        match responder.slot {
            Some(slot) => slot.serve(header, fixed, len),
            None => classic::serve_later(&responder.session, &header, &fixed, &body),
        }
    }
}

/// Of one connection.
#[derive(Debug)]
pub struct Link {
    state: AtomicU8,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    unserved: HashMap<u64, Unserved>,
    /// The client's kernel is dropping pages at this moment, and may have to write or to finish reading them first.
    spreading: bool,
    /// Files whose pages it still has because it could not be told.
    stale: HashSet<u64>,
}

impl Default for Link {
    fn default() -> Link {
        Link {
            state: AtomicU8::new(State::Up as u8),
            waiting: Mutex::default(),
        }
    }
}

impl Link {
    pub fn state(&self) -> State {
        match self.state.load(SeqCst) {
            0 => State::Up,
            1 => State::Stalled,
            _ => State::Failed,
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What waits once the state is `state`, if that changes anything for it.
    fn turn(&self, state: State) -> Vec<Unserved> {
        let mut waiting = self.waiting();
        self.state.store(state as u8, SeqCst);
        if state == State::Stalled {
            return Vec::new();
        }
        waiting.unserved.drain().map(|(_, kept)| kept).collect()
    }
}

fn moves_data(op: u32) -> bool {
    matches!(op, opcode::READ | opcode::WRITE)
}

/// Requests that only end something here: they are served however the way is.
fn only_ends(op: u32) -> bool {
    matches!(op, opcode::RELEASE | opcode::RELEASEDIR | opcode::DESTROY)
}

impl Session {
    /// How the way is for a request of this kind.
    pub fn way(&self, op: u32) -> State {
        match self.link.state() {
            State::Up => State::Up,
            _ if only_ends(op) => State::Up,
            other => other,
        }
    }

    /// From now on requests wait.
    pub fn stall(&self) {
        self.link.turn(State::Stalled);
    }

    /// Serves what waited, and what comes.
    pub fn resume(&self) {
        for unserved in self.link.turn(State::Up) {
            unserved.serve();
        }
        let stale = std::mem::take(&mut self.link.waiting().stale);
        for inode in stale {
            self.content_changed(inode);
        }
    }

    /// Whether the client can be told now that pages of `inode` have changed; [`Session::spread`] follows when it was. While
    /// its way is stalled it hears of it afterwards: nobody else waits for that.
    pub(super) fn spreads(&self, inode: u64) -> bool {
        let mut waiting = self.link.waiting();
        match self.link.state() {
            State::Up => waiting.spreading = true,
            State::Stalled => {
                waiting.stale.insert(inode);
            }
            State::Failed => {}
        }
        waiting.spreading
    }

    pub(super) fn spread(&self) {
        self.link.waiting().spreading = false;
    }

    /// What waits and what comes fails, and the client's locks end.
    pub fn fail(&self) {
        for unserved in self.link.turn(State::Failed) {
            unserved.fail(libc::EIO);
        }
        let mount = &self.mount;
        mount.volume.locks.release_mount(mount.number).give();
    }

    /// `up`, `stalled` or `failed`.
    pub fn link_name(&self) -> &'static str {
        match self.link.state() {
            State::Up => "up",
            State::Stalled => "stalled",
            State::Failed => "failed",
        }
    }

    pub fn unserved(&self) -> usize {
        self.link.waiting().unserved.len()
    }

    /// Keeps a request that came while the way was stalled.
    pub fn keep(self: &Arc<Session>, unserved: Unserved) {
        let unique = unserved.header.unique;
        let thread = unserved.header.pid;
        let on_ring = unserved.responder.slot.is_some();
        let mut waiting = self.link.waiting();
        match self.link.state() {
            State::Up => {
                drop(waiting);
                unserved.serve();
                return;
            }
            State::Failed => {
                drop(waiting);
                unserved.fail(libc::EIO);
                return;
            }
            State::Stalled if waiting.spreading && moves_data(unserved.header.opcode) => {
                drop(waiting);
                unserved.serve();
                return;
            }
            State::Stalled => waiting.unserved.insert(unique, unserved),
        };
        drop(waiting);
        // On a ring the kernel forgets to report a signal that came before the request was fetched.
        let signalled = on_ring && thread != 0 && signal::pending(thread);
        if signalled || self.interrupted_early(unique) || self.phase() == Phase::Ended {
            self.give_up(unique);
        }
    }

    /// A signal, or the end, ends the wait of a request that was not served. False when there is no such request.
    pub fn give_up(&self, unique: u64) -> bool {
        let kept = self.link.waiting().unserved.remove(&unique);
        match kept {
            Some(unserved) => {
                unserved.fail(libc::EINTR);
                true
            }
            None => false,
        }
    }

    /// The connection is gone, and with it everybody who waits.
    pub fn give_all_up(&self) {
        for unserved in self.link.turn(State::Failed) {
            unserved.fail(libc::ENOTCONN);
        }
    }
}
