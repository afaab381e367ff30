//! Sockets: descriptors that come with messages.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use super::Errno;

/// Descriptors that one message may carry.
const MOST: usize = 8;

/// Reads from `stream`; descriptors sent along (`SCM_RIGHTS`) are appended to `descriptors`.
pub fn receive(
    stream: &UnixStream,
    out: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> Result<usize, Errno> {
    #[repr(align(8))]
    struct Control([u8; 64]);
    const { assert!(64 >= 16 + 4 * MOST) };
    let mut control = Control([0; 64]);
    let mut part = libc::iovec {
        iov_base: out.as_mut_ptr().cast(),
        iov_len: out.len(),
    };
    // SAFETY: msghdr is integers and pointers, null where not set; the iovec describes `out`, the control buffer is aligned
    // as cmsghdr; the kernel writes within both. A control message of SCM_RIGHTS holds descriptors that are ours now.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = control.0.len();
        let n = loop {
            let n = libc::recvmsg(stream.as_raw_fd(), &mut message, libc::MSG_CMSG_CLOEXEC);
            if n >= 0 || Errno::last().0 != libc::EINTR {
                break n;
            }
        };
        let n = usize::try_from(n).map_err(|_| Errno::last())?;
        let mut head = libc::CMSG_FIRSTHDR(&message);
        while !head.is_null() {
            if (*head).cmsg_level == libc::SOL_SOCKET && (*head).cmsg_type == libc::SCM_RIGHTS {
                let bytes = (*head).cmsg_len - libc::CMSG_LEN(0) as usize;
                let first = libc::CMSG_DATA(head).cast::<i32>();
                for at in 0..bytes / std::mem::size_of::<i32>() {
                    let fd = std::ptr::read_unaligned(first.add(at));
                    descriptors.push(OwnedFd::from_raw_fd(fd));
                }
            }
            head = libc::CMSG_NXTHDR(&message, head);
        }
        Ok(n)
    }
}
