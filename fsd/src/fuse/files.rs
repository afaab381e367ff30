//! Open files: opening, reading, writing, closing.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};

use super::abi::{
    opcode, open as flag, CopyFileRangeIn, CreateIn, EntryOut, FallocateIn, FlushIn, FsyncIn,
    LseekIn, LseekOut, OpenIn, OpenOut, ReadIn, ReleaseIn, WriteIn, WriteOut, FSYNC_CONTENT_ONLY,
    OPEN_EXEC, OPEN_KILL_SUIDGID, RELEASE_FLOCK_UNLOCK, WRITE_CACHE, WRITE_KILL_SUIDGID,
};
use super::locking;
use super::request::{Outcome, Request};
use super::session::Session;
use crate::identity;
use crate::inode::Inode;
use crate::locks::Space;
use crate::meter::Class;
use crate::mount::OpenFile;
use crate::naming::{LARGEST_FILE, MOST_OPEN_FILES};
use crate::spreading;
use crate::sys::file::{self, Stat};
use crate::sys::{pod, Errno};

/// Flags of `open(2)` that mean the same to the backing file. O_APPEND comes with each write, O_DIRECT is the client's alone.
const KEPT: u32 =
    (libc::O_ACCMODE | libc::O_TRUNC | libc::O_SYNC | libc::O_DSYNC | libc::O_NOATIME) as u32;

/// What a client's kernel reads for a map, it reads in these.
const PAGE: u64 = 4096;

fn writable(flags: u32) -> bool {
    (flags as i32) & libc::O_ACCMODE != libc::O_RDONLY
}

fn readable(flags: u32) -> bool {
    (flags as i32) & libc::O_ACCMODE != libc::O_WRONLY
}

/// Puts an opened file into the mount's table; the reply's struct.
fn admit(
    session: &Session,
    inode: &Arc<Inode>,
    fd: OwnedFd,
    stat: &Stat,
    flags: u32,
) -> Result<OpenOut, Errno> {
    let mount = &session.mount;
    if mount.open_files() >= MOST_OPEN_FILES {
        return Err(Errno(libc::EDQUOT));
    }
    let common = (flags & KEPT) as i32 & !libc::O_TRUNC;
    let fd = inode.share(fd, common, mount.identity().number());
    let writes = writable(flags);
    let unseen =
        stat.is_file() && session.passthrough() && (!writes || inode.unseen_writer_comes());
    let backing = if unseen {
        session.open_backing(inode, fd.as_raw_fd())
    } else {
        None
    };
    if unseen && writes && backing.is_none() {
        inode.unseen_writer_goes();
    }
    // A connection that does passthrough must not cache beside it.
    let cached = stat.is_file() && !writes && !session.passthrough() && inode.cached_reader_comes();
    let open = OpenFile {
        cached: AtomicBool::new(cached),
        mappable: stat.is_file() && writes && readable(flags) && session.maps(),
        fd,
        path_only: false,
        reading: OnceLock::new(),
        inode: Arc::clone(inode),
        writable: writes,
        readable: readable(flags),
        passthrough: backing.is_some(),
        size_at_open: stat.size(),
        mtime_at_open: writes.then(|| stat.mtime()),
    };
    if !open.writable {
        inode.seen(stat);
    }
    if open.writable {
        mount.volume.writing_begins(inode, stat);
        if open.passthrough {
            // From here on attributes may change unseen: nobody caches them, and what is cached goes.
            mount.volume.attributes_changed(inode, u64::MAX);
        }
    }
    let handle = mount.new_handle();
    mount.add_file(handle, open);
    Ok(match backing {
        Some(id) => OpenOut {
            fh: handle,
            open_flags: flag::PASSTHROUGH,
            backing_id: id,
        },
        None if cached => OpenOut {
            fh: handle,
            ..OpenOut::default()
        },
        None => OpenOut {
            fh: handle,
            open_flags: flag::DIRECT_IO | flag::PARALLEL_DIRECT_WRITES,
            backing_id: 0,
        },
    })
}

