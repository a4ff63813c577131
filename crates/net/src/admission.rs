//! Who gets in: every attempt to connect passes here before it costs a signature, cheap checks before dear ones.
//!
//! | step | who fails it |
//! | --- | --- |
//! | connections that stand | is told so, once its address is proven |
//! | proof of the address, if the node is busy or is an escrow | gets a Retry, which costs a tenth of a handshake |
//! | handshakes a second of its address range | hears nothing, and gets in by trying again |
//! | connections of its address | is told so |
//! | handshakes at once of its address or range, and of all | hears nothing: an answer would be one more packet of a flood |
//! | connections of its key, where one is shown | is closed with `busy` |
//!
//! Nothing here grows with the number of attempts or addresses: ranges are counted in a table of fixed size.

mod handshakes;
mod ranges;

use crate::ClientKey;
use crate::limits::{
    CONNECTIONS_MAX, CONNECTIONS_PER_ADDRESS_MAX, CONNECTIONS_PER_KEY_MAX, CONNECTIONS_UNPROVEN_MAX,
    HANDSHAKES_UNPROVEN_MAX, UNPROVEN_PER_SECOND,
};
use handshakes::{Handshake, Handshakes, Taken};
use ranges::{Bucket, Ranges};
use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tombola_core::key::AccountKey;

/// Attempts that were not let in since the start, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct TurnedAway {
    /// All connections were taken.
    pub full: u64,
    /// Too many handshakes of others were going on, and they had proven their address.
    pub handshakes: u64,
    /// Too many handshakes of their own address or range were going on.
    pub own_handshakes: u64,
    /// Told to prove their address first; who did came again and is not counted twice.
    pub unproven: u64,
    /// Their address range began too many handshakes in a short time.
    pub range: u64,
    /// Their address has too many connections.
    pub address: u64,
    /// Their key has too many connections.
    pub key: u64,
    /// Admitted, but the handshake was not finished, or not in time.
    pub unfinished: u64,
}

impl TurnedAway {
    /// Attempts from proven addresses that others left no room for: what an address, its range or a key did to itself is
    /// not among them.
    #[must_use]
    pub const fn for_want_of_room(&self) -> u64 {
        self.full.saturating_add(self.handshakes)
    }
}

/// One attempt, as far as it is known before anything is computed for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attempt {
    pub(crate) from: IpAddr,
    pub(crate) proof: Proof,
    /// Connections that the transport knows, those that are ending included.
    pub(crate) open: usize,
    pub(crate) now: Instant,
}

/// Whether a client has shown that it receives what is sent to its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proof {
    Given,
    Missing,
}

/// What becomes of an attempt.
#[derive(Debug)]
pub(crate) enum Verdict {
    Admit(Place),
    Retry,
    Refuse,
    Ignore,
}

/// Counts what stands, and what comes.
#[derive(Debug)]
pub(crate) struct Admission {
    client_key: ClientKey,
    handshakes: Handshakes,
    unproven: Mutex<Bucket>,
    ranges: Mutex<Ranges>,
    addresses: Mutex<HashMap<u128, usize>>,
    keys: Mutex<HashMap<AccountKey, usize>>,
    /// Admitted and not gone; the transport counts an attempt only when its handshake begins.
    admitted: AtomicUsize,
    began: Instant,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Counters {
    full: AtomicU64,
    handshakes: AtomicU64,
    own_handshakes: AtomicU64,
    unproven: AtomicU64,
    range: AtomicU64,
    address: AtomicU64,
    key: AtomicU64,
    unfinished: AtomicU64,
}

/// A connection's place among those of its address, and while it is being made among the handshakes.
#[derive(Debug)]
pub(crate) struct Place {
    admission: Arc<Admission>,
    address: u128,
    handshake: Option<Handshake>,
    key: Option<AccountKey>,
}

impl Admission {
    /// `secret` keeps it from strangers which address ranges share a place in the table.
    pub(crate) fn new(client_key: ClientKey, secret: [u8; 32], began: Instant) -> Self {
        Self {
            client_key,
            handshakes: Handshakes::new(),
            unproven: Mutex::default(),
            ranges: Mutex::new(Ranges::new(secret)),
            addresses: Mutex::default(),
            keys: Mutex::default(),
            admitted: AtomicUsize::new(0),
            began,
            counters: Counters::default(),
        }
    }

