//! What one client holds: open files and locks, by stateid.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use super::export::{next_number, Node};
use super::operation::StateId;
use super::status::Status;
use crate::locks::{Owner, Space};
use crate::naming::MOST_OPEN_FILES;
use crate::volume::Volume;

pub const READ: u32 = 1;
pub const WRITE: u32 = 2;
pub const BOTH: u32 = 3;

/// Lock owners of one client, and locking states.
const MOST_LOCKS: usize = 65_536;

type Other = [u8; 12];

/// An open file: one for each open-owner and file, however often it was opened.
#[derive(Debug)]
pub struct Open {
    pub seqid: u32,
    pub node: Arc<Node>,
    pub access: u32,
    owner: Vec<u8>,
    reading: Option<Arc<OwnedFd>>,
    writing: Option<Arc<OwnedFd>>,
}

impl Drop for Open {
    fn drop(&mut self) {
        let inode = &self.node.inode;
        let ends = inode.closed(self.writing.is_some());
        if let Some(fd) = &self.writing {
            self.node.volume().settle(inode, fd.as_raw_fd(), ends);
        }
    }
}

impl Open {
    /// More access with `fd`, which has it.
    fn widen(&mut self, access: u32, fd: &Arc<OwnedFd>) {
        let inode = &self.node.inode;
        if access & READ != 0 && self.reading.is_none() {
            self.reading = Some(Arc::clone(fd));
        }
        if access & WRITE != 0 && self.writing.is_none() {
            self.writing = Some(Arc::clone(fd));
            inode.opened(true);
            inode.closed(false);
        }
        self.access |= access;
    }

    fn narrow(&mut self, access: u32) {
        let inode = &self.node.inode;
        if access & READ == 0 {
            self.reading = None;
        }
        if access & WRITE == 0 {
            if let Some(fd) = self.writing.take() {
                inode.opened(false);
                let ends = inode.closed(true);
                self.node.volume().settle(inode, fd.as_raw_fd(), ends);
            }
        }
        self.access = access;
    }
}

/// The locks of one lock-owner on one file.
#[derive(Debug)]
pub struct Locking {
    seqid: u32,
    pub node: Arc<Node>,
    /// The lock table's name for the lock-owner.
    pub owner: Owner,
    open: Other,
    /// A whole-file lock was taken, which is a flock as well.
    pub whole: bool,
}

/// The client as one volume's lock table knows it.
#[derive(Debug)]
pub struct Presence {
    pub volume: Arc<Volume>,
    pub number: u64,
}

#[derive(Debug, Default)]
pub struct Holdings {
    boot: u32,
    next: u64,
    opens: HashMap<Other, Open>,
    by_owner: HashMap<(Vec<u8>, u64, u64), Other>,
    lockings: HashMap<Other, Locking>,
    lock_owners: HashMap<Vec<u8>, u64>,
    presences: Vec<Presence>,
}

fn next_seqid(seqid: u32) -> u32 {
    seqid.checked_add(1).unwrap_or(1)
}

/// Whether `given` is the state's present value (RFC 8881 section 8.2.2).
fn current(given: StateId, seqid: u32) -> Result<(), Status> {
    match given.seqid {
        0 => Ok(()),
        given if given == seqid => Ok(()),
        given if given < seqid => Err(Status::OLD_STATEID),
        _ => Err(Status::BAD_STATEID),
    }
}

fn open_key(owner: &[u8], node: &Node) -> (Vec<u8>, u64, u64) {
    (owner.to_vec(), node.export.tag, node.inode.id)
}

impl Holdings {
    pub fn new(boot: u32) -> Holdings {
        Holdings {
            boot,
            ..Holdings::default()
        }
    }

    pub fn is_empty(&self) -> bool {
        self.opens.is_empty() && self.lockings.is_empty()
    }

    pub fn open_files(&self) -> usize {
        self.opens.len()
    }

    pub fn presences(&self) -> &[Presence] {
        &self.presences
    }

    /// The client's number in the volume's lock table.
    pub fn number(&mut self, volume: &Arc<Volume>) -> u64 {
        let known = self
            .presences
            .iter()
            .find(|presence| Arc::ptr_eq(&presence.volume, volume));
        if let Some(presence) = known {
            return presence.number;
        }
        let number = next_number();
        self.presences.push(Presence {
            volume: Arc::clone(volume),
            number,
        });
        number
    }

