//! The directory of a volume that a client sees as its root: found, or made as an access point's `CreationInfo` says.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use crate::identity;
use crate::sys::file;
use crate::sys::Errno;
use crate::volume::Volume;

/// The owner and mode of a root directory that a mount creates: an access point's `CreationInfo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
pub struct CreationInfo {
    pub uid: u32,
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
}

/// Why a root directory cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    #[error("the root directory {0:?} does not exist and no CreationInfo says how to create it")]
    Missing(String),
    #[error("the root directory {0:?} is not a plain absolute path")]
    Path(String),
    #[error("the root directory {path:?}: {errno}")]
    System { path: String, errno: Errno },
}

impl Volume {
    /// The directory that a mount sees as its root. Links planted in the volume are never followed.
    pub fn resolve_root(
        &self,
        path: &str,
        create: Option<&CreationInfo>,
    ) -> Result<OwnedFd, RootError> {
        let system = |errno| RootError::System {
            path: path.to_owned(),
            errno,
        };
        if !path.starts_with('/') || path.contains('\0') {
            return Err(RootError::Path(path.to_owned()));
        }
        let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
        if names.iter().any(|name| matches!(*name, "." | "..")) {
            return Err(RootError::Path(path.to_owned()));
        }
        let _one_at_a_time = self.exclusively();
        identity::assume_root().map_err(system)?;
        let mut dir = self.step(self.root().as_raw_fd(), c".").map_err(system)?;
        for (index, name) in names.iter().enumerate() {
            let name = CString::new(*name).map_err(|_| RootError::Path(path.to_owned()))?;
            dir = match (self.step(dir.as_raw_fd(), &name), create) {
                (Ok(next), _) => next,
                (Err(Errno(libc::ENOENT)), None) => {
                    return Err(RootError::Missing(path.to_owned()))
                }
                (Err(Errno(libc::ENOENT)), Some(info)) => {
                    let last = index + 1 == names.len();
                    let plain = CreationInfo {
                        uid: 0,
                        gid: 0,
                        mode: 0o755,
                    };
                    let info = if last { info } else { &plain };
                    self.create_root(&dir, &name, info).map_err(system)?;
                    self.step(dir.as_raw_fd(), &name).map_err(system)?
                }
                (Err(errno), _) => return Err(system(errno)),
            };
        }
        Ok(dir)
    }

    fn step(&self, dir: RawFd, name: &CStr) -> Result<OwnedFd, Errno> {
        file::open_beneath(dir, name, libc::O_PATH | libc::O_DIRECTORY)
    }

    /// Makes a directory that appears with its owner and mode or not at all.
    fn create_root(&self, dir: &OwnedFd, name: &CStr, info: &CreationInfo) -> Result<(), Errno> {
        let staging = CString::new(format!(".lambay-root-{}", std::process::id()))
            .map_err(|_| Errno(libc::EINVAL))?;
        let parent = dir.as_raw_fd();
        match file::make_dir(parent, &staging, 0o700) {
            Ok(()) | Err(Errno(libc::EEXIST)) => {}
            Err(errno) => return Err(errno),
        }
        let made = self.step(parent, &staging)?;
        let finished = file::chown_of(made.as_raw_fd(), info.uid, info.gid)
            .and_then(|()| {
                let name = file::FdName::new(made.as_raw_fd());
                file::chmod_at(self.proc.as_raw_fd(), name.as_cstr(), info.mode & 0o7777)
            })
            .and_then(|()| file::rename(parent, &staging, parent, name, libc::RENAME_NOREPLACE));
        match finished {
            Ok(()) => {
                self.created(&file::stat_of(made.as_raw_fd())?);
                self.tell_everyone_of_names();
                Ok(())
            }
            Err(errno) => {
                let _ = file::remove_dir(parent, &staging);
                if errno.0 == libc::EEXIST {
                    Ok(())
                } else {
                    Err(errno)
                }
            }
        }
    }
}
