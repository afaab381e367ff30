//! POSIX byte-range locks and flock.

use super::abi::{FileLock, LkIn, LkOut, LOCK_FLOCK};
use super::request::{Outcome, Request};
use super::session::Session;
use crate::inode::Inode;
use crate::locks::{self, Kind, Owner, Range, Space, END_OF_FILE};
use crate::sys::Errno;
use std::sync::atomic::Ordering::SeqCst;

/// A lock request with what it concerns.
struct Wanted {
    request: locks::Request,
    unlock: bool,
}

fn wanted(session: &Session, inode: &Inode, argument: &LkIn) -> Result<Wanted, Errno> {
    let space = if argument.lk_flags & LOCK_FLOCK != 0 {
        Space::Flock
    } else {
        Space::Posix
    };
    let kind = match argument.lk.kind as i32 {
        libc::F_RDLCK => Kind::Read,
        libc::F_WRLCK | libc::F_UNLCK => Kind::Write,
        _ => return Err(Errno(libc::EINVAL)),
    };
    let range = Range::new(argument.lk.start, argument.lk.end).ok_or(Errno(libc::EINVAL))?;
    Ok(Wanted {
        unlock: argument.lk.kind as i32 == libc::F_UNLCK,
        request: locks::Request {
            file: inode.id,
            space,
            owner: Owner {
                mount: session.mount.number,
                owner: argument.owner,
            },
            pid: argument.lk.pid,
            kind,
            range,
        },
    })
}

pub fn getlk(session: &Session, request: &mut Request<'_>) -> Result<usize, Errno> {
    let argument: LkIn = request.argument()?;
    let inode = session.mount.inode(request.node())?;
    let wanted = wanted(session, &inode, &argument)?;
    let locks = &session.mount.volume.locks;
    let lk = match locks.test(&wanted.request) {
        // Somebody's, who has yet to claim it after a restart.
        None if locks.is_held_back() => FileLock {
            start: 0,
            end: END_OF_FILE,
            kind: libc::F_WRLCK as u32,
            pid: 0,
        },
        None => FileLock {
            kind: libc::F_UNLCK as u32,
            ..FileLock::default()
        },
        Some(conflict) => FileLock {
            start: conflict.range.start(),
            end: conflict.range.end(),
            kind: match conflict.kind {
                Kind::Read => libc::F_RDLCK as u32,
                Kind::Write => libc::F_WRLCK as u32,
            },
            // A process number means something in its own client alone.
            pid: if conflict.owner.mount == session.mount.number {
                conflict.pid
            } else {
                0
            },
        },
    };
    request.reply(&LkOut { lk })
}

pub fn setlk(session: &Session, request: &mut Request<'_>, blocking: bool) -> Outcome {
    match set(session, request, blocking) {
        Ok(outcome) => outcome,
        Err(errno) => Outcome::Reply(Err(errno)),
    }
}

fn set(session: &Session, request: &mut Request<'_>, blocking: bool) -> Result<Outcome, Errno> {
    let argument: LkIn = request.argument()?;
    let inode = session.mount.inode(request.node())?;
    let wanted = wanted(session, &inode, &argument)?;
    let table = &session.mount.volume.locks;
    let asked = wanted.request;
    let (result, due) = if wanted.unlock {
        table.unlock(asked.file, asked.space, asked.owner, asked.range)
    } else {
        inode.locked.store(true, SeqCst);
        if blocking {
            return Ok(Outcome::Park(asked));
        }
        table.try_lock(asked)
    };
    due.give();
    Ok(Outcome::Reply(result.map(|()| 0)))
}

/// The locks that closing ends: the POSIX locks of the closing process, or the flock of the open file.
pub fn release(session: &Session, inode: &Inode, space: Space, owner: u64) {
    if !inode.locked.load(SeqCst) {
        return;
    }
    let owner = Owner {
        mount: session.mount.number,
        owner,
    };
    session
        .mount
        .volume
        .locks
        .release_owner(inode.id, space, owner)
        .give();
}
