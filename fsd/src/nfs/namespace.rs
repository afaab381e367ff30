//! Names: LOOKUP, LOOKUPP, CREATE, LINK, RENAME, REMOVE, READLINK, READDIR and SECINFO.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use super::attributes::{self, change, Bitmap, NewAttributes, Subject};
use super::compound::{Compound, Place};
use super::export::Node;
use super::operation::{NewObject, Verifier};
use super::rpc::{AUTH_NONE, AUTH_SYS};
use super::status::Status;
use super::xdr::Encoder;
use crate::depth::DEEPEST;
use crate::identity;
use crate::inode::Inode;
use crate::naming::{self, Directory, LONGEST_LINK};
use crate::sys::file::{self, Stat};
use crate::sys::Errno;

const LONGEST_NAME: usize = 255;
/// Cookies 0, 1 and 2 have other meanings (section 18.23.3).
const FIRST_COOKIE: u64 = 3;
/// Bytes of records read from the backing directory at once.
const CHUNK: usize = 32 << 10;
const DEFAULT_DIRECTORY_MODE: u32 = 0o755;

/// One component of a path, ready for the kernel.
#[derive(Debug)]
pub struct Name([u8; LONGEST_NAME + 1]);

impl Name {
    pub fn new(bytes: &[u8]) -> Result<Name, Status> {
        if bytes.is_empty() {
            return Err(Status::INVAL);
        }
        if bytes.len() > LONGEST_NAME {
            return Err(Status::NAMETOOLONG);
        }
        if bytes.iter().any(|byte| matches!(byte, 0 | b'/')) {
            return Err(Status::BADCHAR);
        }
        if matches!(bytes, b"." | b"..") {
            return Err(Status::BADNAME);
        }
        let mut name = [0; LONGEST_NAME + 1];
        name[..bytes.len()].copy_from_slice(bytes);
        Ok(Name(name))
    }

    pub fn as_cstr(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.0).unwrap_or_default()
    }
}

/// A directory whose names are about to change, as `change_info4` tells of it.
pub struct Changing<'a> {
    node: &'a Node,
    pub fd: Arc<OwnedFd>,
    before: u64,
}

impl<'a> Changing<'a> {
    /// Call with the directory's naming held.
    pub fn begin(node: &'a Node) -> Result<Changing<'a>, Status> {
        let fd = node.fd()?;
        let stat = file::stat_of(fd.as_raw_fd())?;
        must_be_directory(&stat)?;
        Ok(Changing {
            node,
            before: change(&stat),
            fd,
        })
    }

    pub fn directory(&self) -> Directory<'_> {
        Directory {
            inode: &self.node.inode,
            fd: self.fd.as_raw_fd(),
        }
    }

    /// Both ends of the change, which nothing through this server came between.
    pub fn encode(&self, out: &mut Encoder) -> Result<(), Status> {
        let after = change(&file::stat_of(self.fd.as_raw_fd())?);
        out.bool(true);
        out.u64(self.before);
        out.u64(after);
        Ok(())
    }
}

fn must_be_directory(stat: &Stat) -> Result<(), Status> {
    match stat.kind() {
        libc::S_IFDIR => Ok(()),
        libc::S_IFLNK => Err(Status::SYMLINK),
        _ => Err(Status::NOTDIR),
    }
}

/// What "not a directory" means here: a symbolic link has an answer of its own.
pub fn not_a_directory(node: &Node, errno: Errno) -> Status {
    if errno.0 == libc::ENOTDIR {
        if let Ok(stat) = node.stat() {
            if let Err(status) = must_be_directory(&stat) {
                return status;
            }
        }
    }
    Status::from(errno)
}

