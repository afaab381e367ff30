//! ONC RPC version 2, RFC 5531: calls and replies, and their records on a stream.

use super::xdr::{Decoder, Encoder, Malformed};

/// Largest data of one READ or WRITE, in bytes; EFS's own recommendation for rsize and wsize.
pub const MAX_IO: usize = 1 << 20;
/// Longest record (one RPC message), in bytes: the largest data and room for everything else.
pub const LONGEST_RECORD: usize = MAX_IO + (64 << 10);
/// Fragments that one record may come in.
const MOST_FRAGMENTS: u32 = 1024;
const LAST_FRAGMENT: u32 = 1 << 31;

pub const PROGRAM: u32 = 100_003;
pub const VERSION: u32 = 4;
pub const PROC_NULL: u32 = 0;
pub const PROC_COMPOUND: u32 = 1;

const CALL: u32 = 0;
const REPLY: u32 = 1;
const RPC_VERSION: u32 = 2;

pub const AUTH_NONE: u32 = 0;
pub const AUTH_SYS: u32 = 1;
/// RFC 9289: asks whether TLS can start on this connection.
pub const AUTH_TLS: u32 = 7;
const LONGEST_AUTH: usize = 400;
const MOST_GIDS: usize = 16;
const LONGEST_MACHINE_NAME: usize = 255;

/// Why a stream is of no more use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Oversized;

/// Puts a byte stream's fragments together into records. Memory grows with what has arrived, never with what a header
/// claims.
#[derive(Debug, Default)]
pub struct Records {
    /// Arrived and not looked at; consumed up to `start`.
    pub buffer: Vec<u8>,
    start: usize,
    record: Vec<u8>,
    /// Bytes of the present fragment still to come, once its header was seen.
    fragment: Option<usize>,
    last: bool,
    fragments: u32,
}

impl Records {
    /// The next whole record.
    pub fn next_record(&mut self) -> Result<Option<Vec<u8>>, Oversized> {
        loop {
            let arrived = self.buffer.get(self.start..).unwrap_or_default();
            match self.fragment {
                None => {
                    let Some(head) = arrived.first_chunk::<4>() else {
                        self.compact();
                        return Ok(None);
                    };
                    let head = u32::from_be_bytes(*head);
                    let len = (head & !LAST_FRAGMENT) as usize;
                    self.start += 4;
                    self.fragments += 1;
                    if self.record.len() + len > LONGEST_RECORD || self.fragments > MOST_FRAGMENTS {
                        return Err(Oversized);
                    }
                    self.last = head & LAST_FRAGMENT != 0;
                    self.fragment = Some(len);
                }
                Some(missing) => {
                    let here = missing.min(arrived.len());
                    self.record.extend_from_slice(&arrived[..here]);
                    self.start += here;
                    if here < missing {
                        self.fragment = Some(missing - here);
                        self.compact();
                        return Ok(None);
                    }
                    self.fragment = None;
                    if self.last {
                        self.fragments = 0;
                        return Ok(Some(std::mem::take(&mut self.record)));
                    }
                }
            }
        }
    }

    /// Where the rest of a long fragment may be read to without passing through `buffer`, and how much of it is missing.
    pub fn direct(&mut self) -> Option<(&mut Vec<u8>, usize)> {
        match self.fragment {
            Some(missing) if self.buffer.is_empty() && missing > 0 => {
                Some((&mut self.record, missing))
            }
            _ => None,
        }
    }

    /// `n` bytes came directly.
    pub fn received(&mut self, n: usize) {
        if let Some(missing) = &mut self.fragment {
            *missing = missing.saturating_sub(n);
        }
    }

    fn compact(&mut self) {
        self.buffer.drain(..self.start.min(self.buffer.len()));
        self.start = 0;
    }
}

/// Who a call says it is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    None,
    /// `AUTH_SYS`: user, group and further groups, on the client's word.
    Sys {
        uid: u32,
        gid: u32,
        gids: Vec<u32>,
    },
    Tls,
    /// Some other flavor: refused.
    Other(u32),
}

/// The head of a call; the procedure's arguments follow it.
#[derive(Debug)]
pub struct Call {
    pub xid: u32,
    pub program: u32,
    pub version: u32,
    pub procedure: u32,
    pub credentials: Credentials,
}

/// A call that gets no further than its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The record is no call: there is nobody to answer.
    Silent,
    RpcMismatch(u32),
    BadCredentials(u32),
    /// Arguments that cannot be decoded.
    GarbageArguments(u32),
}

impl Call {
    pub fn decode(decoder: &mut Decoder<'_>) -> Result<Call, Refusal> {
        let silent = |_: Malformed| Refusal::Silent;
        let xid = decoder.u32().map_err(silent)?;
        if decoder.u32().map_err(silent)? != CALL {
            return Err(Refusal::Silent);
        }
        let garbage = |_: Malformed| Refusal::GarbageArguments(xid);
        if decoder.u32().map_err(garbage)? != RPC_VERSION {
            return Err(Refusal::RpcMismatch(xid));
        }
        let program = decoder.u32().map_err(garbage)?;
        let version = decoder.u32().map_err(garbage)?;
        let procedure = decoder.u32().map_err(garbage)?;
        let flavor = decoder.u32().map_err(garbage)?;
        let body = decoder.opaque(LONGEST_AUTH).map_err(garbage)?;
        let credentials = match flavor {
            AUTH_NONE => Credentials::None,
            AUTH_SYS => auth_sys(body).map_err(|_| Refusal::BadCredentials(xid))?,
            AUTH_TLS => Credentials::Tls,
            other => Credentials::Other(other),
        };
        decoder.u32().map_err(garbage)?;
        decoder.opaque(LONGEST_AUTH).map_err(garbage)?;
        Ok(Call {
            xid,
            program,
            version,
            procedure,
            credentials,
        })
    }
}