    /// Judges an attempt. It never waits.
    pub(crate) fn judge(self: &Arc<Self>, attempt: Attempt) -> Verdict {
        let Attempt { from, proof, open, now } = attempt;
        let open = open.max(self.admitted.load(Ordering::Relaxed));
        let is_full = open >= CONNECTIONS_MAX;
        if is_full && proof == Proof::Given {
            return turn_away(&self.counters.full, Verdict::Refuse);
        }
        match proof {
            Proof::Missing if is_full || !self.may_come_unproven(open, now) => {
                return turn_away(&self.counters.unproven, Verdict::Retry);
            }
            Proof::Missing => {}
            // Only what is proven is counted: a forged source would use up what others need.
            Proof::Given if !lock(&self.ranges).take(range_of(from), self.millis(now)) => {
                return turn_away(&self.counters.range, Verdict::Ignore);
            }
            Proof::Given => {}
        }
        let address = address_of(from);
        if !enter(&mut lock(&self.addresses), address, CONNECTIONS_PER_ADDRESS_MAX) {
            let verdict = match proof {
                Proof::Given => Verdict::Refuse,
                Proof::Missing => Verdict::Retry,
            };
            return turn_away(&self.counters.address, verdict);
        }
        self.admitted.fetch_add(1, Ordering::Relaxed);
        let mut place = Place {
            admission: Arc::clone(self),
            address,
            handshake: None,
            key: None,
        };
        // Last: whoever finds no place among those of all was not kept out by a limit of its own.
        let handshake = match proof {
            Proof::Given => self.handshakes.begin(from),
            Proof::Missing => self.handshakes.begin_unproven(),
        };
        match handshake {
            Ok(handshake) => place.handshake = Some(handshake),
            Err(Taken::Own) => return turn_away(&self.counters.own_handshakes, Verdict::Ignore),
            Err(Taken::All) => return turn_away(&self.counters.handshakes, Verdict::Ignore),
        }
        Verdict::Admit(place)
    }

    pub(crate) fn turned_away(&self) -> TurnedAway {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        TurnedAway {
            full: read(&counters.full),
            handshakes: read(&counters.handshakes),
            own_handshakes: read(&counters.own_handshakes),
            unproven: read(&counters.unproven),
            range: read(&counters.range),
            address: read(&counters.address),
            key: read(&counters.key),
            unfinished: read(&counters.unfinished),
        }
    }

    /// While a node has little to do it spares its clients the round trip of a Retry. An escrow's clients stay for long,
    /// so they always prove their address.
    fn may_come_unproven(&self, open: usize, now: Instant) -> bool {
        self.client_key == ClientKey::NotAsked
            && self.handshakes.count() < HANDSHAKES_UNPROVEN_MAX
            && open < CONNECTIONS_UNPROVEN_MAX
            && lock(&self.unproven).take(UNPROVEN_PER_SECOND, UNPROVEN_PER_SECOND, self.millis(now))
    }

    fn millis(&self, now: Instant) -> u32 {
        // Wraps after 49 days; a bucket that was not touched for so long is full whatever it reads.
        let millis = now.saturating_duration_since(self.began).as_millis() & u128::from(u32::MAX);
        u32::try_from(millis).unwrap_or(u32::MAX)
    }
}

impl Place {
    /// The handshake is done. A client that showed a key takes a place among the connections of that key.
    ///
    /// # Errors
    /// The limit, if they are all taken.
    pub(crate) fn establish(&mut self, key: Option<AccountKey>) -> Result<(), usize> {
        self.handshake = None;
        let Some(key) = key else { return Ok(()) };
        if !enter(&mut lock(&self.admission.keys), key, CONNECTIONS_PER_KEY_MAX) {
            self.admission.counters.key.fetch_add(1, Ordering::Relaxed);
            return Err(CONNECTIONS_PER_KEY_MAX);
        }
        self.key = Some(key);
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.handshake.is_some() {
            self.admission.counters.unfinished.fetch_add(1, Ordering::Relaxed);
        }
        self.admission.admitted.fetch_sub(1, Ordering::Relaxed);
        leave(&mut lock(&self.admission.addresses), self.address);
        if let Some(key) = self.key {
            leave(&mut lock(&self.admission.keys), key);
        }
    }
}

fn turn_away(counter: &AtomicU64, verdict: Verdict) -> Verdict {
    counter.fetch_add(1, Ordering::Relaxed);
    verdict
}

fn enter<K: Hash + Eq>(counts: &mut HashMap<K, usize>, key: K, limit: usize) -> bool {
    let count = counts.entry(key).or_default();
    if *count >= limit {
        return false;
    }
    *count += 1;
    true
}

/// Who has left entirely is forgotten, so there are no more entries than connections.
fn leave<K: Hash + Eq>(counts: &mut HashMap<K, usize>, key: K) {
    if let Some(count) = counts.get_mut(&key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(&key);
        }
    }
}

/// An IPv4 address, or the /64 of an IPv6 address, of which one host has all.
pub(crate) fn address_of(ip: IpAddr) -> u128 {
    match ip.to_canonical() {
        IpAddr::V4(v4) => u128::from(v4.to_ipv6_mapped()),
        IpAddr::V6(v6) => u128::from(v6) & (u128::MAX << 64),
    }
}

/// The /24 of an IPv4 address or the /48 of an IPv6 address: what one party can come by easily.
fn range_of(ip: IpAddr) -> Ipv6Addr {
    match ip.to_canonical() {
        IpAddr::V4(v4) => (u128::from(v4.to_ipv6_mapped()) & (u128::MAX << 8)).into(),
        IpAddr::V6(v6) => (u128::from(v6) & (u128::MAX << 80)).into(),
    }
}

/// A panic under one of these locks leaves a count behind that is at most one off.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
