//! The io_uring transport: one worker thread and one ring a processor, shared by all connections.
//!
//! The kernel sends a request to the queue of the processor that its caller runs on, and the worker of that queue is
//! pinned there, so that no request crosses processors. A request that has to wait (for a lock, for the disk) keeps its
//! ring entry (as does one whose answer a limit holds back) but not the worker: the entry travels with it and comes back
//! through the worker's inbox. When waiting requests have taken most entries of a queue, more are registered
//! ([`super::queue`]).

use std::collections::HashMap;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use super::abi::InHeader;
use super::dispatch;
use super::inbox::{Inbox, Message, RingSlot, Token};
use super::link::{State, Unserved};
use super::queue::Queue;
use super::request::{Outcome, Request};
use super::responder::{Deferral, Responder};
use super::session::{Session, MAX_IO};
use super::slow::{SlowQueue, SlowWork};
use crate::sys::ring::{reserve_entries, Completion, EntryMemory, Ring};
use crate::sys::{cred, mounting, Errno};

/// Entries of one queue of one connection at first.
const DEPTH: usize = 8;
/// Entries that must be left for requests that do not wait.
const RESERVE: usize = 3;
/// Submission slots of a ring; more wait their turn.
const RING_SIZE: u32 = 256;
/// Threads for work that waits for the disk.
const SLOW_THREADS: usize = 6;
/// Resident payload that one worker leaves to idle entries, in bytes.
const RESIDENT: usize = 32 << 20;
/// What an entry keeps of it when there is too much.
const KEPT: usize = 64 << 10;
const INBOX: u64 = u64::MAX;

/// The worker threads.
pub struct Rings {
    inboxes: Vec<Arc<Inbox>>,
}

impl std::fmt::Debug for Rings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rings({})", self.inboxes.len())
    }
}

/// Processors that the kernel may ever have: it wants as many queues.
pub fn possible_processors() -> usize {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/possible").unwrap_or_default();
    last_processor(&text).map_or(1, |last| last + 1)
}

fn last_processor(ranges: &str) -> Option<usize> {
    let last = ranges.trim().rsplit([',', '-']).next()?;
    last.parse().ok()
}

impl Rings {
    /// Starts a worker for each processor this process may run on.
    pub fn start() -> Result<Arc<Rings>, Errno> {
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let queues = possible_processors();
        let slow = Arc::new(SlowQueue::default());
        for index in 0..SLOW_THREADS {
            let slow = Arc::clone(&slow);
            std::thread::Builder::new()
                .name(format!("fuse-slow-{index}"))
                .spawn(move || slow.run())?;
        }
        let mut inboxes = Vec::new();
        for index in 0..workers {
            let inbox = Arc::new(Inbox::new()?);
            inboxes.push(Arc::clone(&inbox));
            let slow = Arc::clone(&slow);
            let queues = (0..queues)
                .filter(|queue| queue % workers == index)
                .map(|queue| queue as u16)
                .collect();
            let (started, wait) = std::sync::mpsc::channel();
            std::thread::Builder::new()
                .name(format!("fuse-ring-{index}"))
                .spawn(move || {
                    if let Err(errno) = cred::pin_to_cpu(index) {
                        tracing::warn!(%errno, index, "worker not pinned to its processor");
                    }
                    let ring = Ring::new(RING_SIZE);
                    let _ = started.send(ring.as_ref().map(|_| ()).map_err(|errno| *errno));
                    if let Ok(ring) = ring {
                        Worker::new(ring, inbox, queues, slow).run();
                    }
                })?;
            wait.recv().map_err(|_| Errno(libc::EIO))??;
        }
        Ok(Arc::new(Rings { inboxes }))
    }

    pub fn len(&self) -> usize {
        self.inboxes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.inboxes.is_empty()
    }

    /// Every worker registers its queues' entries for the connection.
    pub fn register(&self, session: &Arc<Session>) {
        for inbox in &self.inboxes {
            inbox.push(Message::Register(Arc::clone(session)));
        }
    }
}

struct Entry {
    qid: u16,
    /// Here while the kernel or this worker has the entry; elsewhere while its request waits.
    memory: Option<EntryMemory>,
    registering: bool,
}

/// A request as it was found in its entry.
struct Arrived {
    token: Token,
    commit_id: u64,
    header: InHeader,
    len: usize,
    /// Payload bytes of the entry that were resident before it came.
    touched: usize,
}

