//! The operations on clients, sessions and stateids.

use super::clients::{Created, Introduction};
use super::compound::Compound;
use super::operation::{Channel, Protection, SessionId, StateId, Verifier};
use super::status::Status;
use super::xdr::Encoder;

const SUPP_MOVED_REFER: u32 = 0x1;
const SUPP_MOVED_MIGR: u32 = 0x2;
const BIND_PRINC_STATEID: u32 = 0x100;
const USE_NON_PNFS: u32 = 0x1_0000;
const USE_PNFS_MDS: u32 = 0x2_0000;
const USE_PNFS_DS: u32 = 0x4_0000;
const UPD_CONFIRMED: u32 = 0x4000_0000;
const CONFIRMED: u32 = 0x8000_0000;
const KNOWN_FLAGS: u32 = SUPP_MOVED_REFER
    | SUPP_MOVED_MIGR
    | BIND_PRINC_STATEID
    | USE_NON_PNFS
    | USE_PNFS_MDS
    | USE_PNFS_DS
    | UPD_CONFIRMED;

/// `CREATE_SESSION4_FLAG_*` that exist.
const SESSION_FLAGS: u32 = 0x7;
const CONNECTION_BACK_CHANNEL: u32 = 2;
/// `CDFC4_FORE` and its kin, and what is answered to them.
const FORE: u32 = 1;
const BACK: u32 = 2;
const FORE_OR_BOTH: u32 = 3;
const BACK_OR_BOTH: u32 = 7;
const BOTH: u32 = 3;

fn encode_channel(out: &mut Encoder, channel: &Channel) {
    out.u32(channel.header_pad);
    out.u32(channel.max_request);
    out.u32(channel.max_response);
    out.u32(channel.max_cached);
    out.u32(channel.max_operations);
    out.u32(channel.max_requests);
    out.u32(0);
}

impl Compound<'_> {
    pub(super) fn exchange_id(
        &mut self,
        verifier: Verifier,
        owner: &[u8],
        flags: u32,
        protection: Protection,
        out: &mut Encoder,
    ) -> Result<(), Status> {
        if flags & !KNOWN_FLAGS != 0 {
            return Err(Status::INVAL);
        }
        match protection {
            Protection::None => {}
            // Only a client with RPCSEC_GSS and integrity may ask for it (section 18.35.3).
            Protection::MachineCredentials => return Err(Status::INVAL),
            Protection::SecretState => return Err(Status::ENCR_ALG_UNSUPP),
        }
        let who = Introduction {
            realm: self.connection.realm(),
            owner,
            verifier,
            principal: self.principal(),
            update: flags & UPD_CONFIRMED != 0,
        };
        let introduced = self.door.clients.introduce(&who)?;
        out.u64(introduced.client);
        out.u32(introduced.sequence);
        let confirmed = if introduced.confirmed { CONFIRMED } else { 0 };
        out.u32(USE_NON_PNFS | confirmed);
        out.u32(0);
        // Roots differ by where a client connected, so no two of those places are the same server to it.
        let server = format!("lambay-{:016x}-{:016x}", self.door.seal.tag(""), who.realm);
        out.u64(0);
        out.opaque(server.as_bytes());
        out.opaque(server.as_bytes());
        out.u32(0);
        Ok(())
    }

    pub(super) fn create_session(
        &mut self,
        client: u64,
        sequence: u32,
        flags: u32,
        channels: (Channel, Channel),
        out: &mut Encoder,
    ) -> Result<(), Status> {
        if flags & !SESSION_FLAGS != 0 {
            return Err(Status::INVAL);
        }
        let encode = |created: Result<Created, Status>| {
            let mut out = Encoder::default();
            match created {
                Err(status) => out.u32(status.0),
                Ok(created) => {
                    out.u32(Status::OK.0);
                    out.fixed(&created.session);
                    out.u32(sequence);
                    // No persistent reply cache, as on EFS. The backchannel is taken and never spoken on: clients insist.
                    out.u32(flags & CONNECTION_BACK_CHANNEL);
                    encode_channel(&mut out, &created.fore);
                    encode_channel(&mut out, &created.back);
                }
            }
            out.into_bytes()
        };
        let who = (client, self.connection.realm());
        let principal = self.principal();
        let clients = &self.door.clients;
        let result = clients.create_session(who, &principal, sequence, channels, encode)?;
        let (status, body) = result.split_first_chunk().ok_or(Status::SERVERFAULT)?;
        match u32::from_be_bytes(*status) {
            0 => {
                out.raw(body);
                Ok(())
            }
            status => Err(Status(status)),
        }
    }

    pub(super) fn bind_connection(
        &mut self,
        session: &SessionId,
        direction: u32,
        out: &mut Encoder,
    ) -> Result<(), Status> {
        let found = self
            .door
            .clients
            .find_session(session, self.connection.realm());
        found.ok_or(Status::BADSESSION)?;
        let bound = match direction {
            FORE | BACK => direction,
            FORE_OR_BOTH | BACK_OR_BOTH => BOTH,
            _ => return Err(Status::BADXDR),
        };
        out.fixed(session);
        out.u32(bound);
        out.bool(false);
        Ok(())
    }

    pub(super) fn destroy_session(&mut self, session: &SessionId) -> Result<(), Status> {
        if self.session().is_some_and(|own| own.id == *session) && !self.is_last() {
            return Err(Status::NOT_ONLY_OP);
        }
        let realm = self.connection.realm();
        self.door.clients.destroy_session(session, realm)
    }

    pub(super) fn reclaim_complete(&mut self, one_fs: bool) -> Result<(), Status> {
        if one_fs {
            self.current.as_ref().ok_or(Status::NOFILEHANDLE)?;
            // Nothing migrates here.
            return Ok(());
        }
        self.door.clients.reclaim_complete(&*self.client()?)
    }

    pub(super) fn free_state(&mut self, state: StateId) -> Result<(), Status> {
        let state = self.stateid(state)?;
        let client = self.client()?;
        let freed = client.holdings().free(state);
        freed
    }

    pub(super) fn test_states(
        &mut self,
        states: &[StateId],
        out: &mut Encoder,
    ) -> Result<(), Status> {
        let client = self.client()?;
        let holdings = client.holdings();
        out.u32(states.len() as u32);
        for state in states {
            let status = if state.special() {
                Status::BAD_STATEID
            } else {
                holdings.test(*state).err().unwrap_or(Status::OK)
            };
            out.u32(status.0);
        }
        Ok(())
    }

    /// The stateid itself, or the current one where it says so.
    pub(super) fn stateid(&self, state: StateId) -> Result<StateId, Status> {
        if state == StateId::CURRENT {
            return self.state.ok_or(Status::BAD_STATEID);
        }
        if state.other == [0; 12] && state != StateId::ANONYMOUS
            || state.other == [0xff; 12] && state != StateId::BYPASS
        {
            return Err(Status::BAD_STATEID);
        }
        Ok(state)
    }
}
