//! Making, ending and listing FUSE mounts.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{check, check_long, Errno};

const FSCONFIG_SET_FLAG: u32 = 0;
const FSCONFIG_SET_STRING: u32 = 1;
const FSCONFIG_CMD_CREATE: u32 = 6;
const FSOPEN_CLOEXEC: u32 = 1;
const FSMOUNT_CLOEXEC: u32 = 1;
const MOUNT_ATTR_RDONLY: u32 = 1;
const MOUNT_ATTR_NOSUID: u32 = 2;
const MOUNT_ATTR_NODEV: u32 = 4;
const MOVE_MOUNT_F_EMPTY_PATH: u32 = 4;

/// What a new FUSE mount is called and how it behaves.
#[derive(Debug)]
pub struct FuseMount<'a> {
    pub device: RawFd,
    pub source: &'a str,
    pub root_mode: u32,
    pub read_only: bool,
    pub max_read: u32,
}

fn configure(context: &OwnedFd, key: &CStr, value: Option<&CStr>) -> Result<(), Errno> {
    let command = if value.is_some() {
        FSCONFIG_SET_STRING
    } else {
        FSCONFIG_SET_FLAG
    };
    // SAFETY: the strings live for the call; a null value is what SET_FLAG wants.
    unsafe {
        check_long(libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            command,
            key.as_ptr(),
            value.map_or(std::ptr::null(), CStr::as_ptr),
            0,
        ))?;
    }
    Ok(())
}

fn text(value: String) -> Result<CString, Errno> {
    CString::new(value).map_err(|_| Errno(libc::EINVAL))
}

/// Makes the mount and attaches it at `target`; returns a descriptor of the mount (it pins it: close it to let go).
pub fn mount_fuse(options: &FuseMount<'_>, target: &Path) -> Result<OwnedFd, Errno> {
    // SAFETY: fsopen takes a string and flags; its result is a descriptor that is ours.
    let context = unsafe {
        let fd = check_long(libc::syscall(
            libc::SYS_fsopen,
            c"fuse".as_ptr(),
            FSOPEN_CLOEXEC,
        ))?;
        OwnedFd::from_raw_fd(fd as RawFd)
    };
    let string = |key: &CStr, value: String| configure(&context, key, Some(&text(value)?));
    string(c"source", options.source.to_owned())?;
    string(c"fd", options.device.to_string())?;
    string(c"rootmode", format!("{:o}", options.root_mode))?;
    string(c"user_id", "0".to_owned())?;
    string(c"group_id", "0".to_owned())?;
    string(c"max_read", options.max_read.to_string())?;
    configure(&context, c"allow_other", None)?;
    if options.read_only {
        configure(&context, c"ro", None)?;
    }
    let mut attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
    if options.read_only {
        attributes |= MOUNT_ATTR_RDONLY;
    }
    let path = CString::new(target.as_os_str().as_bytes()).map_err(|_| Errno(libc::EINVAL))?;
    // SAFETY: null key and value are what CMD_CREATE wants; fsmount's result is ours; the paths live for the calls.
    unsafe {
        check_long(libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            FSCONFIG_CMD_CREATE,
            std::ptr::null::<libc::c_char>(),
            std::ptr::null::<libc::c_char>(),
            0,
        ))?;
        let fd = check_long(libc::syscall(
            libc::SYS_fsmount,
            context.as_raw_fd(),
            FSMOUNT_CLOEXEC,
            attributes,
        ))?;
        let mount = OwnedFd::from_raw_fd(fd as RawFd);
        check_long(libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            path.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        ))?;
        Ok(mount)
    }
}

/// Takes the mount at `target` out of the tree and aborts its connection: whoever waits in it gets an error.
pub fn detach(target: &Path) -> Result<(), Errno> {
    let path = CString::new(target.as_os_str().as_bytes()).map_err(|_| Errno(libc::EINVAL))?;
    // SAFETY: the path lives for the call.
    unsafe {
        check(libc::umount2(
            path.as_ptr(),
            libc::MNT_FORCE | libc::MNT_DETACH | libc::UMOUNT_NOFOLLOW,
        ))?;
    }
    Ok(())
}

/// (major, minor) of the file system an open descriptor lies on. Does not ask the file system.
pub fn device_of(fd: &OwnedFd) -> Result<(u32, u32), Errno> {
    // SAFETY: statx fills the zeroed struct; AT_STATX_DONT_SYNC keeps it from asking the server.
    unsafe {
        let mut stat: libc::statx = std::mem::zeroed();
        check(libc::statx(
            fd.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC,
            libc::STATX_INO,
            &mut stat,
        ))?;
        Ok((stat.stx_dev_major, stat.stx_dev_minor))
    }
}

