//! What the control socket asks of the NFS door.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{channel, Receiver};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Deserialize;
use serde_json::{json, Value};

use super::door::Door;
use super::export::{Granted, Grants, Terms};
use super::place::Network;
use super::recovery::Recovery;
use super::tls::{self, Tls};
use super::visit::{Answer, Line};
use crate::identity::Posix;
use crate::inode::DescriptorCache;
use crate::later::Later;
use crate::mount::Permissions;
use crate::roots::CreationInfo;
use crate::volume::Volume;

/// Names of exports are path components.
const LONGEST_NAME: usize = 255;

/// `nfs.export`: something that can be mounted.
#[derive(Debug, Deserialize)]
pub struct Offer {
    /// The directory of what survives restarts; the same at every call.
    pub state: PathBuf,
    /// Its name below the pseudo-root, and what its file handles are bound to.
    pub export: String,
    pub volume: String,
    #[serde(default = "whole_volume")]
    pub root: String,
    pub create: Option<CreationInfo>,
    /// Replaces the identity of every request.
    pub posix: Option<User>,
    /// Who requests without an identity act as; nobody unless told otherwise.
    pub anonymous: Option<User>,
    #[serde(default)]
    pub permissions: Permissions,
    /// Of clients whose connection is encrypted; the same unless told otherwise.
    pub secure_permissions: Option<Permissions>,
    /// Of clients that connect from there, instead.
    #[serde(default)]
    pub places: Vec<Place>,
    /// Below the pseudo-root; otherwise for sockets of its own alone.
    #[serde(default = "listed")]
    pub listed: bool,
}

/// What clients in a network may do.
#[derive(Debug, Deserialize)]
pub struct Place {
    /// Such as `192.0.2.0/24`; in the smallest that contains a client this holds.
    pub network: String,
    #[serde(default)]
    pub permissions: Permissions,
    pub secure_permissions: Option<Permissions>,
}

fn granted(plain: Permissions, secure: Option<Permissions>) -> Granted {
    Granted {
        plain,
        secure: secure.unwrap_or(plain),
    }
}

impl Offer {
    fn grants(&self) -> Result<Grants, Complaint> {
        let places = self.places.iter().map(|place| {
            let network = Network::parse(&place.network)
                .ok_or_else(|| format!("places: network {:?} is no ADDRESS/BITS", place.network))?;
            Ok((
                network,
                granted(place.permissions, place.secure_permissions),
            ))
        });
        let places = places.collect::<Result<_, Complaint>>()?;
        Ok(Grants::new(
            granted(self.permissions, self.secure_permissions),
            places,
        ))
    }
}

fn listed() -> bool {
    true
}

fn whole_volume() -> String {
    "/".to_owned()
}

#[derive(Debug, Deserialize)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    #[serde(default)]
    pub gids: Vec<u32>,
}

impl User {
    fn posix(&self) -> Posix {
        Posix {
            uid: self.uid,
            gid: self.gid,
            groups: self.gids.clone(),
        }
    }
}

/// `nfs.unexport`.
#[derive(Debug, Deserialize)]
pub struct Withdrawal {
    pub export: String,
}

/// `nfs.listen`: the socket comes along with the request.
#[derive(Debug, Deserialize)]
pub struct Listen {
    pub state: PathBuf,
    pub listener: String,
    /// What connections see as their root; null for a directory of all exports.
    pub export: Option<String>,
}

/// `nfs.tls`: who the server is to clients that want TLS, on every connection made from then on.
#[derive(Debug, Deserialize)]
pub struct Identities {
    pub state: PathBuf,
    pub identities: Vec<tls::Identity>,
}

/// `nfs.questions`: the control connection becomes the one on which clients' certificates are asked about.
#[derive(Debug, Deserialize)]
pub struct Questions {
    pub state: PathBuf,
}

/// `nfs.serve`: a connected socket comes along with the request.
#[derive(Debug, Deserialize)]
pub struct Guest {
    pub state: PathBuf,
    /// What the connection sees as its root.
    pub export: String,
}

/// `nfs.close`.
#[derive(Debug, Deserialize)]
pub struct ListenerName {
    pub listener: String,
}

/// The door, once somebody wants it open, and before that what must be known of those who came by it earlier.
#[derive(Debug, Default)]
pub struct Doorway {
    door: Mutex<Option<Arc<Door>>>,
    recovery: Mutex<Option<Arc<Recovery>>>,
}

/// Why a request fails: a sentence that names the field.
pub type Complaint = String;

impl Doorway {
    fn door(&self) -> MutexGuard<'_, Option<Arc<Door>>> {
        self.door.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn recovery(&self, state: &Path, later: &Arc<Later>) -> std::io::Result<Arc<Recovery>> {
        let mut recovery = self.recovery.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(recovery) = recovery.as_ref() {
            return Ok(Arc::clone(recovery));
        }
        let opened = Arc::new(Recovery::open(state)?);
        Recovery::watch(&Arc::downgrade(&opened), later);
        *recovery = Some(Arc::clone(&opened));
        Ok(opened)
    }