fn auth_sys(body: &[u8]) -> Result<Credentials, Malformed> {
    let mut decoder = Decoder::new(body);
    decoder.u32()?;
    decoder.opaque(LONGEST_MACHINE_NAME)?;
    let uid = decoder.u32()?;
    let gid = decoder.u32()?;
    let count = decoder.count(MOST_GIDS)?;
    let gids = (0..count)
        .map(|_| decoder.u32())
        .collect::<Result<_, _>>()?;
    Ok(Credentials::Sys { uid, gid, gids })
}

/// How an accepted call ended, where it is not with results.
#[derive(Clone, Copy, Debug)]
pub enum Accepted {
    Success,
    ProgramUnavailable,
    /// The only version there is.
    VersionMismatch(u32),
    ProcedureUnavailable,
    GarbageArguments,
}

const AUTH_BADCRED: u32 = 1;
pub const AUTH_REJECTEDCRED: u32 = 2;

/// Begins a reply record; the results follow. Ended by [`finish`].
pub fn accepted(xid: u32, how: Accepted, capacity: usize) -> Encoder {
    accepted_with(xid, how, &[], capacity)
}

/// Likewise with a verifier of flavor `AUTH_NONE` that has a body, as RFC 9289's STARTTLS.
pub fn accepted_with(xid: u32, how: Accepted, verifier: &[u8], capacity: usize) -> Encoder {
    let mut reply = head(xid, 0, capacity);
    reply.u32(AUTH_NONE);
    reply.opaque(verifier);
    match how {
        Accepted::Success => reply.u32(0),
        Accepted::ProgramUnavailable => reply.u32(1),
        Accepted::VersionMismatch(only) => {
            reply.u32(2);
            reply.u32(only);
            reply.u32(only);
        }
        Accepted::ProcedureUnavailable => reply.u32(3),
        Accepted::GarbageArguments => reply.u32(4),
    }
    reply
}

fn head(xid: u32, denied: u32, capacity: usize) -> Encoder {
    let mut reply = Encoder::with_capacity(capacity);
    reply.u32(0);
    reply.u32(xid);
    reply.u32(REPLY);
    reply.u32(denied);
    reply
}

/// A whole reply that denies a call for who it says it is from.
pub fn denied(xid: u32, reason: u32) -> Vec<u8> {
    let mut reply = head(xid, 1, 64);
    reply.u32(1);
    reply.u32(reason);
    finish(reply)
}

/// The whole reply to a refusal; `None` where there is nobody to answer.
pub fn refused(refusal: Refusal) -> Option<Vec<u8>> {
    match refusal {
        Refusal::Silent => None,
        Refusal::RpcMismatch(xid) => {
            let mut reply = head(xid, 1, 64);
            reply.u32(0);
            reply.u32(RPC_VERSION);
            reply.u32(RPC_VERSION);
            Some(finish(reply))
        }
        Refusal::BadCredentials(xid) => Some(denied(xid, AUTH_BADCRED)),
        Refusal::GarbageArguments(xid) => {
            Some(finish(accepted(xid, Accepted::GarbageArguments, 64)))
        }
    }
}

/// Completes the record mark of a reply.
pub fn finish(mut reply: Encoder) -> Vec<u8> {
    let len = reply.len().saturating_sub(4) as u32;
    reply.put_u32(0, len | LAST_FRAGMENT);
    reply.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fragment(bytes: &[u8], last: bool) -> Vec<u8> {
        let head = bytes.len() as u32 | if last { LAST_FRAGMENT } else { 0 };
        [&head.to_be_bytes()[..], bytes].concat()
    }

    proptest! {
        #[test]
        fn records_come_together_however_the_stream_is_cut(
            records in proptest::collection::vec(proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 1..4), 1..5),
            cuts in proptest::collection::vec(1usize..40, 1..60),
        ) {
            let mut stream = Vec::new();
            let mut whole = Vec::new();
            for record in &records {
                for (at, part) in record.iter().enumerate() {
                    stream.extend(fragment(part, at + 1 == record.len()));
                }
                whole.push(record.concat());
            }
            let mut found = Vec::new();
            let mut reader = Records::default();
            let mut at = 0;
            for cut in cuts.iter().cycle() {
                let end = (at + cut).min(stream.len());
                reader.buffer.extend_from_slice(&stream[at..end]);
                at = end;
                while let Some(record) = reader.next_record().expect("not oversized") {
                    found.push(record);
                }
                if at == stream.len() {
                    break;
                }
            }
            prop_assert_eq!(found, whole);
        }

        #[test]
        fn any_stream_is_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut reader = Records { buffer: bytes, ..Records::default() };
            while let Ok(Some(record)) = reader.next_record() {
                let mut decoder = Decoder::new(&record);
                if let Err(refusal) = Call::decode(&mut decoder) {
                    let _ = refused(refusal);
                }
            }
            prop_assert!(reader.record.capacity() <= 1024, "claimed sizes allocate nothing");
        }
    }

    #[test]
    fn a_record_that_claims_too_much_is_refused() {
        let mut reader = Records {
            buffer: 0x7fff_ffffu32.to_be_bytes().to_vec(),
            ..Records::default()
        };
        assert_eq!(reader.next_record(), Err(Oversized));
        let mut endless = Records {
            buffer: vec![0; 4 * (MOST_FRAGMENTS as usize + 1)],
            ..Records::default()
        };
        assert_eq!(endless.next_record(), Err(Oversized));
    }
}
