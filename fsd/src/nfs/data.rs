//! READ, WRITE and COMMIT.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use super::compound::Compound;
use super::export::Node;
use super::operation::StateId;
use super::rpc::MAX_IO;
use super::status::Status;
use super::xdr::Encoder;
use crate::identity;
use crate::meter::Class;
use crate::naming::LARGEST_FILE;
use crate::spreading;
use crate::sys::file;
use crate::sys::Errno;

/// Bytes whose reading or writing takes longer than waking a thread.
const LONG: usize = 64 << 10;
const UNSTABLE: u32 = 0;
const DATA_SYNC: u32 = 1;
const FILE_SYNC: u32 = 2;

impl Compound<'_> {
    /// The descriptor that a READ or WRITE goes through.
    fn descriptor(
        &self,
        node: &Node,
        state: StateId,
        writes: bool,
    ) -> Result<Arc<OwnedFd>, Status> {
        if state.special() {
            return self.without_open(node, writes);
        }
        let client = self.client()?;
        let fd = client.holdings().descriptor(state, node, writes)?;
        Ok(fd)
    }

    /// With a special stateid the file's mode decides, and its owner may in any case: it may have had the file open.
    fn without_open(&self, node: &Node, writes: bool) -> Result<Arc<OwnedFd>, Status> {
        let path = node.fd()?;
        let stat = file::stat_of(path.as_raw_fd())?;
        match stat.kind() {
            libc::S_IFREG => {}
            libc::S_IFDIR => return Err(Status::ISDIR),
            libc::S_IFLNK => return Err(Status::SYMLINK),
            _ => return Err(Status::WRONG_TYPE),
        }
        let flags = if writes {
            libc::O_WRONLY
        } else {
            libc::O_RDONLY
        };
        let volume = node.volume();
        let reopen = || file::reopen(&volume.proc, path.as_raw_fd(), flags);
        let opened = match volume.with_descriptors(reopen) {
            Err(Errno(libc::EACCES)) => {
                let owner = self.identity(&node.export).uid() == stat.uid();
                let executes = !writes && file::access(path.as_raw_fd(), libc::X_OK).is_ok();
                if !owner && !executes {
                    return Err(Status::ACCESS);
                }
                identity::with_capabilities(reopen)?
            }
            other => other?,
        };
        Ok(Arc::new(opened))
    }

    pub(super) fn read(
        &mut self,
        state: StateId,
        offset: u64,
        count: u32,
        out: &mut Encoder,
    ) -> Result<(), Status> {
        let node = self.node()?;
        let state = self.stateid(state)?;
        self.assume(&node.export)?;
        let fd = self.descriptor(&node, state, false)?;
        let raw = fd.as_raw_fd();
        if count as usize >= LONG {
            self.door.let_others_read(self.connection);
        }
        // The end-of-file flag and the length.
        let room = self.room(out, MAX_IO + 16).saturating_sub(16);
        let most = (count as usize).min(room);
        let eof_at = out.len();
        out.bool(false);
        let read = out.opaque_by(|bytes| {
            if offset > i64::MAX as u64 {
                return Ok(());
            }
            file::read_onto(raw, bytes, most, offset).map(|_| ())
        });
        let read = read.map_err(Status::from)?;
        let end = offset.saturating_add(read as u64);
        let eof = read < most || most > 0 && end >= file::stat_of(raw)?.size();
        let eof = eof || most == 0 && offset >= file::stat_of(raw)?.size();
        out.put_u32(eof_at, u32::from(eof));
        self.connection.count(&node, Class::Read, read as u64);
        Ok(())
    }

    pub(super) fn write(
        &mut self,
        state: StateId,
        offset: u64,
        stable: u32,
        data: &[u8],
        out: &mut Encoder,
    ) -> Result<(), Status> {
        let node = self.node()?;
        let state = self.stateid(state)?;
        self.assume_to_change(&node.export)?;
        let fd = self.descriptor(&node, state, true)?;
        let raw = fd.as_raw_fd();
        let data = data.get(..data.len().min(MAX_IO)).unwrap_or_default();
        if stable != UNSTABLE || data.len() >= LONG {
            self.door.let_others_read(self.connection);
        }
        if offset.saturating_add(data.len() as u64) > LARGEST_FILE {
            return Err(Status::FBIG);
        }
        let written = if data.is_empty() {
            0
        } else {
            file::write_at(raw, data, offset)?
        };
        match stable {
            DATA_SYNC => file::sync_content(raw)?,
            FILE_SYNC => file::sync(raw)?,
            _ => {}
        }
        let volume = node.volume();
        self.connection.count(&node, Class::Write, written as u64);
        if state.special() {
            volume.settle(&node.inode, raw, false);
        }
        spreading::note(&node.inode);
        volume.attributes_changed(&node.inode, u64::MAX);
        out.u32(written as u32);
        out.u32(if stable == UNSTABLE { UNSTABLE } else { stable });
        out.fixed(&self.door.write_verifier);
        Ok(())
    }

    pub(super) fn commit(
        &mut self,
        offset: u64,
        count: u32,
        out: &mut Encoder,
    ) -> Result<(), Status> {
        let node = self.node()?;
        self.assume_to_change(&node.export)?;
        if offset.checked_add(u64::from(count)).is_none() {
            return Err(Status::INVAL);
        }
        let path = node.fd()?;
        match file::stat_of(path.as_raw_fd())?.kind() {
            libc::S_IFREG => {}
            libc::S_IFDIR => return Err(Status::ISDIR),
            libc::S_IFLNK => return Err(Status::SYMLINK),
            _ => return Err(Status::WRONG_TYPE),
        }
        let volume = node.volume();
        let reopen = || file::reopen(&volume.proc, path.as_raw_fd(), libc::O_RDONLY);
        self.door.let_others_read(self.connection);
        // Who wrote need not be able to read.
        let fd = identity::with_capabilities(|| volume.with_descriptors(reopen))?;
        file::sync_content(fd.as_raw_fd())?;
        out.fixed(&self.door.write_verifier);
        Ok(())
    }
}
