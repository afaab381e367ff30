//! The lock table of one volume: POSIX byte ranges and flock, over every mount and every door.
//!
//! A pure structure: no thread, no clock, no descriptor. A door asks, gets an outcome at once, and answers a queued
//! request when a later call hands its ticket back. Two spaces that never conflict with each other, as on a local Linux
//! file system: [`Space::Posix`] (`fcntl`) and [`Space::Flock`].
//!
//! Fairness. Waiters are granted in the order in which they came. A request that fits beside everything *held* may pass
//! a conflicting waiter, as it may on a local file system, but a waiter lets at most [`Limits::overtaking`] of them by;
//! after that newcomers queue behind it, so that a stream of readers cannot starve a writer. Never made to queue behind
//! a mere waiter: a non-blocking request, and a process that already holds a lock (that could deadlock it).
//!
//! Cost: a call looks at the locks held on one file (at most [`Limits::per_file`]) and at its waiters, once each.

mod grace;
mod queue;
mod terms;

use std::collections::{BTreeSet, HashMap, HashSet};

use queue::{Change, Held, Queue, Waiter};
pub use terms::{
    Conflict, FileId, Kind, LimitExceeded, Limits, MountId, Outcome, Owner, Range, Released,
    Request, Space, Ticket, Woken, END_OF_FILE,
};

/// What a mount, an owner or a process has in the table.
#[derive(Debug, Default)]
struct Presence {
    held: usize,
    waiting: BTreeSet<Ticket>,
}

/// Whom a lock is counted for. A process takes its flock locks under one owner per open file, so "holds something" is
/// asked of the process as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Party {
    Mount(MountId),
    Owner(Owner),
    Process(MountId, u32),
}

fn parties(lock: &Held) -> impl Iterator<Item = Party> {
    let process = (lock.pid != 0).then_some(Party::Process(lock.owner.mount, lock.pid));
    [Party::Mount(lock.owner.mount), Party::Owner(lock.owner)]
        .into_iter()
        .chain(process)
}

type Place = (FileId, Space);

/// The lock table of one volume.
#[derive(Debug, Default)]
pub struct LockTable {
    limits: Limits,
    queues: HashMap<Place, Queue>,
    parties: HashMap<Party, Presence>,
    /// Where a mount holds locks, and how many: what its end has to visit.
    mount_places: HashMap<MountId, HashMap<Place, usize>>,
    tickets: HashMap<Ticket, Place>,
    next_ticket: u64,
    /// Locks of before a restart may still be claimed: see [`LockTable::hold_back`].
    held_back: bool,
}

impl LockTable {
    pub fn new(limits: Limits) -> Self {
        LockTable {
            limits,
            ..LockTable::default()
        }
    }

    /// Ask for a lock. The second value lists requests that this one set free (a downgrade, a conversion).
    pub fn lock(&mut self, request: Request, blocking: bool) -> (Outcome, Vec<Woken>) {
        let place = (request.file, request.space);
        let range = if request.space == Space::Flock {
            Range::WHOLE
        } else {
            request.range
        };
        let lock = Held {
            owner: request.owner,
            pid: request.pid,
            kind: request.kind,
            range,
        };
        // A conversion of a flock lock gives up the old one first, also when it then has to wait or fails: flock(2).
        let loosened = request.space == Space::Flock && self.drop_for_conversion(place, &lock);
        let (outcome, change_loosens) = self.decide(place, &lock, blocking);
        let woken =
            if loosened || change_loosens || outcome == Outcome::Granted && self.waits(&lock) {
                self.wake(self.dirty_after(place, &lock))
            } else {
                Vec::new()
            };
        (outcome, woken)
    }

    /// Give up `range`. `Err` when cutting a lock in two would exceed a limit; then nothing has changed.
    pub fn unlock(
        &mut self,
        file: FileId,
        space: Space,
        owner: Owner,
        range: Range,
    ) -> Result<Vec<Woken>, LimitExceeded> {
        let place = (file, space);
        let range = if space == Space::Flock {
            Range::WHOLE
        } else {
            range
        };
        let Some(queue) = self.queues.get(&place) else {
            return Ok(Vec::new());
        };
        let change = Change::set(
            &queue.held,
            &Held {
                owner,
                pid: 0,
                kind: Kind::Read,
                range,
            },
            None,
        );
        self.admit(place, owner, &change)?;
        let loosens = change.loosens;
        self.apply(place, change);
        Ok(if loosens {
            self.wake(BTreeSet::from([place]))
        } else {
            Vec::new()
        })
    }

