//! The operations of a COMPOUND, RFC 8881 section 18, as they arrive. Each is decoded when its turn comes, so that a long
//! compound costs no memory; what it names is borrowed from the record.

use super::attributes::{Bitmap, NewAttributes};
use super::status::Status;
use super::xdr::{Decoder, Malformed};

pub const LONGEST_OPAQUE: usize = 1024;
/// Longest component that is decoded; longer than 255 bytes is NFS4ERR_NAMETOOLONG.
const LONGEST_NAME: usize = 4096;
const LONGEST_TARGET: usize = 1 << 16;
const LONGEST_HANDLE: usize = 128;
const MOST_SEC_PARMS: usize = 16;
const MOST_STATEIDS: usize = 1024;

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

impl<'a> Operation<'a> {
    /// The arguments of the operation with that number.
    pub fn decode(op: u32, decoder: &mut Decoder<'a>) -> Result<Operation<'a>, Status> {
        use Operation as O;
        let d = decoder;
        Ok(match op {
            number::ACCESS => O::Access(d.u32()?),
            number::CLOSE => {
                d.u32()?;
                O::Close(StateId::decode(d)?)
            }
            number::COMMIT => O::Commit {
                offset: d.u64()?,
                count: d.u32()?,
            },
            number::CREATE => create(d)?,
            number::GETATTR => O::GetAttributes(Bitmap::decode(d)?),
            number::GETFH => O::GetHandle,
            number::LINK => O::Link(d.opaque(LONGEST_NAME)?),
            number::LOCK => lock(d)?,
            number::LOCKT => {
                let (kind, offset, length) = (d.u32()?, d.u64()?, d.u64()?);
                d.u64()?;
                O::LockTest {
                    range: LockRange {
                        kind,
                        offset,
                        length,
                    },
                    owner: d.opaque(LONGEST_OPAQUE)?,
                }
            }
            number::LOCKU => {
                let kind = d.u32()?;
                d.u32()?;
                let state = StateId::decode(d)?;
                let (offset, length) = (d.u64()?, d.u64()?);
                O::Unlock {
                    state,
                    range: LockRange {
                        kind,
                        offset,
                        length,
                    },
                }
            }
            number::LOOKUP => O::Lookup(d.opaque(LONGEST_NAME)?),
            number::LOOKUPP => O::LookupParent,
            number::VERIFY | number::NVERIFY => O::Verify {
                same: op == number::VERIFY,
                mask: Bitmap::decode(d)?,
                values: d.opaque(LONGEST_TARGET)?,
            },
            number::OPEN => open(d)?,
            number::OPEN_DOWNGRADE => {
                let state = StateId::decode(d)?;
                d.u32()?;
                O::OpenDowngrade {
                    state,
                    access: d.u32()?,
                    deny: d.u32()?,
                }
            }
            number::PUTFH => O::PutHandle(d.opaque(LONGEST_HANDLE)?),
            number::PUTPUBFH | number::PUTROOTFH => O::PutRoot,
            number::READ => O::Read {
                state: StateId::decode(d)?,
                offset: d.u64()?,
                count: d.u32()?,
            },
            number::READDIR => O::ReadDirectory {
                cookie: d.u64()?,
                verifier: d.fixed()?,
                dircount: d.u32()?,
                maxcount: d.u32()?,
                wanted: Bitmap::decode(d)?,
            },
            number::READLINK => O::ReadLink,
            number::REMOVE => O::Remove(d.opaque(LONGEST_NAME)?),
            number::RENAME => O::Rename {
                from: d.opaque(LONGEST_NAME)?,
                to: d.opaque(LONGEST_NAME)?,
            },
            number::RESTOREFH => O::RestoreHandle,
            number::SAVEFH => O::SaveHandle,
            number::SECINFO => O::SecurityOf(d.opaque(LONGEST_NAME)?),
            number::SECINFO_NO_NAME => O::SecurityOfCurrent {
                parent: match d.u32()? {
                    0 => false,
                    1 => true,
                    _ => return Err(Status::BADXDR),
                },
            },
            number::SETATTR => O::SetAttributes {
                state: StateId::decode(d)?,
                attributes: NewAttributes::decode(d)?,
            },
            number::WRITE => O::Write {
                state: StateId::decode(d)?,
                offset: d.u64()?,
                stable: match d.u32()? {
                    stable @ 0..=2 => stable,
                    _ => return Err(Status::BADXDR),
                },
                data: d.opaque(super::rpc::LONGEST_RECORD)?,
            },
            number::BIND_CONN_TO_SESSION => {
                let (session, direction) = (d.fixed()?, d.u32()?);
                d.bool()?;
                O::BindConnection { session, direction }
            }
            number::EXCHANGE_ID => exchange_id(d)?,
            number::CREATE_SESSION => create_session(d)?,
            number::DESTROY_SESSION => O::DestroySession(d.fixed()?),
            number::FREE_STATEID => O::FreeState(StateId::decode(d)?),
            number::SEQUENCE => O::Sequence {
                session: d.fixed()?,
                sequence: d.u32()?,
                slot: d.u32()?,
                highest_slot: d.u32()?,
                cache: d.bool()?,
            },
            number::TEST_STATEID => {
                let count = d.count(MOST_STATEIDS)?;
                let states = (0..count).map(|_| StateId::decode(d));
                O::TestStates(states.collect::<Result<_, _>>()?)
            }
            number::DESTROY_CLIENTID => O::DestroyClient(d.u64()?),
            number::RECLAIM_COMPLETE => O::ReclaimComplete { one_fs: d.bool()? },
            // Delegations, named attributes, pNFS, SSV and the operations of minor version 0 alone.
            7 | 8 | 19 | 20 | 30 | 35 | 36 | 39 | 40 | 46..=51 | 54 | 56 => O::Unsupported,
            _ => O::Illegal,
        })
    }
}

fn create<'a>(d: &mut Decoder<'a>) -> Result<Operation<'a>, Status> {
    let object = match d.u32()? {
        1 => NewObject::Other,
        2 => NewObject::Directory,
        3 | 4 => {
            d.u64()?;
            NewObject::Device
        }
        5 => NewObject::Link(d.opaque(LONGEST_TARGET)?),
        6 => NewObject::Socket,
        7 => NewObject::Fifo,
        8 | 9 => NewObject::Other,
        _ => return Err(Status::BADXDR),
    };
    Ok(Operation::Create {
        object,
        name: d.opaque(LONGEST_NAME)?,
        attributes: NewAttributes::decode(d)?,
    })
}

