//! One FUSE connection: what was negotiated, what the client's kernel may have cached, and how to reach it.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::abi::{
    init, notify, open, InHeader, InitIn, InitOut, NotifyInvalInode, OutHeader, EPOCH_MINOR,
    KERNEL_MINOR, KERNEL_VERSION,
};
use super::backing::Backings;
use super::link::Link;
use super::responder::Responder;
use crate::inode::Inode;
use crate::later::Later;
use crate::locks::{self, Ticket};
use crate::mount::{Mount, Permissions};
use crate::sys::{file, mounting, pod, signal, Errno};
use crate::volume::Observer;

/// Largest read or write of one request, in bytes.
pub const MAX_IO: usize = 1 << 20;
/// How long names and attributes stay cached when nobody says otherwise: the bound for changes made behind the server's
/// back, directly in the backing directory. Changes through any mount are seen at once.
const CACHED: Duration = Duration::from_secs(5);
/// Long enough for the system call that asked.
const ONE_CALL: Duration = Duration::from_millis(4);
/// Interrupts remembered for requests that have not shown up yet.
const EARLY_INTERRUPTS: usize = 256;

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The kernel's INIT is outstanding.
    Starting,
    /// INIT is answered; `rings` worker rings have yet to register their entries.
    Registering {
        rings: usize,
    },
    Ready,
    Ended,
}

/// Requests of this connection that wait for a lock, so that a signal can end the wait.
#[derive(Debug, Default)]
struct Parked {
    tickets: HashMap<u64, Ticket>,
    interrupted: VecDeque<u64>,
}

#[derive(Debug)]
struct HeldBack {
    responder: Responder,
    result: Result<usize, Errno>,
}