    /// End a queued request without granting it (a signal, a dead client). Nothing happens if it was granted before.
    pub fn cancel(&mut self, ticket: Ticket) -> Vec<Woken> {
        match self.forget_waiter(ticket) {
            Some((place, _)) => self.wake(BTreeSet::from([place])),
            None => Vec::new(),
        }
    }

    /// Everything that `owner` holds on `file` in that space goes: a close, or the last close of an open file.
    pub fn release_owner(&mut self, file: FileId, space: Space, owner: Owner) -> Vec<Woken> {
        // Giving up the whole range never leaves a piece over, so no limit can refuse it.
        self.unlock(file, space, owner, Range::WHOLE)
            .unwrap_or_default()
    }

    /// The mount is gone: its locks, and what it waits for.
    pub fn release_mount(&mut self, mount: MountId) -> Released {
        let waiting = self
            .parties
            .get(&Party::Mount(mount))
            .map(|presence| presence.waiting.clone());
        let cancelled: Vec<Ticket> = waiting.unwrap_or_default().into_iter().collect();
        let mut dirty: BTreeSet<Place> = cancelled
            .iter()
            .filter_map(|&ticket| self.forget_waiter(ticket))
            .map(|(place, _)| place)
            .collect();
        let places = self
            .mount_places
            .get(&mount)
            .map(|places| places.keys().copied().collect::<Vec<_>>());
        for place in places.unwrap_or_default() {
            let held = self
                .queues
                .get(&place)
                .map(|queue| queue.held.as_slice())
                .unwrap_or_default();
            let remove = held
                .iter()
                .filter(|held| held.owner.mount == mount)
                .copied()
                .collect();
            self.apply(
                place,
                Change {
                    remove,
                    add: Vec::new(),
                    loosens: true,
                },
            );
            dirty.insert(place);
        }
        Released {
            cancelled,
            woken: self.wake(dirty),
        }
    }

    /// The first held lock, by its first byte, that would stand in the way of `request` (`F_GETLK`).
    pub fn test(&self, request: &Request) -> Option<Conflict> {
        let range = if request.space == Space::Flock {
            Range::WHOLE
        } else {
            request.range
        };
        let lock = Held {
            owner: request.owner,
            pid: request.pid,
            kind: request.kind,
            range,
        };
        let held = self
            .queues
            .get(&(request.file, request.space))?
            .blocker(&lock)?;
        Some(Conflict {
            kind: held.kind,
            range: held.range,
            owner: held.owner,
            pid: held.pid,
        })
    }

    /// Whether `owner` holds any lock on a file.
    pub fn holds(&self, file: FileId, owner: Owner) -> bool {
        [Space::Posix, Space::Flock]
            .iter()
            .filter_map(|&space| self.queues.get(&(file, space)))
            .any(|queue| queue.held.iter().any(|held| held.owner == owner))
    }

    /// Locks held by a mount.
    pub fn held_by_mount(&self, mount: MountId) -> usize {
        self.held_by(Party::Mount(mount))
    }

    /// Locks held on a file, in both spaces.
    pub fn held_on_file(&self, file: FileId) -> usize {
        [Space::Posix, Space::Flock]
            .iter()
            .filter_map(|&space| self.queues.get(&(file, space)))
            .map(|queue| queue.held.len())
            .sum()
    }

    /// Queued requests, over all files.
    pub fn waiting(&self) -> usize {
        self.tickets.len()
    }

    /// Nothing held, nobody waiting.
    pub fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    fn held_by(&self, party: Party) -> usize {
        self.parties.get(&party).map_or(0, |presence| presence.held)
    }

    fn waits(&self, lock: &Held) -> bool {
        parties(lock).skip(1).any(|party| {
            self.parties
                .get(&party)
                .is_some_and(|known| !known.waiting.is_empty())
        })
    }

    /// The places where a change by this party may let someone go on: here, and where the same process waits (holding
    /// a lock frees it from queueing behind mere waiters).
    fn dirty_after(&self, place: Place, lock: &Held) -> BTreeSet<Place> {
        parties(lock)
            .skip(1)
            .filter_map(|party| self.parties.get(&party))
            .flat_map(|presence| presence.waiting.iter().map(|ticket| self.tickets[ticket]))
            .chain([place])
            .collect()
    }

