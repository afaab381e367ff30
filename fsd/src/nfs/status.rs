//! `nfsstat4`, RFC 8881 section 15.

use super::xdr::Malformed;
use crate::sys::Errno;

/// The outcome of an operation on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub u32);

macro_rules! statuses {
    ($($name:ident = $value:expr),+ $(,)?) => {
        impl Status {
            $(#[allow(dead_code)]
            pub const $name: Status = Status($value);)+
        }
    };
}

statuses! {
    OK = 0, PERM = 1, NOENT = 2, IO = 5, ACCESS = 13, EXIST = 17, XDEV = 18, NOTDIR = 20, ISDIR = 21, INVAL = 22,
    FBIG = 27, NOSPC = 28, ROFS = 30, MLINK = 31, NAMETOOLONG = 63, NOTEMPTY = 66, DQUOT = 69, STALE = 70,
    BADHANDLE = 10001, BAD_COOKIE = 10003, NOTSUPP = 10004, TOOSMALL = 10005, SERVERFAULT = 10006, BADTYPE = 10007,
    DELAY = 10008, SAME = 10009, DENIED = 10010, EXPIRED = 10011, LOCKED = 10012, GRACE = 10013, SHARE_DENIED = 10015,
    WRONGSEC = 10016, CLID_INUSE = 10017, NOFILEHANDLE = 10020, MINOR_VERS_MISMATCH = 10021, STALE_CLIENTID = 10022,
    STALE_STATEID = 10023, OLD_STATEID = 10024, BAD_STATEID = 10025, NOT_SAME = 10027, SYMLINK = 10029,
    RESTOREFH = 10030, ATTRNOTSUPP = 10032, NO_GRACE = 10033, RECLAIM_BAD = 10034, RECLAIM_CONFLICT = 10035,
    BADXDR = 10036, LOCKS_HELD = 10037, OPENMODE = 10038, BADOWNER = 10039, BADCHAR = 10040, BADNAME = 10041,
    BAD_RANGE = 10042, OP_ILLEGAL = 10044, DEADLOCK = 10045, ADMIN_REVOKED = 10047, BADSESSION = 10052, BADSLOT = 10053,
    COMPLETE_ALREADY = 10054, CONN_NOT_BOUND_TO_SESSION = 10055, SEQ_MISORDERED = 10063, SEQUENCE_POS = 10064,
    REQ_TOO_BIG = 10065, REP_TOO_BIG = 10066, REP_TOO_BIG_TO_CACHE = 10067, RETRY_UNCACHED_REP = 10068,
    TOO_MANY_OPS = 10070, OP_NOT_IN_SESSION = 10071, CLIENTID_BUSY = 10074, SEQ_FALSE_RETRY = 10076,
    BAD_HIGH_SLOT = 10077, DEADSESSION = 10078, ENCR_ALG_UNSUPP = 10079, NOT_ONLY_OP = 10081, WRONG_CRED = 10082,
    WRONG_TYPE = 10083, REJECT_DELEG = 10085,
}

impl From<Malformed> for Status {
    fn from(_: Malformed) -> Status {
        Status::BADXDR
    }
}

impl From<Errno> for Status {
    fn from(errno: Errno) -> Status {
        match errno.0 {
            libc::EPERM => Status::PERM,
            libc::ENOENT => Status::NOENT,
            libc::EACCES => Status::ACCESS,
            libc::EEXIST => Status::EXIST,
            libc::EXDEV => Status::XDEV,
            libc::ENOTDIR => Status::NOTDIR,
            libc::EISDIR => Status::ISDIR,
            libc::EINVAL => Status::INVAL,
            libc::EFBIG | libc::EOVERFLOW => Status::FBIG,
            libc::ENOSPC => Status::NOSPC,
            libc::EROFS => Status::ROFS,
            libc::EMLINK => Status::MLINK,
            libc::ENAMETOOLONG => Status::NAMETOOLONG,
            libc::ENOTEMPTY => Status::NOTEMPTY,
            libc::EDQUOT => Status::DQUOT,
            libc::ESTALE => Status::STALE,
            libc::ELOOP => Status::SYMLINK,
            libc::EAGAIN | libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::EINTR => {
                Status::DELAY
            }
            libc::EDEADLK => Status::DEADLOCK,
            libc::EOPNOTSUPP | libc::ENOSYS => Status::NOTSUPP,
            libc::ETXTBSY | libc::EBUSY => Status::ACCESS,
            _ => Status::IO,
        }
    }
}
