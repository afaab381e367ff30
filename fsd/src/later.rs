//! Things to do at a later time, by one thread for all.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

type Deed = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Agenda {
    deeds: BTreeMap<(Instant, u64), Deed>,
    next: u64,
}

/// The agenda and the thread that keeps it.
#[derive(Default)]
pub struct Later {
    agenda: Mutex<Agenda>,
    changed: Condvar,
}

impl std::fmt::Debug for Later {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Later")
    }
}

impl Later {
    pub fn start() -> std::io::Result<Arc<Later>> {
        let later = Arc::new(Later::default());
        let keeper = Arc::clone(&later);
        std::thread::Builder::new()
            .name("later".to_owned())
            .spawn(move || keeper.run())?;
        Ok(later)
    }

    fn agenda(&self) -> MutexGuard<'_, Agenda> {
        self.agenda.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `deed` at `time`, or soon after. It must be short.
    pub fn at(&self, time: Instant, deed: Deed) {
        let mut agenda = self.agenda();
        let number = agenda.next;
        agenda.next += 1;
        agenda.deeds.insert((time, number), deed);
        let first = agenda.deeds.keys().next() == Some(&(time, number));
        drop(agenda);
        if first {
            self.changed.notify_one();
        }
    }

    fn run(&self) {
        let mut agenda = self.agenda();
        loop {
            let now = Instant::now();
            let due = agenda.deeds.first_key_value().map(|((time, _), _)| *time);
            agenda = match due {
                None => self
                    .changed
                    .wait(agenda)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(time) if time > now => {
                    let waited = self.changed.wait_timeout(agenda, time - now);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                Some(_) => {
                    let deed = agenda.deeds.pop_first().map(|(_, deed)| deed);
                    drop(agenda);
                    if let Some(deed) = deed {
                        deed();
                    }
                    self.agenda()
                }
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    #[test]
    fn deeds_are_done_in_the_order_of_their_times() {
        let later = Later::start().expect("a thread");
        let (done, seen) = channel();
        let now = Instant::now();
        for delay in [30, 10, 20] {
            let done = done.clone();
            let deed = Box::new(move || done.send((delay, Instant::now())).expect("sent"));
            later.at(now + Duration::from_millis(delay), deed);
        }
        for expected in [10, 20, 30] {
            let (delay, when) = seen.recv_timeout(Duration::from_secs(5)).expect("a deed");
            assert_eq!(delay, expected);
            assert!(when >= now + Duration::from_millis(expected));
        }
    }
}
