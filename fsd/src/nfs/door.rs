//! The NFS door: listening sockets, connections, and the threads that serve them.
//!
//! All threads wait on one epoll set. Who is woken reads whole requests from a connection and runs them, and lets the next
//! thread read on where they come in numbers or take long; an answer that a limit or another client's cache holds back is sent later by somebody else, so that no
//! thread waits for a client.

use std::collections::{HashMap, VecDeque};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use ring::rand::{SecureRandom, SystemRandom};

use super::clients::Clients;
use super::compound;
use super::connection::{Connection, Root};
use super::export::{Export, Terms};
use super::handle::Seal;
use super::recovery::Recovery;
use super::rpc::{self, Accepted, Call, Credentials, PROGRAM, VERSION};
use super::tls::Tls;
use super::visit::{hexadecimal, Answer, Asker, Line, Visit};
use super::xdr::Decoder;
use crate::inode::{DescriptorCache, Inode};
use crate::later::Later;
use crate::pacing;
use crate::shards::Shards;
use crate::sys::event::{Epoll, EventFd};
use crate::sys::file::Stat;
use crate::sys::Errno;
use crate::volume::Volume;

const THREADS: usize = 16;
/// Connections of all clients together; each takes a descriptor.
const MOST_CONNECTIONS: usize = 8192;
/// When descriptors have run out, new connections wait that long.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
const QUEUE: u64 = 0;
/// RFC 9289 section 4.1.
const STARTTLS: &[u8] = b"STARTTLS";
const PSEUDO_ROOT_INO: u64 = 1;

#[derive(Debug)]
struct Listener {
    name: String,
    socket: TcpListener,
    root: Root,
    token: u64,
}

#[derive(Clone, Debug)]
enum Source {
    Listener(Arc<Listener>),
    Connection(Arc<Connection>),
}

/// A request and where it came from; without one what the connection has received is to be looked at.
type Work = (Arc<Connection>, Option<Vec<u8>>);

/// What requests changed in a volume that clients' kernels have cached.
pub type Changed = (Arc<Volume>, Vec<Arc<Inode>>);

