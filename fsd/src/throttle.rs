//! EFS's throughput modes and operations limit: how long an operation has to wait, and what is left of the credits.
//!
//! Pure: time comes in as nanoseconds of any clock that does not run backwards (an earlier time counts as no time
//! passed), verdicts go out as nanoseconds to wait. An operation is charged when it comes and is answered after its
//! wait, so operations are served in order and a big one makes the next ones wait, never itself starve.
//! <https://docs.aws.amazon.com/efs/latest/ug/performance.html>

use crate::meter::{metered_thirds, Class};
use serde::{Deserialize, Serialize};

/// Nanoseconds: a moment of the caller's clock, or a span.
pub type Nanos = u64;

const SECOND: u64 = 1_000_000_000;
pub const KIB: u64 = 1 << 10;
pub const MIB: u64 = 1 << 20;
pub const GIB: u64 = 1 << 30;
pub const TIB: u64 = 1 << 40;

/// 2.1 TiB, as `BurstCreditBalance` of a new file system shows it.
pub const INITIAL_CREDITS: u64 = 2_308_974_418_330;

/// How far a pace may run ahead of its rate: short bursts pass without a wait.
const SLACK: Nanos = SECOND / 10;

/// `ThroughputMode` of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "mode")]
pub enum Mode {
    Bursting,
    Provisioned {
        bytes_per_second: u64,
    },
    /// Limited by the machine alone.
    Elastic,
}

/// `PerformanceMode` of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Performance {
    GeneralPurpose,
    MaxIo,
}

/// Operations per second that General Purpose admits, reads alone or writes alone; a mix shares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperationsLimit {
    pub reads: u64,
    pub writes: u64,
}

impl OperationsLimit {
    /// `None`: no limit (Max I/O). <https://docs.aws.amazon.com/efs/latest/ug/limits.html>
    pub fn of(performance: Performance, mode: Mode) -> Option<Self> {
        match (performance, mode) {
            (Performance::MaxIo, _) => None,
            (_, Mode::Bursting) => Some(OperationsLimit {
                reads: 35_000,
                writes: 7_000,
            }),
            (_, Mode::Provisioned { .. }) => Some(OperationsLimit {
                reads: 55_000,
                writes: 25_000,
            }),
            (_, Mode::Elastic) => Some(OperationsLimit {
                reads: 250_000,
                writes: 50_000,
            }),
        }
    }

    /// The part of a second that one operation takes up.
    fn cost(self, class: Class) -> Nanos {
        SECOND
            / if class.writes() {
                self.writes
            } else {
                self.reads
            }
    }
}

/// Metered bytes per second that Standard storage earns: 50 KiB/s a GiB, never under 1 MiB/s.
pub fn baseline(standard_bytes: u64) -> u64 {
    // 50 KiB per GiB is 50 / 2^20.
    let earned = u128::from(standard_bytes) * 50 / u128::from(MIB);
    u64::try_from(earned).unwrap_or(u64::MAX).max(MIB)
}

/// Metered bytes per second while there are credits: 100 MiB/s, past 1 TiB 100 MiB/s a TiB.
pub fn burst(standard_bytes: u64) -> u64 {
    let scaled = u128::from(standard_bytes) * u128::from(100 * MIB) / u128::from(TIB);
    u64::try_from(scaled).unwrap_or(u64::MAX).max(100 * MIB)
}

/// The most credits, in bytes: 2.1 TiB, past 1 TiB 2.1 TiB a TiB.
pub fn credit_cap(standard_bytes: u64) -> u64 {
    let scaled = u128::from(standard_bytes) * u128::from(INITIAL_CREDITS) / u128::from(TIB);
    u64::try_from(scaled)
        .unwrap_or(u64::MAX)
        .max(INITIAL_CREDITS)
}

/// Bytes per second that one connection may move, whatever the file system permits: a [`Pace`] of its own for each.
pub fn client_limit(mode: Mode) -> u64 {
    if mode == Mode::Elastic {
        1500 * MIB
    } else {
        500 * MIB
    }
}

/// A rate, kept by a virtual clock: each charge moves it on by the charge's share of a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    paid_until: Nanos,
}

impl Pace {
    /// Charge a span and get the wait until it is paid for, less the slack.
    pub fn charge(&mut self, span: Nanos, now: Nanos) -> Nanos {
        self.paid_until = self.paid_until.max(now).saturating_add(span);
        self.paid_until.saturating_sub(now.saturating_add(SLACK))
    }

