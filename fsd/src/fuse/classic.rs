//! The classic transport: requests read from and answered to `/dev/fuse`.
//!
//! A few threads serve the devices of all connections. With io_uring in use, INIT, FORGET and INTERRUPT still come here.

use std::collections::HashMap;
use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};

use super::abi::{
    fixed_size, opcode, BatchForgetIn, ForgetIn, ForgetOne, InHeader, InitIn, InterruptIn,
};
use super::dispatch;
use super::link::{State, Unserved};
use super::request::{Outcome, Request};
use super::responder::{Deferral, Responder};
use super::session::{Session, MAX_IO};
use super::uring::Rings;
use crate::sys::event::Epoll;
use crate::sys::{file, pod, Errno};

const HEADER: usize = std::mem::size_of::<InHeader>();
const BUFFER: usize = MAX_IO + 8192;
const DEVICE: &CStr = c"/dev/fuse";

/// A new, unconnected device.
pub fn open_device() -> Result<OwnedFd, Errno> {
    file::open_at(libc::AT_FDCWD, DEVICE, libc::O_RDWR | libc::O_NONBLOCK, 0)
}

/// The threads that serve the devices, and the connections they serve.
#[derive(Debug)]
pub struct Devices {
    epoll: Epoll,
    sessions: RwLock<HashMap<u64, Arc<Session>>>,
    next_token: AtomicU64,
    rings: Option<Arc<Rings>>,
}

impl Devices {
    /// Starts `threads` threads. `rings`: where connections that agree to io_uring register.
    pub fn start(threads: usize, rings: Option<Arc<Rings>>) -> Result<Arc<Devices>, Errno> {
        let devices = Arc::new(Devices {
            epoll: Epoll::new()?,
            sessions: RwLock::default(),
            next_token: AtomicU64::new(1),
            rings,
        });
        for index in 0..threads {
            let devices = Arc::clone(&devices);
            std::thread::Builder::new()
                .name(format!("fuse-device-{index}"))
                .spawn(move || devices.run())?;
        }
        Ok(devices)
    }

    /// Serves a connection from now on. The token is for [`Devices::remove`].
    pub fn add(&self, session: &Arc<Session>) -> Result<u64, Errno> {
        let token = self.next_token.fetch_add(1, Relaxed);
        self.sessions
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(token, Arc::clone(session));
        self.epoll.add(session.device(), token, true)?;
        Ok(token)
    }