impl Compound<'_> {
    pub(super) fn lookup(&mut self, name: &[u8]) -> Result<(), Status> {
        let place = self.current.clone().ok_or(Status::NOFILEHANDLE)?;
        let found = match &place {
            Place::PseudoRoot => {
                Name::new(name)?;
                let export = self.door.export_named(name).ok_or(Status::NOENT)?;
                self.enter(&export)?
            }
            Place::File(node) => {
                let name = Name::new(name)?;
                Place::File(self.child(node, &name)?.0)
            }
        };
        self.stand_on(found);
        Ok(())
    }

    /// What stands at a name in a directory.
    pub(super) fn child(&self, node: &Node, name: &Name) -> Result<(Arc<Node>, Stat), Status> {
        self.assume(&node.export)?;
        let fd = node.fd()?;
        let found = node.volume().intern_name(fd.as_raw_fd(), name.as_cstr());
        let (inode, stat) = found.map_err(|errno| not_a_directory(node, errno))?;
        Ok((Node::new(&node.export, inode), stat))
    }

    pub(super) fn lookup_parent(&mut self) -> Result<(), Status> {
        let node = match self.current.clone().ok_or(Status::NOFILEHANDLE)? {
            Place::PseudoRoot => return Err(Status::NOENT),
            Place::File(node) => node,
        };
        if node.is_root() {
            if self.connection.only_export().is_some() {
                return Err(Status::NOENT);
            }
            self.stand_on(Place::PseudoRoot);
            return Ok(());
        }
        self.assume(&node.export)?;
        must_be_directory(&node.stat()?)?;
        let parent = self.parent_of(&node)?;
        self.beneath_root(&parent)?;
        self.stand_on(Place::File(parent));
        Ok(())
    }

    fn parent_of(&self, node: &Node) -> Result<Arc<Node>, Status> {
        let fd = node.fd()?;
        let (inode, _) = node.volume().lookup(fd.as_raw_fd(), c"..")?;
        Ok(Node::new(&node.export, inode))
    }

    /// A directory that was moved out of the export's root must not lead there.
    fn beneath_root(&self, node: &Node) -> Result<(), Status> {
        let place = |stat: &Stat| (stat.dev(), stat.ino());
        let top = place(&file::stat_of(node.volume().root().as_raw_fd())?);
        let root = place(&node.export.root()?.stat()?);
        if root == top {
            return Ok(());
        }
        let mut at = node.fd()?;
        // Who may look at a directory may not be able to search those above it.
        identity::with_capabilities(|| {
            for _ in 0..=DEEPEST {
                let here = place(&file::stat_of(at.as_raw_fd())?);
                if here == root {
                    return Ok(());
                }
                if here == top {
                    break;
                }
                let flags = libc::O_PATH | libc::O_DIRECTORY;
                at = Arc::new(file::open_at(at.as_raw_fd(), c"..", flags, 0)?);
            }
            Err(Errno(libc::ENOENT))
        })?;
        Ok(())
    }

    pub(super) fn read_link(&mut self, out: &mut Encoder) -> Result<(), Status> {
        let node = self.node()?;
        self.assume(&node.export)?;
        let fd = node.fd()?;
        if file::stat_of(fd.as_raw_fd())?.kind() != libc::S_IFLNK {
            return Err(Status::WRONG_TYPE);
        }
        let mut target = [0; 4096];
        let len = file::read_link(fd.as_raw_fd(), &mut target)?;
        out.opaque(target.get(..len).unwrap_or_default());
        Ok(())
    }

    // ---- changes

    pub(super) fn create(
        &mut self,
        object: &NewObject<'_>,
        name: &[u8],
        new: &NewAttributes,
        out: &mut Encoder,
    ) -> Result<(), Status> {
        let parent = self.node()?;
        let name = Name::new(name)?;
        if let Some(refused) = new.refused {
            return Err(refused);
        }
        let mut target = None;
        let kind = match object {
            NewObject::Directory => libc::S_IFDIR,
            NewObject::Socket => libc::S_IFSOCK,
            NewObject::Fifo => libc::S_IFIFO,
            NewObject::Link(to) => {
                target = Some(link_target(to)?);
                libc::S_IFLNK
            }
            // "Unsupported file types when using the CREATE operation: block devices, character devices …"
            NewObject::Device | NewObject::Other => return Err(Status::BADTYPE),
        };
        if new.size.is_some() {
            return Err(Status::INVAL);
        }
        self.assume_to_change(&parent.export)?;
        let volume = parent.volume();
        let mode = new.mode.unwrap_or(DEFAULT_DIRECTORY_MODE) & 0o7777;
        let naming = parent.inode.naming();
        let changing = Changing::begin(&parent)?;
        if kind == libc::S_IFDIR {
            volume.admit_directory(&parent.inode, changing.fd.as_raw_fd())?;
        }
        let (inode, _) = naming::make(
            volume,
            u64::MAX,
            changing.directory(),
            name.as_cstr(),
            |dir, name| match &target {
                Some(target) => file::make_symlink(dir, name, target),
                None if kind == libc::S_IFDIR => file::make_dir(dir, name, mode),
                None => file::make_node(dir, name, kind | mode),
            },
        )?;
        changing.encode(out)?;
        drop(naming);
        let made = Node::new(&parent.export, inode);
        // The mode was given with the creation; a link has none.
        let rest = NewAttributes { mode: None, ..*new };
        self.change_attributes(&made, &rest, None)?;
        new.all_set().encode(out);
        self.stand_on(Place::File(made));
        Ok(())
    }

    pub(super) fn link(&mut self, name: &[u8], out: &mut Encoder) -> Result<(), Status> {
        let source = self.saved_node()?;
        let parent = self.node()?;
        let name = Name::new(name)?;
        same_export(&source, &parent)?;
        self.assume_to_change(&parent.export)?;
        let fd = source.fd()?;
        if file::stat_of(fd.as_raw_fd())?.is_dir() {
            return Err(Status::ISDIR);
        }
        let _naming = parent.inode.naming();
        let changing = Changing::begin(&parent)?;
        let from: (&Inode, _) = (&source.inode, fd.as_raw_fd());
        let to = changing.directory();
        naming::link(parent.volume(), u64::MAX, from, to, name.as_cstr())?;
        changing.encode(out)
    }

    pub(super) fn remove(&mut self, name: &[u8], out: &mut Encoder) -> Result<(), Status> {
        let parent = self.node()?;
        let name = Name::new(name)?;
        self.assume_to_change(&parent.export)?;
        let _naming = parent.inode.naming();
        let changing = Changing::begin(&parent)?;
        let directory = changing.directory();
        naming::remove(parent.volume(), u64::MAX, directory, name.as_cstr())?;
        changing.encode(out)
    }

    pub(super) fn rename(
        &mut self,
        from: &[u8],
        to: &[u8],
        out: &mut Encoder,
    ) -> Result<(), Status> {
        let source = self.saved_node()?;
        let target = self.node()?;
        let (from, to) = (Name::new(from)?, Name::new(to)?);
        same_export(&source, &target)?;
        self.assume_to_change(&target.export)?;
        let _naming = source.inode.naming_both(&target.inode);
        let leaving = Changing::begin(&source)?;
        let entering = Changing::begin(&target)?;
        let renamed = naming::rename(
            target.volume(),
            u64::MAX,
            leaving.directory(),
            from.as_cstr(),
            entering.directory(),
            to.as_cstr(),
        );
        renamed.map_err(|errno| match errno.0 {
            // A directory onto something else, or something else onto a directory (section 18.26.3).
            libc::ENOTDIR | libc::EISDIR | libc::ENOTEMPTY => Status::EXIST,
            _ => Status::from(errno),
        })?;
        leaving.encode(out)?;
        entering.encode(out)
    }

    // ---- READDIR

    pub(super) fn read_directory(
        &mut self,
        (cookie, verifier): (u64, Verifier),
        (dircount, maxcount): (u32, u32),
        wanted: &Bitmap,
        out: &mut Encoder,
    ) -> Result<(), Status> {
        if cookie > 0 && cookie < FIRST_COOKIE {
            return Err(Status::BAD_COOKIE);
        }
        if cookie != 0 && verifier != Verifier::default() {
            return Err(Status::NOT_SAME);
        }
        let place = self.current.clone().ok_or(Status::NOFILEHANDLE)?;
        let room = self.room(out, maxcount as usize);
        let mut page = Page {
            end: out.len() + room,
            names: if dircount == 0 {
                usize::MAX
            } else {
                dircount as usize
            },
            entries: 0,
        };
        out.fixed(&Verifier::default());
        let complete = match &place {
            Place::PseudoRoot => self.list_exports(cookie, wanted, &mut page, out)?,
            Place::File(node) => self.list(node, cookie, wanted, &mut page, out)?,
        };
        if page.entries == 0 && !complete || out.len() + 8 > page.end {
            return Err(Status::TOOSMALL);
        }
        out.bool(false);
        out.bool(complete);
        Ok(())
    }

    fn list(
        &self,
        node: &Node,
        cookie: u64,
        wanted: &Bitmap,
        page: &mut Page,
        out: &mut Encoder,
    ) -> Result<bool, Status> {
        self.assume(&node.export)?;
        let fd = node.fd()?;
        let volume = node.volume();
        let flags = libc::O_RDONLY | libc::O_DIRECTORY;
        let reopen = || file::reopen(&volume.proc, fd.as_raw_fd(), flags);
        let dir = volume
            .with_descriptors(reopen)
            .map_err(|errno| not_a_directory(node, errno))?;
        let dir_fd = dir.as_raw_fd();
        let own = file::stat_of(dir_fd)?;
        if cookie >= FIRST_COOKIE {
            let at = i64::try_from(cookie - FIRST_COOKIE).map_err(|_| Status::BAD_COOKIE)?;
            file::seek(dir_fd, at, libc::SEEK_SET).map_err(|_| Status::BAD_COOKIE)?;
        }
        let mut records = vec![0; CHUNK.min(page.end.next_power_of_two()).max(4096)];
        loop {
            let n = file::read_dir(dir_fd, &mut records)?;
            if n == 0 {
                return Ok(true);
            }
            let mut rest = records.get(..n).unwrap_or_default();
            while let Some(record) = file::dir_record(rest) {
                rest = rest.get(record.len..).unwrap_or_default();
                let name = record.name.to_bytes();
                if matches!(name, b"." | b"..") {
                    continue;
                }
                let start = page.begin(out, record.next.wrapping_add(FIRST_COOKIE), name);
                match self.entry(node, &own, dir_fd, &record, wanted, out) {
                    Ok(()) => {}
                    // It went away meanwhile.
                    Err(Status::NOENT) => {
                        out.truncate(start);
                        continue;
                    }
                    Err(status) if wanted.wants_error() => {
                        attributes::encode_error(out, status);
                    }
                    Err(status) => return Err(status),
                }
                if !page.take(start, name, out) {
                    return Ok(false);
                }
            }
        }
    }

    fn entry(
        &self,
        node: &Node,
        directory: &Stat,
        dir: i32,
        record: &file::DirRecord<'_>,
        wanted: &Bitmap,
        out: &mut Encoder,
    ) -> Result<(), Status> {
        if wanted.is_empty() {
            attributes::encode_nothing(out);
            return Ok(());
        }
        let unknown = record.kind == libc::DT_UNKNOWN;
        let stat = if wanted.needs_stat() || wanted.wants_handle() || unknown {
            file::stat_at(dir, record.name)?
        } else {
            Stat::of_entry(record.ino, attributes::mode_of_kind(record.kind))
        };
        let mut wire = None;
        if wanted.wants_handle() {
            if stat.dev() != directory.dev() {
                return Err(Status::ACCESS);
            }
            let handle = file::handle_at(dir, record.name)?;
            wire = Some(self.door.seal.file(node.export.tag, &handle));
        }
        let subject = Subject {
            stat: &stat,
            handle: wire.as_ref().map_or(&[], |wire| wire.as_bytes()),
            fsid: node.export.tag,
            mounted_on: stat.ino(),
            used: node.volume().usage.bytes(),
        };
        attributes::encode(out, wanted, &subject);
        Ok(())
    }

    fn list_exports(
        &self,
        cookie: u64,
        wanted: &Bitmap,
        page: &mut Page,
        out: &mut Encoder,
    ) -> Result<bool, Status> {
        let listed = self
            .door
            .exports()
            .into_iter()
            .filter(|export| export.listed);
        for (index, export) in listed.enumerate() {
            let next = index as u64 + FIRST_COOKIE;
            if next <= cookie {
                continue;
            }
            let start = page.begin(out, next, export.name.as_bytes());
            let place = self.enter(&export);
            match place {
                Ok(Place::File(root)) => {
                    let stat = root.stat()?;
                    self.encode_attributes(&root, &stat, wanted, out)?;
                }
                _ if wanted.wants_error() => attributes::encode_error(out, Status::ACCESS),
                _ => {
                    out.truncate(start);
                    continue;
                }
            }
            if !page.take(start, export.name.as_bytes(), out) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    // ---- SECINFO

    pub(super) fn security_of(&mut self, name: &[u8], out: &mut Encoder) -> Result<(), Status> {
        match self.current.clone().ok_or(Status::NOFILEHANDLE)? {
            Place::PseudoRoot => {
                Name::new(name)?;
                self.door.export_named(name).ok_or(Status::NOENT)?;
            }
            Place::File(node) => {
                self.child(&node, &Name::new(name)?)?;
            }
        }
        self.tell_flavors(out);
        Ok(())
    }

    pub(super) fn security_of_current(
        &mut self,
        parent: bool,
        out: &mut Encoder,
    ) -> Result<(), Status> {
        if parent {
            self.lookup_parent()?;
        }
        self.current.as_ref().ok_or(Status::NOFILEHANDLE)?;
        self.tell_flavors(out);
        Ok(())
    }

    /// The file handle is consumed (section 18.29.3).
    fn tell_flavors(&mut self, out: &mut Encoder) {
        out.u32(2);
        out.u32(AUTH_SYS);
        out.u32(AUTH_NONE);
        self.current = None;
        self.state = None;
    }
}

/// How much of a READDIR's reply is left.
struct Page {
    end: usize,
    /// Bytes of names and cookies that the client would like at most.
    names: usize,
    entries: usize,
}

/// "No more entries" and "end of directory".
const TAIL: usize = 8;

impl Page {
    fn begin(&self, out: &mut Encoder, cookie: u64, name: &[u8]) -> usize {
        let start = out.len();
        out.bool(true);
        out.u64(cookie);
        out.opaque(name);
        start
    }

    /// Keeps the entry that began at `start`, or takes it back where there is no room for it.
    fn take(&mut self, start: usize, name: &[u8], out: &mut Encoder) -> bool {
        let cost = name.len() + 16;
        if out.len() + TAIL > self.end || self.entries > 0 && cost > self.names {
            out.truncate(start);
            return false;
        }
        self.names = self.names.saturating_sub(cost);
        self.entries += 1;
        true
    }
}

fn same_export(one: &Node, other: &Node) -> Result<(), Status> {
    if Arc::ptr_eq(&one.export, &other.export) {
        Ok(())
    } else {
        Err(Status::XDEV)
    }
}

fn link_target(target: &[u8]) -> Result<std::ffi::CString, Status> {
    if target.is_empty() {
        return Err(Status::INVAL);
    }
    if target.len() > LONGEST_LINK {
        return Err(Status::NAMETOOLONG);
    }
    std::ffi::CString::new(target).map_err(|_| Status::BADCHAR)
}
