//! OPEN, OPEN_DOWNGRADE and CLOSE.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use super::attributes::{Bitmap, NewAttributes};
use super::clients::Client;
use super::compound::{Compound, Place};
use super::export::Node;
use super::holdings::{BOTH, WRITE};
use super::namespace::{not_a_directory, Changing, Name};
use super::operation::{Claim, Create, Open, StateId};
use super::status::Status;
use super::xdr::Encoder;
use crate::identity::{self, Identity};
use crate::spreading;
use crate::sys::file::{self, Stat};
use crate::sys::Errno;

/// "Wants" of delegations, which are heard and not followed; the first are asked for at once, the others for later.
const WANTS: u32 = 0x3_ff00;
const WANTED_AT_ONCE: u32 = 0xff00;
const WANT_NONE: u32 = 0x400;
const WANT_CANCELLED: u32 = 0x500;
/// `OPEN4_RESULT_LOCKTYPE_POSIX`
const POSIX_LOCKS: u32 = 4;
const NO_DELEGATION: u32 = 0;
/// With the reason, section 18.16.3: who says what he wants is told why he has it not.
const NO_DELEGATION_BECAUSE: u32 = 3;
const NOT_WANTED: u32 = 0;
const NO_RESOURCES: u32 = 2;
const CANCELLED: u32 = 7;
const DEFAULT_MODE: u32 = 0o644;

/// A file that was opened, not yet held by the client.
struct Opened {
    node: Arc<Node>,
    fd: OwnedFd,
    stat: Stat,
    attributes: Bitmap,
}

fn encode_no_delegation(access: u32, out: &mut Encoder) {
    let wanted = access & WANTED_AT_ONCE;
    if wanted == 0 {
        out.u32(NO_DELEGATION);
        return;
    }
    out.u32(NO_DELEGATION_BECAUSE);
    match wanted {
        WANT_NONE => out.u32(NOT_WANTED),
        WANT_CANCELLED => out.u32(CANCELLED),
        _ => {
            out.u32(NO_RESOURCES);
            // Nor will it be told when there is one.
            out.bool(false);
        }
    }
}

fn flags(access: u32) -> i32 {
    let mode = match access {
        BOTH => libc::O_RDWR,
        WRITE => libc::O_WRONLY,
        _ => libc::O_RDONLY,
    };
    mode | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY
}

/// What kind of file may be opened.
fn must_be_regular(stat: &Stat) -> Result<(), Status> {
    match stat.kind() {
        libc::S_IFREG => Ok(()),
        libc::S_IFDIR => Err(Status::ISDIR),
        libc::S_IFLNK => Err(Status::SYMLINK),
        _ => Err(Status::WRONG_TYPE),
    }
}

