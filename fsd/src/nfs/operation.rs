//! The operations of a COMPOUND, RFC 8881 section 18, as they arrive. Each is decoded when its turn comes, so that a long
//! compound costs no memory; what it names is borrowed from the record.

mod decoding;

use super::attributes::{Bitmap, NewAttributes};
use super::status::Status;
use super::xdr::{Decoder, Malformed};

pub const LONGEST_OPAQUE: usize = 1024;

pub type SessionId = [u8; 16];
pub type Verifier = [u8; 8];

/// `stateid4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StateId {
    pub seqid: u32,
    pub other: [u8; 12],
}

impl StateId {
    pub const ANONYMOUS: StateId = StateId {
        seqid: 0,
        other: [0; 12],
    };
    pub const BYPASS: StateId = StateId {
        seqid: u32::MAX,
        other: [0xff; 12],
    };
    /// "The current stateid", section 16.2.3.1.2.
    pub const CURRENT: StateId = StateId {
        seqid: 1,
        other: [0; 12],
    };

    fn decode(decoder: &mut Decoder<'_>) -> Result<StateId, Malformed> {
        Ok(StateId {
            seqid: decoder.u32()?,
            other: decoder.fixed()?,
        })
    }

    /// One of the special values that name no state.
    pub fn special(&self) -> bool {
        self.other == [0; 12] || self.other == [0xff; 12]
    }
}

/// `channel_attrs4`.
#[derive(Clone, Copy, Debug)]
pub struct Channel {
    pub header_pad: u32,
    pub max_request: u32,
    pub max_response: u32,
    pub max_cached: u32,
    pub max_operations: u32,
    pub max_requests: u32,
}

impl Channel {
    fn decode(decoder: &mut Decoder<'_>) -> Result<Channel, Malformed> {
        let channel = Channel {
            header_pad: decoder.u32()?,
            max_request: decoder.u32()?,
            max_response: decoder.u32()?,
            max_cached: decoder.u32()?,
            max_operations: decoder.u32()?,
            max_requests: decoder.u32()?,
        };
        for _ in 0..decoder.count(1)? {
            decoder.u32()?;
        }
        Ok(channel)
    }
}

/// `open_claim4`. No client of ours holds a delegation to claim by.
#[derive(Clone, Copy, Debug)]
pub enum Claim<'a> {
    Null(&'a [u8]),
    Previous { delegation: u32 },
    Handle,
    OfDelegation,
}

#[derive(Debug)]
pub enum Create {
    Unchecked(NewAttributes),
    Guarded(NewAttributes),
    /// EXCLUSIVE4 of NFSv4.0 has no attributes.
    Exclusive(Verifier, NewAttributes),
}

#[derive(Debug)]
pub struct Open<'a> {
    pub access: u32,
    pub deny: u32,
    pub owner: &'a [u8],
    pub create: Option<Create>,
    pub claim: Claim<'a>,
}

#[derive(Debug)]
pub enum NewObject<'a> {
    Directory,
    Link(&'a [u8]),
    Socket,
    Fifo,
    /// Devices.
    Device,
    Other,
}

#[derive(Clone, Copy, Debug)]
pub enum Locker<'a> {
    /// The first lock of an owner on a file.
    New {
        open: StateId,
        owner: &'a [u8],
    },
    Known(StateId),
}

#[derive(Clone, Copy, Debug)]
pub struct LockRange {
    pub kind: u32,
    pub offset: u64,
    pub length: u64,
}

/// How a client wants its state protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    None,
    MachineCredentials,
    SecretState,
}

