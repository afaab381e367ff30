//! Operations on names: looking up, creating, linking, renaming, removing.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use super::abi::{opcode, EntryOut, LinkIn, MkdirIn, MknodIn, Rename2In, RenameIn};
use super::attributes;
use super::request::Request;
use super::session::Session;
use crate::inode::Inode;
use crate::naming::{self, Directory, LONGEST_LINK};
use crate::sys::file::{self, Stat};
use crate::sys::Errno;

impl Session {
    /// Tells the client of `inode`; the interest in it passes to the mount.
    pub fn tell(&self, inode: &Arc<Inode>, stat: &Stat, name_for: Duration) -> EntryOut {
        let fresh = self.mount.remember(inode);
        let keep = self.attribute_lifetime(inode, fresh);
        attributes::entry(self.mount.node_of(inode), stat, name_for, keep)
    }

    /// The parent directory of a request, with the thread acting for the client.
    fn parent(&self, node: u64) -> Result<(Arc<Inode>, Arc<OwnedFd>), Errno> {
        let found = self.mount.fd(node)?;
        self.mount.identity().assume()?;
        Ok(found)
    }
}

pub fn lookup(session: &Session, request: &mut Request<'_>) -> Result<usize, Errno> {
    let name_for = session.name_lifetime();
    let (_, parent) = session.parent(request.node())?;
    let found = {
        let name = request.name()?;
        session.mount.volume.intern_name(parent.as_raw_fd(), name)
    };
    let (inode, stat) = match found {
        Ok(found) => found,
        Err(Errno(libc::ENOENT)) if !name_for.is_zero() => {
            // Node 0: the client may remember that there is nothing.
            let nothing = EntryOut {
                entry_valid: name_for.as_secs(),
                entry_valid_nsec: name_for.subsec_nanos(),
                ..EntryOut::default()
            };
            return request.reply(&nothing);
        }
        Err(errno) => return Err(errno),
    };
    let out = session.tell(&inode, &stat, name_for);
    request.reply(&out)
}

pub fn readlink(session: &Session, request: &mut Request<'_>) -> Result<usize, Errno> {
    let (_, fd) = session.mount.fd(request.node())?;
    let room = request.buffer.len().min(4096);
    file::read_link(
        fd.as_raw_fd(),
        request.buffer.get_mut(..room).unwrap_or_default(),
    )
}

/// Makes something at the request's name with `act`, and answers with its entry.
fn make(
    session: &Session,
    request: &mut Request<'_>,
    act: impl Fn(&Request<'_>, &Inode, RawFd) -> Result<(), Errno>,
) -> Result<usize, Errno> {
    let name_for = session.name_lifetime();
    let mount = &session.mount;
    let (inode, fd) = session.parent(request.node())?;
    let naming = inode.naming();
    let parent = directory(&inode, &fd);
    let (made, stat) = naming::make(
        &mount.volume,
        mount.number,
        parent,
        request.name()?,
        |fd, _| act(request, &inode, fd),
    )?;
    drop(naming);
    let out = session.tell(&made, &stat, name_for);
    request.reply(&out)
}

fn directory<'a>(inode: &'a Inode, fd: &OwnedFd) -> Directory<'a> {
    Directory {
        inode,
        fd: fd.as_raw_fd(),
    }
}

pub fn mkdir(session: &Session, request: &mut Request<'_>) -> Result<usize, Errno> {
    make(session, request, |request, inode, parent| {
        let argument: MkdirIn = request.argument()?;
        session.mount.volume.admit_directory(inode, parent)?;
        file::make_dir(parent, request.name()?, argument.mode & 0o7777)
    })
}

pub fn mknod(session: &Session, request: &mut Request<'_>) -> Result<usize, Errno> {
    make(session, request, |request, _, parent| {
        let argument: MknodIn = request.argument()?;
        match argument.mode & libc::S_IFMT {
            // "Block devices, character devices" are among what EFS does not support.
            // <https://docs.aws.amazon.com/efs/latest/ug/limits.html>
            libc::S_IFBLK | libc::S_IFCHR => Err(Errno(libc::EPERM)),
            _ => file::make_node(parent, request.name()?, argument.mode),
        }
    })
}

pub fn symlink(session: &Session, request: &mut Request<'_>) -> Result<usize, Errno> {
    make(session, request, |request, _, parent| {
        let (name, target) = request.name_and_text()?;
        if target.to_bytes().len() > LONGEST_LINK {
            return Err(Errno(libc::ENAMETOOLONG));
        }
        file::make_symlink(parent, name, target)
    })
}

pub fn link(session: &Session, request: &mut Request<'_>) -> Result<usize, Errno> {
    let argument: LinkIn = request.argument()?;
    let name_for = session.name_lifetime();
    let mount = &session.mount;
    let (file, source) = mount.fd(argument.oldnodeid)?;
    let (inode, fd) = session.parent(request.node())?;
    let naming = inode.naming();
    let name = request.name()?;
    naming::link(
        &mount.volume,
        mount.number,
        (&*file, source.as_raw_fd()),
        directory(&inode, &fd),
        name,
    )?;
    let (made, stat) = mount.volume.lookup(fd.as_raw_fd(), name)?;
    drop(naming);
    let out = session.tell(&made, &stat, name_for);
    request.reply(&out)
}

fn remove(
    session: &Session,
    request: &mut Request<'_>,
    act: impl FnOnce(RawFd, &CStr) -> Result<(), Errno>,
) -> Result<usize, Errno> {
    let mount = &session.mount;
    let (inode, fd) = session.parent(request.node())?;
    let name = request.name()?;
    let _naming = inode.naming();
    let parent = directory(&inode, &fd);
    naming::remove_by(&mount.volume, mount.number, parent, name, act)?;
    Ok(0)
}

pub fn unlink(session: &Session, request: &mut Request<'_>) -> Result<usize, Errno> {
    remove(session, request, file::unlink)
}

pub fn rmdir(session: &Session, request: &mut Request<'_>) -> Result<usize, Errno> {
    remove(session, request, file::remove_dir)
}

pub fn rename(session: &Session, request: &mut Request<'_>) -> Result<usize, Errno> {
    let (new_parent, flags) = if request.header.opcode == opcode::RENAME2 {
        let argument: Rename2In = request.argument()?;
        (argument.newdir, argument.flags)
    } else {
        let argument: RenameIn = request.argument()?;
        (argument.newdir, 0)
    };
    if flags & !(libc::RENAME_NOREPLACE | libc::RENAME_EXCHANGE) != 0 {
        return Err(Errno(libc::EINVAL));
    }
    let mount = &session.mount;
    let (to_inode, to) = mount.fd(new_parent)?;
    let (from_inode, from) = session.parent(request.node())?;
    let (name, new_name) = request.two_names()?;
    let _naming = from_inode.naming_both(&to_inode);
    naming::rename_flags(
        &mount.volume,
        mount.number,
        (directory(&from_inode, &from), name),
        (directory(&to_inode, &to), new_name),
        flags,
    )?;
    Ok(0)
}
