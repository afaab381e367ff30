//! Reading directories.

use std::os::fd::AsRawFd;
use std::sync::Mutex;

use super::abi::{aligned, Dirent, EntryOut, FsyncIn, OpenOut, ReadIn, ReleaseIn};
use super::request::{Outcome, Request};
use super::session::Session;
use crate::mount::{OpenDir, Stream};
use crate::sys::file;
use crate::sys::pod;
use crate::sys::Errno;

/// Bytes of records read from the backing directory at once.
const CHUNK: usize = 32 << 10;

pub fn opendir(session: &Session, request: &mut Request<'_>) -> Result<usize, Errno> {
    let mount = &session.mount;
    let (inode, fd) = mount.fd(request.node())?;
    mount.identity().assume()?;
    let flags = libc::O_RDONLY | libc::O_DIRECTORY;
    let dir = OpenDir {
        fd: file::reopen(&mount.volume.proc, fd.as_raw_fd(), flags)?,
        inode,
        stream: Mutex::default(),
    };
    let handle = mount.new_handle();
    mount.add_dir(handle, dir);
    request.reply(&OpenOut {
        fh: handle,
        open_flags: session.directory_caching(),
        ..OpenOut::default()
    })
}

pub fn releasedir(session: &Session, request: &mut Request<'_>) -> Result<usize, Errno> {
    let argument: ReleaseIn = request.argument()?;
    session.mount.remove_dir(argument.fh);
    Ok(0)
}

pub fn fsyncdir(session: &Session, request: &mut Request<'_>) -> Outcome {
    let dir = match request
        .argument::<FsyncIn>()
        .and_then(|argument| session.mount.dir(argument.fh))
    {
        Ok(dir) => dir,
        Err(errno) => return Outcome::Reply(Err(errno)),
    };
    Outcome::Slow(Box::new(move |_| {
        file::sync(dir.fd.as_raw_fd())?;
        Ok(0)
    }))
}

/// Fills the answer with records from the given offset on; with `plus`, each with its entry.
pub fn readdir(session: &Session, request: &mut Request<'_>, plus: bool) -> Result<usize, Errno> {
    let argument: ReadIn = request.argument()?;
    let mount = &session.mount;
    let dir = mount.dir(argument.fh)?;
    mount.identity().assume()?;
    let name_for = if plus {
        session.name_lifetime()
    } else {
        std::time::Duration::ZERO
    };
    let room = request.buffer.len().min(argument.size as usize);
    let out = request.buffer.get_mut(..room).unwrap_or_default();
    let mut stream = dir
        .stream
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    seek(&mut stream, &dir, argument.offset)?;
    let head = if plus {
        std::mem::size_of::<EntryOut>()
    } else {
        0
    };
    let mut written = 0;
    loop {
        if stream.used == stream.records.len() && !refill(&mut stream, &dir)? {
            break;
        }
        let Stream {
            position,
            records,
            used,
        } = &mut *stream;
        let Some(record) = file::dir_record(records.get(*used..).unwrap_or_default()) else {
            return Err(Errno(libc::EIO));
        };
        let name = record.name.to_bytes();
        let start = written + head;
        let end = aligned(start + std::mem::size_of::<Dirent>() + name.len());
        let Some(place) = out.get_mut(written..end) else {
            break;
        };
        place.fill(0);
        let dot = matches!(name, b"." | b"..");
        let dirent = Dirent {
            ino: if dot {
                dot_ino(&record, name)
            } else {
                record.ino
            },
            off: record.next,
            namelen: name.len() as u32,
            kind: u32::from(record.kind),
        };
        pod::write(&mut place[head..], &dirent);
        let text = head + std::mem::size_of::<Dirent>();
        place[text..text + name.len()].copy_from_slice(name);
        if plus && !dot {
            // A name that went away, or may not be looked up, is shown without its entry.
            if let Ok((inode, stat)) = mount.volume.intern_name(dir.fd.as_raw_fd(), record.name) {
                let entry = session.tell(&inode, &stat, name_for);
                pod::write(place, &entry);
            }
        }
        written = end;
        *position = record.next;
        *used += record.len;
    }
    Ok(written)
}

/// `..` of a mount's root must not tell what lies above it.
fn dot_ino(record: &file::DirRecord<'_>, name: &[u8]) -> u64 {
    if name == b".." {
        // FUSE_UNKNOWN_INO: the client's kernel knows the parent itself.
        0xffff_ffff
    } else {
        record.ino
    }
}

/// Makes the next record the one at `offset`.
fn seek(stream: &mut Stream, dir: &OpenDir, offset: u64) -> Result<(), Errno> {
    let fresh = offset == 0;
    if stream.position == offset && !fresh {
        return Ok(());
    }
    let target = i64::try_from(offset).map_err(|_| Errno(libc::EINVAL))?;
    file::seek(dir.fd.as_raw_fd(), target, libc::SEEK_SET)?;
    stream.records.clear();
    stream.used = 0;
    stream.position = offset;
    Ok(())
}

fn refill(stream: &mut Stream, dir: &OpenDir) -> Result<bool, Errno> {
    stream.records.resize(CHUNK, 0);
    let n = file::read_dir(dir.fd.as_raw_fd(), &mut stream.records);
    stream.records.truncate(*n.as_ref().unwrap_or(&0));
    stream.used = 0;
    let more = n? > 0;
    if !more {
        stream.records = Vec::new();
    }
    Ok(more)
}
