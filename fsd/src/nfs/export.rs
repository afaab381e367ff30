//! What can be mounted: a file system's root, or an access point's with its identity.

use std::cell::RefCell;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::place::Network;
use super::rpc::Credentials;
use super::status::Status;
use crate::identity::{Identity, Posix, NOBODY};
use crate::inode::{Inode, Key};
use crate::mount::Permissions;
use crate::roots::{CreationInfo, RootError};
use crate::sys::file::{self, Handle, Stat};
use crate::sys::Errno;
use crate::volume::Volume;

/// Numbers by which clients of this door are known to lock tables and observers, apart from those of mounts.
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(1 << 40);

pub fn next_number() -> u64 {
    NEXT_NUMBER.fetch_add(1, Relaxed)
}

/// What an export is made of.
#[derive(Debug)]
pub struct Terms {
    pub name: String,
    pub volume: Arc<Volume>,
    /// The directory of the volume that becomes `/`.
    pub root: String,
    pub create: Option<CreationInfo>,
    /// Replaces the identity of every request.
    pub posix: Option<Posix>,
    /// Who requests without an identity act as.
    pub anonymous: Posix,
    pub permissions: Grants,
    /// In the directory of all exports; otherwise only connections of its own reach it.
    pub listed: bool,
}

/// What clients may do, by how they are connected.
#[derive(Clone, Copy, Debug)]
pub struct Granted {
    pub plain: Permissions,
    /// Over TLS.
    pub secure: Permissions,
}

impl Granted {
    fn over(self, secure: bool) -> Permissions {
        if secure {
            self.secure
        } else {
            self.plain
        }
    }
}

/// What clients may do, by how and from where they are connected.
#[derive(Clone, Debug)]
pub struct Grants {
    everywhere: Granted,
    /// Smaller networks before those around them.
    places: Vec<(Network, Granted)>,
}

impl Grants {
    /// In a network, and in the smallest where it is in several, what is said of it holds alone.
    pub fn new(everywhere: Granted, mut places: Vec<(Network, Granted)>) -> Grants {
        places.sort_by_key(|(network, _)| std::cmp::Reverse(network.prefix()));
        Grants { everywhere, places }
    }

    fn at(&self, peer: Option<IpAddr>) -> Granted {
        let of = |peer| {
            let mut places = self.places.iter();
            places.find(|(network, _)| network.contains(peer))
        };
        peer.and_then(of)
            .map_or(self.everywhere, |(_, granted)| *granted)
    }
}

#[derive(Debug)]
pub struct Export {
    pub name: String,
    pub tag: u64,
    pub volume: Arc<Volume>,
    path: String,
    create: Option<CreationInfo>,
    posix: Option<Posix>,
    anonymous: Posix,
    permissions: RwLock<Grants>,
    pub listed: bool,
    /// The root directory, once somebody came; with an interest.
    root: Mutex<Option<Arc<Inode>>>,
}

impl Drop for Export {
    fn drop(&mut self) {
        let root = self.root.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(root) = root.take() {
            self.volume.put(&root);
        }
    }
}

thread_local! {
    static LATEST: RefCell<Option<(Posix, Identity)>> = const { RefCell::new(None) };
}

/// The interned identity; a thread mostly serves the same one again.
fn interned(posix: Posix) -> Identity {
    LATEST.with_borrow_mut(|latest| match latest {
        Some((known, identity)) if *known == posix => identity.clone(),
        _ => {
            let identity = Identity::new(posix.clone());
            *latest = Some((posix, identity.clone()));
            identity
        }
    })
}

impl Export {
    pub fn new(terms: Terms, tag: u64) -> Export {
        Export {
            tag,
            name: terms.name,
            volume: terms.volume,
            path: terms.root,
            create: terms.create,
            posix: terms.posix,
            anonymous: terms.anonymous,
            permissions: RwLock::new(terms.permissions),
            listed: terms.listed,
            root: Mutex::default(),
        }
    }

