//! LOCK, LOCKT and LOCKU on the volume's lock table, which functions' locks are in as well.
//!
//! A client's kernel sends `flock` as a lock of the whole file, and so does `fcntl` for a whole file. Such a lock is taken in
//! both of the table's spaces: it excludes functions' `fcntl` and `flock` locks alike.

use super::clients::Client;
use super::compound::Compound;
use super::export::Node;
use super::holdings::{READ, WRITE};
use super::opening::encode_stateid;
use super::operation::{LockRange, Locker, StateId};
use super::status::Status;
use super::xdr::Encoder;
use crate::locks::{Conflict, Kind, Owner, Range, Request, Space, END_OF_FILE};
use crate::sys::file;
use crate::sys::Errno;
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering::SeqCst;

const TO_THE_END: u64 = u64::MAX;

fn kind_of(range: LockRange) -> Result<Kind, Status> {
    match range.kind {
        1 | 3 => Ok(Kind::Read),
        2 | 4 => Ok(Kind::Write),
        _ => Err(Status::BADXDR),
    }
}

fn bytes_of(range: LockRange) -> Result<Range, Status> {
    let end = match range.length {
        0 => return Err(Status::INVAL),
        TO_THE_END => END_OF_FILE,
        length => range.offset.checked_add(length - 1).ok_or(Status::INVAL)?,
    };
    Range::new(range.offset, end).ok_or(Status::BAD_RANGE)
}

fn is_whole(range: LockRange) -> bool {
    range.offset == 0 && range.length == TO_THE_END
}

/// Only regular files have locks.
fn must_be_lockable(node: &Node) -> Result<(), Status> {
    match file::stat_of(node.fd()?.as_raw_fd())?.kind() {
        libc::S_IFREG => Ok(()),
        libc::S_IFDIR => Err(Status::ISDIR),
        libc::S_IFLNK => Err(Status::SYMLINK),
        _ => Err(Status::WRONG_TYPE),
    }
}

