//! GETATTR, SETATTR, and how attributes look on the wire.

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use super::abi::{setattr, Attr, AttrOut, EntryOut, GetattrIn, SetattrIn, GETATTR_FH};
use super::request::Request;
use super::session::Session;
use crate::inode::Inode;
use crate::naming::LARGEST_FILE;
use crate::spreading;
use crate::sys::file::{self, FdName, NewTime, Stat, Time};
use crate::sys::Errno;

pub fn attr(stat: &Stat) -> Attr {
    let (atime, mtime, ctime) = (stat.atime(), stat.mtime(), stat.ctime());
    Attr {
        ino: stat.ino(),
        size: stat.size(),
        blocks: stat.blocks(),
        atime: atime.seconds as u64,
        mtime: mtime.seconds as u64,
        ctime: ctime.seconds as u64,
        atimensec: atime.nanoseconds,
        mtimensec: mtime.nanoseconds,
        ctimensec: ctime.nanoseconds,
        mode: stat.mode(),
        nlink: stat.nlink(),
        uid: stat.uid(),
        gid: stat.gid(),
        rdev: 0,
        blksize: stat.blksize(),
        flags: 0,
    }
}

pub fn entry(node: u64, stat: &Stat, name_for: Duration, attributes_for: Duration) -> EntryOut {
    EntryOut {
        nodeid: node,
        generation: 0,
        entry_valid: name_for.as_secs(),
        entry_valid_nsec: name_for.subsec_nanos(),
        attr_valid: attributes_for.as_secs(),
        attr_valid_nsec: attributes_for.subsec_nanos(),
        attr: attr(stat),
    }
}

/// Attributes as GETATTR and SETATTR answer them.
fn attr_out(session: &Session, inode: &Inode, stat: &Stat) -> AttrOut {
    let keep = session.attribute_lifetime(inode, false);
    AttrOut {
        attr_valid: keep.as_secs(),
        attr_valid_nsec: keep.subsec_nanos(),
        dummy: 0,
        attr: attr(stat),
    }
}

pub fn getattr(session: &Session, request: &mut Request<'_>) -> Result<usize, Errno> {
    let argument: GetattrIn = request.argument()?;
    let mount = &session.mount;
    if argument.getattr_flags & GETATTR_FH != 0 {
        if let Ok(open) = mount.file(argument.fh) {
            let stat = file::stat_of(open.fd.as_raw_fd())?;
            return request.reply(&attr_out(session, &open.inode, &stat));
        }
    }
    let (inode, stat) = mount.stat(request.node())?;
    request.reply(&attr_out(session, &inode, &stat))
}

pub fn setattr(session: &Session, request: &mut Request<'_>) -> Result<usize, Errno> {
    let wanted: SetattrIn = request.argument()?;
    let mount = &session.mount;
    let (inode, fd) = mount.fd(request.node())?;
    let raw = fd.as_raw_fd();
    mount.identity().assume()?;
    let has = |bit| wanted.valid & bit != 0;

    if has(setattr::UID) || has(setattr::GID) {
        let id = |bit, id| if has(bit) { id } else { u32::MAX };
        file::chown_of(
            raw,
            id(setattr::UID, wanted.uid),
            id(setattr::GID, wanted.gid),
        )?;
    }
    if has(setattr::MODE) {
        let name = FdName::new(raw);
        file::chmod_at(
            mount.volume.proc.as_raw_fd(),
            name.as_cstr(),
            wanted.mode & 0o7777,
        )?;
    }
    if has(setattr::SIZE) {
        resize(session, &inode, raw, &wanted)?;
    }
    let time = |bit, now_bit, seconds: u64, nanoseconds| match (has(bit), has(now_bit)) {
        (false, _) => NewTime::Keep,
        (true, true) => NewTime::Now,
        (true, false) => NewTime::At(Time {
            seconds: seconds as i64,
            nanoseconds,
        }),
    };
    if has(setattr::ATIME) || has(setattr::MTIME) {
        file::set_times(
            raw,
            time(
                setattr::ATIME,
                setattr::ATIME_NOW,
                wanted.atime,
                wanted.atimensec,
            ),
            time(
                setattr::MTIME,
                setattr::MTIME_NOW,
                wanted.mtime,
                wanted.mtimensec,
            ),
        )?;
    }
    let stat = file::stat_of(raw)?;
    let who_may = setattr::MODE | setattr::UID | setattr::GID;
    if stat.is_dir() && wanted.valid & who_may != 0 {
        // Names kept beneath it, by this mount too, were found under the old rights.
        mount.volume.names_changed(&inode, u64::MAX);
    } else {
        mount.volume.attributes_changed(&inode, mount.number);
    }
    request.reply(&attr_out(session, &inode, &stat))
}

fn resize(
    session: &Session,
    inode: &Arc<Inode>,
    raw: i32,
    wanted: &SetattrIn,
) -> Result<(), Errno> {
    let mount = &session.mount;
    if wanted.size > LARGEST_FILE {
        return Err(Errno(libc::EFBIG));
    }
    let size = i64::try_from(wanted.size).map_err(|_| Errno(libc::EFBIG))?;
    let before = file::stat_of(raw)?;
    // An open file may be cut whatever its mode is by now; a name only by whom its mode allows.
    let opened = (wanted.valid & setattr::FH != 0)
        .then(|| mount.file(wanted.fh).ok())
        .flatten()
        .filter(|open| open.writable);
    match opened {
        Some(open) => file::truncate(open.fd.as_raw_fd(), size)?,
        None => {
            let flags = libc::O_WRONLY | libc::O_NONBLOCK | libc::O_NOCTTY;
            let writable = file::reopen(&mount.volume.proc, raw, flags)?;
            file::truncate(std::os::fd::AsRawFd::as_raw_fd(&writable), size)?;
        }
    }
    if wanted.valid & setattr::KILL_SUIDGID != 0 {
        session.kill_privileges(raw)?;
    }
    let after = file::stat_of(raw)?;
    mount.volume.resized(inode, &before, &after);
    if session.maps() && inode.cached_somewhere() {
        // The client's kernel writes no page of the file until it has this answer, and whoever drops pages may wait for that:
        // so the answer does not wait. Reads see the new size at once all the same, maps a moment later.
        mount.volume.content_written_back(inode, mount.number);
    } else {
        spreading::note(inode);
    }
    Ok(())
}

impl Session {
    /// What a write takes away from a program: the set-user-id bit, and the set-group-id bit where the group may execute.
    /// The backing file system does it by itself unless the mount acts as root.
    pub fn kill_privileges(&self, raw: i32) -> Result<(), Errno> {
        if self.mount.identity().uid() != 0 {
            return Ok(());
        }
        let mode = file::stat_of(raw)?.mode();
        let mut kept = mode & !libc::S_ISUID;
        if mode & libc::S_IXGRP != 0 {
            kept &= !libc::S_ISGID;
        }
        if kept == mode {
            return Ok(());
        }
        let name = FdName::new(raw);
        file::chmod_at(
            self.mount.volume.proc.as_raw_fd(),
            name.as_cstr(),
            kept & 0o7777,
        )
    }
}
