//! One TCP connection: its records in, its replies out, and whom of the file systems it is a client of.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rustls::ServerConnection;

use super::export::{Export, Node};
use super::rpc::{Oversized, Records};
use super::status::Status;
use super::tls::{Tls, HANDSHAKE};
use super::visit::Visit;
use crate::meter::{Class, Meter};
use crate::sys::event::Epoll;
use crate::sys::file;
use crate::sys::Errno;
use crate::throttle::Pace;
use crate::volume::Volume;

/// Requests of one connection under way; more are not read until some are answered.
const MOST_PENDING: usize = 96;
/// Bytes of replies that a client may leave unread; until it reads them no more of its requests are.
const MOST_UNSENT: usize = 4 << 20;
/// Bytes read at once where the next header is not known yet, and of a long record.
const READ_AHEAD: usize = 16 << 10;
const READ_LONG: usize = 256 << 10;

/// What a connection sees as its root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// A directory of all exports.
    Pseudo,
    /// The export of that tag.
    Export(u64),
}

/// A connection as a client of one volume.
#[derive(Debug)]
struct Attachment {
    volume: Arc<Volume>,
    meter: Meter,
    pace: Mutex<Pace>,
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.volume.visitors.fetch_sub(1, SeqCst);
    }
}

#[derive(Debug, Default)]
struct Output {
    queue: VecDeque<Vec<u8>>,
    /// Bytes of the first that are sent.
    sent: usize,
    bytes: usize,
    broken: bool,
}

#[derive(Debug, Default)]
struct Interest {
    /// No more requests are read for now.
    paused: bool,
    /// Nor any until it is known who the client is.
    held: bool,
    gone: bool,
}

#[derive(Debug)]
pub struct Connection {
    pub token: u64,
    stream: TcpStream,
    peer: Option<IpAddr>,
    root: Root,
    input: Mutex<Records>,
    output: Mutex<Output>,
    pending: AtomicUsize,
    interest: Mutex<Interest>,
    attachments: Mutex<Vec<Arc<Attachment>>>,
    /// Held while a reply is made ready to send, so that its records keep their order.
    tls: Mutex<Option<Box<ServerConnection>>>,
    secure: AtomicBool,
    /// TLS that may start when the client asks, or begins with it.
    offered: Option<Tls>,
    /// Nothing has come yet.
    fresh: AtomicBool,
    /// A handshake in which the client may show a certificate has not ended yet.
    introducing: AtomicBool,
    visit: OnceLock<Visit>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What reading brought.
#[derive(Debug)]
pub struct Arrived {
    pub records: Vec<Vec<u8>>,
    /// No more will come.
    pub ends: bool,
    /// The client's, DER. No request is read until the connection is [`Connection::recognized`].
    pub certificate: Option<Vec<u8>>,
}

impl Arrived {
    fn nothing() -> Arrived {
        Arrived {
            records: Vec::new(),
            ends: false,
            certificate: None,
        }
    }

    fn end() -> Arrived {
        Arrived {
            ends: true,
            ..Arrived::nothing()
        }
    }
}

/// What reading through TLS brought.
enum Unsealed {
    Nothing,
    Something,
    Certificate(Vec<u8>),
}

impl Connection {
    /// `stream` does not block. `offered`: for clients that begin with TLS, or ask for it.
    pub fn new(token: u64, stream: TcpStream, root: Root, offered: Option<Tls>) -> Connection {
        let peer = stream.peer_addr().ok();
        Connection {
            token,
            peer: peer.map(|peer| peer.ip().to_canonical()),
            stream,
            root,
            input: Mutex::default(),
            output: Mutex::default(),
            pending: AtomicUsize::new(0),
            interest: Mutex::default(),
            attachments: Mutex::default(),
            secure: AtomicBool::new(false),
            tls: Mutex::default(),
            offered,
            fresh: AtomicBool::new(true),
            introducing: AtomicBool::new(false),
            visit: OnceLock::new(),
        }
    }

    pub fn offered(&self) -> Option<&Tls> {
        self.offered.as_ref()
    }

    pub fn raw(&self) -> i32 {
        self.stream.as_raw_fd()
    }

    /// What goes over it is encrypted.
    pub fn is_secure(&self) -> bool {
        self.secure.load(SeqCst)
    }

    /// Sends `reply` as it is, and speaks TLS from then on (RFC 9289 section 4.1).
    pub fn start_tls(&self, reply: Vec<u8>, tls: ServerConnection, epoll: &Epoll) {
        // What the client sends next waits for this lock, and then meets TLS.
        let mut slot = lock(&self.tls);
        self.enqueue(reply, epoll);
        *slot = Some(Box::new(tls));
        self.secure.store(true, SeqCst);
    }

    /// The client's address.
    /// The client's address.
    pub fn peer(&self) -> Option<IpAddr> {
        self.peer
    }

    // ---- who it is

    /// What is known of the client, where it had to say who it is.
    pub fn visit(&self) -> Option<&Visit> {
        self.visit.get()
    }

