//! Clients and which sessions they have: RFC 8881 sections 2.10, 8.3, 8.4 and 18.35 to 18.37, 18.46, 18.50.

mod leases;

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::attributes::LEASE_SECONDS;
use super::holdings::Holdings;
use super::operation::{Channel, SessionId, Verifier};
use super::recovery::{record_name, RecordName, Recovery};
use super::rpc::Credentials;
use super::slots::{negotiate, negotiate_back, Session};
use super::status::Status;

const LEASE: Duration = Duration::from_secs(LEASE_SECONDS as u64);
/// How long a client that nobody hears of keeps what nobody else wants.
const COURTESY: Duration = Duration::from_secs(24 * 3600);
const MOST_CLIENTS: usize = 16_384;
const MOST_UNCONFIRMED: usize = 1024;
const MOST_SESSIONS: usize = 64;

/// Who made a client record; nobody else may replace it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    Anonymous,
    User(u32),
}

impl Principal {
    pub fn of(credentials: &Credentials) -> Principal {
        match credentials {
            Credentials::Sys { uid, .. } => Principal::User(*uid),
            _ => Principal::Anonymous,
        }
    }
}

/// The latest CREATE_SESSION of a client, for its replay.
#[derive(Debug, Default)]
struct Creation {
    sequence: u32,
    /// The result, from its status on.
    reply: Option<Vec<u8>>,
}

#[derive(Debug)]
pub struct Client {
    pub id: u64,
    pub realm: u64,
    pub owner: Vec<u8>,
    pub record: RecordName,
    verifier: Verifier,
    principal: Principal,
    creation: Mutex<Creation>,
    /// The sequence number of the latest CREATE_SESSION.
    created: AtomicU32,
    pub holdings: Mutex<Holdings>,
    /// Volumes that its record says it holds locks of.
    locked: Mutex<HashSet<String>>,
    sessions: Mutex<Vec<SessionId>>,
    confirmed: AtomicBool,
    /// RECLAIM_COMPLETE has come.
    pub reclaimed: AtomicBool,
    /// Milliseconds of [`Clients::now`].
    renewed: AtomicU64,
    /// Its lease is over, and its locks yield.
    lapsed: AtomicBool,
    ended: AtomicBool,
}

impl Client {
    pub fn holdings(&self) -> MutexGuard<'_, Holdings> {
        self.holdings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn locked(&self) -> MutexGuard<'_, HashSet<String>> {
        self.locked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sessions(&self) -> MutexGuard<'_, Vec<SessionId>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn creation(&self) -> MutexGuard<'_, Creation> {
        self.creation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything that it holds goes.
    fn end(&self) {
        self.ended.store(true, SeqCst);
        let holdings = std::mem::take(&mut *self.holdings());
        for presence in holdings.presences() {
            presence.volume.locks.release_mount(presence.number).give();
        }
    }

    /// It is forgotten: what a request under way takes now would be nobody's.
    pub fn is_ended(&self) -> bool {
        self.ended.load(SeqCst)
    }

    fn busy(&self) -> bool {
        !self.sessions().is_empty() || !self.holdings().is_empty()
    }
}

/// A lock is being taken: see [`Clients::locking`].
#[derive(Debug)]
pub struct Locking<'c> {
    _locked: MutexGuard<'c, HashSet<String>>,
}

#[derive(Debug, Default)]
struct Registry {
    confirmed: HashMap<(u64, Vec<u8>), Arc<Client>>,
    unconfirmed: HashMap<(u64, Vec<u8>), Arc<Client>>,
    by_id: HashMap<u64, Arc<Client>>,
    sessions: HashMap<SessionId, Arc<Session>>,
}

impl Registry {
    fn forget(&mut self, client: &Arc<Client>) {
        let key = (client.realm, client.owner.clone());
        for table in [&mut self.confirmed, &mut self.unconfirmed] {
            if table.get(&key).is_some_and(|known| known.id == client.id) {
                table.remove(&key);
            }
        }
        self.by_id.remove(&client.id);
        for session in client.sessions().drain(..) {
            self.sessions.remove(&session);
        }
    }
}

