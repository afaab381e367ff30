//! The lock table against a brute-force model that keeps one entry a byte, and its rules one by one.

use fsd::locks::{
    Conflict, Kind, LimitExceeded, Limits, LockTable, Outcome, Owner, Range, Request, Space,
    Ticket, Woken,
};
use fsd::locks::{FileId, END_OF_FILE};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// The model's file has this many bytes; the last one stands for "and all that follow".
const BYTES: u64 = 7;

fn range(first: u64, last: u64) -> Range {
    Range::new(first, if last >= BYTES - 1 { END_OF_FILE } else { last }).expect("first <= last")
}

#[derive(Clone, Debug)]
enum Step {
    Lock {
        request: Request,
        blocking: bool,
    },
    Unlock {
        file: FileId,
        space: Space,
        owner: Owner,
        range: Range,
    },
    Cancel(usize),
    ReleaseOwner {
        file: FileId,
        space: Space,
        owner: Owner,
    },
    ReleaseMount(u64),
}

/// Who has one byte, and as what.
type Byte = BTreeMap<Owner, (Kind, u32)>;

/// The table's rules, without any of its structure.
struct Model {
    limits: Limits,
    bytes: BTreeMap<(FileId, Space, u64), Byte>,
    waiting: BTreeMap<u64, (Request, u32)>,
    next: u64,
}

fn conflict(a: Kind, b: Kind) -> bool {
    a == Kind::Write || b == Kind::Write
}

fn covered(r: Range) -> std::ops::RangeInclusive<u64> {
    r.start()..=r.end().min(BYTES - 1)
}

fn crosses(a: &Request, b: &Request) -> bool {
    a.file == b.file
        && a.space == b.space
        && a.owner != b.owner
        && conflict(a.kind, b.kind)
        && covered(a.range).any(|byte| covered(b.range).contains(&byte))
}

impl Model {
    fn blockers(&self, r: &Request) -> BTreeSet<Owner> {
        let held = covered(r.range)
            .filter_map(|byte| self.bytes.get(&(r.file, r.space, byte)))
            .flatten();
        held.filter(|(owner, (kind, _))| **owner != r.owner && conflict(*kind, r.kind))
            .map(|(owner, _)| *owner)
            .collect()
    }

    fn holds_something(&self, r: &Request) -> bool {
        self.bytes.values().flatten().any(|(owner, (_, pid))| {
            *owner == r.owner || owner.mount == r.owner.mount && r.pid != 0 && *pid == r.pid
        })
    }

    fn must_queue(&self, r: &Request, ticket: u64) -> bool {
        !self.holds_something(r)
            && self
                .waiting
                .range(..ticket)
                .any(|(_, (w, overtaken))| *overtaken >= self.limits.overtaking && crosses(w, r))
    }

    fn circle(&self, r: &Request, seen: &mut BTreeSet<Owner>, target: Owner) -> bool {
        self.blockers(r).into_iter().any(|owner| {
            owner == target
                || seen.insert(owner)
                    && self.waiting.values().any(|(w, _)| {
                        w.owner == owner && w.space == Space::Posix && self.circle(w, seen, target)
                    })
        })
    }

    fn runs(&self, file: FileId, mount: Option<u64>) -> usize {
        let mut count = 0;
        for space in [Space::Posix, Space::Flock] {
            let mut before = Byte::new();
            for byte in 0..BYTES {
                let now = self
                    .bytes
                    .get(&(file, space, byte))
                    .cloned()
                    .unwrap_or_default();
                count += now
                    .iter()
                    .filter(|(owner, _)| mount.is_none_or(|mount| mount == owner.mount))
                    .filter(|(owner, (kind, _))| before.get(owner).is_none_or(|(k, _)| k != kind))
                    .count();
                before = now;
            }
        }
        count
    }

    fn mount_runs(&self, mount: u64) -> usize {
        [1, 2]
            .into_iter()
            .map(|file| self.runs(file, Some(mount)))
            .sum()
    }