    /// It is known who the client is; what it sent meanwhile is to be read now. False where it was known before.
    pub fn recognized(&self, visit: Visit) -> bool {
        let first = self.visit.set(visit).is_ok();
        lock(&self.interest).held = false;
        first
    }

    pub fn is_held(&self) -> bool {
        lock(&self.interest).held
    }

    /// Clients and sessions of different roots have nothing to do with each other.
    pub fn realm(&self) -> u64 {
        let realm = self.visit().and_then(|visit| visit.realm);
        realm.or(self.only_export()).unwrap_or(0)
    }

    pub fn only_export(&self) -> Option<u64> {
        if let Some(root) = self.visit().and_then(|visit| visit.root) {
            return Some(root);
        }
        match self.root {
            Root::Pseudo => None,
            Root::Export(tag) => Some(tag),
        }
    }

    // ---- as a client of file systems

    /// The connection uses the export's file system from now on, if that takes on one more client.
    pub fn attach(&self, export: &Export) -> Result<(), Status> {
        self.attachment(&export.volume).map(|_| ())
    }

    fn attachment(&self, volume: &Arc<Volume>) -> Result<Arc<Attachment>, Status> {
        let mut attachments = lock(&self.attachments);
        let known = attachments
            .iter()
            .find(|known| Arc::ptr_eq(&known.volume, volume));
        if let Some(known) = known {
            return Ok(Arc::clone(known));
        }
        volume
            .pacing
            .admit(volume.connections())
            .map_err(|refusal| {
                tracing::warn!(volume = volume.name, %refusal, "an NFS client has to wait");
                Status::DELAY
            })?;
        volume.visitors.fetch_add(1, SeqCst);
        let attachment = Arc::new(Attachment {
            volume: Arc::clone(volume),
            meter: Meter::new(),
            pace: Mutex::default(),
        });
        attachments.push(Arc::clone(&attachment));
        Ok(attachment)
    }

    /// Counts an operation on a file.
    pub fn count(&self, node: &Node, class: Class, bytes: u64) {
        let volume = node.volume();
        volume.meter.record(class, bytes);
        if let Ok(attachment) = self.attachment(volume) {
            attachment.meter.record(class, bytes);
            volume.pacing.charge(&attachment.pace, class, bytes);
        }
    }

    // ---- requests

    /// Reads what has come, up to the first whole records.
    pub fn receive(&self, epoll: &Epoll) -> Result<Arrived, Oversized> {
        let mut input = lock(&self.input);
        let mut records = Vec::new();
        loop {
            if self.is_held() {
                return Ok(Arrived::nothing());
            }
            while let Some(record) = input.next_record()? {
                records.push(record);
            }
            if !records.is_empty() {
                self.pending.fetch_add(records.len(), SeqCst);
                return Ok(Arrived {
                    records,
                    ..Arrived::nothing()
                });
            }
            let fd = self.raw();
            if self.is_secure() {
                match self.receive_secure(&mut input, epoll) {
                    Ok(Unsealed::Something) => continue,
                    Ok(Unsealed::Nothing) => return Ok(Arrived::nothing()),
                    Ok(Unsealed::Certificate(certificate)) => {
                        return Ok(Arrived {
                            certificate: Some(certificate),
                            ..Arrived::nothing()
                        });
                    }
                    Err(_) => return Ok(Arrived::end()),
                }
            }
            let read = match input.direct() {
                Some((record, missing)) if missing > READ_AHEAD => {
                    let n = file::receive_onto(fd, record, missing.min(READ_LONG));
                    if let Ok(n) = n {
                        input.received(n);
                    }
                    n
                }
                _ => file::receive_onto(fd, &mut input.buffer, READ_AHEAD),
            };
            match read {
                Err(Errno(libc::EINTR)) => continue,
                Err(Errno(libc::EAGAIN)) => return Ok(Arrived::nothing()),
                Ok(0) | Err(_) => return Ok(Arrived::end()),
                Ok(_) if self.fresh.swap(false, SeqCst) => {
                    if self.begin_secure(&mut input, epoll).is_err() {
                        return Ok(Arrived::end());
                    }
                }
                Ok(_) => {}
            }
        }
    }

    /// Where the first bytes are those of a handshake: speaks TLS from now on.
    fn begin_secure(&self, input: &mut Records, epoll: &Epoll) -> std::io::Result<()> {
        let Some(offered) = &self.offered else {
            return Ok(());
        };
        if input.buffer.first() != Some(&HANDSHAKE) {
            return Ok(());
        }
        let tls = offered.at_once().map_err(std::io::Error::other)?;
        let sealed = std::mem::take(&mut input.buffer);
        let mut slot = lock(&self.tls);
        let tls = slot.insert(Box::new(tls));
        self.secure.store(true, SeqCst);
        self.introducing.store(true, SeqCst);
        // No handshake ends with its first message.
        self.unseal(tls, &sealed, input, epoll).map(|_| ())
    }

