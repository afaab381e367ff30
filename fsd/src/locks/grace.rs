//! The time after a restart in which those who held locks before may claim them, and nobody else gets any.

use super::{Held, LockTable, Outcome, Range, Request, Space, Ticket, Woken};

impl LockTable {
    /// From now on nothing is granted but by [`LockTable::reclaim`]: who may wait waits.
    pub fn hold_back(&mut self) {
        self.held_back = true;
    }

    pub fn is_held_back(&self) -> bool {
        self.held_back
    }

    /// Everybody is served again, beginning with those who have waited.
    pub fn resume(&mut self) -> Vec<Woken> {
        self.held_back = false;
        let places = self.tickets.values().copied().collect();
        self.wake(places)
    }

    /// A lock that its owner held before the restart, now or not at all. As any other where nothing is held back.
    pub fn reclaim(&mut self, request: Request) -> (Outcome, Vec<Woken>) {
        if !self.held_back {
            return self.lock(request, false);
        }
        let place = (request.file, request.space);
        let lock = Held {
            owner: request.owner,
            pid: request.pid,
            kind: request.kind,
            range: match request.space {
                Space::Flock => Range::WHOLE,
                Space::Posix => request.range,
            },
        };
        let queue = self.queues.get(&place);
        if queue.is_some_and(|queue| queue.blocker(&lock).is_some()) {
            return (Outcome::WouldBlock, Vec::new());
        }
        // What this may loosen is of no use to anybody before all are served again.
        let outcome = match self.grant(place, &lock, Ticket(self.next_ticket)) {
            Ok(_) => Outcome::Granted,
            Err(limit) => Outcome::LimitExceeded(limit),
        };
        (outcome, Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Kind, Limits, Owner};
    use super::*;

    fn wish(mount: u64, kind: Kind) -> Request {
        Request {
            file: 1,
            space: Space::Posix,
            owner: Owner { mount, owner: 1 },
            pid: 0,
            kind,
            range: Range::WHOLE,
        }
    }

    #[test]
    fn who_comes_between_gets_nothing_and_who_waits_is_served_in_order() {
        let mut table = LockTable::new(Limits::default());
        table.hold_back();
        let (refused, _) = table.lock(wish(1, Kind::Read), false);
        assert_eq!(refused, Outcome::WouldBlock);
        let tickets = [2, 3].map(|mount| match table.lock(wish(mount, Kind::Write), true) {
            (Outcome::Queued(ticket), _) => ticket,
            other => panic!("{other:?}"),
        });
        assert_eq!(
            table.reclaim(wish(4, Kind::Write)),
            (Outcome::Granted, vec![])
        );
        assert_eq!(
            table.reclaim(wish(5, Kind::Write)),
            (Outcome::WouldBlock, vec![])
        );
        assert_eq!(table.resume(), vec![], "it was claimed");

        let woken = table.release_mount(4).woken;

        assert_eq!(woken.len(), 1);
        assert_eq!(woken[0].ticket, tickets[0]);
    }

    #[test]
    fn what_nobody_claimed_goes_to_those_who_waited() {
        let mut table = LockTable::new(Limits::default());
        table.hold_back();
        for mount in [1, 2] {
            assert!(matches!(
                table.lock(wish(mount, Kind::Read), true).0,
                Outcome::Queued(_)
            ));
        }
        let (_, woken) = table.lock(wish(3, Kind::Read), false);
        assert!(woken.is_empty() && table.release_mount(3).woken.is_empty());
        assert_eq!(table.resume().len(), 2);
        assert_eq!(table.waiting(), 0);
        assert_eq!(table.lock(wish(1, Kind::Read), false).0, Outcome::Granted);
    }

    #[test]
    fn unlocking_and_giving_up_go_on() {
        let mut table = LockTable::new(Limits::default());
        table.hold_back();
        assert_eq!(table.reclaim(wish(1, Kind::Write)).0, Outcome::Granted);
        let Outcome::Queued(ticket) = table.lock(wish(2, Kind::Write), true).0 else {
            panic!("held back");
        };
        let owner = wish(1, Kind::Write).owner;
        let woken = table.unlock(1, Space::Posix, owner, Range::WHOLE);
        assert_eq!(woken, Ok(vec![]), "not before everybody is served");
        assert!(table.cancel(ticket).is_empty());
        assert!(table.resume().is_empty() && table.is_empty());
    }
}