fn lock<'a>(d: &mut Decoder<'a>) -> Result<Operation<'a>, Status> {
    let (kind, reclaim) = (d.u32()?, d.bool()?);
    let (offset, length) = (d.u64()?, d.u64()?);
    let locker = if d.bool()? {
        d.u32()?;
        let open = StateId::decode(d)?;
        d.u32()?;
        d.u64()?;
        Locker::New {
            open,
            owner: d.opaque(LONGEST_OPAQUE)?,
        }
    } else {
        let state = StateId::decode(d)?;
        d.u32()?;
        Locker::Known(state)
    };
    Ok(Operation::Lock {
        range: LockRange {
            kind,
            offset,
            length,
        },
        reclaim,
        locker,
    })
}

fn open<'a>(d: &mut Decoder<'a>) -> Result<Operation<'a>, Status> {
    d.u32()?;
    let (access, deny) = (d.u32()?, d.u32()?);
    d.u64()?;
    let owner = d.opaque(LONGEST_OPAQUE)?;
    let create = match d.u32()? {
        0 => None,
        1 => Some(match d.u32()? {
            0 => Create::Unchecked(NewAttributes::decode(d)?),
            1 => Create::Guarded(NewAttributes::decode(d)?),
            2 => Create::Exclusive(d.fixed()?, NewAttributes::default()),
            3 => Create::Exclusive(d.fixed()?, NewAttributes::decode(d)?),
            _ => return Err(Status::BADXDR),
        }),
        _ => return Err(Status::BADXDR),
    };
    let claim = match d.u32()? {
        0 => Claim::Null(d.opaque(LONGEST_NAME)?),
        1 => Claim::Previous {
            delegation: d.u32()?,
        },
        2 => {
            StateId::decode(d)?;
            d.opaque(LONGEST_NAME)?;
            Claim::OfDelegation
        }
        3 => {
            d.opaque(LONGEST_NAME)?;
            Claim::OfDelegation
        }
        4 => Claim::Handle,
        5 => {
            StateId::decode(d)?;
            Claim::OfDelegation
        }
        6 => Claim::OfDelegation,
        _ => return Err(Status::BADXDR),
    };
    Ok(Operation::Open(Open {
        access,
        deny,
        owner,
        create,
        claim,
    }))
}

fn exchange_id<'a>(d: &mut Decoder<'a>) -> Result<Operation<'a>, Status> {
    let verifier = d.fixed()?;
    let owner = d.opaque(LONGEST_OPAQUE)?;
    let flags = d.u32()?;
    let protection = match d.u32()? {
        0 => Protection::None,
        how @ (1 | 2) => {
            Bitmap::decode(d)?;
            Bitmap::decode(d)?;
            if how == 1 {
                Protection::MachineCredentials
            } else {
                for _ in 0..2 {
                    for _ in 0..d.count(MOST_SEC_PARMS)? {
                        d.opaque(LONGEST_OPAQUE)?;
                    }
                }
                d.u32()?;
                d.u32()?;
                Protection::SecretState
            }
        }
        _ => return Err(Status::BADXDR),
    };
    for _ in 0..d.count(1)? {
        d.opaque(LONGEST_OPAQUE)?;
        d.opaque(LONGEST_OPAQUE)?;
        d.i64()?;
        d.u32()?;
    }
    Ok(Operation::ExchangeId {
        verifier,
        owner,
        flags,
        protection,
    })
}

fn create_session<'a>(d: &mut Decoder<'a>) -> Result<Operation<'a>, Status> {
    let (client, sequence, flags) = (d.u64()?, d.u32()?, d.u32()?);
    let (fore, back) = (Channel::decode(d)?, Channel::decode(d)?);
    d.u32()?;
    for _ in 0..d.count(MOST_SEC_PARMS)? {
        match d.u32()? {
            0 => {}
            1 => {
                d.u32()?;
                d.opaque(LONGEST_OPAQUE)?;
                d.u32()?;
                d.u32()?;
                for _ in 0..d.count(MOST_SEC_PARMS)? {
                    d.u32()?;
                }
            }
            6 => {
                d.u32()?;
                d.opaque(LONGEST_OPAQUE)?;
                d.opaque(LONGEST_OPAQUE)?;
            }
            _ => return Err(Status::BADXDR),
        }
    }
    Ok(Operation::CreateSession {
        client,
        sequence,
        flags,
        fore,
        back,
    })
}