    fn drop_for_conversion(&mut self, place: Place, lock: &Held) -> bool {
        let Some(queue) = self.queues.get(&place) else {
            return false;
        };
        let old = queue
            .held
            .iter()
            .find(|held| held.owner == lock.owner && held.kind != lock.kind)
            .copied();
        let Some(old) = old else { return false };
        self.apply(
            place,
            Change {
                remove: vec![old],
                add: Vec::new(),
                loosens: true,
            },
        );
        true
    }

    /// The outcome for a new request, and whether granting it loosened what its owner held.
    fn decide(&mut self, place: Place, lock: &Held, blocking: bool) -> (Outcome, bool) {
        let newest = Ticket(self.next_ticket);
        let empty = Queue::default();
        let queue = self.queues.get(&place).unwrap_or(&empty);
        let blocked = self.held_back || queue.blocker(lock).is_some();
        if blocked && !blocking {
            return (Outcome::WouldBlock, false);
        }
        if blocked && place.1 == Space::Posix && self.closes_a_circle(place, lock) {
            return (Outcome::Deadlock, false);
        }
        if blocked
            || blocking && !self.may_pass_waiters(lock) && queue.behind_impatient(lock, newest)
        {
            return (Outcome::Queued(self.enqueue(place, lock)), false);
        }
        match self.grant(place, lock, newest) {
            Ok(loosens) => (Outcome::Granted, loosens),
            Err(limit) => (Outcome::LimitExceeded(limit), false),
        }
    }

    fn may_pass_waiters(&self, lock: &Held) -> bool {
        parties(lock).skip(1).any(|party| self.held_by(party) > 0)
    }