    /// A volume was opened: its locks are for those first who held them before a restart.
    pub fn guard(&self, volume: &Arc<Volume>, state: &Path, later: &Arc<Later>) {
        if !Recovery::is_in(state) {
            return;
        }
        match self.recovery(state, later) {
            Ok(recovery) => recovery.guard(volume),
            Err(error) => {
                tracing::error!(%error, "nfs_state {}: clients' locks are not known", state.display());
            }
        }
    }

    fn opened(
        &self,
        state: &Path,
        later: &Arc<Later>,
        descriptors: &Arc<DescriptorCache>,
    ) -> Result<Arc<Door>, Complaint> {
        let mut door = self.door();
        if let Some(door) = door.as_ref() {
            return Ok(Arc::clone(door));
        }
        let opened = self
            .recovery(state, later)
            .and_then(|recovery| {
                recovery.begin();
                Door::open(state, later, descriptors, recovery)
            })
            .map_err(|error| format!("state {}: {error}", state.display()))?;
        *door = Some(Arc::clone(&opened));
        Ok(opened)
    }

    pub fn offer(
        &self,
        request: &Offer,
        volume: Arc<Volume>,
        later: &Arc<Later>,
        descriptors: &Arc<DescriptorCache>,
    ) -> Result<Value, Complaint> {
        let name = &request.export;
        let plain = !name.is_empty() && name.len() <= LONGEST_NAME && !name.contains(['/', '\0']);
        if !plain || matches!(name.as_str(), "." | "..") {
            return Err(format!("export: {name:?} is no name of a directory"));
        }
        let permissions = request.grants()?;
        let door = self.opened(&request.state, later, descriptors)?;
        let nobody = || Posix {
            uid: crate::identity::NOBODY,
            gid: crate::identity::NOBODY,
            groups: Vec::new(),
        };
        door.offer(Terms {
            name: name.clone(),
            volume,
            root: request.root.clone(),
            create: request.create,
            posix: request.posix.as_ref().map(User::posix),
            anonymous: request.anonymous.as_ref().map_or_else(nobody, User::posix),
            permissions,
            listed: request.listed,
        });
        Ok(json!({}))
    }

    pub fn withdraw(&self, request: &Withdrawal) -> Value {
        if let Some(door) = self.door().as_ref() {
            door.withdraw(&request.export);
        }
        json!({})
    }

    pub fn listen(
        &self,
        request: &Listen,
        socket: Option<OwnedFd>,
        later: &Arc<Later>,
        descriptors: &Arc<DescriptorCache>,
    ) -> Result<Value, Complaint> {
        let socket = socket.ok_or("nfs.listen: no socket came along (SCM_RIGHTS)")?;
        let door = self.opened(&request.state, later, descriptors)?;
        door.listen(&request.listener, socket, request.export.as_deref())
            .map_err(|errno| format!("listener {}: {errno}", request.listener))?;
        Ok(json!({}))
    }

    pub fn serve(
        &self,
        request: &Guest,
        connected: Option<OwnedFd>,
        later: &Arc<Later>,
        descriptors: &Arc<DescriptorCache>,
    ) -> Result<Value, Complaint> {
        let connected = connected.ok_or("nfs.serve: no socket came along (SCM_RIGHTS)")?;
        let door = self.opened(&request.state, later, descriptors)?;
        if !door.adopt(connected, &request.export) {
            return Err("nfs.serve: the connection is gone, or one too many".to_owned());
        }
        Ok(json!({}))
    }

    pub fn identify(
        &self,
        request: &Identities,
        later: &Arc<Later>,
        descriptors: &Arc<DescriptorCache>,
    ) -> Result<Value, Complaint> {
        let tls = Tls::new(&request.identities)?;
        self.opened(&request.state, later, descriptors)?
            .encrypt(tls);
        Ok(json!({}))
    }

    /// Questions go to who receives these from now on.
    pub fn questions(
        &self,
        request: &Questions,
        later: &Arc<Later>,
        descriptors: &Arc<DescriptorCache>,
    ) -> Result<Receiver<Line>, Complaint> {
        let door = self.opened(&request.state, later, descriptors)?;
        let (lines, questions) = channel();
        door.ask_through(Some(lines));
        Ok(questions)
    }

    /// Nobody answers any more.
    pub fn no_answers(&self) {
        if let Some(door) = self.door().as_ref() {
            door.ask_through(None);
        }
    }

    pub fn answer(&self, request: &Answer) -> Value {
        let known = self
            .door()
            .as_ref()
            .is_some_and(|door| door.recognize(request));
        json!({"known": known})
    }

    pub fn hang_up(&self, request: &ListenerName) -> Value {
        if let Some(door) = self.door().as_ref() {
            door.hang_up(&request.listener);
        }
        json!({})
    }

    pub fn drop_volume(&self, volume: &str) {
        if let Some(door) = self.door().as_ref() {
            door.drop_volume(volume);
        }
    }

    /// Its files go, and with them what clients hold of them.
    pub fn drop_clients(&self, volume: &str) {
        if let Some(door) = self.door().as_ref() {
            door.drop_clients(volume);
        }
    }

    pub fn report(&self) -> Value {
        match self.door().as_ref() {
            None => Value::Null,
            Some(door) => {
                let (clients, sessions, open_files) = door.clients.counts();
                json!({
                    "connections": door.connections(),
                    "clients": clients,
                    "sessions": sessions,
                    "open_files": open_files,
                })
            }
        }
    }
}