#[derive(Debug)]
pub enum Operation<'a> {
    Access(u32),
    Close(StateId),
    Commit {
        offset: u64,
        count: u32,
    },
    Create {
        object: NewObject<'a>,
        name: &'a [u8],
        attributes: NewAttributes,
    },
    GetAttributes(Bitmap),
    GetHandle,
    Link(&'a [u8]),
    Lock {
        range: LockRange,
        reclaim: bool,
        locker: Locker<'a>,
    },
    LockTest {
        range: LockRange,
        owner: &'a [u8],
    },
    Unlock {
        state: StateId,
        range: LockRange,
    },
    Lookup(&'a [u8]),
    LookupParent,
    Verify {
        same: bool,
        mask: Bitmap,
        values: &'a [u8],
    },
    Open(Open<'a>),
    OpenDowngrade {
        state: StateId,
        access: u32,
        deny: u32,
    },
    PutHandle(&'a [u8]),
    PutRoot,
    Read {
        state: StateId,
        offset: u64,
        count: u32,
    },
    ReadDirectory {
        cookie: u64,
        verifier: Verifier,
        dircount: u32,
        maxcount: u32,
        wanted: Bitmap,
    },
    ReadLink,
    Remove(&'a [u8]),
    Rename {
        from: &'a [u8],
        to: &'a [u8],
    },
    RestoreHandle,
    SaveHandle,
    SecurityOf(&'a [u8]),
    SecurityOfCurrent {
        parent: bool,
    },
    SetAttributes {
        state: StateId,
        attributes: NewAttributes,
    },
    Write {
        state: StateId,
        offset: u64,
        stable: u32,
        data: &'a [u8],
    },
    BindConnection {
        session: SessionId,
        direction: u32,
    },
    ExchangeId {
        verifier: Verifier,
        owner: &'a [u8],
        flags: u32,
        protection: Protection,
    },
    CreateSession {
        client: u64,
        sequence: u32,
        flags: u32,
        fore: Channel,
        back: Channel,
    },
    DestroySession(SessionId),
    FreeState(StateId),
    Sequence {
        session: SessionId,
        sequence: u32,
        slot: u32,
        highest_slot: u32,
        cache: bool,
    },
    TestStates(Vec<StateId>),
    DestroyClient(u64),
    ReclaimComplete {
        one_fs: bool,
    },
    /// Known to the protocol, not to this server (nor to EFS).
    Unsupported,
    /// Not to be used in minor version 1, or unknown.
    Illegal,
}

pub const ILLEGAL: u32 = 10_044;

pub mod number {
    pub const ACCESS: u32 = 3;
    pub const CLOSE: u32 = 4;
    pub const COMMIT: u32 = 5;
    pub const CREATE: u32 = 6;
    pub const GETATTR: u32 = 9;
    pub const GETFH: u32 = 10;
    pub const LINK: u32 = 11;
    pub const LOCK: u32 = 12;
    pub const LOCKT: u32 = 13;
    pub const LOCKU: u32 = 14;
    pub const LOOKUP: u32 = 15;
    pub const LOOKUPP: u32 = 16;
    pub const NVERIFY: u32 = 17;
    pub const OPEN: u32 = 18;
    pub const OPEN_DOWNGRADE: u32 = 21;
    pub const PUTFH: u32 = 22;
    pub const PUTPUBFH: u32 = 23;
    pub const PUTROOTFH: u32 = 24;
    pub const READ: u32 = 25;
    pub const READDIR: u32 = 26;
    pub const READLINK: u32 = 27;
    pub const REMOVE: u32 = 28;
    pub const RENAME: u32 = 29;
    pub const RESTOREFH: u32 = 31;
    pub const SAVEFH: u32 = 32;
    pub const SECINFO: u32 = 33;
    pub const SETATTR: u32 = 34;
    pub const VERIFY: u32 = 37;
    pub const WRITE: u32 = 38;
    pub const BIND_CONN_TO_SESSION: u32 = 41;
    pub const EXCHANGE_ID: u32 = 42;
    pub const CREATE_SESSION: u32 = 43;
    pub const DESTROY_SESSION: u32 = 44;
    pub const FREE_STATEID: u32 = 45;
    pub const SECINFO_NO_NAME: u32 = 52;
    pub const SEQUENCE: u32 = 53;
    pub const TEST_STATEID: u32 = 55;
    pub const DESTROY_CLIENTID: u32 = 57;
    pub const RECLAIM_COMPLETE: u32 = 58;
}
