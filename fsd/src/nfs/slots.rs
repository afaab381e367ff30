//! Sessions: a channel's limits, and slots that do each request once (RFC 8881 section 2.10.6).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::clients::Client;
use super::operation::{Channel, SessionId};
use super::rpc::{LONGEST_RECORD, MAX_IO};
use super::status::Status;

/// Requests that a session can have under way.
const MOST_SLOTS: u32 = 64;
/// Operations of one compound.
const MOST_OPERATIONS: u32 = 128;
/// Longest reply that a slot keeps: memory of a session is bounded by slots times this.
const LONGEST_CACHED: u32 = 4096;
/// No session below this can carry a useful compound.
const LEAST_MESSAGE: u32 = 256;

/// One request at a time, and its reply until the next.
#[derive(Debug, Default)]
pub struct Slot {
    sequence: u32,
    busy: bool,
    /// The status of SEQUENCE was OK and this is all that is known of the reply if it was not kept.
    reply: Option<Arc<Vec<u8>>>,
}

#[derive(Debug)]
pub struct Session {
    pub id: SessionId,
    pub client: Arc<Client>,
    pub channel: Channel,
    slots: Vec<Mutex<Slot>>,
}

/// What SEQUENCE finds.
#[derive(Debug)]
pub enum Turn {
    /// A new request: run it and call [`Session::done`].
    New,
    /// The reply that was given before, from after its RPC head on.
    Replay(Arc<Vec<u8>>),
    /// It was given before and not kept.
    Forgotten,
}

impl Session {
    pub fn new(id: SessionId, client: &Arc<Client>, channel: Channel) -> Session {
        Session {
            id,
            client: Arc::clone(client),
            channel,
            slots: (0..channel.max_requests)
                .map(|_| Mutex::default())
                .collect(),
        }
    }

    fn slot(&self, slot: u32) -> Result<MutexGuard<'_, Slot>, Status> {
        let slot = self.slots.get(slot as usize).ok_or(Status::BADSLOT)?;
        Ok(slot.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn highest_slot(&self) -> u32 {
        (self.slots.len() as u32).saturating_sub(1)
    }

    /// Takes a slot for request `sequence`.
    pub fn begin(&self, slot: u32, sequence: u32) -> Result<Turn, Status> {
        let mut slot = self.slot(slot)?;
        if sequence == slot.sequence.wrapping_add(1) {
            if slot.busy {
                return Err(Status::SEQ_MISORDERED);
            }
            slot.sequence = sequence;
            slot.busy = true;
            slot.reply = None;
            return Ok(Turn::New);
        }
        if sequence != slot.sequence {
            return Err(Status::SEQ_MISORDERED);
        }
        if slot.busy {
            return Err(Status::DELAY);
        }
        match &slot.reply {
            Some(reply) => Ok(Turn::Replay(Arc::clone(reply))),
            // Sequence number 0 of a slot that was never used.
            None if sequence == 0 => Err(Status::SEQ_MISORDERED),
            None => Ok(Turn::Forgotten),
        }
    }

    /// The request in the slot has its reply, which is kept or not.
    pub fn done(&self, slot: u32, reply: Option<Vec<u8>>) {
        if let Ok(mut slot) = self.slot(slot) {
            slot.busy = false;
            slot.reply = reply.map(Arc::new);
        }
    }
}

/// What a backchannel becomes. Who wants none may say nothing of it.
pub fn negotiate_back(asked: Channel) -> Result<Channel, Status> {
    let sizes = [asked.max_request, asked.max_response];
    if sizes != [0, 0] && sizes.iter().any(|size| *size < LEAST_MESSAGE) {
        return Err(Status::TOOSMALL);
    }
    Ok(Channel {
        header_pad: 0,
        max_request: asked.max_request.min(4096),
        max_response: asked.max_response.min(4096),
        max_cached: 0,
        max_operations: asked.max_operations.min(2),
        max_requests: asked.max_requests.min(1),
    })
}

/// What a fore channel becomes.
pub fn negotiate(asked: Channel) -> Result<Channel, Status> {
    if asked.max_request < LEAST_MESSAGE || asked.max_response < LEAST_MESSAGE {
        return Err(Status::TOOSMALL);
    }
    if asked.max_operations == 0 || asked.max_requests == 0 {
        return Err(Status::INVAL);
    }
    // Room for the heads of a READ's reply or a WRITE's request beside the data.
    let largest = (MAX_IO + 8192).min(LONGEST_RECORD) as u32;
    Ok(Channel {
        header_pad: 0,
        max_request: asked.max_request.min(largest),
        max_response: asked.max_response.min(largest),
        max_cached: asked.max_cached.min(LONGEST_CACHED),
        max_operations: asked.max_operations.min(MOST_OPERATIONS),
        max_requests: asked.max_requests.min(MOST_SLOTS),
    })
}