    pub fn remove(&self, token: u64) {
        let removed = self
            .sessions
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&token);
        if let Some(session) = removed {
            self.epoll.remove(session.device());
            session.end();
        }
    }

    fn session(&self, token: u64) -> Option<Arc<Session>> {
        self.sessions
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&token)
            .cloned()
    }

    fn run(&self) {
        let mut buffer = vec![0u8; BUFFER];
        loop {
            let token = match self.epoll.wait() {
                Ok(token) => token,
                Err(errno) => {
                    tracing::error!(%errno, "waiting for devices failed");
                    return;
                }
            };
            if let Some(session) = self.session(token) {
                self.serve_all(&session, token, &mut buffer);
            }
        }
    }

    /// Edge-triggered: reads until there is nothing more.
    fn serve_all(&self, session: &Arc<Session>, token: u64, buffer: &mut [u8]) {
        loop {
            match file::read(session.device(), buffer) {
                Ok(n) => receive(session, self.rings.as_ref(), buffer, n),
                Err(Errno(libc::EAGAIN)) => return,
                // ENOENT: a request was interrupted before it could be read.
                Err(Errno(libc::EINTR | libc::ENOENT)) => {}
                Err(errno) => {
                    if !matches!(errno.0, libc::ENODEV | libc::ECONNABORTED) {
                        tracing::error!(%errno, mount = %session.mount.name, "reading requests failed");
                    }
                    self.remove(token);
                    return;
                }
            }
        }
    }

    /// Connections served now.
    pub fn len(&self) -> usize {
        self.sessions
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Takes apart a message of `n` bytes from the device and does what it asks. `rings`: where a connection that agrees to
/// io_uring registers. The buffer is big enough for any reply.
pub fn receive(session: &Arc<Session>, rings: Option<&Arc<Rings>>, buffer: &mut [u8], n: usize) {
    let n = n.min(buffer.len());
    let Some(header) = pod::read::<InHeader>(&buffer[..n]) else {
        return;
    };
    let body = buffer.get(HEADER..n).unwrap_or_default();
    match header.opcode {
        opcode::INIT => {
            // Older kernels send a shorter struct; what is missing is zero.
            let mut padded = [0u8; std::mem::size_of::<InitIn>()];
            let len = body.len().min(padded.len());
            padded[..len].copy_from_slice(&body[..len]);
            let wanted = pod::read(&padded).unwrap_or_default();
            if session.initialise(&header, &wanted) {
                if let Some(rings) = rings {
                    rings.register(session);
                }
            }
        }
        opcode::FORGET => {
            if let Some(argument) = pod::read::<ForgetIn>(body) {
                session.mount.forget(header.nodeid, argument.nlookup);
            }
        }
        opcode::BATCH_FORGET => batch_forget(session, body),
        opcode::INTERRUPT => {
            if let Some(argument) = pod::read::<InterruptIn>(body) {
                session.interrupt(argument.unique);
            }
        }
        _ => answer(session, &header, buffer, n),
    }
}

fn answer(session: &Arc<Session>, header: &InHeader, buffer: &mut [u8], n: usize) {
    let fixed_len = fixed_size(header.opcode);
    let start = HEADER + fixed_len;
    if n < start {
        session.reply(header.unique, Err(Errno(libc::EINVAL)));
        return;
    }
    let mut fixed = [0u8; 128];
    fixed[..fixed_len].copy_from_slice(&buffer[HEADER..start]);
    let len = n - start;
    match session.way(header.opcode) {
        State::Up => perform(session, header, &fixed, &mut buffer[start..], len),
        State::Failed => session.reply(header.unique, Err(Errno(libc::EIO))),
        State::Stalled => session.keep(Unserved {
            responder: responder(session, header, Vec::new()),
            header: *header,
            fixed: Box::new(fixed),
            len,
            body: buffer[start..n].to_vec(),
        }),
    }
}

/// Serves a request that had to wait, with its variable part in `body`, on a thread of its own: it may wait for the disk.
pub fn serve_later(session: &Arc<Session>, header: &InHeader, fixed: &[u8; 128], body: &[u8]) {
    let (session, header, fixed) = (Arc::clone(session), *header, *fixed);
    let unique = header.unique;
    let len = body.len();
    let mut buffer = vec![0u8; BUFFER.max(len)];
    buffer[..len].copy_from_slice(body);
    let waiting = Arc::clone(&session);
    let spawned = std::thread::Builder::new()
        .name("fuse-resumed".to_owned())
        .spawn(move || perform(&session, &header, &fixed, &mut buffer, len));
    if let Err(error) = spawned {
        tracing::error!(%error, "a request that waited could not be served");
        waiting.reply(unique, Err(Errno(libc::EIO)));
    }
}

fn responder(session: &Arc<Session>, header: &InHeader, body: Vec<u8>) -> Responder {
    Responder {
        session: Arc::clone(session),
        unique: header.unique,
        thread: header.pid,
        slot: None,
        body,
    }
}

/// Serves a request and answers it. `buffer` holds the variable part and takes the reply's body.
fn perform(
    session: &Arc<Session>,
    header: &InHeader,
    fixed: &[u8; 128],
    buffer: &mut [u8],
    len: usize,
) {
    let request = Request {
        header: *header,
        fixed,
        buffer,
        len,
    };
    let result = match dispatch::serve(session, request) {
        Outcome::Reply(result) => result,
        Outcome::Slow(job) => job(buffer),
        Outcome::Silent => return,
        Outcome::Park(lock) => {
            session.park(lock, responder(session, header, Vec::new()));
            return;
        }
    };
    if let Some(deferral) = Deferral::take() {
        let len = *result.as_ref().unwrap_or(&0);
        let body = buffer.get(..len).unwrap_or_default().to_vec();
        responder(session, header, body).answer_after(deferral, result);
        return;
    }
    let body = result.map(|len| buffer.get(..len).unwrap_or_default());
    session.reply(header.unique, body);
}

fn batch_forget(session: &Session, body: &[u8]) {
    let Some(head) = pod::read::<BatchForgetIn>(body) else {
        return;
    };
    let entries = body
        .get(std::mem::size_of::<BatchForgetIn>()..)
        .unwrap_or_default();
    for entry in entries
        .chunks_exact(std::mem::size_of::<ForgetOne>())
        .take(head.count as usize)
    {
        if let Some(one) = pod::read::<ForgetOne>(entry) {
            session.mount.forget(one.nodeid, one.nlookup);
        }
    }
}