/// One connection in one worker.
struct Lane {
    session: Arc<Session>,
    entries: Vec<Entry>,
    queues: HashMap<u16, Queue>,
    /// Entries that the kernel has not given back for good.
    live: usize,
}

struct Worker {
    ring: Ring,
    inbox: Arc<Inbox>,
    queues: Vec<u16>,
    slow: Arc<SlowQueue>,
    lanes: HashMap<u64, Lane>,
    next_lane: u64,
    resident: usize,
    /// Entries given back in queues with a backlog: when one is not filled again at once, there is none any more.
    probes: Vec<Token>,
}

impl Worker {
    fn new(ring: Ring, inbox: Arc<Inbox>, queues: Vec<u16>, slow: Arc<SlowQueue>) -> Worker {
        Worker {
            ring,
            inbox,
            queues,
            slow,
            lanes: HashMap::new(),
            next_lane: 0,
            resident: 0,
            probes: Vec::new(),
        }
    }

    fn run(mut self) {
        let mut completions: Vec<Completion> = Vec::new();
        let mut result = self.watch_inbox();
        while result.is_ok() {
            result = self.ring.wait(&mut completions);
            self.settle_probes(&completions);
            for (token, outcome) in completions.drain(..) {
                if token == INBOX {
                    for message in self.inbox.take() {
                        self.receive(message);
                    }
                    result = result.and(self.watch_inbox());
                } else {
                    self.complete(Token::unpack(token), outcome);
                }
            }
        }
        tracing::error!(?result, "a ring failed");
        // Without this worker, requests would wait for ever: better to end and be restarted.
        std::process::abort();
    }

    /// Ends the backlog of queues where an answer fetched nothing.
    fn settle_probes(&mut self, completions: &[Completion]) {
        if self.probes.is_empty() || !self.ring.all_submitted() {
            return;
        }
        for token in std::mem::take(&mut self.probes) {
            let filled = completions.iter().any(|(of, _)| *of == token.pack());
            if let (false, Some((_, queue))) = (filled, self.queue(token)) {
                queue.fetched_nothing();
            }
        }
    }

    fn watch_inbox(&mut self) -> Result<(), Errno> {
        self.ring.watch(&self.inbox.event, INBOX)
    }

    fn receive(&mut self, message: Message) {
        match message {
            Message::Register(session) => {
                self.register(&session);
                session.ring_registered();
            }
            Message::Answer {
                slot,
                unique,
                result,
            } => self.take_back(*slot, unique, result),
            Message::Serve {
                slot,
                header,
                fixed,
                len,
            } => self.serve_kept(*slot, header, &fixed, len),
        }
    }

    fn register(&mut self, session: &Arc<Session>) {
        let id = self.next_lane;
        self.next_lane += 1;
        let lane = Lane {
            session: Arc::clone(session),
            entries: Vec::new(),
            queues: HashMap::new(),
            live: 0,
        };
        self.lanes.insert(id, lane);
        for qid in self.queues.clone() {
            self.add_entries(id, qid);
        }
        if let Err(errno) = self.ring.submit() {
            tracing::error!(%errno, mount = %session.mount.name, "registering ring entries failed");
        }
    }

    /// Registers `DEPTH` more entries for a queue.
    fn add_entries(&mut self, id: u64, qid: u16) {
        let Some(lane) = self.lanes.get_mut(&id) else {
            return;
        };
        let memories = match reserve_entries(DEPTH, MAX_IO) {
            Ok(memories) => memories,
            Err(errno) => {
                tracing::error!(%errno, mount = %lane.session.mount.name, "no memory for ring entries");
                return;
            }
        };
        for memory in memories {
            let Ok(entry) = u16::try_from(lane.entries.len()) else {
                return;
            };
            let token = Token { lane: id, entry };
            let pushed = self
                .ring
                .register(lane.session.device(), token.pack(), qid, &memory);
            if let Err(errno) = pushed {
                tracing::error!(%errno, mount = %lane.session.mount.name, "registering a ring entry failed");
                return;
            }
            lane.entries.push(Entry {
                qid,
                memory: Some(memory),
                registering: true,
            });
            lane.live += 1;
            lane.queues.entry(qid).or_default().add_entry();
        }
    }