/// Opens for reading a file that the client's kernel will read past the server: whether it may is asked, and nothing more
/// is opened than the inode is. `None` where that will not do.
fn open_past(
    session: &Session,
    inode: &Arc<Inode>,
    fd: RawFd,
    argument: &OpenIn,
) -> Result<Option<OpenOut>, Errno> {
    let plain = argument.flags & (KEPT | OPEN_EXEC) == libc::O_RDONLY as u32;
    if !plain || !session.passthrough() {
        return Ok(None);
    }
    let size = match inode.size() {
        Some(size) => size,
        None => {
            let stat = file::stat_of(fd)?;
            if !stat.is_file() {
                return Ok(None);
            }
            inode.seen(&stat);
            stat.size()
        }
    };
    file::access(fd, libc::R_OK)?;
    let mount = &session.mount;
    if mount.open_files() >= MOST_OPEN_FILES {
        return Err(Errno(libc::EDQUOT));
    }
    let path = mount.volume.path_fd(inode, fd)?;
    inode.hold(&path);
    let Some(backing_id) = session.open_backing(inode, path.as_raw_fd()) else {
        return Ok(None);
    };
    let open = OpenFile {
        fd: path,
        path_only: true,
        reading: OnceLock::new(),
        inode: Arc::clone(inode),
        writable: false,
        readable: true,
        passthrough: true,
        cached: AtomicBool::new(false),
        mappable: false,
        size_at_open: size,
        mtime_at_open: None,
    };
    let handle = mount.new_handle();
    mount.add_file(handle, open);
    Ok(Some(OpenOut {
        fh: handle,
        open_flags: flag::PASSTHROUGH,
        backing_id,
    }))
}

pub fn open(session: &Session, request: &mut Request<'_>) -> Result<usize, Errno> {
    let argument: OpenIn = request.argument()?;
    let mount = &session.mount;
    let (inode, fd) = mount.fd(request.node())?;
    mount.identity().assume()?;
    let raw = fd.as_raw_fd();
    if let Some(out) = open_past(session, &inode, raw, &argument)? {
        return request.reply(&out);
    }
    let flags = (argument.flags & KEPT) as i32;
    let truncates = flags & libc::O_TRUNC != 0;
    if truncates || writable(argument.flags) {
        mount.may_change()?;
    }
    let before = truncates.then(|| file::stat_of(raw)).transpose()?;
    let reopen = || file::reopen(&mount.volume.proc, raw, flags);
    let opened = match mount.volume.with_descriptors(reopen) {
        Err(Errno(libc::EACCES)) if argument.flags & OPEN_EXEC != 0 => {
            // Executing needs no permission to read.
            file::access(raw, libc::X_OK)?;
            identity::with_capabilities(reopen)?
        }
        Ok(_) if argument.flags & OPEN_EXEC != 0 && file::access(raw, libc::X_OK).is_err() => {
            return Err(Errno(libc::EACCES));
        }
        other => other?,
    };
    let stat = file::stat_of(opened.as_raw_fd())?;
    if let Some(before) = before {
        mount.volume.resized(&inode, &before, &stat);
        if argument.open_flags & OPEN_KILL_SUIDGID != 0 {
            session.kill_privileges(raw)?;
        }
        spreading::note(&inode);
        mount.volume.attributes_changed(&inode, mount.number);
    }
    let out = admit(session, &inode, opened, &stat, argument.flags)?;
    request.reply(&out)
}

pub fn create(session: &Session, request: &mut Request<'_>) -> Result<usize, Errno> {
    let argument: CreateIn = request.argument()?;
    let name_for = session.name_lifetime();
    let mount = &session.mount;
    let (parent, dir) = mount.fd(request.node())?;
    mount.identity().assume()?;
    let (fd, before) = {
        let name = request.name()?;
        let flags = (argument.flags & KEPT) as i32 | libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let create = flags | libc::O_CREAT | libc::O_EXCL;
        let exclusive = argument.flags as i32 & libc::O_EXCL != 0;
        if mount.may_change().is_err() {
            let changes = writable(argument.flags) || flags & libc::O_TRUNC != 0;
            let there = file::stat_at(dir.as_raw_fd(), name).is_ok();
            match (there, exclusive, changes) {
                (true, true, _) => return Err(Errno(libc::EEXIST)),
                // Only opened, in the loop below, where nothing is made of a name that is there.
                (true, false, false) => {}
                _ => mount.may_change()?,
            }
        }
        loop {
            let create = || file::open_at(dir.as_raw_fd(), name, create, argument.mode & 0o7777);
            if mount.may_change().is_ok() {
                let create = || mount.volume.with_descriptors(create);
                match mount.volume.with_space(create) {
                    Ok(fd) => break (fd, None),
                    Err(Errno(libc::EEXIST)) if !exclusive => {}
                    Err(errno) => return Err(errno),
                }
            }
            let before = file::stat_at(dir.as_raw_fd(), name).ok();
            match file::open_at(dir.as_raw_fd(), name, flags, 0) {
                Ok(fd) => break (fd, before),
                // Removed between the two calls: create it after all.
                Err(Errno(libc::ENOENT)) => mount.may_change()?,
                Err(errno) => return Err(errno),
            }
        }
    };
    let stat = file::stat_of(fd.as_raw_fd())?;
    let inode = mount.volume.intern_opened(&fd, &stat)?;
    let made = before.is_none();
    match before {
        None => mount.volume.created(&stat),
        Some(before) if before.ino() == stat.ino() => {
            spreading::note(&inode);
            mount.volume.resized(&inode, &before, &stat);
        }
        Some(_) => {}
    }
    let out = match admit(session, &inode, fd, &stat, argument.flags) {
        Ok(out) => out,
        Err(errno) => {
            mount.volume.put(&inode);
            return Err(errno);
        }
    };
    let entry = session.tell(&inode, &stat, name_for);
    if made {
        mount.volume.names_changed(&parent, mount.number);
    } else {
        mount.volume.attributes_changed(&inode, mount.number);
    }
    let head = request.reply(&entry)?;
    debug_assert_eq!(head, std::mem::size_of::<EntryOut>());
    let rest = request.buffer.get_mut(head..).unwrap_or_default();
    let tail = pod::write(rest, &out).ok_or(Errno(libc::EIO))?;
    Ok(head + tail)
}

