//! One request as both transports hand it over, and what may become of it.

use std::ffi::CStr;

use super::abi::InHeader;
use crate::locks;
use crate::sys::pod::{self, Pod};
use crate::sys::Errno;

/// Longest name, EFS's and Linux' limit.
const NAME_MAX: usize = 255;

/// A decoded request. `buffer` holds the variable part (`len` bytes) and then takes the reply's body.
#[derive(Debug)]
pub struct Request<'a> {
    pub header: InHeader,
    pub fixed: &'a [u8; 128],
    pub buffer: &'a mut [u8],
    pub len: usize,
}

/// Work that may wait for the disk; gets the buffer for the reply's body, returns the bytes in it.
pub type Job = Box<dyn FnOnce(&mut [u8]) -> Result<usize, Errno> + Send>;

pub enum Outcome {
    /// Bytes of the reply's body in the buffer, or an errno.
    Reply(Result<usize, Errno>),
    /// Wait for a lock.
    Park(locks::Request),
    /// Run it where it holds up nobody.
    Slow(Job),
    /// The kernel wants no reply.
    Silent,
}

impl std::fmt::Debug for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Outcome::Reply(_) => "Reply",
            Outcome::Park(_) => "Park",
            Outcome::Slow(_) => "Slow",
            Outcome::Silent => "Silent",
        })
    }
}

impl From<Result<usize, Errno>> for Outcome {
    fn from(result: Result<usize, Errno>) -> Outcome {
        Outcome::Reply(result)
    }
}

impl Request<'_> {
    /// The fixed argument.
    pub fn argument<T: Pod>(&self) -> Result<T, Errno> {
        pod::read(self.fixed).ok_or(Errno(libc::EINVAL))
    }

    pub fn node(&self) -> u64 {
        self.header.nodeid
    }

    fn body(&self) -> &[u8] {
        self.buffer.get(..self.len).unwrap_or_default()
    }

    /// The one name in the body.
    pub fn name(&self) -> Result<&CStr, Errno> {
        Ok(take_name(self.body())?.0)
    }

    /// The two names in the body of a rename.
    pub fn two_names(&self) -> Result<(&CStr, &CStr), Errno> {
        let (first, rest) = take_name(self.body())?;
        Ok((first, take_name(rest)?.0))
    }

    /// A name and then any string, as SYMLINK has them.
    pub fn name_and_text(&self) -> Result<(&CStr, &CStr), Errno> {
        let (name, rest) = take_name(self.body())?;
        let text = CStr::from_bytes_until_nul(rest).map_err(|_| Errno(libc::EINVAL))?;
        Ok((name, text))
    }

    /// Puts a struct into the reply.
    pub fn reply<T: Pod>(&mut self, value: &T) -> Result<usize, Errno> {
        pod::write(self.buffer, value).ok_or(Errno(libc::EIO))
    }
}

/// A name that stays in its directory, and what follows it.
fn take_name(body: &[u8]) -> Result<(&CStr, &[u8]), Errno> {
    let name = CStr::from_bytes_until_nul(body).map_err(|_| Errno(libc::EINVAL))?;
    let bytes = name.to_bytes();
    if bytes.len() > NAME_MAX {
        return Err(Errno(libc::ENAMETOOLONG));
    }
    if bytes.is_empty() || bytes == b"." || bytes == b".." || bytes.contains(&b'/') {
        return Err(Errno(libc::EINVAL));
    }
    Ok((name, body.get(bytes.len() + 1..).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for body in [&b"\0"[..], b".\0", b"..\0", b"a/b\0", b"/\0"] {
            assert_eq!(take_name(body).map(|_| ()), Err(Errno(libc::EINVAL)));
        }
        let mut long = vec![b'x'; 256];
        long.push(0);
        assert_eq!(take_name(&long).map(|_| ()), Err(Errno(libc::ENAMETOOLONG)));
        assert!(take_name(&long[1..]).is_ok());
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_apart_without_a_panic(mut body in proptest::collection::vec(any::<u8>(), 0..600), len in 0usize..700) {
            let fixed = [0u8; 128];
            let request = Request { header: InHeader::default(), fixed: &fixed, buffer: &mut body, len };
            let _ = request.name();
            let _ = request.two_names();
            if let Ok((name, _)) = request.name_and_text() {
                prop_assert!(!name.to_bytes().contains(&b'/'));
                prop_assert!(name.to_bytes().len() <= NAME_MAX);
            }
        }
    }
}
