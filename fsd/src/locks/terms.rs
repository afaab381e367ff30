//! What is asked of the lock table and what it answers.

/// The last byte that a lock can name; a range that ends here follows the file's end (`l_len == 0`).
pub const END_OF_FILE: u64 = i64::MAX as u64;

/// A file, by its id in the volume.
pub type FileId = u64;
/// A mount (one client connection).
pub type MountId = u64;

/// Who holds or waits: the door's owner number within one mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    pub mount: MountId,
    pub owner: u64,
}

/// Which of the two families of locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Space {
    Posix,
    Flock,
}

/// Shared or exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Read,
    Write,
}

impl Kind {
    pub(super) fn conflicts(self, other: Kind) -> bool {
        self == Kind::Write || other == Kind::Write
    }
}

/// Bytes `start..=end`; `end` is never past [`END_OF_FILE`] and never before `start`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Range {
    pub(super) start: u64,
    pub(super) end: u64,
}

impl Range {
    /// Every byte, present and future: what `flock` takes.
    pub const WHOLE: Range = Range {
        start: 0,
        end: END_OF_FILE,
    };

    /// `start..=end`, both in bytes. `None` (EINVAL) when the range is empty or begins past [`END_OF_FILE`].
    pub fn new(start: u64, end: u64) -> Option<Range> {
        let end = end.min(END_OF_FILE);
        (start <= end).then_some(Range { start, end })
    }

    pub fn start(self) -> u64 {
        self.start
    }

    /// The last byte of the range; [`END_OF_FILE`] when it follows the file's end.
    pub fn end(self) -> u64 {
        self.end
    }

    pub(super) fn overlaps(self, other: Range) -> bool {
        self.start <= other.end && other.start <= self.end
    }

    /// Overlapping, or adjacent without a gap.
    pub(super) fn touches(self, other: Range) -> bool {
        self.start <= other.end.saturating_add(1) && other.start <= self.end.saturating_add(1)
    }
}

/// One request for a lock. `pid` is what `F_GETLK` shows to others; 0 when the door does not know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    pub file: FileId,
    pub space: Space,
    pub owner: Owner,
    pub pid: u32,
    pub kind: Kind,
    /// Ignored for [`Space::Flock`], which is always [`Range::WHOLE`].
    pub range: Range,
}

/// A queued request, until a later call reports it woken or it is cancelled. Never reused, later is larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// Which limit of EFS a request ran into.
/// <https://docs.aws.amazon.com/efs/latest/ug/limits.html>
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitExceeded {
    /// 512 locks on one file, over all clients and users.
    File,
    /// 65,536 locks of one connection.
    Mount,
}

impl LimitExceeded {
    /// EFS answers both with "Disk quota exceeded".
    /// <https://docs.aws.amazon.com/efs/latest/ug/troubleshooting-efs-fileop-errors.html>
    pub const ERRNO: i32 = libc::EDQUOT;
}

/// What became of a request for a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Granted,
    /// Someone else holds a conflicting lock and the request does not block (EAGAIN).
    WouldBlock,
    /// The answer comes with this ticket, in the `woken` of a later call.
    Queued(Ticket),
    /// Waiting would close a circle of POSIX owners that wait for each other (EDEADLK).
    Deadlock,
    LimitExceeded(LimitExceeded),
}

/// A queued request whose answer is now known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Woken {
    pub ticket: Ticket,
    /// `Err` when the lock came free but a limit forbids one more.
    pub result: Result<(), LimitExceeded>,
}

/// A held lock that stands in the way: the answer to `F_GETLK`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conflict {
    pub kind: Kind,
    pub range: Range,
    pub owner: Owner,
    pub pid: u32,
}

/// What [`LockTable::release_mount`] ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// The mount's own queued requests, none of which will be granted.
    pub cancelled: Vec<Ticket>,
    /// Requests of other mounts that have their answer now.
    pub woken: Vec<Woken>,
}

/// How much a table admits.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub per_file: usize,
    pub per_mount: usize,
    /// How many conflicting requests a waiter lets pass before newcomers queue behind it.
    pub overtaking: u32,
}

impl Default for Limits {
    /// EFS's quotas.
    fn default() -> Self {
        Limits {
            per_file: 512,
            per_mount: 65_536,
            overtaking: 16,
        }
    }
}
