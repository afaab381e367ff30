//! What a worker knows of one queue of ring entries: how many wait with their requests, and whether the kernel may hold
//! requests that nobody fetches.
//!
//! A request that finds no entry stays in the kernel, and only an answer on its queue fetches it, one each: new entries do
//! not. When all who had an entry wait, nobody is left to answer, so a knock ([`super::uring`]) has to, again and again
//! until an answer fetches nothing.

/// Entries of one queue of one connection.
#[derive(Debug, Default)]
pub(super) struct Queue {
    entries: usize,
    /// Entries whose requests wait somewhere.
    parked: usize,
    /// How many entries there were before the last were added: once that many requests wait, there may have been a moment
    /// when all entries were taken and nobody was left to fetch what came then.
    brink: Option<usize>,
    /// The kernel may have requests that it found no entry for.
    backlog: bool,
    /// A request that will be answered is on its way through this queue.
    knocked: bool,
}

impl Queue {
    pub(super) fn add_entry(&mut self) {
        self.entries += 1;
    }

    pub(super) fn park(&mut self) {
        self.parked += 1;
    }

    pub(super) fn unpark(&mut self) {
        self.parked = self.parked.saturating_sub(1);
    }

    /// Entries for requests that do not wait.
    pub(super) fn room(&self) -> usize {
        self.entries.saturating_sub(self.parked)
    }

    /// More entries are about to be added.
    pub(super) fn before_growth(&mut self) {
        self.brink = Some(self.entries);
        self.knocked = false;
    }

    /// Whether somebody has to knock, now that one more request waits; who asks does.
    pub(super) fn must_knock(&mut self) -> bool {
        if self.brink.is_some_and(|brink| self.parked >= brink) {
            self.brink = None;
            self.backlog = true;
        }
        self.backlog && !std::mem::replace(&mut self.knocked, self.backlog)
    }

    /// An answer goes out on this queue. True when it matters whether it fetches something.
    pub(super) fn answering(&mut self) -> bool {
        self.knocked = false;
        self.backlog
    }

    /// The answer fetched nothing: the kernel has nothing left.
    pub(super) fn fetched_nothing(&mut self) {
        self.backlog = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_whose_entries_were_once_all_taken_is_knocked_at_until_nothing_is_fetched() {
        let mut queue = Queue::default();
        let grow = |queue: &mut Queue| (0..8).for_each(|_| queue.add_entry());
        grow(&mut queue);
        (0..5).for_each(|_| queue.park());
        assert_eq!(queue.room(), 3);
        queue.before_growth();
        grow(&mut queue);
        (0..2).for_each(|_| queue.park());
        assert!(!queue.must_knock(), "somebody may still answer");
        queue.park();
        assert!(queue.must_knock(), "all who had entries wait");
        assert!(!queue.must_knock(), "one knock is on its way");
        assert!(queue.answering(), "it is answered and may fetch one");
        queue.park();
        assert!(queue.must_knock(), "which waits as well");
        assert!(queue.answering());
        queue.fetched_nothing();
        assert!(!queue.must_knock(), "nothing was left");
        assert!(!queue.answering());
    }
}
