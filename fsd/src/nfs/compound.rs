//! One COMPOUND: its operations one after the other, on a current and a saved file handle (RFC 8881 section 2.6, 16.2).

use std::sync::Arc;

use super::clients::{Client, Principal};
use super::connection::Connection;
use super::door::{Changed, Door};
use super::export::{Export, Node};
use super::handle::{Meaning, WireHandle};
use super::operation::{number, Operation, StateId, ILLEGAL, LONGEST_OPAQUE};
use super::rpc::{self, Accepted, Credentials};
use super::slots::{Session, Turn};
use super::status::Status;
use super::visit::Visit;
use super::xdr::{Decoder, Encoder, Malformed};
use crate::identity::Identity;
use crate::inode::Key;
use crate::meter::Class;
use crate::mount::Permissions;
use crate::spreading;

const MINOR_VERSION: u32 = 1;
/// Room that must be left in a reply before an operation that changes something is begun.
const MARGIN: usize = 256;
/// What an ordinary reply takes.
const CAPACITY: usize = 512;

/// Where a file handle points.
#[derive(Clone, Debug)]
pub enum Place {
    /// The directory of all exports.
    PseudoRoot,
    File(Arc<Node>),
}

/// The slot that the compound runs in.
#[derive(Debug)]
struct Seat {
    session: Arc<Session>,
    slot: u32,
    cache: bool,
}

pub struct Compound<'a> {
    pub door: &'a Door,
    pub connection: &'a Arc<Connection>,
    pub credentials: &'a Credentials,
    seat: Option<Seat>,
    pub current: Option<Place>,
    saved: Option<Place>,
    pub state: Option<StateId>,
    saved_state: Option<StateId>,
    /// A metadata operation of this compound was counted: what asks for the same file's attributes beside it is not.
    counted: bool,
    replay: Option<Vec<u8>>,
    /// Operations in the compound, and which one runs.
    operations: usize,
    at: usize,
    record_len: usize,
    changed: &'a mut Vec<Changed>,
}

impl std::fmt::Debug for Compound<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Compound({:?})", self.current)
    }
}

/// Runs a COMPOUND and makes its whole reply record.
pub fn run(
    door: &Door,
    connection: &Arc<Connection>,
    (xid, credentials): (u32, &Credentials),
    record_len: usize,
    arguments: Decoder<'_>,
    changed: &mut Vec<Changed>,
) -> Vec<u8> {
    let mut compound = Compound {
        door,
        connection,
        credentials,
        seat: None,
        current: None,
        saved: None,
        state: None,
        saved_state: None,
        counted: false,
        replay: None,
        operations: 0,
        at: 0,
        record_len,
        changed,
    };
    let mut reply = rpc::accepted(xid, Accepted::Success, CAPACITY);
    let start = reply.len();
    if compound.evaluate(arguments, &mut reply).is_err() {
        return rpc::finish(rpc::accepted(xid, Accepted::GarbageArguments, 64));
    }
    if let Some(seat) = compound.seat.take() {
        let body_len = reply.len() - start;
        let keep = seat.cache || body_len <= CAPACITY;
        let mut kept = None;
        if keep {
            let mut bytes = Encoder::with_capacity(body_len);
            bytes.raw(reply.since(start));
            kept = Some(bytes.into_bytes());
        }
        seat.session.done(seat.slot, kept);
    } else if let Some(body) = compound.replay.take() {
        reply.truncate(start);
        reply.raw(&body);
    }
    rpc::finish(reply)
}