/// (major, minor) of what is on top of the mounts at a path. Does not ask the file system, which may be ended.
pub fn device_at(path: &Path) -> Result<(u32, u32), Errno> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno(libc::EINVAL))?;
    // SAFETY: the path lives for the call; statx fills the zeroed struct. An empty mask asks for no attribute, and
    // the device is told with any.
    unsafe {
        let mut stat: libc::statx = std::mem::zeroed();
        check(libc::statx(
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT | libc::AT_STATX_DONT_SYNC,
            0,
            &mut stat,
        ))?;
        Ok((stat.stx_dev_major, stat.stx_dev_minor))
    }
}

/// Asks the mounted file system for its statistics: one request through its connection.
pub fn knock(mount: RawFd) {
    // SAFETY: fstatfs fills the struct on the stack.
    unsafe {
        let mut stat: libc::statfs = std::mem::zeroed();
        libc::fstatfs(mount, &mut stat);
    }
}

/// Mounts fusectl at `path` unless it is there; through it connections can be aborted.
pub fn provide_connections(path: &Path) {
    let mounted = mounts().is_ok_and(|mounts| mounts.iter().any(|mount| mount.kind == "fusectl"));
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else {
        return;
    };
    if mounted {
        return;
    }
    // SAFETY: strings that live for the call; no options.
    let result = unsafe {
        libc::mount(
            c"fusectl".as_ptr(),
            path.as_ptr(),
            c"fusectl".as_ptr(),
            0,
            std::ptr::null(),
        )
    };
    if result != 0 {
        tracing::info!(errno = %Errno::last(), "fusectl cannot be mounted; mounts are aborted by unmounting alone");
    }
}

/// Whether the running kernel is this version or a later one.
pub fn kernel_at_least(major: u32, minor: u32) -> bool {
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = text
        .split(|c: char| !c.is_ascii_digit())
        .map(|part| part.parse::<u32>().unwrap_or(0));
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    found >= (major, minor)
}

/// A line of `/proc/self/mountinfo`.
#[derive(Debug, PartialEq, Eq)]
pub struct MountEntry {
    pub minor: u32,
    pub target: PathBuf,
    pub kind: String,
}

/// The mounts of this mount namespace, oldest first.
pub fn mounts() -> Result<Vec<MountEntry>, Errno> {
    let text = std::fs::read("/proc/self/mountinfo")?;
    Ok(text
        .split(|byte| *byte == b'\n')
        .filter_map(parse_mount)
        .collect())
}

fn parse_mount(line: &[u8]) -> Option<MountEntry> {
    let mut fields = line.split(|byte| *byte == b' ');
    let device = std::str::from_utf8(fields.nth(2)?).ok()?;
    let minor = device.split_once(':')?.1.parse().ok()?;
    let target = unescape(fields.nth(1)?);
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
    Some(MountEntry {
        minor,
        target: PathBuf::from(std::ffi::OsString::from_vec_lossless(target)),
        kind: String::from_utf8_lossy(kind).into_owned(),
    })
}

trait FromBytes {
    fn from_vec_lossless(bytes: Vec<u8>) -> Self;
}

impl FromBytes for std::ffi::OsString {
    fn from_vec_lossless(bytes: Vec<u8>) -> Self {
        std::os::unix::ffi::OsStringExt::from_vec(bytes)
    }
}

/// mountinfo writes blanks, tabs, line feeds and backslashes as `\ooo`.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut at = 0;
    while at < field.len() {
        let octal = field
            .get(at + 1..at + 4)
            .filter(|_| field[at] == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal {
            Some(byte) => {
                out.push(byte);
                at += 4;
            }
            None => {
                out.push(field[at]);
                at += 1;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mountinfo_line_with_a_blank_in_its_path_is_read() {
        let entry = parse_mount(
            b"36 35 0:98 / /mnt/my\\040dir rw,noatime master:1 - fuse.x source rw,user_id=0",
        );
        assert_eq!(
            entry,
            Some(MountEntry {
                minor: 98,
                target: PathBuf::from("/mnt/my dir"),
                kind: "fuse.x".to_owned(),
            })
        );
    }

    #[test]
    fn a_broken_line_is_skipped() {
        assert_eq!(parse_mount(b"36 35 nonsense"), None);
        assert_eq!(parse_mount(b""), None);
    }
}
