//! One file's locks in one space: what is held, who waits, and how a request changes what its owner holds.

use std::collections::{BTreeMap, BTreeSet};

use super::terms::{Kind, Owner, Range, Ticket};

#[derive(Clone, Copy, Debug)]
pub struct Held {
    pub owner: Owner,
    pub pid: u32,
    pub kind: Kind,
    pub range: Range,
}

impl Held {
    pub fn blocks(&self, owner: Owner, kind: Kind, range: Range) -> bool {
        self.owner != owner && self.kind.conflicts(kind) && self.range.overlaps(range)
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Waiter {
    pub lock: Held,
    pub overtaken: u32,
}

/// One file's locks in one space.
#[derive(Debug, Default)]
pub struct Queue {
    /// Sorted by the first byte.
    pub held: Vec<Held>,
    pub waiting: BTreeMap<Ticket, Waiter>,
    /// Waiters that let nobody pass any more.
    pub impatient: BTreeSet<Ticket>,
}

impl Queue {
    pub fn blocker(&self, lock: &Held) -> Option<&Held> {
        self.held
            .iter()
            .take_while(|held| held.range.start <= lock.range.end)
            .find(|held| held.blocks(lock.owner, lock.kind, lock.range))
    }

    /// Whether a waiter that came before `ticket` has waited long enough to be let in first.
    pub fn behind_impatient(&self, lock: &Held, ticket: Ticket) -> bool {
        self.impatient.range(..ticket).any(|earlier| {
            self.waiting[earlier]
                .lock
                .blocks(lock.owner, lock.kind, lock.range)
        })
    }

    pub fn count_overtaken(&mut self, lock: &Held, ticket: Ticket, limit: u32) {
        for (&earlier, waiter) in self.waiting.range_mut(..ticket) {
            if waiter.lock.blocks(lock.owner, lock.kind, lock.range) {
                waiter.overtaken = waiter.overtaken.saturating_add(1);
                if waiter.overtaken >= limit {
                    self.impatient.insert(earlier);
                }
            }
        }
    }

    pub fn remove_waiter(&mut self, ticket: Ticket) -> Option<Waiter> {
        self.impatient.remove(&ticket);
        self.waiting.remove(&ticket)
    }
}

/// How an owner's locks on a file look after setting a range to a kind (or to nothing).
pub struct Change {
    pub remove: Vec<Held>,
    pub add: Vec<Held>,
    /// Some byte became free or went from exclusive to shared: waiters may go on.
    pub loosens: bool,
}

impl Change {
    /// POSIX's rules: the new range replaces what the owner held there, splits what sticks out, and joins with
    /// neighbours of its kind.
    pub fn set(held: &[Held], lock: &Held, kind: Option<Kind>) -> Change {
        let mut change = Change {
            remove: Vec::new(),
            add: Vec::new(),
            loosens: false,
        };
        let mut joined = lock.range;
        for old in held
            .iter()
            .filter(|old| old.owner == lock.owner && old.range.touches(lock.range))
        {
            if kind == Some(old.kind) {
                joined = Range {
                    start: joined.start.min(old.range.start),
                    end: joined.end.max(old.range.end),
                };
                change.remove.push(*old);
                continue;
            }
            if !old.range.overlaps(lock.range) {
                continue;
            }
            change.remove.push(*old);
            change.loosens |= kind.is_none() || old.kind == Kind::Write;
            if old.range.start < lock.range.start {
                change.add.push(Held {
                    range: Range {
                        start: old.range.start,
                        end: lock.range.start - 1,
                    },
                    ..*old
                });
            }
            if lock.range.end < old.range.end {
                change.add.push(Held {
                    range: Range {
                        start: lock.range.end + 1,
                        end: old.range.end,
                    },
                    ..*old
                });
            }
        }
        if let Some(kind) = kind {
            change.add.push(Held {
                kind,
                range: joined,
                ..*lock
            });
        }
        change
    }
}
