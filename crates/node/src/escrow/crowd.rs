//! Places of the requests that are worked on: so many in all, and of one key or address only a part of them, so that
//! nobody who fills its own keeps others out.

use super::shared::busy;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::Ipv6Addr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tombola_core::key::AccountKey;
use tombola_core::reject::Reject;

/// Requests that are worked on at once: with 64 KiB each this bounds memory, and the wait of the last one to seconds.
pub(super) const REQUESTS_MAX: usize = 1_024;
/// Of these, by connections from one address: keys cost nothing, and as with connections it takes four to keep others out.
pub(super) const REQUESTS_PER_ADDRESS_MAX: usize = REQUESTS_MAX / 4;
/// And by connections of one key: as many as one connection has streams.
pub(super) const REQUESTS_PER_KEY_MAX: usize = 64;

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asker {
    /// The key of the connection.
    pub(super) key: AccountKey,
    /// Where the connection was made from; what comes from elsewhere later may be forged.
    pub(super) address: Ipv6Addr,
}

/// Which places are all taken; both numbers of each are equal then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// So many of its own.
    Own(usize),
    /// Those of everybody.
    All,
}

impl From<Full> for Reject {
    fn from(full: Full) -> Self {
        match full {
            Full::Own(limit) => busy(limit, limit),
            Full::All => busy(REQUESTS_MAX, REQUESTS_MAX),
        }
    }
}

/// The places.
#[derive(Debug, Default)]
pub(super) struct Crowd(Mutex<Counts>);

/// Who has left entirely is forgotten, so there are no more entries than requests.
#[derive(Debug, Default)]
struct Counts {
    all: usize,
    addresses: HashMap<Ipv6Addr, usize>,
    keys: HashMap<AccountKey, usize>,
}

/// One place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place<'a> {
    crowd: &'a Crowd,
    asker: Asker,
}

impl Crowd {
    /// A place, without waiting for it. The asker's own come first, so that nobody is told of others for its own doing.
    pub(super) fn enter(&self, asker: Asker) -> Result<Place<'_>, Full> {
        let mut counts = self.lock();
        if counts.keys.get(&asker.key).is_some_and(|n| *n >= REQUESTS_PER_KEY_MAX) {
            return Err(Full::Own(REQUESTS_PER_KEY_MAX));
        }
        if counts
            .addresses
            .get(&asker.address)
            .is_some_and(|n| *n >= REQUESTS_PER_ADDRESS_MAX)
        {
            return Err(Full::Own(REQUESTS_PER_ADDRESS_MAX));
        }
        if counts.all >= REQUESTS_MAX {
            return Err(Full::All);
        }
        counts.all += 1;
        *counts.addresses.entry(asker.address).or_default() += 1;
        *counts.keys.entry(asker.key).or_default() += 1;
        Ok(Place { crowd: self, asker })
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        let counts = self.lock();
        counts.all == 0 && counts.addresses.is_empty() && counts.keys.is_empty()
    }

    /// A panic under the lock leaves a count behind that is at most one off.
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut counts = self.crowd.lock();
        counts.all = counts.all.saturating_sub(1);
        leave(&mut counts.addresses, self.asker.address);
        leave(&mut counts.keys, self.asker.key);
    }
}

fn leave<K: Hash + Eq>(counts: &mut HashMap<K, usize>, key: K) {
    if let Some(count) = counts.get_mut(&key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(&key);
        }
    }
}

const _: () = assert!(REQUESTS_PER_KEY_MAX < REQUESTS_PER_ADDRESS_MAX && REQUESTS_PER_ADDRESS_MAX < REQUESTS_MAX);