    /// Whether this is what `terms` ask for, but for the permissions.
    pub fn same(&self, terms: &Terms) -> bool {
        Arc::ptr_eq(&self.volume, &terms.volume)
            && self.path == terms.root
            && self.posix == terms.posix
            && self.anonymous == terms.anonymous
            && self.listed == terms.listed
    }

    pub fn permit(&self, permissions: Grants) {
        *self
            .permissions
            .write()
            .unwrap_or_else(PoisonError::into_inner) = permissions;
    }

    /// Of a client at `peer`.
    pub fn permissions(&self, peer: Option<IpAddr>, secure: bool) -> Permissions {
        let grants = self
            .permissions
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        grants.at(peer).over(secure)
    }

    /// Whom a request with these credentials acts as.
    pub fn identity(&self, credentials: &Credentials, squash: bool) -> Identity {
        let posix = match (&self.posix, credentials) {
            (Some(posix), _) => posix.clone(),
            (None, Credentials::Sys { uid, gid, gids }) => Posix {
                uid: valid(*uid),
                gid: valid(*gid),
                groups: gids.iter().copied().map(valid).collect(),
            },
            (None, _) => self.anonymous.clone(),
        };
        if squash {
            interned(posix.squashed())
        } else {
            interned(posix)
        }
    }

    /// The root directory; made now if an access point's root is missing.
    pub fn root(self: &Arc<Export>) -> Result<Arc<Node>, Status> {
        let mut root = self.root.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(inode) = root.as_ref() {
            return match self.volume.intern_handle(&inode.key) {
                Some(inode) => Ok(Node::new(self, inode)),
                None => Err(Status::SERVERFAULT),
            };
        }
        let found = self.volume.resolve_root(&self.path, self.create.as_ref());
        let fd = found.map_err(|error| {
            tracing::warn!(export = self.name, %error, "an export has no root directory");
            match error {
                RootError::System { errno, .. } => Status::from(errno),
                _ => Status::NOENT,
            }
        })?;
        let stat = file::stat_of(fd.as_raw_fd())?;
        let inode = self.volume.intern(fd, &stat);
        if !matches!(inode.key, Key::Handle(_)) {
            tracing::error!(
                export = self.name,
                "its backing file system gives no file handles"
            );
            self.volume.put(&inode);
            return Err(Status::SERVERFAULT);
        }
        *root = Some(Arc::clone(&inode));
        drop(root);
        self.root()
    }

    /// The root directory is looked up, or made, again.
    pub fn forget_root(&self) {
        let root = self
            .root
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(root) = root {
            self.volume.put(&root);
        }
    }

    pub fn is_root(&self, inode: &Inode) -> bool {
        let root = self.root.lock().unwrap_or_else(PoisonError::into_inner);
        root.as_ref().is_some_and(|root| root.id == inode.id)
    }
}

/// "No id" to the kernel; nobody is it.
fn valid(id: u32) -> u32 {
    if id == u32::MAX {
        NOBODY
    } else {
        id
    }
}

/// A file that a request or an open file of a client stands on.
#[derive(Debug)]
pub struct Node {
    pub export: Arc<Export>,
    pub inode: Arc<Inode>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.export.volume.put(&self.inode);
    }
}

impl Node {
    /// Takes over an interest in `inode`.
    pub fn new(export: &Arc<Export>, inode: Arc<Inode>) -> Arc<Node> {
        Arc::new(Node {
            export: Arc::clone(export),
            inode,
        })
    }

    pub fn volume(&self) -> &Arc<Volume> {
        &self.export.volume
    }

    pub fn fd(&self) -> Result<Arc<OwnedFd>, Errno> {
        self.export.volume.fd(&self.inode)
    }

    pub fn stat(&self) -> Result<Stat, Errno> {
        file::stat_of(self.fd()?.as_raw_fd())
    }

    /// The file's own handle. Files without one cannot be reached through this door.
    pub fn handle(&self) -> Result<&Handle, Status> {
        match &self.inode.key {
            Key::Handle(handle) => Ok(handle),
            Key::Pinned { .. } => Err(Status::ACCESS),
        }
    }

    pub fn is_root(&self) -> bool {
        self.export.is_root(&self.inode)
    }
}
