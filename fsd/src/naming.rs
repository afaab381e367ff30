//! Changes of names in a directory, for every door: what the volume must know of them and tell its observers.
//!
//! The calling thread acts as the client ([`crate::identity`]) and holds [`Inode::naming`] of the directories. `by` is the
//! client's number: its own observer is not told.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use crate::inode::Inode;
use crate::sys::file::{self, FdName, Stat};
use crate::sys::Errno;
use crate::volume::Volume;

/// EFS's limits. <https://docs.aws.amazon.com/efs/latest/ug/limits.html>
pub const LARGEST_FILE: u64 = 52_673_613_135_872;
/// Hard links to one file.
pub const MOST_LINKS: u32 = 177;
/// Bytes of a symbolic link's target.
pub const LONGEST_LINK: usize = 4080;
/// Open files of one client.
pub const MOST_OPEN_FILES: usize = 65_536;

/// A directory and a descriptor of it.
#[derive(Clone, Copy, Debug)]
pub struct Directory<'a> {
    pub inode: &'a Inode,
    pub fd: RawFd,
}

/// Makes something at `name` with `act`. The inode comes with an interest: [`Volume::put`].
pub fn make(
    volume: &Volume,
    by: u64,
    parent: Directory<'_>,
    name: &CStr,
    act: impl Fn(RawFd, &CStr) -> Result<(), Errno>,
) -> Result<(Arc<Inode>, Stat), Errno> {
    volume.with_space(|| act(parent.fd, name))?;
    let made = volume.lookup(parent.fd, name)?;
    volume.created(&made.1);
    volume.names_changed(parent.inode, by);
    Ok(made)
}

/// One more name for the file of `source` (any descriptor of it).
pub fn link(
    volume: &Volume,
    by: u64,
    source: (&Inode, RawFd),
    parent: Directory<'_>,
    name: &CStr,
) -> Result<(), Errno> {
    {
        let _one_at_a_time = volume.exclusively();
        if file::stat_of(source.1)?.nlink() >= MOST_LINKS {
            return Err(Errno(libc::EMLINK));
        }
        let from = FdName::new(source.1);
        file::link(volume.proc.as_raw_fd(), from.as_cstr(), parent.fd, name)?;
    }
    volume.attributes_changed(source.0, by);
    volume.names_changed(parent.inode, by);
    Ok(())
}

/// What stands at a name that is about to go.
struct Doomed {
    stat: Stat,
    inode: Option<Arc<Inode>>,
}

impl Doomed {
    fn at(volume: &Volume, dir: RawFd, name: &CStr) -> Result<Doomed, Errno> {
        let stat = file::stat_at(dir, name)?;
        let inode = volume.known_at(dir, name, &stat);
        if let Some(inode) = &inode {
            // Once it has no name it cannot be opened by its handle any more.
            let _ = volume.fd(inode);
        }
        Ok(Doomed { stat, inode })
    }

    fn leave(self, volume: &Volume) {
        if let Some(inode) = self.inode {
            volume.put(&inode);
        }
    }
}

/// Takes a name away, of a directory or of anything else.
pub fn remove(volume: &Volume, by: u64, parent: Directory<'_>, name: &CStr) -> Result<(), Errno> {
    let stat = file::stat_at(parent.fd, name)?;
    let act = if stat.is_dir() {
        file::remove_dir
    } else {
        file::unlink
    };
    remove_by(volume, by, parent, name, act)
}

/// Takes a name away with `act`, which may want a directory or want none.
pub fn remove_by(
    volume: &Volume,
    by: u64,
    parent: Directory<'_>,
    name: &CStr,
    act: impl FnOnce(RawFd, &CStr) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let doomed = Doomed::at(volume, parent.fd, name)?;
    let result = act(parent.fd, name);
    if result.is_ok() {
        volume.name_removed(doomed.inode.as_ref(), &doomed.stat, by);
        volume.names_changed(parent.inode, by);
    }
    doomed.leave(volume);
    result
}

/// Renames within a volume, over what stands at the new name.
pub fn rename(
    volume: &Volume,
    by: u64,
    from: Directory<'_>,
    name: &CStr,
    to: Directory<'_>,
    new_name: &CStr,
) -> Result<(), Errno> {
    rename_flags(volume, by, (from, name), (to, new_name), 0)
}

/// The same with the flags of `renameat2`.
pub fn rename_flags(
    volume: &Volume,
    by: u64,
    (from, name): (Directory<'_>, &CStr),
    (to, new_name): (Directory<'_>, &CStr),
    flags: u32,
) -> Result<(), Errno> {
    let moved = Doomed::at(volume, from.fd, name)?;
    let replaced = Doomed::at(volume, to.fd, new_name).ok();
    let exchange = flags & libc::RENAME_EXCHANGE != 0;
    let elsewhere = from.inode.id != to.inode.id;
    let goes = elsewhere && moved.stat.is_dir();
    let comes = elsewhere && exchange && replaced.as_ref().is_some_and(|other| other.stat.is_dir());
    let admit = || {
        let (here, there) = ((from.inode, from.fd), (to.inode, to.fd));
        if goes {
            volume.admit_moved(here, name, there)?;
        }
        if comes {
            volume.admit_moved(there, new_name, here)?;
        }
        Ok(())
    };
    let result = admit().and_then(|()| file::rename(from.fd, name, to.fd, new_name, flags));
    if result.is_ok() {
        if goes || comes {
            volume.directory_moved();
        }
        if let Some(replaced) = &replaced {
            // Renaming one of two links onto the other leaves both.
            let same = replaced.stat.ino() == moved.stat.ino();
            if !same && !exchange {
                volume.name_removed(replaced.inode.as_ref(), &replaced.stat, by);
            }
        }
        volume.names_changed(from.inode, by);
        if to.inode.id != from.inode.id {
            volume.names_changed(to.inode, by);
        }
        for touched in [Some(&moved), replaced.as_ref()].into_iter().flatten() {
            if let Some(inode) = &touched.inode {
                volume.attributes_changed(inode, by);
            }
        }
    }
    moved.leave(volume);
    if let Some(replaced) = replaced {
        replaced.leave(volume);
    }
    result
}
