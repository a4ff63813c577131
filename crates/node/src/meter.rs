//! How much work a peer has caused that it has not paid for, in hashes: the one currency of what is refused.
//!
//! Each peer works off so many a second. Who owes less than one second of it may ask for anything, however dear; who owes
//! more waits. So every request that is allowed at all is served some time, and the mean rate is the limit.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Peers remembered at once; those that owe nothing are forgotten first, and then whoever came first to hand.
const PEERS_REMEMBERED_MAX: usize = 65_536;

/// What one peer owes as of a time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owed {
    hashes: u64,
    at: Instant,
}

impl Owed {
    /// Nothing.
    pub(crate) const fn nothing(now: Instant) -> Self {
        Self { hashes: 0, at: now }
    }

    /// What is left of it at a time.
    pub(crate) fn at(&self, per_second: u64, now: Instant) -> u64 {
        let micros = now.saturating_duration_since(self.at).as_micros();
        let worked_off = micros.saturating_mul(u128::from(per_second)) / 1_000_000;
        self.hashes
            .saturating_sub(u64::try_from(worked_off).unwrap_or(u64::MAX))
    }

    /// Adds to it.
    pub(crate) fn charge(&mut self, hashes: u64, per_second: u64, now: Instant) {
        *self = Self {
            hashes: self.at(per_second, now).saturating_add(hashes),
            at: now,
        };
    }

    /// Takes back what was charged for work that was not done.
    fn give_back(&mut self, hashes: u64) {
        self.hashes = self.hashes.saturating_sub(hashes);
    }

    /// How long until less than a second of it is left; `None` if that is so now.
    pub(crate) fn wait(&self, per_second: u64, now: Instant) -> Option<Duration> {
        let over = self.at(per_second, now).checked_sub(per_second)?;
        // At least a millisecond, so that whoever waits does not come back too early again and again.
        let millis = over.saturating_mul(1_000) / per_second.max(1);
        Some(Duration::from_millis(millis.saturating_add(1)))
    }
}

/// What each of many peers owes.
#[derive(Debug)]
pub(crate) struct Meter<K> {
    per_second: u64,
    owed: HashMap<K, Owed>,
}

/// A peer owes a second's worth or more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Overdrawn {
    pub(crate) limit: u64,
    pub(crate) owed: u64,
}

impl<K: Hash + Eq + Copy> Meter<K> {
    pub(crate) fn new(per_second: u64) -> Self {
        Self {
            per_second,
            owed: HashMap::new(),
        }
    }

    /// Whether a peer may ask for more.
    ///
    /// # Errors
    /// [`Overdrawn`] with both numbers.
    pub(crate) fn check(&self, peer: &K, now: Instant) -> Result<(), Overdrawn> {
        let owed = self.owed.get(peer).map_or(0, |owed| owed.at(self.per_second, now));
        if owed >= self.per_second {
            return Err(Overdrawn {
                limit: self.per_second,
                owed,
            });
        }
        Ok(())
    }

    /// Adds to what a peer owes.
    pub(crate) fn charge(&mut self, peer: K, hashes: u64, now: Instant) {
        if self.owed.len() >= PEERS_REMEMBERED_MAX && !self.owed.contains_key(&peer) {
            let per_second = self.per_second;
            self.owed.retain(|_, owed| owed.at(per_second, now) > 0);
            let first = self.owed.keys().next().copied();
            if let Some(first) = first.filter(|_| self.owed.len() >= PEERS_REMEMBERED_MAX) {
                self.owed.remove(&first);
            }
        }
        let owed = self.owed.entry(peer).or_insert_with(|| Owed::nothing(now));
        owed.charge(hashes, self.per_second, now);
    }

    /// What a peer owed when it was last charged, less what it was given back.
    #[cfg(test)]
    pub(crate) fn charged(&self, peer: &K) -> u64 {
        self.owed.get(peer).map_or(0, |owed| owed.hashes)
    }

    /// Takes back what a peer was charged for work that turned out not to be needed.
    pub(crate) fn give_back(&mut self, peer: &K, hashes: u64) {
        if let Some(owed) = self.owed.get_mut(peer) {
            owed.give_back(hashes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 8_000_000;

    #[test]
    fn a_peer_over_its_budget_waits_until_it_is_worked_off_and_no_other_waits() {
        let mut meter = Meter::new(LIMIT);
        let (peer, other) = (1_u32, 2);
        let start = Instant::now();
        assert_eq!(meter.check(&peer, start), Ok(()), "anything, once");
        meter.charge(peer, 2 * LIMIT, start);
        let overdrawn = Overdrawn {
            limit: LIMIT,
            owed: 2 * LIMIT,
        };
        assert_eq!(meter.check(&peer, start), Err(overdrawn));
        assert_eq!(meter.check(&other, start), Ok(()));
        let later = start + Duration::from_millis(1_001);
        assert_eq!(meter.check(&peer, later), Ok(()));
    }

    #[test]
    fn who_waits_as_long_as_it_is_told_may_go_on() {
        let start = Instant::now();
        let mut owed = Owed::nothing(start);
        assert_eq!(owed.wait(LIMIT, start), None);
        owed.charge(3 * LIMIT, LIMIT, start);
        let wait = owed.wait(LIMIT, start).unwrap();
        assert!((2_000..2_010).contains(&wait.as_millis()), "{wait:?}");
        assert_eq!(owed.wait(LIMIT, start + wait), None);
    }

    #[test]
    fn more_peers_than_are_remembered_take_no_more_memory() {
        let mut meter = Meter::new(LIMIT);
        let start = Instant::now();
        for peer in 0..=PEERS_REMEMBERED_MAX {
            meter.charge(peer, 1, start);
        }
        assert_eq!(meter.owed.len(), PEERS_REMEMBERED_MAX);
    }
}
