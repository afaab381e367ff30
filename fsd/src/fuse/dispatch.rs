//! From an opcode to what it does.

use std::sync::Arc;

use super::abi::{opcode, AccessIn, StatfsOut};
use super::request::{Outcome, Request};
use super::session::Session;
use super::{attributes, directories, files, locking, names};
use crate::meter::Class;
use crate::sys::{file, Errno};
use std::os::fd::AsRawFd;

/// Serves one request, of whichever transport. INIT, FORGET and INTERRUPT come by the device alone and are not here.
pub fn serve(session: &Arc<Session>, mut request: Request<'_>) -> Outcome {
    let op = request.header.opcode;
    if let Some(class) = metadata_class(op) {
        session.mount.count(class, 0);
    }
    if let Err(errno) = permitted(session, op) {
        return Outcome::Reply(Err(errno));
    }
    let request = &mut request;
    match op {
        opcode::LOOKUP => names::lookup(session, request).into(),
        opcode::GETATTR => attributes::getattr(session, request).into(),
        // All that it tells beyond GETATTR is the birth time, which NFS on EFS has not either; without it the kernel
        // asks a lookup's answer no second time for programs that want every field (Rust's standard library does).
        opcode::STATX => Outcome::Reply(Err(Errno(libc::ENOSYS))),
        opcode::SETATTR => attributes::setattr(session, request).into(),
        opcode::READLINK => names::readlink(session, request).into(),
        opcode::SYMLINK => names::symlink(session, request).into(),
        opcode::MKNOD => names::mknod(session, request).into(),
        opcode::MKDIR => names::mkdir(session, request).into(),
        opcode::UNLINK => names::unlink(session, request).into(),
        opcode::RMDIR => names::rmdir(session, request).into(),
        opcode::RENAME | opcode::RENAME2 => names::rename(session, request).into(),
        opcode::LINK => names::link(session, request).into(),
        opcode::OPEN => files::open(session, request).into(),
        opcode::CREATE => files::create(session, request).into(),
        opcode::READ => files::read(session, request),
        opcode::WRITE => files::write(session, request).into(),
        opcode::STATFS => statfs(session, request).into(),
        opcode::RELEASE => files::release(session, request).into(),
        opcode::FLUSH => files::flush(session, request).into(),
        opcode::FSYNC => files::fsync(session, request),
        opcode::FALLOCATE => files::fallocate(session, request),
        opcode::LSEEK => files::lseek(session, request).into(),
        opcode::COPY_FILE_RANGE | opcode::COPY_FILE_RANGE_64 => {
            files::copy_file_range(session, request)
        }
        opcode::OPENDIR => directories::opendir(session, request).into(),
        opcode::READDIR => directories::readdir(session, request, false).into(),
        opcode::READDIRPLUS => directories::readdir(session, request, true).into(),
        opcode::RELEASEDIR => directories::releasedir(session, request).into(),
        opcode::FSYNCDIR => directories::fsyncdir(session, request),
        opcode::ACCESS => access(session, request).into(),
        opcode::GETLK => locking::getlk(session, request).into(),
        opcode::SETLK => locking::setlk(session, request, false),
        opcode::SETLKW => locking::setlk(session, request, true),
        opcode::DESTROY => Outcome::Reply(Ok(0)),
        // Extended attributes and ACLs do not exist, as on EFS; the kernel asks once and answers EOPNOTSUPP from then on.
        _ => Outcome::Reply(Err(Errno(libc::ENOSYS))),
    }
}

/// Whether the client's permissions allow an operation of this kind at all.
fn permitted(session: &Session, op: u32) -> Result<(), Errno> {
    match op {
        // What only ends something. Those that may or may not change something look themselves.
        opcode::RELEASE | opcode::RELEASEDIR | opcode::FLUSH | opcode::DESTROY => Ok(()),
        opcode::SETATTR
        | opcode::SYMLINK
        | opcode::MKNOD
        | opcode::MKDIR
        | opcode::UNLINK
        | opcode::RMDIR
        | opcode::RENAME
        | opcode::RENAME2
        | opcode::LINK
        | opcode::WRITE
        | opcode::FALLOCATE
        | opcode::COPY_FILE_RANGE
        | opcode::COPY_FILE_RANGE_64 => session.mount.may_change(),
        _ => session.mount.may_read(),
    }
}

/// How an operation counts; data is counted where its size is known, and what only ends something is free.
fn metadata_class(op: u32) -> Option<Class> {
    match op {
        opcode::LOOKUP
        | opcode::GETATTR
        | opcode::READLINK
        | opcode::STATFS
        | opcode::OPEN
        | opcode::OPENDIR
        | opcode::READDIR
        | opcode::READDIRPLUS
        | opcode::ACCESS
        | opcode::LSEEK
        | opcode::GETLK => Some(Class::MetadataRead),
        opcode::SETATTR
        | opcode::SYMLINK
        | opcode::MKNOD
        | opcode::MKDIR
        | opcode::UNLINK
        | opcode::RMDIR
        | opcode::RENAME
        | opcode::RENAME2
        | opcode::LINK
        | opcode::CREATE
        | opcode::FALLOCATE
        | opcode::FSYNC
        | opcode::FSYNCDIR
        | opcode::SETLK
        | opcode::SETLKW => Some(Class::MetadataWrite),
        _ => None,
    }
}

/// EFS shows every client 8 EiB in units of 1 MiB, and no limit of inodes.
fn statfs(session: &Session, request: &mut Request<'_>) -> Result<usize, Errno> {
    const UNIT: u64 = 1 << 20;
    const BLOCKS: u64 = (1 << 43) - 1;
    let used = session.mount.volume.usage.bytes().div_ceil(UNIT);
    let free = BLOCKS.saturating_sub(used);
    let out = StatfsOut {
        blocks: BLOCKS,
        bfree: free,
        bavail: free,
        bsize: UNIT as u32,
        frsize: UNIT as u32,
        namelen: 255,
        ..StatfsOut::default()
    };
    request.reply(&out)
}

fn access(session: &Session, request: &mut Request<'_>) -> Result<usize, Errno> {
    let argument: AccessIn = request.argument()?;
    let (_, fd) = session.mount.fd(request.node())?;
    session.mount.identity().assume()?;
    let mask = (argument.mask as i32) & (libc::R_OK | libc::W_OK | libc::X_OK);
    if mask & libc::W_OK != 0 {
        session.mount.may_change()?;
    }
    file::access(fd.as_raw_fd(), mask)?;
    Ok(0)
}
