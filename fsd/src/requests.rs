//! What the control socket may ask, and why it is refused.

use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use crate::admission::Refusal;
use crate::identity::{Identity, Posix};
use crate::mount::Permissions;
use crate::pacing::Limits;
use crate::roots::{CreationInfo, RootError};
use crate::sys::Errno;

/// What went wrong with a control request.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{0}")]
    Invalid(String),
    #[error("op: {0:?} is not known")]
    UnknownOperation(String),
    #[error("there is no volume {0:?}; open it with volume.open")]
    VolumeUnknown(String),
    #[error("there is no mount {0:?}")]
    MountUnknown(String),
    #[error("the volume {volume:?} is open at {open:?}, not at {asked:?}")]
    VolumeElsewhere {
        volume: String,
        open: PathBuf,
        asked: PathBuf,
    },
    #[error("the mount {0:?} exists already")]
    MountExists(String),
    #[error("the volume {volume:?} still has {mounts} mounts")]
    VolumeInUse { volume: String, mounts: usize },
    #[error("the volume {volume:?} takes no more connections now: {refusal}")]
    Refused { volume: String, refusal: Refusal },
    #[error(transparent)]
    Root(#[from] RootError),
    #[error("{what}: {errno}")]
    System { what: String, errno: Errno },
    #[error("the kernel did not start serving the mount {mount:?} within {seconds} s")]
    NotReady { mount: String, seconds: u64 },
}

impl Failure {
    pub fn system(what: impl Into<String>) -> impl FnOnce(Errno) -> Failure {
        let what = what.into();
        move |errno| Failure::System { what, errno }
    }

    /// A stable name for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Failure::Invalid(_) => "InvalidRequest",
            Failure::UnknownOperation(_) => "UnknownOperation",
            Failure::VolumeUnknown(_) => "VolumeNotFound",
            Failure::MountUnknown(_) => "MountNotFound",
            Failure::VolumeElsewhere { .. } => "VolumeExists",
            Failure::MountExists(_) => "MountExists",
            Failure::VolumeInUse { .. } => "VolumeInUse",
            Failure::Refused { .. } => "ConnectionLimitExceeded",
            Failure::Root(RootError::Missing(_)) => "RootDirectoryMissing",
            Failure::Root(RootError::Path(_)) => "RootDirectoryInvalid",
            Failure::Root(RootError::System { .. }) => "RootDirectoryUnusable",
            Failure::System { .. } => "SystemError",
            Failure::NotReady { .. } => "MountTimeout",
        }
    }

    pub fn errno(&self) -> Option<i32> {
        match self {
            Failure::System { errno, .. } | Failure::Root(RootError::System { errno, .. }) => {
                Some(errno.0)
            }
            Failure::Root(RootError::Missing(_)) => Some(libc::ENOENT),
            _ => None,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Passthrough {
    Fixed(bool),
    Named(String),
}

#[derive(Debug, Deserialize)]
pub struct OpenVolume {
    pub volume: String,
    pub backing: PathBuf,
    /// `true`, `false` or `"auto"` (the default): whether open files may bypass the server where the kernel can.
    pub passthrough: Option<Passthrough>,
    /// The `state` of `nfs.*`, where NFS clients' locks may have to be waited for.
    pub nfs_state: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
pub struct LimitVolume {
    pub volume: String,
    #[serde(flatten)]
    pub limits: Limits,
    pub passthrough: Option<bool>,
}

#[derive(Debug, Deserialize)]
pub struct PosixUser {
    pub uid: u32,
    pub gid: u32,
    #[serde(default)]
    pub gids: Vec<u32>,
}

#[derive(Debug, Deserialize)]
pub struct MountRequest {
    pub mount: String,
    pub volume: String,
    pub mountpoint: PathBuf,
    /// The directory of the volume that becomes `/`.
    #[serde(default = "whole_volume")]
    pub root: String,
    pub create: Option<CreationInfo>,
    pub posix: Option<PosixUser>,
    #[serde(default)]
    pub anonymous: Option<PosixUser>,
    /// The client's own wish, for the life of the mount; what it may do is in `permissions`.
    #[serde(default)]
    pub read_only: bool,
    #[serde(default)]
    pub permissions: Permissions,
}

/// What a client may do from now on.
#[derive(Debug, Deserialize)]
pub struct Permit {
    pub mount: String,
    #[serde(flatten)]
    pub permissions: Permissions,
}

/// What becomes of a client's way to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Stall,
    Resume,
    Fail,
}

fn whole_volume() -> String {
    "/".to_owned()
}

/// Secondary groups of an access point's POSIX user.
const MOST_GROUPS: usize = 16;

/// An absolute path without `.` and `..`.
pub fn plain(field: &str, path: &Path) -> Result<(), Failure> {
    let parts_plain = path
        .components()
        .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if path.is_absolute() && parts_plain {
        Ok(())
    } else {
        Err(Failure::Invalid(format!(
            "{field}: {} is not an absolute path without . and ..",
            path.display()
        )))
    }
}

pub fn identity(field: &str, user: &PosixUser) -> Result<Identity, Failure> {
    if user.uid == u32::MAX || user.gid == u32::MAX || user.gids.contains(&u32::MAX) {
        return Err(Failure::Invalid(format!("{field}: 4294967295 is no id")));
    }
    if user.gids.len() > MOST_GROUPS {
        return Err(Failure::Invalid(format!(
            "{field}.gids: {} groups given, at most {MOST_GROUPS} allowed",
            user.gids.len()
        )));
    }
    Ok(Identity::new(Posix {
        uid: user.uid,
        gid: user.gid,
        groups: user.gids.clone(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_must_be_plain() {
        assert!(plain("x", Path::new("/run/lambay/a")).is_ok());
        for path in ["", "relative", "/a/../b", "../x"] {
            assert!(plain("x", Path::new(path)).is_err(), "{path}");
        }
    }

    #[test]
    fn a_user_with_seventeen_groups_is_refused_by_name() {
        let user = PosixUser {
            uid: 1,
            gid: 1,
            gids: (0..17).collect(),
        };
        let message = identity("posix", &user)
            .map(|_| ())
            .unwrap_err()
            .to_string();
        assert!(message.contains("posix.gids"), "{message}");
    }
}