    /// The span that `thirds` of a byte take at a rate of bytes per second, rounded up.
    pub fn span(thirds: u64, bytes_per_second: u64) -> Nanos {
        let span = (u128::from(thirds) * u128::from(SECOND))
            .div_ceil(3 * u128::from(bytes_per_second.max(1)));
        u64::try_from(span).unwrap_or(u64::MAX)
    }
}

/// The credit ledger: one balance that baseline throughput fills and metered bytes spend.
///
/// It may go below zero: what was admitted on credit that is not there. The debt is paid at the baseline rate, and who
/// made it waits for that; so at zero credits the permitted throughput is the baseline, exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Credits {
    /// In thirds of a billionth of a byte: reads cost thirds, and nanoseconds earn billionths. Exact, so that it does
    /// not matter in how many steps time passes.
    balance: i128,
}

/// Units of [`Credits::balance`] in a byte.
const UNITS: i128 = 3 * SECOND as i128;

impl Credits {
    fn new() -> Self {
        Credits {
            balance: i128::from(INITIAL_CREDITS) * UNITS,
        }
    }

    fn earn(&mut self, bytes_per_second: u64, span: Nanos, cap: u64) {
        let earned = 3 * i128::from(bytes_per_second) * i128::from(span);
        self.balance = (self.balance + earned).min(i128::from(cap) * UNITS);
    }

    /// Spend, and get the wait until the balance is not below zero.
    fn spend(&mut self, thirds: u64, bytes_per_second: u64) -> Nanos {
        self.balance -= i128::from(thirds) * i128::from(SECOND);
        if self.balance >= 0 {
            return 0;
        }
        let wait = self
            .balance
            .unsigned_abs()
            .div_ceil(3 * u128::from(bytes_per_second.max(1)));
        u64::try_from(wait).unwrap_or(u64::MAX)
    }

    fn bytes(self) -> u64 {
        u64::try_from(self.balance.div_euclid(UNITS).max(0)).unwrap_or(u64::MAX)
    }
}

/// The durable part of a throttle. Restoring it credits the time that has passed since `at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Whole bytes of credit, rounded down; below zero for a debt.
    pub credit_bytes: i64,
    /// What is over, in thirds of a billionth of a byte.
    pub credit_fraction: u64,
    /// When this was the balance, in nanoseconds of the caller's clock.
    pub at: Nanos,
}

/// The limits of one file system.
#[derive(Clone, Debug)]
pub struct Throttle {
    mode: Mode,
    performance: Performance,
    standard_bytes: u64,
    credits: Credits,
    settled_at: Nanos,
    throughput: Pace,
    operations: Pace,
    share: Share,
}

impl Throttle {
    /// A new file system: empty, with 2.1 TiB of credits.
    pub fn new(mode: Mode, performance: Performance, now: Nanos) -> Self {
        Throttle {
            mode,
            performance,
            standard_bytes: 0,
            credits: Credits::new(),
            settled_at: now,
            throughput: Pace::default(),
            operations: Pace::default(),
            share: Share::new(now),
        }
    }

    /// A file system that was there before: `standard_bytes` of Standard storage and the ledger of its last life.
    pub fn restore(
        mode: Mode,
        performance: Performance,
        standard_bytes: u64,
        ledger: Ledger,
        now: Nanos,
    ) -> Self {
        let balance = i128::from(ledger.credit_bytes) * UNITS + i128::from(ledger.credit_fraction);
        let mut throttle = Throttle {
            standard_bytes,
            credits: Credits { balance },
            settled_at: ledger.at,
            ..Throttle::new(mode, performance, now)
        };
        throttle.settle(now);
        throttle
    }

    /// Charge an operation of `bytes` (0 for metadata). The answer is the wait, in nanoseconds from `now`, before the
    /// operation may be answered.
    pub fn charge(&mut self, class: Class, bytes: u64, now: Nanos) -> Nanos {
        self.settle(now);
        let thirds = metered_thirds(class, bytes);
        let throughput = match self.mode {
            Mode::Elastic => 0,
            Mode::Provisioned { .. } => self
                .throughput
                .charge(Pace::span(thirds, self.permitted()), now),
            Mode::Bursting => {
                let debt = self.credits.spend(thirds, baseline(self.standard_bytes));
                debt.max(
                    self.throughput
                        .charge(Pace::span(thirds, burst(self.standard_bytes)), now),
                )
            }
        };
        let operations = match OperationsLimit::of(self.performance, self.mode) {
            None => 0,
            Some(limit) => {
                self.share.add(limit.cost(class), now);
                self.operations.charge(limit.cost(class), now)
            }
        };
        throughput.max(operations)
    }

