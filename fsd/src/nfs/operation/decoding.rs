//! Operations' arguments, from XDR.

use super::*;

/// Longest component that is decoded; longer than 255 bytes is NFS4ERR_NAMETOOLONG.
const LONGEST_NAME: usize = 4096;
const LONGEST_TARGET: usize = 1 << 16;
const LONGEST_HANDLE: usize = 128;
const MOST_SEC_PARMS: usize = 16;
const MOST_STATEIDS: usize = 1024;

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
                data: d.opaque(super::super::rpc::LONGEST_RECORD)?,
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