    fn set(&mut self, r: &Request, kind: Option<Kind>) -> Result<(), LimitExceeded> {
        let before = (
            self.bytes.clone(),
            self.runs(r.file, None),
            self.mount_runs(r.owner.mount),
        );
        for byte in covered(r.range) {
            let entry = self.bytes.entry((r.file, r.space, byte)).or_default();
            match kind {
                Some(kind) => entry.insert(r.owner, (kind, r.pid)),
                None => entry.remove(&r.owner),
            };
        }
        let file = self.runs(r.file, None);
        let mount = self.mount_runs(r.owner.mount);
        let refused = if file > before.1 && file > self.limits.per_file {
            Some(LimitExceeded::File)
        } else if mount > before.2 && mount > self.limits.per_mount {
            Some(LimitExceeded::Mount)
        } else {
            None
        };
        if let Some(limit) = refused {
            self.bytes = before.0;
            return Err(limit);
        }
        Ok(())
    }

    fn grant(&mut self, r: &Request, ticket: u64) -> Result<(), LimitExceeded> {
        self.set(r, Some(r.kind))?;
        for (_, (waiter, overtaken)) in self.waiting.range_mut(..ticket) {
            if crosses(waiter, r) {
                *overtaken += 1;
            }
        }
        Ok(())
    }

    fn wake(&mut self) -> Vec<Woken> {
        let mut woken = Vec::new();
        while let Some((ticket, request)) = self
            .waiting
            .iter()
            .find(|(ticket, (w, _))| self.blockers(w).is_empty() && !self.must_queue(w, **ticket))
            .map(|(ticket, (w, _))| (*ticket, *w))
        {
            self.waiting.remove(&ticket);
            woken.push(Woken {
                ticket: Ticket(ticket),
                result: self.grant(&request, ticket),
            });
        }
        woken
    }

    fn lock(&mut self, r: Request, blocking: bool) -> (Outcome, Vec<Woken>) {
        if r.space == Space::Flock {
            for byte in 0..BYTES {
                let entry = self.bytes.entry((r.file, r.space, byte)).or_default();
                if entry.get(&r.owner).is_some_and(|(kind, _)| *kind != r.kind) {
                    entry.remove(&r.owner);
                }
            }
        }
        let blocked = !self.blockers(&r).is_empty();
        let outcome = if blocked && !blocking {
            Outcome::WouldBlock
        } else if blocked
            && r.space == Space::Posix
            && self.circle(&r, &mut BTreeSet::new(), r.owner)
        {
            Outcome::Deadlock
        } else if blocked || blocking && self.must_queue(&r, self.next) {
            self.waiting.insert(self.next, (r, 0));
            self.next += 1;
            Outcome::Queued(Ticket(self.next - 1))
        } else {
            self.grant(&r, self.next)
                .map_or_else(Outcome::LimitExceeded, |()| Outcome::Granted)
        };
        (outcome, self.wake())
    }
}

fn owners() -> impl Strategy<Value = Owner> {
    (1..=2u64, 1..=3u64).prop_map(|(mount, owner)| Owner { mount, owner })
}

fn spaces() -> impl Strategy<Value = Space> {
    prop_oneof![3 => Just(Space::Posix), 1 => Just(Space::Flock)]
}

fn ranges() -> impl Strategy<Value = Range> {
    (0..BYTES, 0..BYTES).prop_map(|(a, b)| range(a.min(b), a.max(b)))
}