pub fn read(session: &Arc<Session>, request: &mut Request<'_>) -> Outcome {
    match read_now(session, request) {
        Ok(outcome) => outcome,
        Err(errno) => Outcome::Reply(Err(errno)),
    }
}

fn read_now(session: &Arc<Session>, request: &mut Request<'_>) -> Result<Outcome, Errno> {
    let argument: ReadIn = request.argument()?;
    let open = session.mount.file(argument.fh)?;
    let raw = open.data(&session.mount.volume)?;
    let size = (argument.size as usize).min(request.buffer.len());
    if argument.offset % PAGE == 0 && size as u64 % PAGE == 0 {
        open.pages_read();
    }
    let out = request.buffer.get_mut(..size).unwrap_or_default();
    let cached = file::read_cached_at(raw, out, argument.offset);
    let complete = match cached {
        Ok(n) => n == size || argument.offset + n as u64 >= file::stat_of(raw)?.size(),
        Err(Errno(libc::EAGAIN | libc::EOPNOTSUPP)) => false,
        Err(errno) => return Err(errno),
    };
    if complete {
        session.mount.count(Class::Read, cached? as u64);
        return Ok(Outcome::Reply(cached));
    }
    let session = Arc::clone(session);
    Ok(Outcome::Slow(Box::new(move |buffer| {
        let out = buffer.get_mut(..size).ok_or(Errno(libc::EIO))?;
        let raw = open.data(&session.mount.volume)?;
        let read = file::read_at(raw, out, argument.offset)?;
        session.mount.count(Class::Read, read as u64);
        Ok(read)
    })))
}

pub fn write(session: &Session, request: &mut Request<'_>) -> Result<usize, Errno> {
    let argument: WriteIn = request.argument()?;
    let mount = &session.mount;
    let open = mount.file(argument.fh)?;
    mount.identity().assume()?;
    let size = (argument.size as usize).min(request.len);
    let bytes = request.buffer.get(..size).ok_or(Errno(libc::EINVAL))?;
    let raw = open.fd.as_raw_fd();
    let written = if argument.flags as i32 & libc::O_APPEND != 0 {
        mount.volume.with_space(|| file::append(raw, bytes))?
    } else {
        if argument.offset.saturating_add(size as u64) > LARGEST_FILE {
            return Err(Errno(libc::EFBIG));
        }
        let write = || file::write_at(raw, bytes, argument.offset);
        mount.volume.with_space(write)?
    };
    if argument.write_flags & WRITE_KILL_SUIDGID != 0 {
        session.kill_privileges(raw)?;
    }
    mount.count(Class::Write, written as u64);
    if argument.write_flags & WRITE_CACHE == 0 {
        spreading::note(&open.inode);
    } else if open.inode.cached_somewhere() {
        // Whoever drops pages may wait for this one's answer, so it waits for nobody; fsync and close do.
        open.inode.wrote_back.store(true, SeqCst);
        mount.volume.content_written_back(&open.inode, mount.number);
    }
    mount.volume.attributes_changed(&open.inode, mount.number);
    request.reply(&WriteOut {
        size: written as u32,
        padding: 0,
    })
}

/// A process closes a descriptor: its POSIX locks on the file end, and the size it wrote is counted.
pub fn flush(session: &Session, request: &mut Request<'_>) -> Result<usize, Errno> {
    let argument: FlushIn = request.argument()?;
    let open = session.mount.file(argument.fh)?;
    locking::release(session, &open.inode, Space::Posix, argument.lock_owner);
    if open.writable {
        session
            .mount
            .volume
            .settle(&open.inode, open.fd.as_raw_fd(), false);
        spreading::wait_behind(&open.inode);
    }
    Ok(0)
}

