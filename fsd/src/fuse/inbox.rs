//! What other threads tell a ring's worker, and the entries that are on their way with them.

use std::sync::{Arc, Mutex, PoisonError};

use super::abi::InHeader;
use super::session::Session;
use crate::sys::event::EventFd;
use crate::sys::ring::EntryMemory;
use crate::sys::Errno;

/// What other threads tell a worker.
pub(super) enum Message {
    Register(Arc<Session>),
    Answer {
        slot: Box<RingSlot>,
        unique: u64,
        result: Result<usize, Errno>,
    },
    /// A request that was kept unserved.
    Serve {
        slot: Box<RingSlot>,
        header: InHeader,
        fixed: Box<[u8; 128]>,
        len: usize,
    },
}

pub(super) struct Inbox {
    messages: Mutex<Vec<Message>>,
    pub(super) event: EventFd,
}

impl Inbox {
    pub(super) fn new() -> Result<Inbox, Errno> {
        Ok(Inbox {
            messages: Mutex::default(),
            event: EventFd::new()?,
        })
    }

    pub(super) fn push(&self, message: Message) {
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        messages.push(message);
        let first = messages.len() == 1;
        drop(messages);
        if first {
            self.event.signal();
        }
    }

    pub(super) fn take(&self) -> Vec<Message> {
        self.event.drain();
        std::mem::take(&mut *self.messages.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A ring entry on its way: whoever has it owes its request an answer.
pub struct RingSlot {
    pub(super) inbox: Arc<Inbox>,
    pub(super) token: Token,
    pub(super) commit_id: u64,
    pub(super) parked: bool,
    pub(super) memory: EntryMemory,
}

impl std::fmt::Debug for RingSlot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RingSlot({:?})", self.token)
    }
}

impl RingSlot {
    /// Answers the request; `result` bytes are in the payload already.
    pub fn answer(self, unique: u64, result: Result<usize, Errno>) {
        let inbox = Arc::clone(&self.inbox);
        inbox.push(Message::Answer {
            slot: Box::new(self),
            unique,
            result,
        });
    }

    /// Has the worker serve the request that is in the entry.
    pub fn serve(self, header: InHeader, fixed: Box<[u8; 128]>, len: usize) {
        let inbox = Arc::clone(&self.inbox);
        inbox.push(Message::Serve {
            slot: Box::new(self),
            header,
            fixed,
            len,
        });
    }
}

/// Which entry of which lane a completion is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) lane: u64,
    pub(super) entry: u16,
}

impl Token {
    pub(super) fn pack(self) -> u64 {
        (self.lane << 16) | u64::from(self.entry)
    }

    pub(super) fn unpack(packed: u64) -> Token {
        Token {
            lane: packed >> 16,
            entry: packed as u16,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_packing() {
        for token in [
            Token { lane: 0, entry: 0 },
            Token {
                lane: 77,
                entry: u16::MAX,
            },
        ] {
            assert_eq!(Token::unpack(token.pack()), token);
            assert_ne!(token.pack(), u64::MAX);
        }
    }
}
