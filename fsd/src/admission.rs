//! How many clients a file system takes on, and how quickly.
//! <https://docs.aws.amazon.com/efs/latest/ug/limits.html>

use crate::throttle::Nanos;

/// Connections of one file system at a time.
const MOST: usize = 25_000;
/// New connections that may come at once.
const BURST: u64 = 3_000;
/// New connections per minute after that.
const PER_MINUTE: u64 = 500;
const MINUTE: Nanos = 60_000_000_000;

/// Why a connection is not taken on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("it has {MOST} connections, which is the most a file system can have")]
    Full,
    #[error("more than {BURST} connections came at once; {PER_MINUTE} a minute can follow")]
    TooFast,
}

/// The rate of new connections: a bucket of `BURST` that fills at `PER_MINUTE`.
#[derive(Clone, Copy, Debug)]
pub struct Admission {
    /// Connections that may come now, in nanoseconds of filling.
    room: Nanos,
    at: Nanos,
}

const SPAN: Nanos = MINUTE / PER_MINUTE;

impl Default for Admission {
    fn default() -> Self {
        Admission {
            room: BURST * SPAN,
            at: 0,
        }
    }
}

impl Admission {
    /// One more beside `present`; `now` is any clock's that does not run backwards.
    pub fn admit(&mut self, present: usize, now: Nanos) -> Result<(), Refusal> {
        let passed = now.saturating_sub(self.at);
        self.at = self.at.max(now);
        self.room = self.room.saturating_add(passed).min(BURST * SPAN);
        if present >= MOST {
            return Err(Refusal::Full);
        }
        match self.room.checked_sub(SPAN) {
            Some(rest) => {
                self.room = rest;
                Ok(())
            }
            None => Err(Refusal::TooFast),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_five_hundred_a_minute() {
        let mut admission = Admission::default();
        let mut now = MINUTE * 1000;
        for present in 0..3000 {
            assert_eq!(admission.admit(present, now), Ok(()));
        }
        assert_eq!(admission.admit(3000, now), Err(Refusal::TooFast));
        now += MINUTE;
        let admitted = (0..1000)
            .filter(|_| admission.admit(3000, now).is_ok())
            .count();
        assert_eq!(admitted, 500);
    }

    #[test]
    fn the_most_is_the_most() {
        let mut admission = Admission::default();
        assert_eq!(admission.admit(24_999, 1), Ok(()));
        assert_eq!(admission.admit(25_000, 1), Err(Refusal::Full));
    }
}
