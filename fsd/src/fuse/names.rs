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
use crate::sys::file::{self, FdName, Stat};
use crate::sys::Errno;

/// Hard links to one file. <https://docs.aws.amazon.com/efs/latest/ug/limits.html>
const MOST_LINKS: u32 = 177;
/// Bytes of a symbolic link's target, likewise.
const LONGEST_LINK: usize = 4080;

impl Session {
    /// Tells the client of `inode`; the interest in it passes to the mount.
    pub fn tell(&self, inode: &Arc<Inode>, stat: &Stat, name_for: Duration) -> EntryOut {
        let fresh = self.mount.remember(inode);
        let keep = self.attribute_lifetime(inode, fresh);
        attributes::entry(self.mount.node_of(inode), stat, name_for, keep)
    }

    /// Answers with the entry that now stands at `name`.
    fn reply_created(
        &self,
        request: &mut Request<'_>,
        parent: &Inode,
        made: (Arc<Inode>, Stat),
        name_for: Duration,
    ) -> Result<usize, Errno> {
        let (inode, stat) = made;
        let out = self.tell(&inode, &stat, name_for);
        self.mount.volume.names_changed(parent, self.mount.number);
        request.reply(&out)
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

/// Makes something at the request's name with `make`, and answers with its entry.
fn make(
    session: &Session,
    request: &mut Request<'_>,
    make: impl FnOnce(&Request<'_>, &Inode, RawFd) -> Result<(), Errno>,
) -> Result<usize, Errno> {
    let name_for = session.name_lifetime();
    let (inode, parent) = session.parent(request.node())?;
    let naming = inode.naming();
    make(request, &inode, parent.as_raw_fd())?;
    let made = session
        .mount
        .volume
        .lookup(parent.as_raw_fd(), request.name()?)?;
    drop(naming);
    session.mount.volume.created(&made.1);
    session.reply_created(request, &inode, made, name_for)
}

pub fn mkdir(session: &Session, request: &mut Request<'_>) -> Result<usize, Errno> {
    make(session, request, |request, inode, parent| {
        let argument: MkdirIn = request.argument()?;
        session.mount.volume.admit_directory(inode, parent)?;
        let name = request.name()?;
        let volume = &session.mount.volume;
        volume.with_space(|| file::make_dir(parent, name, argument.mode & 0o7777))
    })
}

pub fn mknod(session: &Session, request: &mut Request<'_>) -> Result<usize, Errno> {
    make(session, request, |request, _, parent| {
        let argument: MknodIn = request.argument()?;
        match argument.mode & libc::S_IFMT {
            // "Block devices, character devices" are among what EFS does not support.
            // <https://docs.aws.amazon.com/efs/latest/ug/limits.html>
            libc::S_IFBLK | libc::S_IFCHR => Err(Errno(libc::EPERM)),
            _ => {
                let name = request.name()?;
                let volume = &session.mount.volume;
                volume.with_space(|| file::make_node(parent, name, argument.mode))
            }
        }
    })
}

pub fn symlink(session: &Session, request: &mut Request<'_>) -> Result<usize, Errno> {
    make(session, request, |request, _, parent| {
        let (name, target) = request.name_and_text()?;
        if target.to_bytes().len() > LONGEST_LINK {
            return Err(Errno(libc::ENAMETOOLONG));
        }
        let volume = &session.mount.volume;
        volume.with_space(|| file::make_symlink(parent, name, target))
    })
}

pub fn link(session: &Session, request: &mut Request<'_>) -> Result<usize, Errno> {
    let argument: LinkIn = request.argument()?;
    let name_for = session.name_lifetime();
    let mount = &session.mount;
    let (_, source) = mount.fd(argument.oldnodeid)?;
    let (inode, parent) = session.parent(request.node())?;
    let naming = inode.naming();
    {
        let name = request.name()?;
        let _one_at_a_time = mount.volume.exclusively();
        if file::stat_of(source.as_raw_fd())?.nlink() >= MOST_LINKS {
            return Err(Errno(libc::EMLINK));
        }
        let source = FdName::new(source.as_raw_fd());
        file::link(
            mount.volume.proc.as_raw_fd(),
            source.as_cstr(),
            parent.as_raw_fd(),
            name,
        )?;
    }
    let made = mount.volume.lookup(parent.as_raw_fd(), request.name()?)?;
    drop(naming);
    mount.volume.attributes_changed(&made.0, mount.number);
    session.reply_created(request, &inode, made, name_for)
}

/// What stands at a name that is about to go.
struct Doomed {
    stat: Stat,
    inode: Option<Arc<Inode>>,
}

impl Doomed {
    fn at(session: &Session, dir: RawFd, name: &CStr) -> Result<Doomed, Errno> {
        let stat = file::stat_at(dir, name)?;
        let inode = session.mount.volume.known_at(dir, name, &stat);
        if let Some(inode) = &inode {
            // Once it has no name it cannot be opened by its handle any more.
            let _ = session.mount.volume.fd(inode);
        }
        Ok(Doomed { stat, inode })
    }

    fn is_gone(&self, session: &Session) {
        let volume = &session.mount.volume;
        volume.name_removed(self.inode.as_ref(), &self.stat, session.mount.number);
    }

    fn leave(self, session: &Session) {
        if let Some(inode) = self.inode {
            session.mount.volume.put(&inode);
        }
    }
}

fn remove(
    session: &Session,
    request: &mut Request<'_>,
    act: impl FnOnce(RawFd, &CStr) -> Result<(), Errno>,
) -> Result<usize, Errno> {
    let (inode, parent) = session.parent(request.node())?;
    let name = request.name()?;
    let _naming = inode.naming();
    let doomed = Doomed::at(session, parent.as_raw_fd(), name)?;
    let result = act(parent.as_raw_fd(), name);
    if result.is_ok() {
        doomed.is_gone(session);
        session
            .mount
            .volume
            .names_changed(&inode, session.mount.number);
    }
    doomed.leave(session);
    result.map(|()| 0)
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
    let moved = Doomed::at(session, from.as_raw_fd(), name)?;
    let replaced = Doomed::at(session, to.as_raw_fd(), new_name).ok();
    let elsewhere = from_inode.id != to_inode.id;
    let goes = elsewhere && moved.stat.is_dir();
    let comes = elsewhere
        && flags & libc::RENAME_EXCHANGE != 0
        && replaced.as_ref().is_some_and(|other| other.stat.is_dir());
    let admit = || {
        let here = (&*from_inode, from.as_raw_fd());
        let there = (&*to_inode, to.as_raw_fd());
        if goes {
            mount.volume.admit_moved(here, name, there)?;
        }
        if comes {
            mount.volume.admit_moved(there, new_name, here)?;
        }
        Ok(())
    };
    let result = admit()
        .and_then(|()| file::rename(from.as_raw_fd(), name, to.as_raw_fd(), new_name, flags));
    if result.is_ok() {
        if goes || comes {
            mount.volume.directory_moved();
        }
        if let Some(replaced) = &replaced {
            // Renaming one of two links onto the other leaves both.
            let same = replaced.stat.ino() == moved.stat.ino();
            if !same && flags & libc::RENAME_EXCHANGE == 0 {
                replaced.is_gone(session);
            }
        }
        mount.volume.names_changed(&from_inode, mount.number);
        if to_inode.id != from_inode.id {
            mount.volume.names_changed(&to_inode, mount.number);
        }
        for touched in [Some(&moved), replaced.as_ref()].into_iter().flatten() {
            if let Some(inode) = &touched.inode {
                mount.volume.attributes_changed(inode, mount.number);
            }
        }
    }
    moved.leave(session);
    if let Some(replaced) = replaced {
        replaced.leave(session);
    }
    result.map(|()| 0)
}