    fn fresh(&mut self) -> Other {
        self.next += 1;
        let mut other = [0; 12];
        other[..4].copy_from_slice(&self.boot.to_be_bytes());
        other[4..].copy_from_slice(&self.next.to_be_bytes());
        other
    }

    // ---- open files

    /// Whether the client may have one more open file.
    pub fn room(&self) -> Result<(), Status> {
        if self.opens.len() < MOST_OPEN_FILES {
            Ok(())
        } else {
            Err(Status::DQUOT)
        }
    }

    /// The file was opened by `owner` as `fd`, which has `access`.
    pub fn opened(
        &mut self,
        owner: &[u8],
        node: &Arc<Node>,
        access: u32,
        fd: &Arc<OwnedFd>,
    ) -> StateId {
        let key = open_key(owner, node);
        if let Some(other) = self.by_owner.get(&key) {
            if let Some(open) = self.opens.get_mut(other) {
                open.widen(access, fd);
                open.seqid = next_seqid(open.seqid);
                return StateId {
                    seqid: open.seqid,
                    other: *other,
                };
            }
        }
        let other = self.fresh();
        let has = |bit| (access & bit != 0).then(|| Arc::clone(fd));
        node.inode.opened(access & WRITE != 0);
        let open = Open {
            seqid: 1,
            node: Arc::clone(node),
            access,
            owner: owner.to_vec(),
            reading: has(READ),
            writing: has(WRITE),
        };
        self.opens.insert(other, open);
        self.by_owner.insert(key, other);
        StateId { seqid: 1, other }
    }

    fn open(&self, state: StateId) -> Result<&Open, Status> {
        let open = self.opens.get(&state.other).ok_or(Status::BAD_STATEID)?;
        current(state, open.seqid)?;
        Ok(open)
    }

    /// The open file of a stateid that must be of `node`.
    pub fn open_of(&self, state: StateId, node: &Node) -> Result<&Open, Status> {
        let open = self.open(state)?;
        if open.node.inode.id == node.inode.id {
            Ok(open)
        } else {
            Err(Status::BAD_STATEID)
        }
    }

    pub fn downgrade(
        &mut self,
        state: StateId,
        node: &Node,
        access: u32,
    ) -> Result<StateId, Status> {
        let open = self.open_of(state, node)?;
        if access == 0 || access & !open.access != 0 {
            return Err(Status::INVAL);
        }
        let open = self
            .opens
            .get_mut(&state.other)
            .ok_or(Status::BAD_STATEID)?;
        open.narrow(access);
        open.seqid = next_seqid(open.seqid);
        Ok(StateId {
            seqid: open.seqid,
            other: state.other,
        })
    }

    /// Closes an open file, and with it the locks that were taken through it.
    pub fn close(&mut self, state: StateId, node: &Node) -> Result<Closed, Status> {
        self.open_of(state, node)?;
        let open = self.opens.remove(&state.other).ok_or(Status::BAD_STATEID)?;
        self.by_owner.remove(&open_key(&open.owner, &open.node));
        let through: Vec<Other> = self
            .lockings
            .iter()
            .filter(|(_, locking)| locking.open == state.other)
            .map(|(other, _)| *other)
            .collect();
        let lockings = through
            .iter()
            .filter_map(|other| self.lockings.remove(other))
            .collect();
        Ok(Closed {
            _open: open,
            lockings,
        })
    }

    /// The descriptor through which a stateid reads (or writes) `node`.
    pub fn descriptor(
        &self,
        state: StateId,
        node: &Node,
        writes: bool,
    ) -> Result<Arc<OwnedFd>, Status> {
        let open = match self.lockings.get(&state.other) {
            Some(locking) => {
                current(state, locking.seqid)?;
                self.opens.get(&locking.open).ok_or(Status::BAD_STATEID)?
            }
            None => self.open(state)?,
        };
        if open.node.inode.id != node.inode.id {
            return Err(Status::BAD_STATEID);
        }
        let fd = if writes { &open.writing } else { &open.reading };
        fd.clone().ok_or(Status::OPENMODE)
    }