    fn complete(&mut self, token: Token, outcome: i32) {
        let Some(lane) = self.lanes.get_mut(&token.lane) else {
            return;
        };
        let Some(entry) = lane.entries.get_mut(usize::from(token.entry)) else {
            return;
        };
        if outcome < 0 {
            let retry = entry.registering && matches!(-outcome, libc::EAGAIN | libc::EINTR);
            if let (true, Some(memory)) = (retry, entry.memory.as_ref()) {
                let device = lane.session.device();
                if self
                    .ring
                    .register(device, token.pack(), entry.qid, memory)
                    .is_ok()
                {
                    return;
                }
            }
            if entry.registering && !matches!(-outcome, libc::ENOTCONN | libc::ECONNABORTED) {
                tracing::error!(errno = %Errno(-outcome), mount = %lane.session.mount.name, "a ring entry was refused");
            }
            self.bury(token);
            return;
        }
        entry.registering = false;
        let Some(mut memory) = entry.memory.take() else {
            return;
        };
        let session = Arc::clone(&lane.session);
        let touched = memory.touched();
        let Some((header, fixed, commit_id, len)) = memory.request() else {
            self.bury(token);
            return;
        };
        let arrived = Arrived {
            token,
            commit_id,
            header,
            len,
            touched,
        };
        match session.way(header.opcode) {
            State::Up => self.serve(session, &arrived, &fixed, memory),
            State::Failed => self.take_back(
                self.slot(token, commit_id, memory, false),
                header.unique,
                Err(Errno(libc::EIO)),
            ),
            State::Stalled => {
                self.count_parked(token, true);
                let slot = self.slot(token, commit_id, memory, true);
                session.keep(Unserved {
                    responder: Responder {
                        session: Arc::clone(&session),
                        unique: header.unique,
                        thread: header.pid,
                        slot: Some(slot),
                        body: Vec::new(),
                    },
                    header,
                    fixed: Box::new(fixed),
                    len,
                    body: Vec::new(),
                });
                self.make_room(token);
            }
        }
    }

    /// Serves a request that was kept while the client's way here was stalled.
    fn serve_kept(&mut self, slot: RingSlot, header: InHeader, fixed: &[u8; 128], len: usize) {
        let RingSlot {
            token,
            commit_id,
            parked,
            memory,
            ..
        } = slot;
        if parked {
            self.count_parked(token, false);
        }
        let Some(lane) = self.lanes.get(&token.lane) else {
            return;
        };
        let session = Arc::clone(&lane.session);
        let arrived = Arrived {
            token,
            commit_id,
            header,
            len,
            touched: memory.touched(),
        };
        self.serve(session, &arrived, fixed, memory);
    }

    fn serve(
        &mut self,
        session: Arc<Session>,
        arrived: &Arrived,
        fixed: &[u8; 128],
        mut memory: EntryMemory,
    ) {
        let Arrived {
            token,
            commit_id,
            header,
            len,
            touched,
        } = *arrived;
        let request = Request {
            header,
            fixed,
            buffer: memory.payload(),
            len,
        };
        let result = match dispatch::serve(&session, request) {
            Outcome::Reply(result) => result,
            Outcome::Silent => Ok(0),
            Outcome::Slow(job) => {
                let deferral = Deferral::take();
                self.count_parked(token, true);
                let slot = self.slot(token, commit_id, memory, true);
                self.slow.push(SlowWork {
                    job,
                    session,
                    unique: header.unique,
                    thread: header.pid,
                    slot,
                    deferral,
                });
                self.make_room(token);
                return;
            }
            Outcome::Park(lock) => {
                self.count_parked(token, true);
                let slot = Some(self.slot(token, commit_id, memory, true));
                let responder = Responder {
                    session: Arc::clone(&session),
                    unique: header.unique,
                    thread: header.pid,
                    slot,
                    body: Vec::new(),
                };
                session.park(lock, responder);
                self.make_room(token);
                return;
            }
        };
        if let Some(deferral) = Deferral::take() {
            self.count_parked(token, true);
            let responder = Responder {
                session,
                unique: header.unique,
                thread: header.pid,
                slot: Some(self.slot(token, commit_id, memory, true)),
                body: Vec::new(),
            };
            responder.answer_after(deferral, result);
            self.make_room(token);
            return;
        }
        memory.answer(header.unique, result);
        self.resident += memory.touched().saturating_sub(touched);
        self.give_back(token, commit_id, memory);
    }