fn requests() -> impl Strategy<Value = Request> {
    (1..=2u64, spaces(), owners(), ranges(), any::<bool>()).prop_map(
        |(file, space, owner, wanted, write)| Request {
            file,
            space,
            owner,
            // Two owners of a mount share a process; of one the door knows no process.
            pid: if owner == (Owner { mount: 2, owner: 1 }) {
                0
            } else {
                100 + (owner.owner / 2) as u32
            },
            kind: if write { Kind::Write } else { Kind::Read },
            range: if space == Space::Flock {
                Range::WHOLE
            } else {
                wanted
            },
        },
    )
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (requests(), any::<bool>()).prop_map(|(request, blocking)| Step::Lock { request, blocking }),
        3 => (1..=2u64, spaces(), owners(), ranges()).prop_map(|(file, space, owner, range)| Step::Unlock {
            file, space, owner, range: if space == Space::Flock { Range::WHOLE } else { range },
        }),
        1 => any::<usize>().prop_map(Step::Cancel),
        1 => (1..=2u64, spaces(), owners()).prop_map(|(file, space, owner)| Step::ReleaseOwner { file, space, owner }),
        1 => (1..=2u64).prop_map(Step::ReleaseMount),
    ]
}

fn limits() -> impl Strategy<Value = Limits> {
    (
        prop_oneof![Just(4usize), Just(512)],
        prop_oneof![Just(5usize), Just(65_536)],
        0..4u32,
    )
        .prop_map(|(per_file, per_mount, overtaking)| Limits {
            per_file,
            per_mount,
            overtaking,
        })
}

/// Every answer that the table could be asked for now equals the model's.
fn assert_same(table: &LockTable, model: &Model) {
    for file in 1..=2 {
        assert_eq!(
            table.held_on_file(file),
            model.runs(file, None),
            "locks on file {file}"
        );
        for (space, byte, owner, kind) in probes() {
            let range = if space == Space::Flock {
                Range::WHOLE
            } else {
                range(byte, byte)
            };
            let probe = Request {
                file,
                space,
                owner,
                pid: 0,
                kind,
                range,
            };
            let found = table.test(&probe);
            let expected = model.blockers(&probe);
            assert_eq!(
                found.is_some(),
                !expected.is_empty(),
                "{probe:?}: {found:?} but {expected:?}"
            );
            if let Some(Conflict { owner, .. }) = found {
                assert!(
                    expected.contains(&owner),
                    "{probe:?}: {owner:?} not in {expected:?}"
                );
            }
        }
    }
    for mount in 1..=2 {
        assert_eq!(
            table.held_by_mount(mount),
            model.mount_runs(mount),
            "locks of mount {mount}"
        );
    }
    assert_eq!(table.waiting(), model.waiting.len());
    assert_eq!(
        table.is_empty(),
        model.waiting.is_empty() && model.bytes.values().all(BTreeMap::is_empty)
    );
}