    /// Switch modes or change the provisioned throughput, live. Credits are kept, waits already given stand.
    pub fn set_mode(&mut self, mode: Mode, now: Nanos) {
        self.settle(now);
        self.mode = mode;
        self.throughput = Pace::default();
        self.operations = Pace::default();
    }

    /// The size of Standard storage has changed: baseline, burst limit and cap follow it.
    pub fn set_standard_bytes(&mut self, standard_bytes: u64, now: Nanos) {
        self.settle(now);
        self.standard_bytes = standard_bytes;
    }

    pub fn mode(&self) -> Mode {
        self.mode
    }

    pub fn performance(&self) -> Performance {
        self.performance
    }

    /// `BurstCreditBalance`, in bytes.
    pub fn credit_balance(&mut self, now: Nanos) -> u64 {
        self.settle(now);
        self.credits.bytes()
    }

    /// `PermittedThroughput`, in metered bytes per second. `None` in elastic mode, which has no limit of its own.
    pub fn permitted_throughput(&mut self, now: Nanos) -> Option<u64> {
        self.settle(now);
        (self.mode != Mode::Elastic).then(|| self.permitted())
    }

    /// `PercentIOLimit`: the share of the operations limit that the last full second used, 0 to 100. `None` where
    /// there is no limit (Max I/O).
    pub fn percent_io_limit(&mut self, now: Nanos) -> Option<f64> {
        OperationsLimit::of(self.performance, self.mode)?;
        Some(self.share.percent(now))
    }

    /// What must survive a restart.
    pub fn ledger(&mut self, now: Nanos) -> Ledger {
        self.settle(now);
        Ledger {
            credit_bytes: i64::try_from(self.credits.balance.div_euclid(UNITS)).unwrap_or(i64::MAX),
            // A remainder of UNITS is below UNITS, which fits.
            credit_fraction: self.credits.balance.rem_euclid(UNITS) as u64,
            at: self.settled_at,
        }
    }

    fn permitted(&self) -> u64 {
        let baseline = baseline(self.standard_bytes);
        match self.mode {
            Mode::Bursting => {
                // A second of it: else a file system that lives from hand to mouth would show both, by chance.
                let burst = burst(self.standard_bytes);
                if self.credits.bytes() >= burst {
                    burst
                } else {
                    baseline
                }
            }
            Mode::Provisioned { bytes_per_second } => bytes_per_second.max(baseline),
            Mode::Elastic => u64::MAX,
        }
    }

    /// Credits accrue in bursting and provisioned mode; elastic neither earns nor spends them.
    fn settle(&mut self, now: Nanos) {
        let span = now.saturating_sub(self.settled_at);
        self.settled_at = self.settled_at.max(now);
        if self.mode != Mode::Elastic {
            self.credits.earn(
                baseline(self.standard_bytes),
                span,
                credit_cap(self.standard_bytes),
            );
        }
    }
}

/// How much of each second the operations took up.
#[derive(Clone, Copy, Debug)]
struct Share {
    second: u64,
    used: Nanos,
    before: Nanos,
}

impl Share {
    fn new(now: Nanos) -> Self {
        Share {
            second: now / SECOND,
            used: 0,
            before: 0,
        }
    }

    fn turn(&mut self, now: Nanos) {
        let second = now / SECOND;
        if second <= self.second {
            return;
        }
        // What did not fit into a second was waiting and used the following ones.
        let until_last = (second - self.second - 1).saturating_mul(SECOND);
        let left = self.used.saturating_sub(until_last);
        self.before = left.min(SECOND);
        self.used = left - self.before;
        self.second = second;
    }

    fn add(&mut self, cost: Nanos, now: Nanos) {
        self.turn(now);
        self.used = self.used.saturating_add(cost);
    }

    fn percent(&mut self, now: Nanos) -> f64 {
        self.turn(now);
        self.before as f64 * 100.0 / SECOND as f64
    }
}