#[derive(Debug)]
pub struct Door {
    pub seal: Seal,
    pub clients: Clients,
    /// Changes with every start: what was written and not committed before must be written again.
    pub write_verifier: [u8; 8],
    exports: RwLock<HashMap<u64, Arc<Export>>>,
    tls: RwLock<Option<Tls>>,
    asker: Asker,
    sources: Shards<u64, Source>,
    connections: AtomicUsize,
    next_token: AtomicU64,
    epoll: Epoll,
    queue: Mutex<VecDeque<Work>>,
    queued: EventFd,
    later: Arc<Later>,
    descriptors: Arc<DescriptorCache>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Door {
    /// Opens the door on `state`, the directory of what survives restarts.
    pub fn open(
        state: &Path,
        later: &Arc<Later>,
        descriptors: &Arc<DescriptorCache>,
        recovery: Arc<Recovery>,
    ) -> std::io::Result<Arc<Door>> {
        std::fs::create_dir_all(state)?;
        let mut random = [0u8; 12];
        SystemRandom::new()
            .fill(&mut random)
            .map_err(|_| std::io::Error::other("no random numbers"))?;
        let [b0, b1, b2, b3, verifier @ ..] = random;
        let boot = u32::from_be_bytes([b0, b1, b2, b3]).max(1);
        let failed = |errno: Errno| std::io::Error::from_raw_os_error(errno.0);
        let door = Arc::new(Door {
            seal: Seal::open(state)?,
            clients: Clients::new(boot, recovery),
            write_verifier: verifier,
            exports: RwLock::default(),
            tls: RwLock::default(),
            asker: Asker::default(),
            sources: Shards::default(),
            connections: AtomicUsize::new(0),
            next_token: AtomicU64::new(QUEUE + 1),
            epoll: Epoll::new().map_err(failed)?,
            queue: Mutex::default(),
            queued: EventFd::new().map_err(failed)?,
            later: Arc::clone(later),
            descriptors: Arc::clone(descriptors),
        });
        let queued = door.queued.as_raw_fd();
        door.epoll.add_idle(queued, QUEUE).map_err(failed)?;
        door.epoll
            .once(queued, QUEUE, true, false)
            .map_err(failed)?;
        for _ in 0..THREADS {
            let door = Arc::clone(&door);
            std::thread::Builder::new()
                .name("nfs".to_owned())
                .spawn(move || door.work())?;
        }
        look_after_leases(&Arc::downgrade(&door));
        Ok(door)
    }

    // ---- exports

    fn all(&self) -> std::sync::RwLockReadGuard<'_, HashMap<u64, Arc<Export>>> {
        self.exports.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn export(&self, tag: u64) -> Option<Arc<Export>> {
        self.all().get(&tag).cloned()
    }

    /// Of those in the directory of all exports.
    pub fn export_named(&self, name: &[u8]) -> Option<Arc<Export>> {
        let name = std::str::from_utf8(name).ok()?;
        self.export(self.seal.tag(name))
            .filter(|export| export.listed)
    }

    /// In a stable order.
    pub fn exports(&self) -> Vec<Arc<Export>> {
        let mut all: Vec<_> = self.all().values().cloned().collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all
    }

    /// Offers something to mount, or changes what is offered under that name.
    pub fn offer(&self, terms: Terms) {
        let tag = self.seal.tag(&terms.name);
        let mut exports = self.exports.write().unwrap_or_else(PoisonError::into_inner);
        match exports.get(&tag) {
            Some(known) if known.same(&terms) => known.permit(terms.permissions),
            _ => {
                exports.insert(tag, Arc::new(Export::new(terms, tag)));
            }
        }
    }

    pub fn withdraw(&self, name: &str) {
        let tag = self.seal.tag(name);
        let mut exports = self.exports.write().unwrap_or_else(PoisonError::into_inner);
        exports.remove(&tag);
    }

    /// The volume closes: nothing here holds on to it any more.
    pub fn drop_volume(&self, volume: &str) {
        let mut exports = self.exports.write().unwrap_or_else(PoisonError::into_inner);
        exports.retain(|_, export| export.volume.name != volume);
        drop(exports);
        self.clients.drop_volume(volume);
    }

    /// The volume is emptied: what clients hold of it goes, and roots are made anew.
    pub fn drop_clients(&self, volume: &str) {
        for export in self
            .exports()
            .iter()
            .filter(|export| export.volume.name == volume)
        {
            export.forget_root();
        }
        self.clients.drop_volume(volume);
    }

    /// The attributes of the directory of all exports.
    pub fn pseudo_stat(&self) -> Stat {
        Stat::of_entry(PSEUDO_ROOT_INO, libc::S_IFDIR | 0o555)
    }

    // ---- sockets

    /// Serves a listening socket from now on. One of that name before is let go.
    pub fn listen(&self, name: &str, socket: OwnedFd, export: Option<&str>) -> Result<(), Errno> {
        self.hang_up(name);
        let socket = TcpListener::from(socket);
        socket.set_nonblocking(true)?;
        let token = self.next_token.fetch_add(1, SeqCst);
        let root = export.map_or(Root::Pseudo, |name| Root::Export(self.seal.tag(name)));
        let raw = socket.as_raw_fd();
        let listener = Listener {
            name: name.to_owned(),
            socket,
            root,
            token,
        };
        let source = Source::Listener(Arc::new(listener));
        self.sources.piece(&token).insert(token, source);
        self.epoll.add_idle(raw, token)?;
        self.epoll.once(raw, token, true, false)
    }

    /// Lets a listening socket go; its connections go on.
    pub fn hang_up(&self, name: &str) {
        let found = self.sources.collect(|source| match source {
            Source::Listener(listener) if listener.name == name => Some(Arc::clone(listener)),
            _ => None,
        });
        for listener in found {
            self.epoll.remove(listener.socket.as_raw_fd());
            self.sources.piece(&listener.token).remove(&listener.token);
        }
    }

    pub fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }

    fn accept(self: &Arc<Door>, listener: &Arc<Listener>) {
        loop {
            match listener.socket.accept() {
                Ok((stream, _)) => {
                    self.admit(stream, listener.root);
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                    self.descriptors.empty();
                    let (door, listener) = (Arc::clone(self), Arc::clone(listener));
                    let again = move || door.await_connections(&listener);
                    self.later
                        .at(Instant::now() + ACCEPT_AGAIN, Box::new(again));
                    return;
                }
                Err(error) => {
                    tracing::debug!(%error, "a connection was gone before it was accepted");
                    if !matches!(error.raw_os_error(), Some(libc::ECONNABORTED | libc::EINTR)) {
                        break;
                    }
                }
            }
        }
        self.await_connections(listener);
    }

    fn await_connections(&self, listener: &Listener) {
        let raw = listener.socket.as_raw_fd();
        // It fails when the listener was let go meanwhile.
        let _ = self.epoll.once(raw, listener.token, true, false);
    }

    /// Serves a connection that somebody else accepted; false when there are too many, or it is gone.
    pub fn adopt(&self, connected: OwnedFd, export: &str) -> bool {
        let root = Root::Export(self.seal.tag(export));
        self.admit(TcpStream::from(connected), root)
    }

