//! Waking threads: eventfd, epoll, signals.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::{check, Errno};

/// A counter that wakes whoever polls it.
#[derive(Debug)]
pub struct EventFd(OwnedFd);

impl EventFd {
    pub fn new() -> Result<EventFd, Errno> {
        // SAFETY: eventfd takes integers; a non-negative result is a descriptor that is ours.
        unsafe {
            let fd = check(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK))?;
            Ok(EventFd(OwnedFd::from_raw_fd(fd)))
        }
    }

    pub fn signal(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: writes eight bytes from the stack. EAGAIN (counter full) still leaves it readable.
        unsafe {
            libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), 8);
        }
    }

    pub fn drain(&self) {
        let mut counter = [0u8; 8];
        // SAFETY: reads eight bytes into the stack.
        unsafe {
            libc::read(self.0.as_raw_fd(), counter.as_mut_ptr().cast(), 8);
        }
    }
}

impl AsRawFd for EventFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// An epoll set; each descriptor carries a 64-bit token.
#[derive(Debug)]
pub struct Epoll(OwnedFd);

impl Epoll {
    pub fn new() -> Result<Epoll, Errno> {
        // SAFETY: as in EventFd::new.
        unsafe {
            let fd = check(libc::epoll_create1(libc::EPOLL_CLOEXEC))?;
            Ok(Epoll(OwnedFd::from_raw_fd(fd)))
        }
    }

    /// Watches `fd` for input (and hang-up). `edge`: one wake-up per arrival, for descriptors served by several threads.
    pub fn add(&self, fd: RawFd, token: u64, edge: bool) -> Result<(), Errno> {
        let mut event = libc::epoll_event {
            events: (libc::EPOLLIN as u32) | if edge { libc::EPOLLET as u32 } else { 0 },
            u64: token,
        };
        // SAFETY: the event lives on the stack for the call.
        unsafe {
            check(libc::epoll_ctl(
                self.0.as_raw_fd(),
                libc::EPOLL_CTL_ADD,
                fd,
                &mut event,
            ))?;
        }
        Ok(())
    }

    /// Watches `fd` for nothing yet: see [`Epoll::once`].
    pub fn add_idle(&self, fd: RawFd, token: u64) -> Result<(), Errno> {
        self.control(libc::EPOLL_CTL_ADD, fd, 0, token)
    }

    /// One wake-up when `fd` can be read or written, as asked, and then none until asked again.
    pub fn once(&self, fd: RawFd, token: u64, read: bool, write: bool) -> Result<(), Errno> {
        let bit = |wanted, bit: i32| if wanted { bit as u32 } else { 0 };
        let events = bit(read, libc::EPOLLIN | libc::EPOLLRDHUP) | bit(write, libc::EPOLLOUT);
        self.control(libc::EPOLL_CTL_MOD, fd, events, token)
    }

    fn control(&self, op: i32, fd: RawFd, events: u32, token: u64) -> Result<(), Errno> {
        let mut event = libc::epoll_event {
            events: events | libc::EPOLLONESHOT as u32,
            u64: token,
        };
        // SAFETY: the event lives on the stack for the call.
        unsafe {
            check(libc::epoll_ctl(self.0.as_raw_fd(), op, fd, &mut event))?;
        }
        Ok(())
    }

    pub fn remove(&self, fd: RawFd) {
        // SAFETY: a null event is allowed for EPOLL_CTL_DEL.
        unsafe {
            libc::epoll_ctl(
                self.0.as_raw_fd(),
                libc::EPOLL_CTL_DEL,
                fd,
                std::ptr::null_mut(),
            );
        }
    }

    /// Waits without a limit for the next event and returns its token.
    pub fn wait(&self) -> Result<u64, Errno> {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        loop {
            // SAFETY: room for one event on the stack.
            let n = unsafe { libc::epoll_wait(self.0.as_raw_fd(), &mut event, 1, -1) };
            if n == 1 {
                return Ok(event.u64);
            }
            if n < 0 && Errno::last().0 != libc::EINTR {
                return Err(Errno::last());
            }
        }
    }
}

/// SIGTERM, SIGINT and SIGHUP as a descriptor; SIGPIPE is ignored. Call before any thread starts, so that all inherit the mask.
pub fn termination_signals() -> Result<OwnedFd, Errno> {
    // SAFETY: the set is initialised by sigemptyset; signalfd's result is ours.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
            libc::sigaddset(&mut set, signal);
        }
        check(libc::pthread_sigmask(
            libc::SIG_BLOCK,
            &set,
            std::ptr::null_mut(),
        ))?;
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        let fd = check(libc::signalfd(
            -1,
            &set,
            libc::SFD_CLOEXEC | libc::SFD_NONBLOCK,
        ))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}