impl Compound<'_> {
    fn evaluate(&mut self, mut arguments: Decoder<'_>, out: &mut Encoder) -> Result<(), Malformed> {
        let tag = arguments.opaque(LONGEST_OPAQUE)?;
        let minor = arguments.u32()?;
        self.operations = arguments.u32()? as usize;
        let status_at = out.len();
        out.u32(0);
        out.opaque(tag);
        let count_at = out.len();
        out.u32(0);
        if minor != MINOR_VERSION {
            out.put_u32(status_at, Status::MINOR_VERS_MISMATCH.0);
            return Ok(());
        }
        let start = status_at;
        let mut status = Status::OK;
        for at in 0..self.operations {
            self.at = at;
            let Ok(op) = arguments.u32() else {
                if at == 0 {
                    return Err(Malformed);
                }
                status = Status::BADXDR;
                break;
            };
            let decoded = Operation::decode(op, &mut arguments);
            let known = !matches!(decoded, Ok(Operation::Illegal));
            out.u32(if known { op } else { ILLEGAL });
            let result_at = out.len();
            out.u32(0);
            let result = decoded
                .and_then(|operation| {
                    self.in_order(op)?;
                    self.room_for(op, out.len() - start)?;
                    self.act(op, operation, out)
                })
                .and_then(|()| self.fits(out.len() - start));
            self.note_changes();
            out.put_u32(count_at, at as u32 + 1);
            if let Err(failed) = result {
                status = failed;
                self.fail(op, failed, result_at, out);
                break;
            }
            if self.replay.is_some() {
                return Ok(());
            }
        }
        out.put_u32(status_at, status.0);
        Ok(())
    }

    fn fail(&self, op: u32, status: Status, result_at: usize, out: &mut Encoder) {
        let has_body = matches!(op, number::LOCK | number::LOCKT) && status == Status::DENIED;
        if !has_body {
            out.truncate(result_at + 4);
        }
        if op == number::SETATTR {
            out.u32(0);
        }
        out.put_u32(result_at, status.0);
    }

    /// What the operation changed that clients' kernels have cached.
    fn note_changes(&mut self) {
        let inodes = spreading::take();
        if let (false, Some(Place::File(node))) = (inodes.is_empty(), &self.current) {
            self.changed.push((Arc::clone(node.volume()), inodes));
        }
    }

    /// Which operations may come when (section 2.10.6.4, 18.46.3).
    fn in_order(&self, op: u32) -> Result<(), Status> {
        let alone = matches!(
            op,
            number::EXCHANGE_ID
                | number::CREATE_SESSION
                | number::BIND_CONN_TO_SESSION
                | number::DESTROY_SESSION
                | number::DESTROY_CLIENTID
        );
        match (self.at, op) {
            (0, number::SEQUENCE) => Ok(()),
            (_, number::SEQUENCE) => Err(Status::SEQUENCE_POS),
            (0, _) if alone && self.operations > 1 => Err(Status::NOT_ONLY_OP),
            (0, _) if alone => Ok(()),
            (0, ILLEGAL) => Ok(()),
            (0, _) if !(3..=58).contains(&op) => Ok(()),
            (0, _) => Err(Status::OP_NOT_IN_SESSION),
            (_, number::BIND_CONN_TO_SESSION) => Err(Status::NOT_ONLY_OP),
            _ => Ok(()),
        }
    }

    fn limit(&self) -> Option<(usize, Status)> {
        let seat = self.seat.as_ref()?;
        let channel = &seat.session.channel;
        // The record mark and the RPC head are part of the message's size.
        const HEAD: usize = 28;
        let whole = (channel.max_response as usize).saturating_sub(HEAD);
        let cached = (channel.max_cached as usize).saturating_sub(HEAD);
        Some(if seat.cache && cached < whole {
            (cached, Status::REP_TOO_BIG_TO_CACHE)
        } else {
            (whole, Status::REP_TOO_BIG)
        })
    }

    fn fits(&self, len: usize) -> Result<(), Status> {
        match self.limit() {
            Some((most, status)) if len > most => Err(status),
            _ => Ok(()),
        }
    }

    /// What cannot be answered must not be done.
    fn room_for(&self, op: u32, len: usize) -> Result<(), Status> {
        let changes = matches!(
            op,
            number::CREATE
                | number::LINK
                | number::LOCK
                | number::OPEN
                | number::REMOVE
                | number::RENAME
                | number::SETATTR
                | number::WRITE
        );
        if changes {
            self.fits(len + MARGIN)
        } else {
            Ok(())
        }
    }

    /// Bytes that a result may still take, `most` at most.
    pub fn room(&self, out: &Encoder, most: usize) -> usize {
        let used = out.len();
        self.limit()
            .map_or(most, |(limit, _)| most.min(limit.saturating_sub(used)))
    }

    fn act(&mut self, op: u32, operation: Operation<'_>, out: &mut Encoder) -> Result<(), Status> {
        use Operation as O;
        if let Some(class) = metadata_class(&operation) {
            let more = matches!(operation, O::GetAttributes(_) | O::Access(_)) && self.counted;
            if let (Some(Place::File(node)), false) = (&self.current, more) {
                self.counted = true;
                self.connection.count(node, class, 0);
            }
        }
        match operation {
            O::Access(wanted) => self.access(wanted, out),
            O::Close(state) => self.close(state, out),
            O::Commit { offset, count } => self.commit(offset, count, out),
            O::Create {
                object,
                name,
                attributes,
            } => self.create(&object, name, &attributes, out),
            O::GetAttributes(wanted) => self.get_attributes(&wanted, out),
            O::GetHandle => self.get_handle(out),
            O::Link(name) => self.link(name, out),
            O::Lock {
                range,
                reclaim,
                locker,
            } => self.lock(range, reclaim, locker, out),
            O::LockTest { range, owner } => self.lock_test(range, owner, out),
            O::Unlock { state, range } => self.unlock(state, range, out),
            O::Lookup(name) => self.lookup(name),
            O::LookupParent => self.lookup_parent(),
            O::Verify { same, mask, values } => self.verify(same, &mask, values),
            O::Open(open) => self.open(&open, out),
            O::OpenDowngrade {
                state,
                access,
                deny,
            } => self.open_downgrade(state, access, deny, out),
            O::PutHandle(wire) => self.put_handle(wire),
            O::PutRoot => self.put_root(),
            O::Read {
                state,
                offset,
                count,
            } => self.read(state, offset, count, out),
            O::ReadDirectory {
                cookie,
                verifier,
                dircount,
                maxcount,
                wanted,
            } => self.read_directory((cookie, verifier), (dircount, maxcount), &wanted, out),
            O::ReadLink => self.read_link(out),
            O::Remove(name) => self.remove(name, out),
            O::Rename { from, to } => self.rename(from, to, out),
            O::RestoreHandle => {
                self.current = Some(self.saved.clone().ok_or(Status::NOFILEHANDLE)?);
                self.state = self.saved_state;
                Ok(())
            }
            O::SaveHandle => {
                self.saved = Some(self.current.clone().ok_or(Status::NOFILEHANDLE)?);
                self.saved_state = self.state;
                Ok(())
            }
            O::SecurityOf(name) => self.security_of(name, out),
            O::SecurityOfCurrent { parent } => self.security_of_current(parent, out),
            O::SetAttributes { state, attributes } => self.set_attributes(state, &attributes, out),
            O::Write {
                state,
                offset,
                stable,
                data,
            } => self.write(state, offset, stable, data, out),
            O::BindConnection { session, direction } => {
                self.bind_connection(&session, direction, out)
            }
            O::ExchangeId {
                verifier,
                owner,
                flags,
                protection,
            } => self.exchange_id(verifier, owner, flags, protection, out),
            O::CreateSession {
                client,
                sequence,
                flags,
                fore,
                back,
            } => self.create_session(client, sequence, flags, (fore, back), out),
            O::DestroySession(session) => self.destroy_session(&session),
            O::FreeState(state) => self.free_state(state),
            O::Sequence {
                session,
                sequence,
                slot,
                highest_slot,
                cache,
            } => self.sequence(&session, (slot, sequence), highest_slot, cache, out),
            O::TestStates(states) => self.test_states(&states, out),
            O::DestroyClient(client) => self
                .door
                .clients
                .destroy_client(client, self.connection.realm()),
            O::ReclaimComplete { one_fs } => self.reclaim_complete(one_fs),
            O::Unsupported => {
                tracing::trace!(op, "an operation that EFS does not have");
                Err(Status::NOTSUPP)
            }
            O::Illegal => Err(Status::OP_ILLEGAL),
        }
    }

    // ---- who asks

    pub fn principal(&self) -> Principal {
        Principal::of(self.credentials)
    }

    /// The client of the session. Only operations in a session ask.
    pub fn client(&self) -> Result<Arc<Client>, Status> {
        let seat = self.seat.as_ref().ok_or(Status::OP_NOT_IN_SESSION)?;
        Ok(Arc::clone(&seat.session.client))
    }

    pub fn session(&self) -> Option<&Arc<Session>> {
        self.seat.as_ref().map(|seat| &seat.session)
    }

    pub fn is_last(&self) -> bool {
        self.at + 1 == self.operations
    }

    /// What this client may do, whatever POSIX says.
    pub fn permissions(&self, export: &Export) -> Permissions {
        let own = self.connection.visit().and_then(Visit::permissions);
        own.unwrap_or_else(|| {
            export.permissions(self.connection.peer(), self.connection.is_secure())
        })
    }

    pub fn identity(&self, export: &Export) -> Identity {
        export.identity(self.credentials, self.permissions(export).root_squash)
    }

    /// The thread acts as the request's user on that export from now on.
    pub fn assume(&self, export: &Export) -> Result<Identity, Status> {
        let permissions = self.permissions(export);
        if permissions.denied {
            return Err(Status::ACCESS);
        }
        let identity = self.identity(export);
        identity.assume()?;
        Ok(identity)
    }

    /// Likewise, for a change.
    pub fn assume_to_change(&self, export: &Export) -> Result<Identity, Status> {
        let identity = self.assume(export)?;
        if self.permissions(export).read_only {
            return Err(Status::ROFS);
        }
        Ok(identity)
    }

    // ---- SEQUENCE

    fn sequence(
        &mut self,
        id: &[u8; 16],
        (slot, sequence): (u32, u32),
        highest_slot: u32,
        cache: bool,
        out: &mut Encoder,
    ) -> Result<(), Status> {
        let session = self.door.clients.session(id, self.connection.realm())?;
        if highest_slot > session.highest_slot() && slot > session.highest_slot() {
            return Err(Status::BADSLOT);
        }
        let too_many = self.operations > session.channel.max_operations as usize;
        let too_big = self.record_len > session.channel.max_request as usize;
        let turn = session.begin(slot, sequence)?;
        out.fixed(id);
        out.u32(sequence);
        out.u32(slot);
        out.u32(session.highest_slot());
        out.u32(session.highest_slot());
        out.u32(0);
        match turn {
            Turn::New => {
                self.seat = Some(Seat {
                    session,
                    slot,
                    cache,
                });
            }
            Turn::Replay(reply) => {
                self.replay = Some(reply.to_vec());
                return Ok(());
            }
            Turn::Forgotten if self.operations == 1 => return Ok(()),
            Turn::Forgotten => return Err(Status::RETRY_UNCACHED_REP),
        }
        if too_many {
            return Err(Status::TOO_MANY_OPS);
        }
        if too_big {
            return Err(Status::REQ_TOO_BIG);
        }
        Ok(())
    }

    // ---- file handles

    /// The file of the current file handle.
    pub fn node(&self) -> Result<Arc<Node>, Status> {
        match &self.current {
            Some(Place::File(node)) => Ok(Arc::clone(node)),
            Some(Place::PseudoRoot) => Err(Status::ROFS),
            None => Err(Status::NOFILEHANDLE),
        }
    }

    pub fn saved_node(&self) -> Result<Arc<Node>, Status> {
        match &self.saved {
            Some(Place::File(node)) => Ok(Arc::clone(node)),
            Some(Place::PseudoRoot) => Err(Status::ROFS),
            None => Err(Status::NOFILEHANDLE),
        }
    }

    /// The current file handle points there, and no stateid is current.
    pub fn stand_on(&mut self, place: Place) {
        self.current = Some(place);
        self.state = None;
    }

    pub fn wire_handle(&self, node: &Node) -> Result<WireHandle, Status> {
        Ok(self.door.seal.file(node.export.tag, node.handle()?))
    }

    fn get_handle(&mut self, out: &mut Encoder) -> Result<(), Status> {
        let wire = match &self.current {
            Some(Place::File(node)) => self.wire_handle(node)?,
            Some(Place::PseudoRoot) => self.door.seal.pseudo_root(),
            None => return Err(Status::NOFILEHANDLE),
        };
        out.opaque(wire.as_bytes());
        Ok(())
    }

    fn put_handle(&mut self, wire: &[u8]) -> Result<(), Status> {
        let only = self.connection.only_export();
        let place = match self.door.seal.open_handle(wire).ok_or(Status::BADHANDLE)? {
            Meaning::PseudoRoot if only.is_none() => Place::PseudoRoot,
            Meaning::PseudoRoot => return Err(Status::STALE),
            Meaning::File { tag, .. } if only.is_some_and(|only| only != tag) => {
                return Err(Status::STALE)
            }
            Meaning::File { tag, handle } => {
                let export = self.door.export(tag).ok_or(Status::STALE)?;
                if only.is_none() && !export.listed {
                    return Err(Status::STALE);
                }
                self.connection.attach(&export)?;
                let inode = export.volume.intern_handle(&Key::Handle(handle));
                let node = Node::new(&export, inode.ok_or(Status::STALE)?);
                // A file that is gone is found out here, not in the midst of what follows.
                node.fd()?;
                Place::File(node)
            }
        };
        self.stand_on(place);
        Ok(())
    }

    fn put_root(&mut self) -> Result<(), Status> {
        let own = self.connection.visit().and_then(Visit::permissions);
        if own.is_some_and(|permissions| permissions.denied) {
            return Err(Status::ACCESS);
        }
        let place = match self.connection.only_export() {
            None => Place::PseudoRoot,
            Some(tag) => {
                let export = self.door.export(tag).ok_or(Status::NOENT)?;
                self.enter(&export)?
            }
        };
        self.stand_on(place);
        Ok(())
    }

    /// The root of an export, for a client that may mount it.
    pub fn enter(&self, export: &Arc<Export>) -> Result<Place, Status> {
        if self.permissions(export).denied {
            return Err(Status::ACCESS);
        }
        self.connection.attach(export)?;
        Ok(Place::File(export.root()?))
    }
}

/// How an operation counts; data is counted where its size is known, and what only ends something is free.
fn metadata_class(operation: &Operation<'_>) -> Option<Class> {
    use Operation as O;
    match operation {
        O::Access(_)
        | O::GetAttributes(_)
        | O::LockTest { .. }
        | O::Lookup(_)
        | O::LookupParent
        | O::Verify { .. }
        | O::ReadDirectory { .. }
        | O::ReadLink => Some(Class::MetadataRead),
        O::Open(open) if open.create.is_none() => Some(Class::MetadataRead),
        O::Commit { .. }
        | O::Create { .. }
        | O::Link(_)
        | O::Lock { .. }
        | O::Open(_)
        | O::Remove(_)
        | O::Rename { .. }
        | O::SetAttributes { .. } => Some(Class::MetadataWrite),
        _ => None,
    }
}