/// EXCHANGE_ID's arguments that matter here.
#[derive(Debug)]
pub struct Introduction<'a> {
    pub realm: u64,
    pub owner: &'a [u8],
    pub verifier: Verifier,
    pub principal: Principal,
    pub update: bool,
}

/// EXCHANGE_ID's answer.
#[derive(Clone, Copy, Debug)]
pub struct Introduced {
    pub client: u64,
    /// For the next CREATE_SESSION.
    pub sequence: u32,
    pub confirmed: bool,
}

/// CREATE_SESSION's answer.
#[derive(Clone, Copy, Debug)]
pub struct Created {
    pub session: SessionId,
    pub fore: Channel,
    pub back: Channel,
}

#[derive(Debug)]
pub struct Clients {
    pub boot: u32,
    began: Instant,
    registry: RwLock<Registry>,
    next: AtomicU32,
    unguessable: RandomState,
    pub recovery: Arc<Recovery>,
}

impl Clients {
    pub fn new(boot: u32, recovery: Arc<Recovery>) -> Clients {
        Clients {
            boot,
            began: Instant::now(),
            registry: RwLock::default(),
            next: AtomicU32::new(1),
            unguessable: RandomState::new(),
            recovery,
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Registry> {
        self.registry.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Registry> {
        self.registry
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    fn new_client(&self, who: &Introduction<'_>) -> Arc<Client> {
        let number = self.next.fetch_add(1, SeqCst);
        Arc::new(Client {
            id: (u64::from(self.boot) << 32) | u64::from(number),
            realm: who.realm,
            owner: who.owner.to_vec(),
            record: record_name(who.realm, who.owner),
            verifier: who.verifier,
            principal: who.principal.clone(),
            creation: Mutex::default(),
            created: AtomicU32::new(0),
            holdings: Mutex::new(Holdings::new(self.boot)),
            locked: Mutex::default(),
            sessions: Mutex::default(),
            confirmed: AtomicBool::new(false),
            reclaimed: AtomicBool::new(false),
            renewed: AtomicU64::new(self.now()),
            lapsed: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        })
    }

    /// EXCHANGE_ID, with the cases of section 18.35.4 by their numbers.
    pub fn introduce(&self, who: &Introduction<'_>) -> Result<Introduced, Status> {
        let key = (who.realm, who.owner.to_vec());
        let mut registry = self.write();
        let confirmed = registry.confirmed.get(&key).cloned();
        let known = |client: &Client| Introduced {
            client: client.id,
            sequence: client.created.load(SeqCst).wrapping_add(1),
            confirmed: true,
        };
        if who.update {
            return match confirmed {
                None => Err(Status::NOENT), // 7
                Some(client) if client.verifier != who.verifier => Err(Status::NOT_SAME), // 8
                Some(client) if client.principal != who.principal => Err(Status::PERM), // 9
                Some(client) => Ok(known(&client)), // 6
            };
        }
        let mut collided = None;
        if let Some(client) = confirmed {
            if client.principal != who.principal {
                // 3
                if client.busy() && !client.lapsed.load(SeqCst) {
                    return Err(Status::CLID_INUSE);
                }
                registry.forget(&client);
                collided = Some(client);
            } else if client.verifier == who.verifier {
                // 2
                return Ok(known(&client));
            }
            // 5: the old record stays until the new one is confirmed.
        }
        // 4
        if let Some(replaced) = registry.unconfirmed.remove(&key) {
            registry.by_id.remove(&replaced.id);
        }
        if registry.unconfirmed.len() >= MOST_UNCONFIRMED || registry.by_id.len() >= MOST_CLIENTS {
            let oldest = registry.unconfirmed.values();
            let oldest = oldest
                .min_by_key(|client| client.renewed.load(SeqCst))
                .cloned();
            match oldest {
                Some(oldest) => registry.forget(&oldest),
                None => return Err(Status::DELAY),
            }
        }
        // 1
        let client = self.new_client(who);
        registry.by_id.insert(client.id, Arc::clone(&client));
        registry.unconfirmed.insert(key, Arc::clone(&client));
        drop(registry);
        if let Some(collided) = collided {
            self.finish(&collided);
        }
        Ok(Introduced {
            client: client.id,
            sequence: 1,
            confirmed: false,
        })
    }

    /// The client of an id, which belongs to `realm`.
    fn client(&self, id: u64, realm: u64) -> Result<Arc<Client>, Status> {
        let found = self.read().by_id.get(&id).cloned();
        found
            .filter(|client| client.realm == realm)
            .ok_or(Status::STALE_CLIENTID)
    }

    /// CREATE_SESSION. `encode` makes the result of what was created (from its status on), which is kept for a replay.
    pub fn create_session(
        &self,
        (id, realm): (u64, u64),
        principal: &Principal,
        sequence: u32,
        (fore, back): (Channel, Channel),
        encode: impl Fn(Result<Created, Status>) -> Vec<u8>,
    ) -> Result<Vec<u8>, Status> {
        let client = self.client(id, realm)?;
        // What can never be agreed on uses up no sequence number: a repetition is told the same.
        let channels = (negotiate(fore)?, negotiate_back(back)?);
        let mut creation = client.creation();
        if sequence == creation.sequence {
            return creation.reply.clone().ok_or(Status::SEQ_MISORDERED);
        }
        if sequence != creation.sequence.wrapping_add(1) {
            return Err(Status::SEQ_MISORDERED);
        }
        if client.principal != *principal && !client.confirmed.load(SeqCst) {
            return Err(Status::CLID_INUSE);
        }
        let result = self.establish(&client, channels);
        let reply = encode(result);
        creation.sequence = sequence;
        client.created.store(sequence, SeqCst);
        creation.reply = Some(reply.clone());
        Ok(reply)
    }

    fn establish(
        &self,
        client: &Arc<Client>,
        (fore, back): (Channel, Channel),
    ) -> Result<Created, Status> {
        if client.sessions().len() >= MOST_SESSIONS {
            return Err(Status::DELAY);
        }
        if !client.confirmed.load(SeqCst) {
            self.recovery.record(&client.record).map_err(|error| {
                tracing::error!(%error, "a client could not be recorded");
                Status::SERVERFAULT
            })?;
        }
        let mut id = [0; 16];
        let number = self.next.fetch_add(1, SeqCst);
        id[..8].copy_from_slice(&client.id.to_be_bytes());
        id[8..].copy_from_slice(&self.unguessable.hash_one(number).to_be_bytes());
        let session = Arc::new(Session::new(id, client, fore));
        let mut replaced = None;
        {
            let mut registry = self.write();
            if !client.confirmed.swap(true, SeqCst) {
                let key = (client.realm, client.owner.clone());
                replaced = registry.confirmed.get(&key).cloned();
                if let Some(replaced) = &replaced {
                    registry.forget(replaced);
                }
                registry.unconfirmed.remove(&key);
                registry.confirmed.insert(key, Arc::clone(client));
                registry.by_id.insert(client.id, Arc::clone(client));
            }
            client.sessions().push(id);
            registry.sessions.insert(id, session);
        }
        client.renewed.store(self.now(), SeqCst);
        if let Some(replaced) = replaced {
            // The record on disk is by name, and so the new incarnation's from now on.
            replaced.end();
        }
        Ok(Created {
            session: id,
            fore,
            back,
        })
    }

    /// The session of an id; its client's lease is renewed.
    pub fn session(&self, id: &SessionId, realm: u64) -> Result<Arc<Session>, Status> {
        let session = self.find_session(id, realm).ok_or(Status::BADSESSION)?;
        if self.renew(&session.client) {
            Ok(session)
        } else {
            Err(Status::BADSESSION)
        }
    }

    pub fn find_session(&self, id: &SessionId, realm: u64) -> Option<Arc<Session>> {
        let found = self.read().sessions.get(id).cloned();
        found.filter(|session| session.client.realm == realm)
    }

    /// False when the client has lost locks to somebody while its lease was over: it has to begin anew.
    fn renew(&self, client: &Arc<Client>) -> bool {
        client.renewed.store(self.now(), SeqCst);
        if client.lapsed.swap(false, SeqCst) {
            let kept = client
                .holdings()
                .presences()
                .iter()
                .all(|presence| presence.volume.locks.renew(presence.number));
            if !kept {
                self.expire(client);
                return false;
            }
        }
        !client.ended.load(SeqCst)
    }

    pub fn destroy_session(&self, id: &SessionId, realm: u64) -> Result<(), Status> {
        let mut registry = self.write();
        match registry.sessions.get(id) {
            Some(session) if session.client.realm == realm => {
                session.client.sessions().retain(|known| known != id);
            }
            _ => return Err(Status::BADSESSION),
        }
        registry.sessions.remove(id);
        Ok(())
    }

    pub fn destroy_client(&self, id: u64, realm: u64) -> Result<(), Status> {
        let client = self.client(id, realm)?;
        if client.busy() {
            return Err(Status::CLIENTID_BUSY);
        }
        self.expire(&client);
        Ok(())
    }

    /// Whether the client may take state that it did not hold before.
    pub fn may_take(&self, client: &Client) -> Result<(), Status> {
        if self.recovery.in_grace() || !client.reclaimed.load(SeqCst) {
            Err(Status::GRACE)
        } else {
            Ok(())
        }
    }

    /// Whether the client may reclaim what it held before a restart.
    pub fn may_reclaim(&self, client: &Client) -> Result<(), Status> {
        if client.reclaimed.load(SeqCst) || !self.recovery.in_grace() {
            Err(Status::NO_GRACE)
        } else if self.recovery.may_reclaim(&client.record) {
            Ok(())
        } else {
            Err(Status::RECLAIM_BAD)
        }
    }

    /// The client is about to take a lock of `volume`, which its record tells from now on. While the answer is kept nothing
    /// is struck from it.
    pub fn locking<'c>(&self, client: &'c Client, volume: &str) -> Result<Locking<'c>, Status> {
        let mut locked = client.locked();
        if !locked.contains(volume) {
            locked.insert(volume.to_owned());
            if let Err(error) = self.recovery.record_locked(&client.record, &locked) {
                tracing::error!(%error, "a client's lock could not be recorded");
                locked.remove(volume);
                return Err(Status::SERVERFAULT);
            }
        }
        Ok(Locking { _locked: locked })
    }

    pub fn reclaim_complete(&self, client: &Client) -> Result<(), Status> {
        if client.reclaimed.swap(true, SeqCst) {
            return Err(Status::COMPLETE_ALREADY);
        }
        let before = self.recovery.complete(&client.record);
        let locked = client.locked();
        if !before.is_subset(&locked) {
            if let Err(error) = self.recovery.record_locked(&client.record, &locked) {
                tracing::warn!(%error, "a client's record names too many volumes");
            }
        }
        Ok(())
    }

    /// The client is forgotten with all that it holds.
    fn expire(&self, client: &Arc<Client>) {
        self.write().forget(client);
        self.finish(client);
    }

    fn finish(&self, client: &Arc<Client>) {
        client.end();
        self.recovery.forget(&client.record);
    }

    /// Drops the clients that hold anything of an export that is no more, so that its volume can be closed.
    pub fn drop_volume(&self, volume: &str) {
        let all: Vec<Arc<Client>> = self.read().by_id.values().cloned().collect();
        for client in all {
            let there = client
                .holdings()
                .presences()
                .iter()
                .any(|presence| presence.volume.name == volume);
            if there {
                self.expire(&client);
            }
        }
    }

    /// Clients, sessions and open files, for the figures.
    pub fn counts(&self) -> (usize, usize, usize) {
        let registry = self.read();
        let opens = registry.confirmed.values();
        let opens = opens.map(|client| client.holdings().open_files()).sum();
        (registry.confirmed.len(), registry.sessions.len(), opens)
    }
}
