//! A volume's limits with a clock: how long the answer to an operation has to be held back.
//!
//! `throttle` decides; here are the time it decides by, the switch that is off while nothing limits (one relaxed load an
//! operation), and what the operation at hand on this thread owes.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde::Deserialize;
use serde_json::{json, Value};

use crate::admission::{Admission, Refusal};
use crate::meter::{metered_thirds, Class};
use crate::throttle::{client_limit, Ledger, Mode, Nanos, Pace, Performance, Throttle};

/// How far the supervisor's clock is ahead of this machine's, in nanoseconds.
static AHEAD: AtomicI64 = AtomicI64::new(0);

fn machine_time() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
    })
}

/// Now by the supervisor's clock, in nanoseconds since 1970.
pub fn now() -> Nanos {
    let now = machine_time().saturating_add(AHEAD.load(Relaxed));
    u64::try_from(now).unwrap_or(0)
}

/// The supervisor's clock shows `now`, in nanoseconds since 1970.
pub fn set_clock(now: Nanos) {
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    AHEAD.store(now.saturating_sub(machine_time()), Relaxed);
}

thread_local! {
    static OWED: Cell<Nanos> = const { Cell::new(0) };
}

/// The operation at hand has to wait `nanos`; of several waits the longest counts.
pub fn owe(nanos: Nanos) {
    OWED.set(OWED.get().max(nanos));
}

/// When the operation at hand may be answered, where that is not at once; the next operation begins with nothing owed.
pub fn settle() -> Option<Instant> {
    let owed = OWED.replace(0);
    (owed > 0).then(|| Instant::now() + Duration::from_nanos(owed))
}

/// What a volume is limited to.
#[derive(Clone, Debug, Deserialize)]
pub struct Limits {
    pub throughput: Mode,
    pub performance: Performance,
    /// Standard storage, in bytes: what bursting's baseline follows.
    pub standard_bytes: Option<u64>,
    /// What an earlier life of the file system left.
    pub ledger: Option<Ledger>,
    /// False: count credits, hold nothing back (`--quotas off`).
    #[serde(default = "yes")]
    pub enforce: bool,
}

fn yes() -> bool {
    true
}

/// The limits of one volume.
#[derive(Debug, Default)]
pub struct Pacing {
    active: AtomicBool,
    enforce: AtomicBool,
    throttle: Mutex<Option<Throttle>>,
    admission: Mutex<Admission>,
}

impl Pacing {
    fn throttle(&self) -> MutexGuard<'_, Option<Throttle>> {
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets or changes the limits. Credits go on unless a ledger is given.
    pub fn limit(&self, limits: &Limits) {
        let now = now();
        let mut throttle = self.throttle();
        let next = match (throttle.take(), limits.ledger) {
            (Some(mut present), None) => {
                if present.performance() == limits.performance {
                    if present.mode() != limits.throughput {
                        present.set_mode(limits.throughput, now);
                    }
                    present
                } else {
                    let ledger = present.ledger(now);
                    let bytes = limits.standard_bytes.unwrap_or(0);
                    Throttle::restore(limits.throughput, limits.performance, bytes, ledger, now)
                }
            }
            (_, Some(ledger)) => {
                let bytes = limits.standard_bytes.unwrap_or(0);
                Throttle::restore(limits.throughput, limits.performance, bytes, ledger, now)
            }
            (None, None) => Throttle::new(limits.throughput, limits.performance, now),
        };
        let next = throttle.insert(next);
        if let Some(bytes) = limits.standard_bytes {
            next.set_standard_bytes(bytes, now);
        }
        self.enforce.store(limits.enforce, Relaxed);
        self.active.store(true, Relaxed);
    }

    /// Charges an operation to the volume and to its client, and notes what it owes.
    pub fn charge(&self, client: &Mutex<Pace>, class: Class, bytes: u64) {
        if !self.active.load(Relaxed) {
            return;
        }
        let now = now();
        let mut throttle = self.throttle();
        let Some(throttle) = throttle.as_mut() else {
            return;
        };
        let wait = throttle.charge(class, bytes, now);
        let limit = client_limit(throttle.mode());
        if !self.enforce.load(Relaxed) {
            return;
        }
        let span = Pace::span(metered_thirds(class, bytes), limit);
        let mut client = client.lock().unwrap_or_else(PoisonError::into_inner);
        owe(wait.max(client.charge(span, now)));
    }

    /// Whether one more client may connect beside `present`.
    pub fn admit(&self, present: usize) -> Result<(), Refusal> {
        if !self.enforce.load(Relaxed) {
            return Ok(());
        }
        let admission = self.admission.lock();
        let mut admission = admission.unwrap_or_else(PoisonError::into_inner);
        admission.admit(present, now())
    }

    /// What the metrics show and what must survive a restart; null without limits.
    pub fn report(&self) -> Value {
        let now = now();
        match self.throttle().as_mut() {
            None => Value::Null,
            Some(throttle) => json!({
                "throughput": throttle.mode(),
                "burst_credit_balance": throttle.credit_balance(now),
                "permitted_throughput": throttle.permitted_throughput(now),
                "percent_io_limit": throttle.percent_io_limit(now),
                "ledger": throttle.ledger(now),
                "enforced": self.enforce.load(Relaxed),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::throttle::MIB;

    fn limits(text: &str) -> Limits {
        serde_json::from_str(text).expect("limits")
    }

    #[test]
    fn what_is_not_limited_owes_nothing() {
        let pacing = Pacing::default();
        pacing.charge(&Mutex::default(), Class::Write, 1 << 40);
        assert!(settle().is_none());
        assert!(pacing.report().is_null());
    }

    #[test]
    fn a_write_past_the_provisioned_rate_is_held_back_once() {
        let pacing = Pacing::default();
        pacing.limit(&limits(
            r#"{"throughput":{"mode":"provisioned","bytes_per_second":1048576},"performance":"general_purpose"}"#,
        ));
        pacing.charge(&Mutex::default(), Class::Write, 3 * MIB);
        let until = settle().expect("a wait");
        let wait = until.saturating_duration_since(Instant::now());
        assert!(
            wait > Duration::from_secs(2) && wait < Duration::from_secs(3),
            "{wait:?}"
        );
        assert!(settle().is_none());
    }

    #[test]
    fn limits_that_are_not_enforced_still_spend_credits() {
        let pacing = Pacing::default();
        pacing.limit(&limits(
            r#"{"throughput":{"mode":"bursting"},"performance":"general_purpose","enforce":false,
                "ledger":{"credit_bytes":0,"credit_fraction":0,"at":0}}"#,
        ));
        let before = pacing.report()["burst_credit_balance"].as_u64();
        pacing.charge(&Mutex::default(), Class::Write, 1 << 30);
        assert!(settle().is_none());
        assert!(pacing.report()["burst_credit_balance"].as_u64() < before);
    }
}