impl Compound<'_> {
    pub(super) fn open(&mut self, open: &Open<'_>, out: &mut Encoder) -> Result<(), Status> {
        let access = open.access & BOTH;
        if access == 0 || open.access & !(BOTH | WANTS) != 0 || open.deny > 3 {
            return Err(Status::INVAL);
        }
        // "Returns the NFS error NFS4ERR_NOTSUPP for any OPEN commands specifying a share deny value other than …NONE."
        if open.deny != 0 || matches!(open.claim, Claim::OfDelegation) {
            return Err(Status::NOTSUPP);
        }
        let place = self.node()?;
        let client = self.client()?;
        match open.claim {
            Claim::Previous { delegation } => {
                self.door.clients.may_reclaim(&client)?;
                if delegation != NO_DELEGATION {
                    return Err(Status::RECLAIM_BAD);
                }
            }
            _ => self.door.clients.may_take(&client)?,
        }
        client.holdings().room()?;
        let changes = access & WRITE != 0 || open.create.is_some();
        let identity = if changes {
            self.assume_to_change(&place.export)?
        } else {
            self.assume(&place.export)?
        };
        let mut info = Encoder::default();
        let opened = match (&open.claim, &open.create) {
            (Claim::Null(name), Some(create)) => {
                self.open_created(&place, &Name::new(name)?, create, access, &mut info)?
            }
            (Claim::Null(name), None) => {
                let opened = self.open_named(&place, &Name::new(name)?, access)?;
                Changing::begin(&place)?.encode(&mut info)?;
                opened
            }
            (_, Some(_)) => return Err(Status::INVAL),
            (_, None) => {
                info.bool(false);
                info.u64(0);
                info.u64(0);
                self.open_itself(&place, access)?
            }
        };
        let attributes = opened.attributes;
        let state = self.hold(&client, open.owner, access, &identity, opened);
        encode_stateid(out, state);
        out.raw(info.since(0));
        out.u32(POSIX_LOCKS);
        attributes.encode(out);
        encode_no_delegation(open.access, out);
        Ok(())
    }

    /// The client holds the file from now on.
    fn hold(
        &mut self,
        client: &Client,
        owner: &[u8],
        access: u32,
        identity: &Identity,
        opened: Opened,
    ) -> StateId {
        let Opened { node, fd, stat, .. } = opened;
        let common = flags(access) & libc::O_ACCMODE;
        let fd = node.inode.share(fd, common, identity.number());
        if access & WRITE != 0 {
            node.volume().writing_begins(&node.inode, &stat);
        }
        let state = client.holdings().opened(owner, &node, access, &fd);
        self.stand_on(Place::File(node));
        self.state = Some(state);
        state
    }

    fn open_named(&self, parent: &Node, name: &Name, access: u32) -> Result<Opened, Status> {
        let (node, stat) = self.child(parent, name)?;
        must_be_regular(&stat)?;
        self.open_itself(&node, access)
    }

    /// Opens the file itself, as CLAIM_FH and CLAIM_PREVIOUS do.
    fn open_itself(&self, node: &Arc<Node>, access: u32) -> Result<Opened, Status> {
        let fd = node.fd()?;
        must_be_regular(&file::stat_of(fd.as_raw_fd())?)?;
        let volume = node.volume();
        let flags = flags(access) & !libc::O_NOFOLLOW;
        let reopen = || file::reopen(&volume.proc, fd.as_raw_fd(), flags);
        let opened = match volume.with_descriptors(reopen) {
            // Executing needs no permission to read, and a client's kernel reads in order to execute.
            Err(Errno(libc::EACCES))
                if access & WRITE == 0 && file::access(fd.as_raw_fd(), libc::X_OK).is_ok() =>
            {
                identity::with_capabilities(reopen)?
            }
            other => other?,
        };
        let stat = file::stat_of(opened.as_raw_fd())?;
        Ok(Opened {
            node: Arc::clone(node),
            fd: opened,
            stat,
            attributes: Bitmap::default(),
        })
    }

    fn open_created(
        &self,
        parent: &Arc<Node>,
        name: &Name,
        create: &Create,
        access: u32,
        info: &mut Encoder,
    ) -> Result<Opened, Status> {
        let (new, verifier) = match create {
            Create::Unchecked(new) | Create::Guarded(new) => (new, None),
            Create::Exclusive(verifier, new) => {
                new.for_exclusive_create()?;
                (new, Some(verifier))
            }
        };
        if let Some(refused) = new.refused {
            return Err(refused);
        }
        let _naming = parent.inode.naming();
        let changing = Changing::begin(parent)?;
        let volume = parent.volume();
        let dir = changing.fd.as_raw_fd();
        let mode = new.mode.unwrap_or(DEFAULT_MODE) & 0o7777;
        let flags = flags(access) | libc::O_CREAT | libc::O_EXCL;
        let made = volume.with_descriptors(|| file::open_at(dir, name.as_cstr(), flags, mode));
        let opened = match made {
            Ok(fd) => {
                let stat = file::stat_of(fd.as_raw_fd())?;
                let inode = volume.intern_opened(&fd, &stat)?;
                let node = Node::new(&parent.export, inode);
                volume.created(&stat);
                volume.names_changed(&parent.inode, u64::MAX);
                self.furnish(&node, &fd, new, verifier)?;
                let stat = file::stat_of(fd.as_raw_fd())?;
                let asked = new.all_set();
                Opened {
                    node,
                    fd,
                    stat,
                    attributes: match verifier {
                        Some(_) => NewAttributes::with_times(asked),
                        None => asked,
                    },
                }
            }
            Err(Errno(libc::EEXIST)) => self.open_existing(parent, name, create, access)?,
            Err(errno) => return Err(not_a_directory(parent, errno)),
        };
        changing.encode(info)?;
        Ok(opened)
    }

    /// What a new file is to have beyond its mode.
    fn furnish(
        &self,
        node: &Node,
        fd: &OwnedFd,
        new: &NewAttributes,
        verifier: Option<&[u8; 8]>,
    ) -> Result<(), Status> {
        let rest = NewAttributes {
            mode: None,
            size: new.size.filter(|size| *size > 0),
            ..*new
        };
        if rest.owner.is_some()
            || rest.group.is_some()
            || rest.size.is_some()
            || rest.atime.is_some()
            || rest.mtime.is_some()
        {
            self.change_attributes(node, &rest, None)?;
        }
        if let Some(verifier) = verifier {
            Self::keep_verifier(fd.as_raw_fd(), verifier)?;
        }
        Ok(())
    }

    fn open_existing(
        &self,
        parent: &Node,
        name: &Name,
        create: &Create,
        access: u32,
    ) -> Result<Opened, Status> {
        let (node, stat) = self.child(parent, name)?;
        match create {
            Create::Guarded(_) => Err(Status::EXIST),
            Create::Exclusive(verifier, new) => {
                if !stat.is_file() || !Self::has_verifier(&stat, verifier) {
                    return Err(Status::EXIST);
                }
                // Our own creation, asked for again.
                let mut opened = self.open_itself(&node, access)?;
                opened.attributes = NewAttributes::with_times(new.all_set());
                Ok(opened)
            }
            Create::Unchecked(new) => {
                must_be_regular(&stat)?;
                let mut opened = self.open_itself(&node, access)?;
                if new.size == Some(0) {
                    self.cut(&mut opened)?;
                    opened.attributes = NewAttributes::size_set();
                }
                Ok(opened)
            }
        }
    }

    /// An unchecked create of an existing file with size 0 empties it.
    fn cut(&self, opened: &mut Opened) -> Result<(), Status> {
        let volume = opened.node.volume();
        let before = opened.stat;
        let path = opened.node.fd()?;
        let reopen = || file::reopen(&volume.proc, path.as_raw_fd(), libc::O_WRONLY);
        let writable = volume.with_descriptors(reopen)?;
        file::truncate(writable.as_raw_fd(), 0)?;
        opened.stat = file::stat_of(opened.fd.as_raw_fd())?;
        volume.resized(&opened.node.inode, &before, &opened.stat);
        spreading::note(&opened.node.inode);
        volume.attributes_changed(&opened.node.inode, u64::MAX);
        Ok(())
    }

    pub(super) fn open_downgrade(
        &mut self,
        state: StateId,
        access: u32,
        deny: u32,
        out: &mut Encoder,
    ) -> Result<(), Status> {
        let node = self.node()?;
        let state = self.stateid(state)?;
        if deny != 0 || access & !(BOTH | WANTS) != 0 {
            return Err(Status::INVAL);
        }
        let client = self.client()?;
        let state = client.holdings().downgrade(state, &node, access & BOTH)?;
        encode_stateid(out, state);
        self.state = Some(state);
        Ok(())
    }

    pub(super) fn close(&mut self, state: StateId, out: &mut Encoder) -> Result<(), Status> {
        let node = self.node()?;
        let state = self.stateid(state)?;
        let client = self.client()?;
        let closed = client.holdings().close(state, &node)?;
        closed.release();
        // A stateid that is good for nothing (section 18.2.4).
        let invalid = StateId {
            seqid: u32::MAX,
            other: [0; 12],
        };
        encode_stateid(out, invalid);
        self.state = None;
        Ok(())
    }
}

pub fn encode_stateid(out: &mut Encoder, state: StateId) {
    out.u32(state.seqid);
    out.fixed(&state.other);
}