#[derive(Debug)]
pub struct Session {
    pub mount: Mount,
    device: OwnedFd,
    want_rings: usize,
    passthrough: AtomicBool,
    epochs: AtomicBool,
    /// Files open for reading and writing may be mapped shared; their pages then are the client's until it writes them back.
    maps: AtomicBool,
    /// A name was given to the client to keep since it was last told to drop all; taken through a change's notification.
    names_given: AtomicBool,
    notifying: Mutex<()>,
    backings: Mutex<Backings>,
    parked: Mutex<Parked>,
    /// Answers that a throughput limit holds back.
    held_back: Mutex<HashMap<u64, HeldBack>>,
    pub(super) link: Link,
    later: Arc<Later>,
    fine_times: bool,
    phase: Mutex<Phase>,
    phase_changed: Condvar,
    /// The mount itself, for requests of our own; letting go of it lets a detached mount end.
    attachment: Mutex<Option<Arc<OwnedFd>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Session {
    /// `want_rings`: worker rings that will register entries for it; 0 for the classic transport.
    pub fn new(mount: Mount, device: OwnedFd, want_rings: usize, later: Arc<Later>) -> Session {
        Session {
            mount,
            device,
            want_rings,
            passthrough: AtomicBool::new(false),
            epochs: AtomicBool::new(false),
            maps: AtomicBool::new(false),
            names_given: AtomicBool::new(false),
            notifying: Mutex::default(),
            backings: Mutex::default(),
            parked: Mutex::default(),
            held_back: Mutex::default(),
            link: Link::default(),
            later,
            fine_times: mounting::kernel_at_least(6, 13),
            phase: Mutex::new(Phase::Starting),
            phase_changed: Condvar::new(),
            attachment: Mutex::default(),
        }
    }

    pub fn device(&self) -> RawFd {
        self.device.as_raw_fd()
    }

    pub fn attach(&self, mount: OwnedFd) {
        *lock(&self.attachment) = Some(Arc::new(mount));
    }

    pub fn attachment(&self) -> Option<Arc<OwnedFd>> {
        lock(&self.attachment).clone()
    }

    pub fn detach(&self) {
        lock(&self.attachment).take();
    }

    // ---- phases

    pub fn phase(&self) -> Phase {
        *lock(&self.phase)
    }

    fn set_phase(&self, change: impl FnOnce(Phase) -> Phase) {
        let mut phase = lock(&self.phase);
        *phase = change(*phase);
        self.phase_changed.notify_all();
    }

    /// A worker ring has registered its entries (or could not: the kernel then falls back to the classic transport).
    pub fn ring_registered(&self) {
        self.set_phase(|phase| match phase {
            Phase::Registering { rings } if rings > 1 => Phase::Registering { rings: rings - 1 },
            Phase::Registering { .. } => Phase::Ready,
            other => other,
        });
    }

    /// Waits until requests flow. False when that did not happen within `limit`.
    pub fn wait_ready(&self, limit: Duration) -> bool {
        let phase = lock(&self.phase);
        let waiting = |phase: &mut Phase| !matches!(phase, Phase::Ready | Phase::Ended);
        match self.phase_changed.wait_timeout_while(phase, limit, waiting) {
            Ok((phase, _)) => *phase == Phase::Ready,
            Err(_) => false,
        }
    }

    /// The connection is gone: its locks, its waits and everything it knew go. Returns false when that was done before.
    pub fn end(&self) -> bool {
        {
            let mut phase = lock(&self.phase);
            if *phase == Phase::Ended {
                return false;
            }
            *phase = Phase::Ended;
            self.phase_changed.notify_all();
        }
        let mount = &self.mount;
        mount.volume.stop_observing(mount.number);
        self.give_all_up();
        mount.volume.locks.release_mount(mount.number).give();
        let held_back: Vec<u64> = lock(&self.held_back).keys().copied().collect();
        for unique in held_back {
            self.let_go(unique);
        }
        mount.end();
        true
    }

    // ---- INIT

    /// Answers INIT. True when the worker rings have to register now.
    pub fn initialise(&self, header: &InHeader, wanted: &InitIn) -> bool {
        if wanted.major != KERNEL_VERSION {
            let mut out = InitOut {
                major: KERNEL_VERSION,
                minor: KERNEL_MINOR,
                ..InitOut::default()
            };
            if wanted.major < KERNEL_VERSION {
                tracing::error!(mount = %self.mount.name, major = wanted.major, "the kernel's FUSE is too old");
                self.reply(header.unique, Err(Errno(libc::EPROTO)));
            } else {
                out.max_write = MAX_IO as u32;
                self.reply(header.unique, Ok(pod::bytes_of(&out)));
            }
            return false;
        }
        let mut offered = u64::from(wanted.flags);
        if offered & init::INIT_EXT != 0 {
            offered |= u64::from(wanted.flags2) << 32;
        }
        let mut asked = init::ASYNC_READ
            | init::POSIX_LOCKS
            | init::ATOMIC_O_TRUNC
            | init::BIG_WRITES
            | init::FLOCK_LOCKS
            | init::AUTO_INVAL_DATA
            | init::DO_READDIRPLUS
            | init::READDIRPLUS_AUTO
            | init::ASYNC_DIO
            | init::PARALLEL_DIROPS
            | init::MAX_PAGES
            | init::CACHE_SYMLINKS
            | init::HANDLE_KILLPRIV_V2
            | init::INIT_EXT;
        if self.mount.volume.passthrough.load(SeqCst) {
            asked |= init::PASSTHROUGH;
        }
        if self.want_rings > 0 {
            asked |= init::OVER_IO_URING;
        }
        if asked & offered & init::PASSTHROUGH == 0 {
            // Beside passthrough, pages of a client's own would go stale unseen.
            asked |= init::DIRECT_IO_ALLOW_MMAP;
        }
        let agreed = asked & offered;
        self.maps
            .store(agreed & init::DIRECT_IO_ALLOW_MMAP != 0, SeqCst);
        let rings = agreed & init::OVER_IO_URING != 0;
        self.passthrough
            .store(agreed & init::PASSTHROUGH != 0, SeqCst);
        self.epochs.store(wanted.minor >= EPOCH_MINOR, SeqCst);
        let stacked = file::is_stacked(self.mount.volume.root().as_raw_fd());
        let out = InitOut {
            major: KERNEL_VERSION,
            minor: KERNEL_MINOR.min(wanted.minor),
            max_readahead: wanted.max_readahead,
            flags: agreed as u32,
            flags2: (agreed >> 32) as u32,
            // No bound: the answer to a write may wait until other requests of the same client are served (see `spreading`).
            max_background: u16::MAX,
            congestion_threshold: 48,
            max_write: MAX_IO as u32,
            time_gran: 1,
            max_pages: (MAX_IO / 4096) as u16,
            max_stack_depth: if stacked { 2 } else { 1 },
            ..InitOut::default()
        };
        self.set_phase(|phase| match phase {
            Phase::Starting if rings => Phase::Registering {
                rings: self.want_rings,
            },
            Phase::Starting => Phase::Ready,
            other => other,
        });
        self.reply(header.unique, Ok(pod::bytes_of(&out)));
        rings
    }

    // ---- messages to the kernel over the device

    pub fn reply(&self, unique: u64, result: Result<&[u8], Errno>) {
        let (error, body) = match result {
            Ok(body) => (0, body),
            Err(errno) => (-errno.0, &[][..]),
        };
        self.send(unique, error, body);
    }

    fn send(&self, unique: u64, error: i32, body: &[u8]) {
        let head = OutHeader {
            len: (std::mem::size_of::<OutHeader>() + body.len()) as u32,
            error,
            unique,
        };
        // ENOENT: the request was interrupted or the inode is not known; ENODEV and the like: the connection is gone. The
        // reading side notices that.
        if let Err(errno) = file::write_pair(self.device(), pod::bytes_of(&head), body) {
            tracing::trace!(mount = %self.mount.name, %errno, unique, "not taken by the kernel");
        }
    }

    // ---- what the client may keep

    /// How long a name may be kept. Call before the name is looked up.
    pub fn name_lifetime(&self) -> Duration {
        if !self.epochs.load(SeqCst) {
            return Duration::ZERO;
        }
        if !self.names_given.load(SeqCst) {
            self.names_given.store(true, SeqCst);
        }
        CACHED
    }

    /// How long attributes of `inode` may be kept. `fresh`: the client hears of the inode for the first time, so it could
    /// not be told yet of a change that another mount makes at this moment; the call that asked may use them, hardly more.
    pub fn attribute_lifetime(&self, inode: &Inode, fresh: bool) -> Duration {
        let shared = || {
            self.mount.volume.mounts() > 1 && !inode.other_watchers(self.mount.number).is_empty()
        };
        if inode.changes_unseen() {
            Duration::ZERO
        } else if fresh && shared() {
            ONE_CALL
        } else {
            CACHED
        }
    }

    /// How the client's kernel may cache a directory's records. It compares the directory's times before it uses them,
    /// which tells every change apart where times asked for are never given twice (multigrain, Linux 6.13).
    pub fn directory_caching(&self) -> u32 {
        if self.fine_times {
            open::CACHE_DIR | open::KEEP_CACHE
        } else {
            0
        }
    }

    // ---- passthrough

    /// Registers one more open file of `inode`; `None` when its data has to go through the server.
    pub fn open_backing(&self, inode: &Arc<Inode>, file: RawFd) -> Option<i32> {
        if !self.passthrough.load(SeqCst) || !self.mount.volume.passthrough.load(SeqCst) {
            return None;
        }
        // The registration outlives the open file; one that could write would keep the file from being executed.
        let path = || self.mount.volume.path_fd(inode, file);
        match lock(&self.backings).open(self.device(), inode.id, path) {
            Ok(id) => Some(id),
            Err(errno) => {
                if matches!(
                    errno.0,
                    libc::EPERM | libc::EOPNOTSUPP | libc::ELOOP | libc::EINVAL
                ) {
                    self.passthrough.store(false, SeqCst);
                    tracing::warn!(mount = %self.mount.name, %errno, "no passthrough on this backing directory");
                }
                None
            }
        }
    }

    pub fn close_backing(&self, inode: &Inode) {
        lock(&self.backings).close(self.device(), inode.id);
    }

    /// Whether files open for reading and writing may be mapped shared without passthrough.
    pub fn maps(&self) -> bool {
        self.maps.load(SeqCst)
    }

    pub fn passthrough(&self) -> bool {
        self.passthrough.load(SeqCst)
    }

    // ---- limits

    pub(super) fn hold_back(
        self: &Arc<Session>,
        responder: Responder,
        time: Instant,
        result: Result<usize, Errno>,
    ) {
        let unique = responder.unique;
        let thread = responder.slot.is_some().then_some(responder.thread);
        lock(&self.held_back).insert(unique, HeldBack { responder, result });
        let signalled = thread.is_some_and(|thread| thread != 0 && signal::pending(thread));
        if signalled || self.phase() == Phase::Ended {
            self.let_go(unique);
            return;
        }
        let session = Arc::clone(self);
        let deed = move || {
            session.let_go(unique);
        };
        self.later.at(time, Box::new(deed));
    }

    /// Gives an answer that was held back, if it still is.
    fn let_go(&self, unique: u64) -> bool {
        let held_back = lock(&self.held_back).remove(&unique);
        match held_back {
            Some(HeldBack { responder, result }) => {
                responder.answer(result);
                true
            }
            None => false,
        }
    }

    // ---- waiting for locks

    /// Waits for a lock; the answer comes through `responder`.
    pub fn park(self: &Arc<Session>, request: locks::Request, responder: Responder) {
        let unique = responder.unique;
        // On a ring the kernel forgets to report a signal that came before the request was fetched.
        let unreported = responder.slot.is_some().then_some(responder.thread);
        let session = Arc::clone(self);
        let answer = Box::new(move |result: Result<(), Errno>| {
            lock(&session.parked).tickets.remove(&unique);
            responder.answer(result.map(|()| 0));
        });
        let locks = &self.mount.volume.locks;
        let due = {
            let mut parked = lock(&self.parked);
            let (ticket, due) = locks.lock(request, answer);
            if let Some(ticket) = ticket {
                parked.tickets.insert(unique, ticket);
            }
            due
        };
        due.give();
        if self.interrupted_early(unique) {
            self.interrupt(unique);
        }
        if unreported.is_some_and(signal::pending) {
            self.interrupt(unique);
        }
        if self.phase() == Phase::Ended {
            // The end may have passed between the two tables.
            self.interrupt(unique);
        }
    }

    /// Whether the signal came before the request it is for.
    pub(super) fn interrupted_early(&self, unique: u64) -> bool {
        let mut parked = lock(&self.parked);
        let at = parked.interrupted.iter().position(|early| *early == unique);
        at.is_some_and(|at| parked.interrupted.remove(at).is_some())
    }

    /// A signal ended the client's wait for request `unique`.
    pub fn interrupt(&self, unique: u64) {
        if self.let_go(unique) || self.give_up(unique) {
            return;
        }
        let ticket = {
            let mut parked = lock(&self.parked);
            match parked.tickets.get(&unique) {
                Some(ticket) => *ticket,
                None => {
                    if parked.interrupted.len() == EARLY_INTERRUPTS {
                        parked.interrupted.pop_front();
                    }
                    parked.interrupted.push_back(unique);
                    return;
                }
            }
        };
        self.mount.volume.locks.interrupt(ticket).give();
    }
}

impl Session {
    /// From the next request on the client may do this. Names that it found with other rights are looked up again, and pages
    /// that it may no longer read go. The answer: open files whose data goes past the server, where nothing stops it.
    pub fn permit(&self, permissions: Permissions) -> usize {
        self.mount.permit(permissions);
        self.names_changed(0);
        if permissions.denied {
            let inodes = self.mount.cached_files();
            let inodes = inodes.iter().map(|open| Arc::clone(&open.inode)).collect();
            self.mount.volume.content_changed(inodes, Box::new(|| {}));
        }
        self.mount.bypassing(permissions)
    }

    /// Attributes of an inode, and its pages from `offset` on unless that is negative.
    fn invalidate(&self, inode: u64, offset: i64) {
        let node = if inode == self.mount.root.id {
            crate::mount::ROOT
        } else {
            inode
        };
        let body = NotifyInvalInode {
            ino: node,
            off: offset,
            len: 0,
        };
        self.send(0, notify::INVAL_INODE, pod::bytes_of(&body));
    }
}

impl Observer for Session {
    fn attributes_changed(&self, inode: u64) {
        self.invalidate(inode, -1);
    }

    fn content_changed(&self, inode: u64) {
        if self.spreads(inode) {
            self.invalidate(inode, 0);
            self.spread();
        }
    }

    fn names_changed(&self, _directory: u64) {
        if !self.epochs.load(SeqCst) {
            return;
        }
        // Held until the kernel has it: another change that finds nothing given must not be answered before that.
        let _order = lock(&self.notifying);
        if self.names_given.swap(false, SeqCst) {
            self.send(0, notify::INC_EPOCH, &[]);
        }
    }

    fn unlinked(&self, inode: u64) {
        lock(&self.backings).unlinked(self.device(), inode);
    }
}