    /// Clients of connections made from now on can have TLS.
    pub fn encrypt(&self, tls: Tls) {
        *self.tls.write().unwrap_or_else(PoisonError::into_inner) = Some(tls);
    }

    fn admit(&self, stream: TcpStream, root: Root) -> bool {
        if self.connections() >= MOST_CONNECTIONS {
            tracing::warn!(most = MOST_CONNECTIONS, "a connection too many is closed");
            return false;
        }
        let prepared = stream
            .set_nonblocking(true)
            .and_then(|()| stream.set_nodelay(true));
        if prepared.is_err() {
            return false;
        }
        let token = self.next_token.fetch_add(1, SeqCst);
        let tls = self.tls.read().unwrap_or_else(PoisonError::into_inner);
        let connection = Arc::new(Connection::new(token, stream, root, tls.clone()));
        drop(tls);
        let source = Source::Connection(Arc::clone(&connection));
        self.sources.piece(&token).insert(token, source);
        self.connections.fetch_add(1, SeqCst);
        match self.epoll.add_idle(connection.raw(), token) {
            Ok(()) => {
                connection.watch(&self.epoll);
                true
            }
            Err(_) => {
                self.end(&connection);
                false
            }
        }
    }

    fn end(&self, connection: &Connection) {
        let removed = self
            .sources
            .piece(&connection.token)
            .remove(&connection.token);
        if removed.is_some() {
            self.connections.fetch_sub(1, SeqCst);
            connection.close(&self.epoll);
            if connection.is_held() || connection.visit().is_some() {
                let ended = connection.token;
                self.asker.say(Line::Ended { ended });
            }
        }
    }

    // ---- who clients are

    /// Whom questions go to; `None`: nobody answers, so who waits for an answer has to come again.
    pub fn ask_through(&self, lines: Option<Sender<Line>>) {
        let nobody = lines.is_none();
        self.asker.set(lines);
        if nobody {
            let waiting = self.sources.collect(|source| match source {
                Source::Connection(connection) if connection.is_held() => {
                    Some(Arc::clone(connection))
                }
                _ => None,
            });
            for connection in waiting {
                self.end(&connection);
            }
        }
    }

    fn ask(&self, connection: &Connection, certificate: &[u8]) {
        let only = connection.only_export();
        let export = only.and_then(|tag| self.export(tag));
        let gone = only.is_some() && export.is_none();
        let question = Line::Question {
            visit: connection.token,
            export: export.map(|export| export.name.clone()),
            peer: connection
                .peer()
                .map(|peer| peer.to_string())
                .unwrap_or_default(),
            certificate: hexadecimal(certificate),
        };
        if gone || !self.asker.say(question) {
            tracing::warn!("a client shows a certificate, and there is nobody to judge it");
            self.end(connection);
        }
    }

    /// Goes on with a connection that waited for this, or changes what it may do. False where it is gone.
    pub fn recognize(&self, answer: &Answer) -> bool {
        let source = self
            .sources
            .piece(&answer.visit)
            .get(&answer.visit)
            .cloned();
        let Some(Source::Connection(connection)) = source else {
            return false;
        };
        if let Some(visit) = connection.visit() {
            visit.permit(answer.permissions);
            return true;
        }
        let tag = |name: &Option<String>| name.as_ref().map(|name| self.seal.tag(name));
        let visit = Visit::new(tag(&answer.root), tag(&answer.realm), answer.permissions);
        if connection.recognized(visit) {
            lock(&self.queue).push_back((connection, None));
            self.queued.signal();
        }
        true
    }

    // ---- work

    fn work(self: &Arc<Door>) {
        loop {
            let token = match self.epoll.wait() {
                Ok(token) => token,
                Err(errno) => {
                    tracing::error!(%errno, "an NFS thread ends");
                    return;
                }
            };
            if token == QUEUE {
                self.take_queued();
                continue;
            }
            let source = self.sources.piece(&token).get(&token).cloned();
            match source {
                Some(Source::Listener(listener)) => self.accept(&listener),
                Some(Source::Connection(connection)) => self.attend(&connection),
                None => {}
            }
        }
    }

    fn attend(self: &Arc<Door>, connection: &Arc<Connection>) {
        connection.send_more();
        let arrived = match connection.receive(&self.epoll) {
            Ok(arrived) => arrived,
            Err(_oversized) => {
                tracing::warn!("a record longer than any request: the connection is closed");
                self.end(connection);
                return;
            }
        };
        if arrived.ends {
            self.end(connection);
            return;
        }
        if let Some(certificate) = arrived.certificate {
            self.ask(connection, &certificate);
            return;
        }
        let mut records = arrived.records.into_iter();
        let Some(first) = records.next() else {
            connection.watch(&self.epoll);
            return;
        };
        let more: Vec<Work> = records
            .map(|record| (Arc::clone(connection), Some(record)))
            .collect();
        if !more.is_empty() {
            lock(&self.queue).extend(more);
            self.queued.signal();
            self.let_others_read(connection);
        }
        self.serve(connection, &first);
        // Not before: a client that waits for its answer is best served by the thread that is awake.
        connection.watch(&self.epoll);
    }

