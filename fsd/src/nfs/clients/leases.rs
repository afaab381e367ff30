//! Leases: who is silent for long loses what others want, and in the end everything (RFC 8881 section 8.3, 8.4.2).

use super::*;

impl Clients {
    /// Looks after the leases; the answer is when to come again.
    pub fn look_after_leases(&self) -> Instant {
        Instant::now() + self.leases_at(self.now()) + Duration::from_millis(10)
    }

    /// What is over `now`, in milliseconds of [`Clients::now`], and how long nothing more will be.
    fn leases_at(&self, now: u64) -> Duration {
        let all: Vec<Arc<Client>> = self.read().by_id.values().cloned().collect();
        let mut next = LEASE;
        for client in all {
            let silent = Duration::from_millis(now.saturating_sub(client.renewed.load(SeqCst)));
            self.strike_unlocked(&client);
            if silent < LEASE {
                next = next.min(LEASE - silent);
                continue;
            }
            let nothing = !client.busy() || !client.confirmed.load(SeqCst);
            if nothing || silent > COURTESY {
                self.expire(&client);
                continue;
            }
            if !client.lapsed.swap(true, SeqCst) {
                for presence in client.holdings().presences() {
                    presence.volume.locks.lapse(presence.number).give();
                }
            }
        }
        next
    }

    /// Its record names only volumes that it holds locks of.
    fn strike_unlocked(&self, client: &Client) {
        let mut locked = client.locked();
        let holdings = client.holdings();
        let held = holdings.presences().iter();
        let held = held.filter(|held| held.volume.locks.held_by_mount(held.number) > 0);
        let held: HashSet<String> = held.map(|held| held.volume.name.clone()).collect();
        drop(holdings);
        if locked.is_subset(&held) {
            return;
        }
        match self.recovery.record_locked(&client.record, &held) {
            Ok(()) => *locked = held,
            Err(error) => tracing::warn!(%error, "a client's record names too many volumes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECONDS: u64 = LEASE_SECONDS as u64 * 1000;
    const CHANNEL: Channel = Channel {
        header_pad: 0,
        max_request: 4096,
        max_response: 4096,
        max_cached: 0,
        max_operations: 8,
        max_requests: 1,
    };

    fn clients(name: &str) -> Clients {
        let state = std::env::temp_dir().join(format!("fsd-leases-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&state);
        Clients::new(1, Arc::new(Recovery::open(&state).expect("state")))
    }

    /// A client's id, and its session if it has one.
    fn client(clients: &Clients, owner: &[u8], session: bool) -> (u64, Option<SessionId>) {
        let who = Introduction {
            realm: 0,
            owner,
            verifier: [0; 8],
            principal: Principal::User(0),
            update: false,
        };
        let known = clients.introduce(&who).expect("introduced");
        let create = |created: Result<Created, Status>| created.expect("created").session.to_vec();
        let session = session.then(|| {
            let channels = (CHANNEL, CHANNEL);
            let who = (known.client, 0);
            let made =
                clients.create_session(who, &Principal::User(0), known.sequence, channels, create);
            *made.expect("a session").first_chunk().expect("its id")
        });
        (known.client, session)
    }

    #[test]
    fn within_its_lease_nobody_is_forgotten() {
        let clients = clients("within");
        let (silent, _) = client(&clients, b"silent", false);

        let next = clients.leases_at(clients.now() + MILLISECONDS / 2);

        assert!(clients.client(silent, 0).is_ok());
        assert!(next <= LEASE / 2 + Duration::from_secs(1), "{next:?}");
    }

    #[test]
    fn who_never_had_a_session_is_forgotten_when_the_lease_is_over() {
        let clients = clients("unconfirmed");
        let (silent, _) = client(&clients, b"silent", false);

        clients.leases_at(clients.now() + MILLISECONDS);

        assert_eq!(
            clients.client(silent, 0).err(),
            Some(Status::STALE_CLIENTID)
        );
    }

    #[test]
    fn a_record_names_volumes_for_as_long_as_locks_are_held_there() {
        let clients = clients("struck");
        let (id, _) = client(&clients, b"locks", true);
        let known = clients.client(id, 0).expect("there");
        let record = || {
            let path = std::env::temp_dir()
                .join(format!("fsd-leases-{}-struck", std::process::id()))
                .join("clients")
                .join(&known.record);
            std::fs::read_to_string(path).expect("a record")
        };

        let locking = clients.locking(&known, "fs-1").expect("recorded");
        assert_eq!(record(), "fs-1\n");
        drop(locking);

        clients.leases_at(clients.now());
        assert_eq!(record(), "");
    }

    #[test]
    fn a_session_outlasts_the_lease_by_courtesy_and_not_for_ever() {
        let clients = clients("courtesy");
        let (id, session) = client(&clients, b"silent", true);
        let session = session.expect("one");

        clients.leases_at(clients.now() + 2 * MILLISECONDS);
        let known = clients.client(id, 0).expect("still there");
        assert!(known.lapsed.load(SeqCst));

        assert!(clients.session(&session, 0).is_ok());
        assert!(
            !known.lapsed.load(SeqCst),
            "who speaks again has a lease again"
        );

        clients.leases_at(clients.now() + COURTESY.as_millis() as u64 + MILLISECONDS);
        assert!(known.is_ended());
        assert_eq!(clients.session(&session, 0).err(), Some(Status::BADSESSION));
    }
}