impl Compound<'_> {
    pub(super) fn lock(
        &mut self,
        range: LockRange,
        reclaim: bool,
        locker: Locker<'_>,
        out: &mut Encoder,
    ) -> Result<(), Status> {
        let node = self.node()?;
        let (kind, bytes) = (kind_of(range)?, bytes_of(range)?);
        self.assume(&node.export)?;
        must_be_lockable(&node)?;
        let client = self.client()?;
        let clients = &self.door.clients;
        if reclaim {
            clients.may_reclaim(&client)?;
        } else {
            clients.may_take(&client)?;
        }
        let (state, owner, access) = {
            let mut holdings = client.holdings();
            match locker {
                Locker::New { open, owner } => {
                    let open = self.stateid(open)?;
                    let number = holdings.lock_owner(owner)?;
                    let mount = holdings.number(node.volume());
                    let owner = Owner {
                        mount,
                        owner: number,
                    };
                    let access = holdings.open_of(open, &node)?.access;
                    (holdings.locking(open, &node, owner)?, owner, access)
                }
                Locker::Known(state) => {
                    let state = self.stateid(state)?;
                    let locking = holdings.known_locking(state, &node)?;
                    (state, locking.owner, holdings.access_of(locking))
                }
            }
        };
        let needed = if kind == Kind::Write { WRITE } else { READ };
        if access & needed == 0 {
            client.holdings().not_locked(state.other);
            return Err(Status::OPENMODE);
        }
        let request = Request {
            file: node.inode.id,
            space: Space::Posix,
            owner,
            pid: 0,
            kind,
            range: bytes,
        };
        let whole = is_whole(range);
        let taken = {
            let _recorded = clients.locking(&client, &node.volume().name)?;
            take(&node, request, whole, reclaim)
        };
        if let Err(errno) = taken {
            client.holdings().not_locked(state.other);
            if errno.0 != libc::EAGAIN {
                return Err(Status::from(errno));
            }
            self.encode_conflict(&node, &client, &request, whole, out);
            return Err(Status::DENIED);
        }
        let state = client.holdings().locked(state.other, whole);
        if client.is_ended() {
            // It was forgotten while we were at it: nobody would ever give the lock back.
            node.volume().locks.release_mount(owner.mount).give();
            return Err(Status::BAD_STATEID);
        }
        encode_stateid(out, state);
        self.state = Some(state);
        Ok(())
    }

    pub(super) fn lock_test(
        &mut self,
        range: LockRange,
        owner: &[u8],
        out: &mut Encoder,
    ) -> Result<(), Status> {
        let node = self.node()?;
        let (kind, bytes) = (kind_of(range)?, bytes_of(range)?);
        self.assume(&node.export)?;
        must_be_lockable(&node)?;
        let client = self.client()?;
        if self.door.clients.recovery.in_grace() {
            return Err(Status::GRACE);
        }
        let request = {
            let mut holdings = client.holdings();
            Request {
                file: node.inode.id,
                space: Space::Posix,
                owner: Owner {
                    mount: holdings.number(node.volume()),
                    owner: holdings.lock_owner(owner)?,
                },
                pid: 0,
                kind,
                range: bytes,
            }
        };
        let start = out.len();
        if self.encode_conflict(&node, &client, &request, is_whole(range), out) {
            Err(Status::DENIED)
        } else {
            out.truncate(start);
            Ok(())
        }
    }

    pub(super) fn unlock(
        &mut self,
        state: StateId,
        range: LockRange,
        out: &mut Encoder,
    ) -> Result<(), Status> {
        let node = self.node()?;
        kind_of(range)?;
        let bytes = bytes_of(range)?;
        let state = self.stateid(state)?;
        let client = self.client()?;
        let (owner, whole) = {
            let holdings = client.holdings();
            let locking = holdings.known_locking(state, &node)?;
            (locking.owner, locking.whole)
        };
        let locks = &node.volume().locks;
        let (result, due) = locks.unlock(node.inode.id, Space::Posix, owner, bytes);
        due.give();
        result?;
        if whole {
            // What is left of it, if anything, is no flock.
            let due = locks.release_owner(node.inode.id, Space::Flock, owner);
            due.give();
        }
        let state = client.holdings().locked(state.other, false);
        encode_stateid(out, state);
        self.state = Some(state);
        Ok(())
    }

    /// `LOCK4denied`: who stands in the way. False, and nothing, when nobody does.
    fn encode_conflict(
        &self,
        node: &Node,
        client: &Client,
        request: &Request,
        whole: bool,
        out: &mut Encoder,
    ) -> bool {
        let locks = &node.volume().locks;
        let mut conflict = locks.test(request);
        if conflict.is_none() && whole {
            conflict = locks.test(&as_flock(request));
        }
        let found = conflict.is_some();
        // Gone meanwhile: the client asks again in any case.
        let conflict = conflict.unwrap_or(Conflict {
            kind: request.kind,
            range: request.range,
            owner: request.owner,
            pid: 0,
        });
        out.u64(conflict.range.start());
        out.u64(match conflict.range.end() {
            END_OF_FILE => TO_THE_END,
            end => end - conflict.range.start() + 1,
        });
        out.u32(match conflict.kind {
            Kind::Read => 1,
            Kind::Write => 2,
        });
        let holdings = client.holdings();
        match holdings.owner_of(conflict.owner.owner) {
            Some(owner) => {
                out.u64(client.id);
                out.opaque(owner);
            }
            None => {
                // Another client, or a function: its own name for the owner means nothing to this one.
                out.u64(conflict.owner.mount);
                out.opaque(&conflict.owner.owner.to_be_bytes());
            }
        }
        found
    }
}

fn as_flock(request: &Request) -> Request {
    Request {
        space: Space::Flock,
        range: Range::WHOLE,
        ..*request
    }
}

/// Takes a lock now or not at all.
fn take(node: &Node, request: Request, whole: bool, reclaim: bool) -> Result<(), Errno> {
    let locks = &node.volume().locks;
    let try_lock = |request| {
        let (taken, due) = if reclaim {
            locks.reclaim(request)
        } else {
            locks.try_lock(request)
        };
        due.give();
        taken
    };
    node.inode.locked.store(true, SeqCst);
    // Asked first, so that what is held already is not lost to a conversion that then fails.
    if whole && locks.test(&as_flock(&request)).is_some() {
        try_lock(as_flock(&request))?;
    }
    try_lock(request)?;
    if whole {
        if let Err(errno) = try_lock(as_flock(&request)) {
            let (_, due) = locks.unlock(request.file, Space::Posix, request.owner, request.range);
            due.give();
            return Err(errno);
        }
    }
    Ok(())
}