    /// Whether a stateid is known, for TEST_STATEID.
    pub fn test(&self, state: StateId) -> Result<(), Status> {
        match self.lockings.get(&state.other) {
            Some(locking) => current(state, locking.seqid),
            None => self.open(state).map(|_| ()),
        }
    }

    // ---- locks

    /// The lock table's number of a lock-owner.
    pub fn lock_owner(&mut self, owner: &[u8]) -> Result<u64, Status> {
        if let Some(number) = self.lock_owners.get(owner) {
            return Ok(*number);
        }
        if self.lock_owners.len() >= MOST_LOCKS {
            return Err(Status::DQUOT);
        }
        let number = next_number();
        self.lock_owners.insert(owner.to_vec(), number);
        Ok(number)
    }

    /// The wire's lock-owner of a number.
    pub fn owner_of(&self, number: u64) -> Option<&[u8]> {
        self.lock_owners
            .iter()
            .find(|(_, known)| **known == number)
            .map(|(owner, _)| &owner[..])
    }

    /// The locking state of `owner` on the file that is open as `open`; made if there is none. Its seqid is the one before
    /// the lock that is asked for.
    pub fn locking(
        &mut self,
        open: StateId,
        node: &Arc<Node>,
        owner: Owner,
    ) -> Result<StateId, Status> {
        self.open_of(open, node)?;
        let known = self
            .lockings
            .iter()
            .find(|(_, locking)| locking.owner == owner && locking.open == open.other);
        if let Some((other, locking)) = known {
            return Ok(StateId {
                seqid: locking.seqid,
                other: *other,
            });
        }
        if self.lockings.len() >= MOST_LOCKS {
            return Err(Status::DQUOT);
        }
        let other = self.fresh();
        let locking = Locking {
            seqid: 0,
            node: Arc::clone(node),
            owner,
            open: open.other,
            whole: false,
        };
        self.lockings.insert(other, locking);
        Ok(StateId { seqid: 0, other })
    }

    pub fn known_locking(&self, state: StateId, node: &Node) -> Result<&Locking, Status> {
        let locking = self.lockings.get(&state.other).ok_or(Status::BAD_STATEID)?;
        current(state, locking.seqid)?;
        if locking.node.inode.id == node.inode.id {
            Ok(locking)
        } else {
            Err(Status::BAD_STATEID)
        }
    }

    /// The access of the open file that a locking state stands on.
    pub fn access_of(&self, locking: &Locking) -> u32 {
        self.opens.get(&locking.open).map_or(0, |open| open.access)
    }

    /// A lock was taken or given up.
    pub fn locked(&mut self, other: Other, whole: bool) -> StateId {
        let seqid = match self.lockings.get_mut(&other) {
            Some(locking) => {
                locking.seqid = next_seqid(locking.seqid);
                locking.whole |= whole;
                locking.seqid
            }
            None => 1,
        };
        StateId { seqid, other }
    }

    /// A lock that was not granted leaves no new state behind.
    pub fn not_locked(&mut self, other: Other) {
        if self
            .lockings
            .get(&other)
            .is_some_and(|locking| locking.seqid == 0)
        {
            self.lockings.remove(&other);
        }
    }

    /// Frees the locking state of a stateid (FREE_STATEID).
    pub fn free(&mut self, state: StateId) -> Result<(), Status> {
        let Some(locking) = self.lockings.get(&state.other) else {
            self.open(state)?;
            return Err(Status::LOCKS_HELD);
        };
        current(state, locking.seqid)?;
        if locking
            .node
            .volume()
            .locks
            .holds(locking.node.inode.id, locking.owner)
        {
            return Err(Status::LOCKS_HELD);
        }
        self.lockings.remove(&state.other);
        Ok(())
    }
}

/// What a CLOSE ended. The locks go when [`Closed::release`] is called, without the client locked.
#[derive(Debug)]
pub struct Closed {
    _open: Open,
    lockings: Vec<Locking>,
}

impl Closed {
    pub fn release(self) {
        for locking in &self.lockings {
            locking.release();
        }
    }
}

impl Locking {
    pub fn release(&self) {
        let file = self.node.inode.id;
        let locks = &self.node.volume().locks;
        locks.release_owner(file, Space::Posix, self.owner).give();
        if self.whole {
            locks.release_owner(file, Space::Flock, self.owner).give();
        }
    }
}