    fn enqueue(&mut self, place: Place, lock: &Held) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        let queue = self.queues.entry(place).or_default();
        queue.waiting.insert(
            ticket,
            Waiter {
                lock: *lock,
                overtaken: 0,
            },
        );
        if self.limits.overtaking == 0 {
            queue.impatient.insert(ticket);
        }
        self.tickets.insert(ticket, place);
        for party in parties(lock) {
            self.parties
                .entry(party)
                .or_default()
                .waiting
                .insert(ticket);
        }
        ticket
    }

    fn forget_waiter(&mut self, ticket: Ticket) -> Option<(Place, Held)> {
        let place = self.tickets.remove(&ticket)?;
        let queue = self.queues.get_mut(&place)?;
        let waiter = queue.remove_waiter(ticket)?;
        self.drop_empty_queue(place);
        for party in parties(&waiter.lock) {
            if let Some(presence) = self.parties.get_mut(&party) {
                presence.waiting.remove(&ticket);
                self.drop_idle_party(party);
            }
        }
        Some((place, waiter.lock))
    }

    /// Would waiting for `lock` close a circle? Walks from its holders to the holders that those wait for.
    fn closes_a_circle(&self, place: Place, lock: &Held) -> bool {
        let mut seen: HashSet<Owner> = HashSet::new();
        let mut todo: Vec<Owner> = self.holders_in_the_way(place, lock);
        while let Some(owner) = todo.pop() {
            if owner == lock.owner {
                return true;
            }
            if !seen.insert(owner) {
                continue;
            }
            let Some(presence) = self.parties.get(&Party::Owner(owner)) else {
                continue;
            };
            for ticket in &presence.waiting {
                let place = self.tickets[ticket];
                if place.1 == Space::Posix {
                    todo.extend(
                        self.holders_in_the_way(place, &self.queues[&place].waiting[ticket].lock),
                    );
                }
            }
        }
        false
    }

    fn holders_in_the_way(&self, place: Place, lock: &Held) -> Vec<Owner> {
        let held = self
            .queues
            .get(&place)
            .map(|queue| queue.held.as_slice())
            .unwrap_or_default();
        held.iter()
            .filter(|held| held.blocks(lock.owner, lock.kind, lock.range))
            .map(|held| held.owner)
            .collect()
    }

    fn grant(&mut self, place: Place, lock: &Held, ticket: Ticket) -> Result<bool, LimitExceeded> {
        let held = self
            .queues
            .get(&place)
            .map(|queue| queue.held.as_slice())
            .unwrap_or_default();
        let change = Change::set(held, lock, Some(lock.kind));
        self.admit(place, lock.owner, &change)?;
        let loosens = change.loosens;
        self.apply(place, change);
        if let Some(queue) = self.queues.get_mut(&place) {
            queue.count_overtaken(lock, ticket, self.limits.overtaking);
        }
        Ok(loosens)
    }

    fn admit(&self, place: Place, owner: Owner, change: &Change) -> Result<(), LimitExceeded> {
        let Some(more) = change
            .add
            .len()
            .checked_sub(change.remove.len())
            .filter(|&more| more > 0)
        else {
            return Ok(());
        };
        if self.held_on_file(place.0) + more > self.limits.per_file {
            return Err(LimitExceeded::File);
        }
        if self.held_by_mount(owner.mount) + more > self.limits.per_mount {
            return Err(LimitExceeded::Mount);
        }
        Ok(())
    }

    fn apply(&mut self, place: Place, change: Change) {
        let queue = self.queues.entry(place).or_default();
        if !change.remove.is_empty() {
            // An owner's locks in one queue never overlap, so owner and first byte name one of them.
            let gone: HashSet<(Owner, u64)> = change
                .remove
                .iter()
                .map(|held| (held.owner, held.range.start))
                .collect();
            queue
                .held
                .retain(|held| !gone.contains(&(held.owner, held.range.start)));
        }
        for added in &change.add {
            let at = queue
                .held
                .partition_point(|held| held.range.start <= added.range.start);
            queue.held.insert(at, *added);
        }
        for added in &change.add {
            for party in parties(added) {
                self.parties.entry(party).or_default().held += 1;
            }
            *self
                .mount_places
                .entry(added.owner.mount)
                .or_default()
                .entry(place)
                .or_default() += 1;
        }
        for removed in &change.remove {
            for party in parties(removed) {
                if let Some(presence) = self.parties.get_mut(&party) {
                    presence.held -= 1;
                    self.drop_idle_party(party);
                }
            }
            self.leave_place(removed.owner.mount, place);
        }
        self.drop_empty_queue(place);
    }

    fn leave_place(&mut self, mount: MountId, place: Place) {
        let Some(places) = self.mount_places.get_mut(&mount) else {
            return;
        };
        if let Some(held) = places.get_mut(&place) {
            *held -= 1;
            if *held == 0 {
                places.remove(&place);
            }
        }
        if places.is_empty() {
            self.mount_places.remove(&mount);
        }
    }

    fn drop_idle_party(&mut self, party: Party) {
        if self
            .parties
            .get(&party)
            .is_some_and(|presence| presence.held == 0 && presence.waiting.is_empty())
        {
            self.parties.remove(&party);
        }
    }

    fn drop_empty_queue(&mut self, place: Place) {
        if self
            .queues
            .get(&place)
            .is_some_and(|queue| queue.held.is_empty() && queue.waiting.is_empty())
        {
            self.queues.remove(&place);
        }
    }

    /// Grant what can be granted in `dirty` places, earliest ticket first, until nothing more can.
    fn wake(&mut self, mut dirty: BTreeSet<Place>) -> Vec<Woken> {
        let mut woken = Vec::new();
        if self.held_back {
            return woken;
        }
        // Where the search in a place goes on: granting only takes room away, so those before it stay blocked.
        let mut cursors: HashMap<Place, Ticket> = HashMap::new();
        loop {
            let mut earliest: Option<(Ticket, Place)> = None;
            dirty.retain(|&place| {
                let from = cursors.get(&place).copied().unwrap_or(Ticket(0));
                let Some(ticket) = self.first_grantable(place, from) else {
                    return false;
                };
                cursors.insert(place, ticket);
                if earliest.is_none_or(|(best, _)| ticket < best) {
                    earliest = Some((ticket, place));
                }
                true
            });
            let Some((ticket, place)) = earliest else {
                return woken;
            };
            let Some((_, lock)) = self.forget_waiter(ticket) else {
                return woken;
            };
            let result = self.grant(place, &lock, ticket);
            let exempts = result.is_ok() && self.waits(&lock);
            if exempts {
                dirty.extend(self.dirty_after(place, &lock));
            }
            // A downgrade, a refused waiter's departure and a new exemption can free earlier waiters.
            if exempts || result != Ok(false) {
                cursors.clear();
            }
            woken.push(Woken {
                ticket,
                result: result.map(|_| ()),
            });
        }
    }

    fn first_grantable(&self, place: Place, from: Ticket) -> Option<Ticket> {
        let queue = self.queues.get(&place)?;
        queue
            .waiting
            .range(from..)
            .map(|(&ticket, waiter)| (ticket, &waiter.lock))
            .find_map(|(ticket, lock)| {
                let free = queue.blocker(lock).is_none()
                    && (self.may_pass_waiters(lock) || !queue.behind_impatient(lock, ticket));
                free.then_some(ticket)
            })
    }
}