/// The last descriptor of an open file is closed.
pub fn release(session: &Session, request: &mut Request<'_>) -> Result<usize, Errno> {
    let argument: ReleaseIn = request.argument()?;
    let open = session.mount.remove_file(argument.fh)?;
    if argument.release_flags & RELEASE_FLOCK_UNLOCK != 0 {
        locking::release(session, &open.inode, Space::Flock, argument.lock_owner);
    }
    if open.passthrough {
        session.close_backing(&open.inode);
    }
    Ok(0)
}

pub fn fsync(session: &Arc<Session>, request: &mut Request<'_>) -> Outcome {
    let found = request.argument::<FsyncIn>().and_then(|argument| {
        let open = session.mount.file(argument.fh)?;
        Ok((open, argument.fsync_flags & FSYNC_CONTENT_ONLY != 0))
    });
    let (open, content_only) = match found {
        Ok(found) => found,
        Err(errno) => return Outcome::Reply(Err(errno)),
    };
    let session = Arc::clone(session);
    Outcome::Slow(Box::new(move |_| {
        let raw = open.data(&session.mount.volume)?;
        if content_only {
            file::sync_content(raw)?;
        } else {
            file::sync(raw)?;
        }
        spreading::wait_behind(&open.inode);
        Ok(0)
    }))
}

pub fn fallocate(session: &Arc<Session>, request: &mut Request<'_>) -> Outcome {
    let found = request.argument::<FallocateIn>().and_then(|argument| {
        let open = session.mount.file(argument.fh)?;
        Ok((open, argument))
    });
    let (open, argument) = match found {
        Ok(found) => found,
        Err(errno) => return Outcome::Reply(Err(errno)),
    };
    let session = Arc::clone(session);
    Outcome::Slow(Box::new(move |_| {
        let mount = &session.mount;
        let end = argument.offset.saturating_add(argument.length);
        if end > LARGEST_FILE {
            return Err(Errno(libc::EFBIG));
        }
        mount.identity().assume()?;
        let raw = open.fd.as_raw_fd();
        mount.volume.with_space(|| {
            file::allocate(
                raw,
                argument.mode as i32,
                argument.offset as i64,
                argument.length as i64,
            )
        })?;
        mount.volume.settle(&open.inode, raw, false);
        spreading::note(&open.inode);
        mount.volume.attributes_changed(&open.inode, mount.number);
        Ok(0)
    }))
}

pub fn lseek(session: &Session, request: &mut Request<'_>) -> Result<usize, Errno> {
    let argument: LseekIn = request.argument()?;
    let open = session.mount.file(argument.fh)?;
    let offset = i64::try_from(argument.offset).map_err(|_| Errno(libc::EINVAL))?;
    let raw = open.data(&session.mount.volume)?;
    let offset = file::seek(raw, offset, argument.whence as i32)?;
    request.reply(&LseekOut { offset })
}

pub fn copy_file_range(session: &Arc<Session>, request: &mut Request<'_>) -> Outcome {
    const MOST: u64 = 1 << 30;
    let wide = request.header.opcode == opcode::COPY_FILE_RANGE_64;
    let found = request.argument::<CopyFileRangeIn>().and_then(|argument| {
        let from = session.mount.file(argument.fh_in)?;
        let to = session.mount.file(argument.fh_out)?;
        Ok((from, to, argument))
    });
    let (from, to, argument) = match found {
        Ok(found) => found,
        Err(errno) => return Outcome::Reply(Err(errno)),
    };
    let session = Arc::clone(session);
    Outcome::Slow(Box::new(move |buffer| {
        let mount = &session.mount;
        mount.identity().assume()?;
        let copied = file::copy_range(
            from.data(&mount.volume)?,
            argument.off_in,
            to.fd.as_raw_fd(),
            argument.off_out,
            argument.len.min(MOST) as usize,
        )?;
        mount.count(Class::Read, copied as u64);
        mount.count(Class::Write, copied as u64);
        mount.volume.settle(&to.inode, to.fd.as_raw_fd(), false);
        spreading::note(&to.inode);
        mount.volume.attributes_changed(&to.inode, mount.number);
        let written = if wide {
            // `struct fuse_copy_file_range_out` is one 64-bit count, as `struct fuse_lseek_out` is.
            pod::write(
                buffer,
                &LseekOut {
                    offset: copied as u64,
                },
            )
        } else {
            pod::write(
                buffer,
                &WriteOut {
                    size: copied as u32,
                    padding: 0,
                },
            )
        };
        written.ok_or(Errno(libc::EIO))
    }))
}