    /// Takes what has come through TLS.
    fn receive_secure(&self, input: &mut Records, epoll: &Epoll) -> std::io::Result<Unsealed> {
        let mut slot = lock(&self.tls);
        let Some(tls) = slot.as_mut() else {
            return Err(std::io::ErrorKind::NotConnected.into());
        };
        let mut sealed = Vec::new();
        match file::receive_onto(self.raw(), &mut sealed, READ_LONG) {
            Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(Errno(libc::EAGAIN)) => return Ok(Unsealed::Nothing),
            Err(Errno(libc::EINTR)) => return Ok(Unsealed::Something),
            Err(errno) => return Err(std::io::Error::from_raw_os_error(errno.0)),
        }
        self.unseal(tls, &sealed, input, epoll)
    }

    fn unseal(
        &self,
        tls: &mut ServerConnection,
        sealed: &[u8],
        input: &mut Records,
        epoll: &Epoll,
    ) -> std::io::Result<Unsealed> {
        let mut rest = sealed;
        let mut result = Ok(Unsealed::Something);
        while !rest.is_empty() && result.is_ok() {
            tls.read_tls(&mut rest)?;
            match tls.process_new_packets() {
                Ok(state) => {
                    let plain = state.plaintext_bytes_to_read();
                    let mut reader = tls.reader().take(plain as u64);
                    reader.read_to_end(&mut input.buffer)?;
                }
                Err(error) => {
                    tracing::debug!(%error, "a TLS connection ends");
                    result = Err(std::io::ErrorKind::InvalidData.into());
                }
            }
        }
        // Its part of the handshake, or an alert.
        let mut answer = Vec::new();
        while tls.wants_write() {
            tls.write_tls(&mut answer)?;
        }
        if !answer.is_empty() {
            self.enqueue(answer, epoll);
        }
        if result.is_ok() && !tls.is_handshaking() && self.introducing.swap(false, SeqCst) {
            if let Some(shown) = tls.peer_certificates().and_then(<[_]>::first) {
                lock(&self.interest).held = true;
                result = Ok(Unsealed::Certificate(shown.to_vec()));
            }
        }
        result
    }

    /// A request is answered, or was none.
    pub fn answered(&self, epoll: &Epoll) {
        self.pending.fetch_sub(1, SeqCst);
        if lock(&self.interest).paused {
            self.watch(epoll);
        }
    }

    /// Asks for the next wake-up: for requests, unless there are too many already, and for room to send.
    pub fn watch(&self, epoll: &Epoll) {
        let mut interest = lock(&self.interest);
        if interest.gone {
            return;
        }
        let unsent = lock(&self.output).bytes;
        let room = self.pending.load(SeqCst) < MOST_PENDING && unsent < MOST_UNSENT;
        let read = room && !interest.held;
        interest.paused = !read;
        if read || unsent > 0 {
            if let Err(errno) = epoll.once(self.raw(), self.token, read, unsent > 0) {
                tracing::warn!(%errno, "a connection is lost");
            }
        }
    }

    /// The connection ends: nothing is read or sent any more.
    pub fn close(&self, epoll: &Epoll) {
        lock(&self.interest).gone = true;
        epoll.remove(self.raw());
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
        lock(&self.output).broken = true;
        lock(&self.attachments).clear();
    }

    // ---- replies

    /// Sends a reply, or what the client takes of it now.
    pub fn send(&self, reply: Vec<u8>, epoll: &Epoll) {
        let mut slot = lock(&self.tls);
        let Some(tls) = slot.as_mut() else {
            drop(slot);
            self.enqueue(reply, epoll);
            return;
        };
        let mut sealed = Vec::with_capacity(reply.len() + reply.len() / 256 + 64);
        let written = tls.writer().write_all(&reply);
        while written.is_ok() && tls.wants_write() {
            if tls.write_tls(&mut sealed).is_err() {
                break;
            }
        }
        self.enqueue(sealed, epoll);
    }

    fn enqueue(&self, reply: Vec<u8>, epoll: &Epoll) {
        let waits = {
            let mut output = lock(&self.output);
            if output.broken {
                return;
            }
            output.bytes += reply.len();
            output.queue.push_back(reply);
            self.flush(&mut output);
            output.bytes > 0
        };
        if waits {
            self.watch(epoll);
        }
    }

    /// The client takes more.
    pub fn send_more(&self) {
        self.flush(&mut lock(&self.output));
    }

    fn flush(&self, output: &mut Output) {
        while let Some(first) = output.queue.front() {
            let rest = first.get(output.sent..).unwrap_or_default();
            let (done, whole) = match (&self.stream).write(rest) {
                Ok(n) => (n, n == rest.len()),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    output.broken = true;
                    output.queue.clear();
                    output.bytes = 0;
                    return;
                }
            };
            output.bytes -= done;
            output.sent += done;
            if whole {
                output.queue.pop_front();
                output.sent = 0;
            }
        }
    }
}