    fn slot(&self, token: Token, commit_id: u64, memory: EntryMemory, parked: bool) -> RingSlot {
        RingSlot {
            inbox: Arc::clone(&self.inbox),
            token,
            commit_id,
            parked,
            memory,
        }
    }

    /// The answer to a request that waited.
    fn take_back(&mut self, slot: RingSlot, unique: u64, result: Result<usize, Errno>) {
        let RingSlot {
            token,
            commit_id,
            parked,
            mut memory,
            ..
        } = slot;
        if parked {
            self.count_parked(token, false);
        }
        let touched = memory.touched();
        memory.answer(unique, result);
        self.resident += memory.touched().saturating_sub(touched);
        self.give_back(token, commit_id, memory);
    }

    /// Sends the answer that is in `memory` and lets the kernel have the entry again.
    fn give_back(&mut self, token: Token, commit_id: u64, mut memory: EntryMemory) {
        if self.resident > RESIDENT && memory.touched() > KEPT {
            let before = memory.touched();
            memory.trim(KEPT.max(memory.answer_len().next_multiple_of(4096)));
            self.resident = self.resident.saturating_sub(before - memory.touched());
        }
        let Some(lane) = self.lanes.get_mut(&token.lane) else {
            return;
        };
        let Some(entry) = lane.entries.get_mut(usize::from(token.entry)) else {
            return;
        };
        entry.memory = Some(memory);
        if let Some(queue) = lane.queues.get_mut(&entry.qid) {
            if queue.answering() {
                self.probes.push(token);
            }
        }
        let device = lane.session.device();
        if let Err(errno) = self.ring.commit(device, token.pack(), entry.qid, commit_id) {
            tracing::error!(%errno, mount = %lane.session.mount.name, "an answer could not be sent");
        }
    }

    /// The kernel is done with an entry for good.
    fn bury(&mut self, token: Token) {
        let Some(lane) = self.lanes.get_mut(&token.lane) else {
            return;
        };
        if let Some(entry) = lane.entries.get_mut(usize::from(token.entry)) {
            if let Some(memory) = entry.memory.take() {
                self.resident = self.resident.saturating_sub(memory.touched());
            }
        }
        lane.live = lane.live.saturating_sub(1);
        if lane.live == 0 {
            self.lanes.remove(&token.lane);
        }
    }

    /// The queue of an entry, and its number.
    fn queue(&mut self, token: Token) -> Option<(u16, &mut Queue)> {
        let lane = self.lanes.get_mut(&token.lane)?;
        let qid = lane.entries.get(usize::from(token.entry))?.qid;
        Some((qid, lane.queues.get_mut(&qid)?))
    }

    fn count_parked(&mut self, token: Token, waits: bool) {
        if let Some((_, queue)) = self.queue(token) {
            if waits {
                queue.park();
            } else {
                queue.unpark();
            }
        }
    }

    /// Requests that wait must leave entries for those that end their wait.
    fn make_room(&mut self, token: Token) {
        let Some((qid, queue)) = self.queue(token) else {
            return;
        };
        if queue.room() <= RESERVE {
            queue.before_growth();
            self.add_entries(token.lane, qid);
            let _ = self.ring.submit();
        }
        let must_knock = self
            .queue(token)
            .is_some_and(|(_, queue)| queue.must_knock());
        if let (true, Some(lane)) = (must_knock, self.lanes.get(&token.lane)) {
            knock(Arc::clone(&lane.session), usize::from(qid));
        }
    }
}

/// Sends one request that is answered through a queue, by a thread on its processor.
fn knock(session: Arc<Session>, processor: usize) {
    let spawned = std::thread::Builder::new()
        .name("fuse-knock".to_owned())
        .spawn(move || {
            if cred::pin_to_cpu(processor).is_err() {
                return;
            }
            if let Some(mount) = session.attachment() {
                mounting::knock(mount.as_raw_fd());
            }
        });
    if let Err(error) = spawned {
        tracing::error!(%error, "a starved queue could not be woken");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_ranges() {
        assert_eq!(last_processor("0-1\n"), Some(1));
        assert_eq!(last_processor("0\n"), Some(0));
        assert_eq!(last_processor("0-3,8-63\n"), Some(63));
        assert_eq!(last_processor(""), None);
    }
}
