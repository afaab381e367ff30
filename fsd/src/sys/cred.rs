//! File system credentials of the calling thread alone.
//!
//! libc's `setgroups` broadcasts to every thread; these are the raw calls, which do not.

use super::{check_long, Errno};

/// Takes on `uid`, `gid` and `groups` for file system access. A `uid` other than 0 also takes away what root may
/// bypass (the kernel drops the file system capabilities with it); going back to 0 restores them.
///
/// # Errors
/// EPERM when the process may not change its groups; the thread's uid is then no longer root's.
pub fn assume(uid: u32, gid: u32, groups: &[u32]) -> Result<(), Errno> {
    // SAFETY: the pointer and length describe a live slice of 32-bit gids; the other calls take integers.
    unsafe {
        check_long(libc::syscall(
            libc::SYS_setgroups,
            groups.len(),
            groups.as_ptr(),
        ))?;
        libc::syscall(libc::SYS_setfsgid, gid);
        libc::syscall(libc::SYS_setfsuid, uid);
        // setfsuid answers with the previous id and never with an error: ask with an invalid id whether it took.
        let now_uid = libc::syscall(libc::SYS_setfsuid, u32::MAX) as u32;
        let now_gid = libc::syscall(libc::SYS_setfsgid, u32::MAX) as u32;
        if now_uid == uid && now_gid == gid {
            Ok(())
        } else {
            Err(Errno(libc::EPERM))
        }
    }
}

/// The calling thread's file system uid alone; 0 brings root's file system capabilities back.
pub fn set_fsuid(uid: u32) {
    // SAFETY: takes an integer; the caller may set any uid (`assume` has shown it).
    unsafe {
        libc::syscall(libc::SYS_setfsuid, uid);
    }
}

/// The process' umask goes to 0: a client's kernel has applied its caller's.
pub fn clear_umask() {
    // SAFETY: umask takes an integer and cannot fail.
    unsafe {
        libc::umask(0);
    }
}

/// Tells the kernel that this process writes what others have dirty: memory it needs for that must not wait for those pages
/// to be written (`PR_SET_IO_FLUSHER`). Threads started later inherit it. Without the right to say so nothing changes.
pub fn declare_io_flusher() {
    const PR_SET_IO_FLUSHER: libc::c_int = 57;
    // SAFETY: prctl takes integers here.
    unsafe {
        libc::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
    }
}

/// Pins the calling thread to one processor.
pub fn pin_to_cpu(cpu: usize) -> Result<(), Errno> {
    // SAFETY: the set is a plain bit mask on the stack, its size is passed.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if cpu >= libc::CPU_SETSIZE as usize {
            return Err(Errno(libc::EINVAL));
        }
        libc::CPU_SET(cpu, &mut set);
        super::check(libc::sched_setaffinity(
            0,
            std::mem::size_of::<libc::cpu_set_t>(),
            &set,
        ))?;
    }
    Ok(())
}

/// Raises the soft limit of open descriptors to the hard one (and the hard one to `fs.nr_open` where allowed); returns the limit.
pub fn raise_descriptor_limit() -> u64 {
    // SAFETY: getrlimit/setrlimit read and write the struct on the stack.
    unsafe {
        let mut limit = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) != 0 {
            return 1024;
        }
        let wanted = libc::rlimit {
            rlim_cur: 1 << 20,
            rlim_max: (1 << 20).max(limit.rlim_max),
        };
        if libc::setrlimit(libc::RLIMIT_NOFILE, &wanted) == 0 {
            return wanted.rlim_cur;
        }
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        limit.rlim_cur
    }
}