    /// This thread may be busy for long: another may read what comes next.
    pub fn let_others_read(&self, connection: &Connection) {
        connection.watch(&self.epoll);
    }

    /// Takes one request off the queue; whoever is woken next takes the next.
    fn take_queued(self: &Arc<Door>) {
        let work = {
            let mut queue = lock(&self.queue);
            let work = queue.pop_front();
            if queue.is_empty() {
                self.queued.drain();
            }
            work
        };
        let _ = self.epoll.once(self.queued.as_raw_fd(), QUEUE, true, false);
        match work {
            Some((connection, Some(record))) => self.serve(&connection, &record),
            Some((connection, None)) => self.attend(&connection),
            None => {}
        }
    }

    fn serve(self: &Arc<Door>, connection: &Arc<Connection>, record: &[u8]) {
        let mut changed = Vec::new();
        let reply = self.answer(connection, record, &mut changed);
        let time = pacing::settle().filter(|time| *time > Instant::now());
        let Some(reply) = reply else {
            // Who sends what is no call has lost the thread: nothing that follows can be trusted.
            self.end(connection);
            return;
        };
        if reply.is_empty() {
            // It was sent already.
            connection.answered(&self.epoll);
            return;
        }
        if time.is_none() && changed.is_empty() {
            connection.send(reply, &self.epoll);
            connection.answered(&self.epoll);
            return;
        }
        let (door, connection) = (Arc::clone(self), Arc::clone(connection));
        let send = move || {
            connection.send(reply, &door.epoll);
            connection.answered(&door.epoll);
        };
        let later = Arc::clone(&self.later);
        let mut answer: Box<dyn FnOnce() + Send> = match time {
            None => Box::new(send),
            Some(time) => Box::new(move || later.at(time, Box::new(send))),
        };
        for (volume, inodes) in changed {
            let then = answer;
            answer = Box::new(move || volume.content_changed(inodes, then));
        }
        answer();
    }

    /// The whole reply to a record; `None` where it is no call.
    fn answer(
        &self,
        connection: &Arc<Connection>,
        record: &[u8],
        changed: &mut Vec<Changed>,
    ) -> Option<Vec<u8>> {
        let mut decoder = Decoder::new(record);
        let call = match Call::decode(&mut decoder) {
            Ok(call) => call,
            Err(refusal) => return rpc::refused(refusal),
        };
        let plain = |how| Some(rpc::finish(rpc::accepted(call.xid, how, 64)));
        if call.program != PROGRAM {
            return plain(Accepted::ProgramUnavailable);
        }
        if call.version != VERSION {
            return plain(Accepted::VersionMismatch(VERSION));
        }
        match (call.procedure, &call.credentials) {
            (rpc::PROC_NULL, Credentials::Tls) => self.begin_tls(connection, call.xid),
            (rpc::PROC_NULL, _) => plain(Accepted::Success),
            (_, Credentials::Other(_) | Credentials::Tls) => {
                Some(rpc::denied(call.xid, rpc::AUTH_REJECTEDCRED))
            }
            (rpc::PROC_COMPOUND, credentials) => Some(compound::run(
                self,
                connection,
                (call.xid, credentials),
                record.len(),
                decoder,
                changed,
            )),
            _ => plain(Accepted::ProcedureUnavailable),
        }
    }
}

impl Door {
    /// The probe of RFC 9289: agrees where TLS can start on this connection, and starts it.
    fn begin_tls(&self, connection: &Connection, xid: u32) -> Option<Vec<u8>> {
        let offered = connection.offered().filter(|_| !connection.is_secure());
        let Some(tls) = offered.and_then(|tls| tls.when_asked().ok()) else {
            return Some(rpc::denied(xid, rpc::AUTH_REJECTEDCRED));
        };
        let agreed = rpc::accepted_with(xid, Accepted::Success, STARTTLS, 64);
        connection.start_tls(rpc::finish(agreed), tls, &self.epoll);
        Some(Vec::new())
    }
}

/// Comes again whenever a lease may be over, for as long as there is a door.
fn look_after_leases(door: &Weak<Door>) {
    let Some(present) = door.upgrade() else {
        return;
    };
    let next = present.clients.look_after_leases();
    let door = Weak::clone(door);
    present
        .later
        .at(next, Box::new(move || look_after_leases(&door)));
}