/// Every byte, asked for by an owner that holds nothing and by two that may.
fn probes() -> impl Iterator<Item = (Space, u64, Owner, Kind)> {
    let askers = [(1, 9), (1, 1), (2, 2)].map(|(mount, owner)| Owner { mount, owner });
    [Space::Posix, Space::Flock]
        .into_iter()
        .flat_map(move |space| {
            (0..BYTES).flat_map(move |byte| {
                askers.into_iter().flat_map(move |asker| {
                    [Kind::Read, Kind::Write].map(|kind| (space, byte, asker, kind))
                })
            })
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn behaves_as_the_model(limits in limits(), history in proptest::collection::vec(steps(), 1..60)) {
        let mut table = LockTable::new(limits);
        let mut model = Model { limits, bytes: BTreeMap::new(), waiting: BTreeMap::new(), next: 0 };
        for step in history {
            match step {
                Step::Lock { request, blocking } => {
                    prop_assert_eq!(table.lock(request, blocking), model.lock(request, blocking));
                }
                Step::Unlock { file, space, owner, range } => {
                    let r = Request { file, space, owner, pid: 0, kind: Kind::Read, range };
                    let expected = model.set(&r, None).map(|()| model.wake());
                    prop_assert_eq!(table.unlock(file, space, owner, range), expected);
                }
                Step::Cancel(choice) => {
                    let tickets: Vec<u64> = model.waiting.keys().copied().collect();
                    let ticket = if tickets.is_empty() { model.next } else { tickets[choice % tickets.len()] };
                    model.waiting.remove(&ticket);
                    prop_assert_eq!(table.cancel(Ticket(ticket)), model.wake());
                }
                Step::ReleaseOwner { file, space, owner } => {
                    for byte in 0..BYTES {
                        model.bytes.entry((file, space, byte)).or_default().remove(&owner);
                    }
                    prop_assert_eq!(table.release_owner(file, space, owner), model.wake());
                }
                Step::ReleaseMount(mount) => {
                    model.bytes.values_mut().for_each(|at| at.retain(|owner, _| owner.mount != mount));
                    let gone: Vec<Ticket> =
                        model.waiting.iter().filter(|(_, (w, _))| w.owner.mount == mount).map(|(t, _)| Ticket(*t)).collect();
                    model.waiting.retain(|_, (w, _)| w.owner.mount != mount);
                    let released = table.release_mount(mount);
                    prop_assert_eq!(released.cancelled, gone);
                    prop_assert_eq!(released.woken, model.wake());
                }
            }
            assert_same(&table, &model);
        }
        // Whatever happened: when every mount has gone nothing is left.
        for mount in 1..=2 {
            table.release_mount(mount);
        }
        prop_assert!(table.is_empty());
    }
}

fn want(owner: u64, kind: Kind, range: Range) -> Request {
    Request {
        file: 1,
        space: Space::Posix,
        owner: Owner { mount: 1, owner },
        pid: owner as u32,
        kind,
        range,
    }
}

fn granted(outcome: (Outcome, Vec<Woken>)) {
    assert_eq!(outcome, (Outcome::Granted, vec![]));
}

fn queued(outcome: (Outcome, Vec<Woken>)) -> Ticket {
    match outcome {
        (Outcome::Queued(ticket), woken) if woken.is_empty() => ticket,
        other => panic!("not queued: {other:?}"),
    }
}

fn tickets(woken: Vec<Woken>) -> Vec<Ticket> {
    woken
        .into_iter()
        .inspect(|woken| assert_eq!(woken.result, Ok(())))
        .map(|woken| woken.ticket)
        .collect()
}

#[test]
fn a_queue_of_writers_is_served_in_order() {
    let mut table = LockTable::default();
    granted(table.lock(want(1, Kind::Write, Range::WHOLE), false));
    let order: Vec<Ticket> = (2..1000)
        .map(|owner| queued(table.lock(want(owner, Kind::Write, Range::WHOLE), true)))
        .collect();
    let mut served = Vec::new();
    for owner in 1..1000 {
        let woken = table
            .unlock(1, Space::Posix, Owner { mount: 1, owner }, Range::WHOLE)
            .expect("no limit");
        served.extend(tickets(woken));
    }
    assert_eq!(served, order);
    assert!(table.is_empty());
}

#[test]
fn a_stream_of_readers_does_not_starve_a_writer() {
    let mut table = LockTable::default();
    granted(table.lock(want(1, Kind::Read, Range::WHOLE), true));
    let writer = queued(table.lock(want(2, Kind::Write, Range::WHOLE), true));
    let mut passed = 0;
    while table
        .lock(want(10 + passed, Kind::Read, Range::WHOLE), true)
        .0
        == Outcome::Granted
    {
        passed += 1;
    }
    assert_eq!(passed, u64::from(Limits::default().overtaking));
    // A process that already holds a lock, and a request that does not block, are never made to queue.
    granted(table.lock(want(1, Kind::Read, Range::WHOLE), true));
    granted(table.lock(want(500, Kind::Read, Range::WHOLE), false));
    for owner in [1, 500].into_iter().chain(10..10 + passed - 1) {
        assert_eq!(
            table.unlock(1, Space::Posix, Owner { mount: 1, owner }, Range::WHOLE),
            Ok(vec![])
        );
    }
    let last = table.release_owner(
        1,
        Space::Posix,
        Owner {
            mount: 1,
            owner: 10 + passed - 1,
        },
    );
    assert_eq!(tickets(last), [writer]);
}

#[test]
fn a_circle_of_three_over_two_mounts_is_refused_and_flock_is_not_checked() {
    for (space, expected) in [(Space::Posix, true), (Space::Flock, false)] {
        let mut table = LockTable::default();
        let party = |file: u64, mount: u64| Request {
            file,
            space,
            owner: Owner { mount, owner: 7 },
            pid: 7,
            kind: Kind::Write,
            range: Range::WHOLE,
        };
        for n in 1..=3 {
            granted(table.lock(party(n, n), true));
        }
        queued(table.lock(party(2, 1), true));
        queued(table.lock(party(3, 2), true));
        let (outcome, _) = table.lock(party(1, 3), true);
        assert_eq!(
            outcome == Outcome::Deadlock,
            expected,
            "{space:?}: {outcome:?}"
        );
        assert_eq!(table.lock(party(1, 3), false).0, Outcome::WouldBlock);
    }
}

#[test]
fn two_readers_that_both_upgrade_would_deadlock() {
    let mut table = LockTable::default();
    granted(table.lock(want(1, Kind::Read, Range::WHOLE), true));
    granted(table.lock(want(2, Kind::Read, Range::WHOLE), true));
    let first = queued(table.lock(want(1, Kind::Write, Range::WHOLE), true));
    assert_eq!(
        table.lock(want(2, Kind::Write, Range::WHOLE), true),
        (Outcome::Deadlock, vec![])
    );
    assert_eq!(
        tickets(table.release_owner(1, Space::Posix, Owner { mount: 1, owner: 2 })),
        [first]
    );
}

#[test]
fn a_flock_conversion_gives_up_the_old_lock_first() {
    let mut table = LockTable::default();
    let flock = |owner, kind| Request {
        space: Space::Flock,
        ..want(owner, kind, Range::WHOLE)
    };
    granted(table.lock(flock(1, Kind::Read), false));
    granted(table.lock(flock(2, Kind::Read), false));
    assert_eq!(
        table.lock(flock(1, Kind::Write), false).0,
        Outcome::WouldBlock
    );
    // Owner 1 lost its shared lock, so owner 2 is alone now.
    granted(table.lock(flock(2, Kind::Write), false));
    let waiter = queued(table.lock(flock(1, Kind::Write), true));
    // Nobody else holds it: the conversion back to shared succeeds, and leaves no room for the waiting writer.
    granted(table.lock(flock(2, Kind::Read), true));
    assert_eq!(
        tickets(
            table
                .unlock(1, Space::Flock, Owner { mount: 1, owner: 2 }, Range::WHOLE)
                .expect("no limit")
        ),
        [waiter]
    );
}

#[test]
fn a_downgrade_lets_waiting_readers_in() {
    let mut table = LockTable::default();
    granted(table.lock(want(1, Kind::Write, range(0, 5)), true));
    let inside = queued(table.lock(want(2, Kind::Read, range(1, 2)), true));
    queued(table.lock(want(3, Kind::Read, range(2, 5)), true));
    let (outcome, woken) = table.lock(want(1, Kind::Read, range(0, 3)), true);
    assert_eq!((outcome, tickets(woken)), (Outcome::Granted, vec![inside]));
}

#[test]
fn getlk_names_the_first_conflict_and_its_process() {
    let mut table = LockTable::default();
    granted(table.lock(
        want(5, Kind::Read, Range::new(40, 49).expect("range")),
        true,
    ));
    granted(table.lock(
        want(4, Kind::Write, Range::new(20, 29).expect("range")),
        true,
    ));
    let found = table
        .test(&want(1, Kind::Write, Range::WHOLE))
        .expect("a conflict");
    assert_eq!(
        (
            found.pid,
            found.kind,
            found.range.start(),
            found.range.end()
        ),
        (4, Kind::Write, 20, 29)
    );
    assert_eq!(
        table.test(&want(1, Kind::Read, Range::new(30, 60).expect("range"))),
        None
    );
}

#[test]
fn the_513th_lock_of_a_file_is_refused_also_by_splitting() {
    let mut table = LockTable::default();
    for n in 0..511 {
        granted(table.lock(
            want(
                n + 1,
                Kind::Write,
                Range::new(n * 10, n * 10 + 4).expect("range"),
            ),
            true,
        ));
    }
    let flock = Request {
        space: Space::Flock,
        ..want(9000, Kind::Read, Range::WHOLE)
    };
    granted(table.lock(flock, true));
    let one_more = want(1, Kind::Write, Range::new(100_000, 100_001).expect("range"));
    assert_eq!(
        table.lock(one_more, true).0,
        Outcome::LimitExceeded(LimitExceeded::File)
    );
    assert_eq!(LimitExceeded::ERRNO, 122);
    let cut = Range::new(2, 2).expect("range");
    assert_eq!(
        table.unlock(1, Space::Posix, Owner { mount: 1, owner: 1 }, cut),
        Err(LimitExceeded::File)
    );
    // Growing a lock needs no new one; another file is another count; a freed lock makes room.
    granted(table.lock(want(1, Kind::Write, Range::new(0, 9).expect("range")), true));
    granted(table.lock(
        Request {
            file: 2,
            ..one_more
        },
        true,
    ));
    assert_eq!(table.release_owner(1, Space::Flock, flock.owner), vec![]);
    granted(table.lock(one_more, true));
}

#[test]
fn a_mount_holds_at_most_65536_locks() {
    let mut table = LockTable::default();
    for n in 0..65_536 {
        granted(table.lock(
            Request {
                file: n / 512,
                ..want(
                    1,
                    Kind::Read,
                    Range::new((n % 512) * 2, (n % 512) * 2).expect("range"),
                )
            },
            true,
        ));
    }
    let request = Request {
        file: 9999,
        ..want(1, Kind::Read, Range::WHOLE)
    };
    assert_eq!(
        table.lock(request, true).0,
        Outcome::LimitExceeded(LimitExceeded::Mount)
    );
    granted(table.lock(
        Request {
            owner: Owner { mount: 2, owner: 1 },
            ..request
        },
        true,
    ));
    assert_eq!(table.release_mount(1).woken, vec![]);
    assert_eq!(table.held_by_mount(1), 0);
}

#[test]
fn a_waiter_that_meets_a_limit_when_its_turn_comes_is_told_so() {
    let mut table = LockTable::new(Limits {
        per_file: 2,
        ..Limits::default()
    });
    granted(table.lock(want(1, Kind::Write, range(0, 0)), true));
    let waiter = queued(table.lock(want(2, Kind::Read, range(0, 0)), true));
    granted(table.lock(want(3, Kind::Write, range(3, 3)), true));
    // Owner 1 only downgrades: the byte can be shared now, but the file already has as many locks as it may.
    let (outcome, woken) = table.lock(want(1, Kind::Read, range(0, 0)), true);
    assert_eq!(
        (outcome, woken),
        (
            Outcome::Granted,
            vec![Woken {
                ticket: waiter,
                result: Err(LimitExceeded::File)
            }]
        )
    );
    assert_eq!(table.cancel(waiter), vec![]);
}

#[test]
fn a_range_is_never_empty_and_ends_at_the_end_of_file() {
    assert_eq!(Range::new(5, 4), None);
    assert_eq!(Range::new(END_OF_FILE + 1, u64::MAX), None);
    assert_eq!(Range::new(0, u64::MAX), Some(Range::WHOLE));
}
