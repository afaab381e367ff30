//! GETATTR, SETATTR, VERIFY, NVERIFY and ACCESS.

use std::os::fd::AsRawFd;

use super::attributes::{self, Bitmap, NewAttributes, Subject};
use super::compound::{Compound, Place};
use super::export::Node;
use super::operation::StateId;
use super::status::Status;
use super::xdr::Encoder;
use crate::naming::LARGEST_FILE;
use crate::spreading;
use crate::sys::file::{self, FdName, NewTime, Stat};
use crate::sys::Errno;

const READ: u32 = 0x01;
const LOOKUP: u32 = 0x02;
const MODIFY: u32 = 0x04;
const EXTEND: u32 = 0x08;
const DELETE: u32 = 0x10;
const EXECUTE: u32 = 0x20;

impl Compound<'_> {
    /// Tells `wanted` of a file.
    pub(super) fn encode_attributes(
        &self,
        node: &Node,
        stat: &Stat,
        wanted: &Bitmap,
        out: &mut Encoder,
    ) -> Result<(), Status> {
        let wire = wanted.wants_handle().then(|| self.wire_handle(node));
        let wire = wire.transpose()?;
        let subject = self.subject(
            node,
            stat,
            wire.as_ref().map_or(&[], |wire| wire.as_bytes()),
        );
        attributes::encode(out, wanted, &subject);
        Ok(())
    }

    fn subject<'s>(&self, node: &Node, stat: &'s Stat, handle: &'s [u8]) -> Subject<'s> {
        let covered = self.connection.only_export().is_none() && node.is_root();
        Subject {
            stat,
            handle,
            fsid: node.export.tag,
            mounted_on: if covered { node.export.tag } else { stat.ino() },
            used: node.volume().usage.bytes(),
        }
    }

    fn pseudo_subject<'s>(stat: &'s Stat, handle: &'s [u8]) -> Subject<'s> {
        Subject {
            stat,
            handle,
            fsid: 0,
            mounted_on: stat.ino(),
            used: 0,
        }
    }

    pub(super) fn get_attributes(
        &mut self,
        wanted: &Bitmap,
        out: &mut Encoder,
    ) -> Result<(), Status> {
        match self.current.clone().ok_or(Status::NOFILEHANDLE)? {
            Place::PseudoRoot => {
                let stat = self.door.pseudo_stat();
                let wire = self.door.seal.pseudo_root();
                attributes::encode(out, wanted, &Self::pseudo_subject(&stat, wire.as_bytes()));
                Ok(())
            }
            Place::File(node) => {
                let stat = node.stat()?;
                self.encode_attributes(&node, &stat, wanted, out)
            }
        }
    }

    pub(super) fn verify(
        &mut self,
        same: bool,
        mask: &Bitmap,
        values: &[u8],
    ) -> Result<(), Status> {
        let equal = match self.current.clone().ok_or(Status::NOFILEHANDLE)? {
            Place::PseudoRoot => {
                let stat = self.door.pseudo_stat();
                let wire = self.door.seal.pseudo_root();
                let subject = Self::pseudo_subject(&stat, wire.as_bytes());
                attributes::compare(mask, values, &subject)?
            }
            Place::File(node) => {
                let stat = node.stat()?;
                let wire = self.wire_handle(&node)?;
                let subject = self.subject(&node, &stat, wire.as_bytes());
                attributes::compare(mask, values, &subject)?
            }
        };
        match (same, equal) {
            (true, false) => Err(Status::NOT_SAME),
            (false, true) => Err(Status::SAME),
            _ => Ok(()),
        }
    }

    pub(super) fn access(&mut self, asked: u32, out: &mut Encoder) -> Result<(), Status> {
        let place = self.current.clone().ok_or(Status::NOFILEHANDLE)?;
        let Place::File(node) = place else {
            let supported = asked & (READ | LOOKUP | MODIFY | EXTEND | DELETE);
            out.u32(supported);
            out.u32(supported & (READ | LOOKUP));
            return Ok(());
        };
        self.assume(&node.export)?;
        let fd = node.fd()?;
        let is_dir = file::stat_of(fd.as_raw_fd())?.is_dir();
        let applicable = if is_dir {
            READ | LOOKUP | MODIFY | EXTEND | DELETE
        } else {
            READ | MODIFY | EXTEND | EXECUTE
        };
        let supported = asked & applicable;
        let may = |mask| file::access(fd.as_raw_fd(), mask).is_ok();
        let mut granted = 0;
        if supported & READ != 0 && may(libc::R_OK) {
            granted |= READ;
        }
        if supported & (LOOKUP | EXECUTE) != 0 && may(libc::X_OK) {
            granted |= LOOKUP | EXECUTE;
        }
        let changes = MODIFY | EXTEND | DELETE;
        let read_only = self.permissions(&node.export).read_only;
        if supported & changes != 0 && !read_only {
            let mask = if is_dir {
                libc::W_OK | libc::X_OK
            } else {
                libc::W_OK
            };
            if may(mask) {
                granted |= changes;
            }
        }
        out.u32(supported);
        out.u32(granted & supported);
        Ok(())
    }

    pub(super) fn set_attributes(
        &mut self,
        state: StateId,
        new: &NewAttributes,
        out: &mut Encoder,
    ) -> Result<(), Status> {
        let node = self.node()?;
        if let Some(refused) = new.refused {
            return Err(refused);
        }
        self.assume_to_change(&node.export)?;
        let state = self.stateid(state)?;
        self.change_attributes(&node, new, Some(state))?;
        new.all_set().encode(out);
        Ok(())
    }

    /// Sets attributes and tells the observers. `state` is that of the request, for a new size.
    pub(super) fn change_attributes(
        &self,
        node: &Node,
        new: &NewAttributes,
        state: Option<StateId>,
    ) -> Result<(), Status> {
        let fd = node.fd()?;
        let raw = fd.as_raw_fd();
        if new.owner.is_some() || new.group.is_some() {
            let keep = u32::MAX;
            file::chown_of(raw, new.owner.unwrap_or(keep), new.group.unwrap_or(keep))?;
        }
        if let Some(mode) = new.mode {
            let proc = node.volume().proc.as_raw_fd();
            match file::chmod_at(proc, FdName::new(raw).as_cstr(), mode & 0o7777) {
                // A symbolic link has no mode that matters, and clients clear up trees by setting it.
                Err(Errno(libc::EOPNOTSUPP)) if node.stat()?.kind() == libc::S_IFLNK => {}
                other => other?,
            }
        }
        if let Some(size) = new.size {
            self.resize(node, raw, size, state)?;
        }
        if new.atime.is_some() || new.mtime.is_some() {
            let keep = NewTime::Keep;
            file::set_times(raw, new.atime.unwrap_or(keep), new.mtime.unwrap_or(keep))?;
        }
        let volume = node.volume();
        let who_may = new.mode.is_some() || new.owner.is_some() || new.group.is_some();
        if who_may && file::stat_of(raw)?.is_dir() {
            volume.names_changed(&node.inode, u64::MAX);
        } else {
            volume.attributes_changed(&node.inode, u64::MAX);
        }
        Ok(())
    }

    fn resize(
        &self,
        node: &Node,
        raw: i32,
        size: u64,
        state: Option<StateId>,
    ) -> Result<(), Status> {
        if size > LARGEST_FILE {
            return Err(Status::FBIG);
        }
        let before = file::stat_of(raw)?;
        if before.is_dir() {
            return Err(Status::ISDIR);
        }
        if !before.is_file() {
            return Err(Status::INVAL);
        }
        let opened = match state {
            Some(state) if !state.special() => {
                let client = self.client()?;
                let fd = client.holdings().descriptor(state, node, true)?;
                Some(fd)
            }
            _ => None,
        };
        let length = i64::try_from(size).map_err(|_| Status::FBIG)?;
        match opened {
            Some(fd) => file::truncate(fd.as_raw_fd(), length)?,
            None => {
                let flags = libc::O_WRONLY | libc::O_NONBLOCK | libc::O_NOCTTY;
                let volume = node.volume();
                let reopen = || file::reopen(&volume.proc, raw, flags);
                let writable = volume.with_descriptors(reopen)?;
                file::truncate(writable.as_raw_fd(), length)?;
            }
        }
        let after = file::stat_of(raw)?;
        node.volume().resized(&node.inode, &before, &after);
        spreading::note(&node.inode);
        Ok(())
    }

    /// Keeps the verifier of an exclusive create in the file's times, where a retry finds it again.
    pub(super) fn keep_verifier(raw: i32, verifier: &[u8; 8]) -> Result<(), Errno> {
        let (first, second) = verifier_times(verifier);
        file::set_times(raw, NewTime::At(first), NewTime::At(second))
    }

    pub(super) fn has_verifier(stat: &Stat, verifier: &[u8; 8]) -> bool {
        (stat.atime(), stat.mtime()) == verifier_times(verifier)
    }
}

fn verifier_times(verifier: &[u8; 8]) -> (file::Time, file::Time) {
    let half = |at: usize| {
        let bytes = [
            verifier[at],
            verifier[at + 1],
            verifier[at + 2],
            verifier[at + 3],
        ];
        file::Time {
            // Any file system keeps 31 bits of seconds; the other bit goes to the nanoseconds.
            seconds: i64::from(u32::from_be_bytes(bytes) >> 1),
            nanoseconds: u32::from_be_bytes(bytes) & 1,
        }
    };
    (half(0), half(4))
}
