//! Handshakes that are going on: so many in all, and of one proven address or range only a part of them, so that nobody
//! who begins them and falls silent keeps others out.

use super::{address_of, enter, leave, lock, range_of};
use crate::limits::{HANDSHAKES_MAX, HANDSHAKES_PER_ADDRESS_MAX, HANDSHAKES_PER_RANGE_MAX};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

#[derive(Debug)]
pub(super) struct Handshakes {
    places: Arc<Semaphore>,
    proven: Arc<Mutex<Proven>>,
}

/// How many are of each address and range; no more entries than handshakes.
#[derive(Debug, Default)]
struct Proven {
    addresses: HashMap<u128, usize>,
    ranges: HashMap<Ipv6Addr, usize>,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Handshake {
    _place: OwnedSemaphorePermit,
    of: Option<(IpAddr, Arc<Mutex<Proven>>)>,
}

/// Which places are all taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// Those of its own address or range.
    Own,
    /// Those of everybody.
    All,
}

impl Handshakes {
    pub(super) fn new() -> Self {
        Self {
            places: Arc::new(Semaphore::new(HANDSHAKES_MAX)),
            proven: Arc::default(),
        }
    }

    pub(super) fn count(&self) -> usize {
        HANDSHAKES_MAX.saturating_sub(self.places.available_permits())
    }

    /// For an address that is not proven. It counts for no address: a forged source would use up what others need.
    pub(super) fn begin_unproven(&self) -> Result<Handshake, Taken> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        let place = place.map_err(|_| Taken::All)?;
        Ok(Handshake {
            _place: place,
            of: None,
        })
    }

    /// For an address that is proven; its own places come first, so nobody is told of others for its own doing.
    pub(super) fn begin(&self, from: IpAddr) -> Result<Handshake, Taken> {
        let mut proven = lock(&self.proven);
        let (address, range) = (address_of(from), range_of(from));
        let of_address = proven.addresses.get(&address).copied().unwrap_or_default();
        let of_range = proven.ranges.get(&range).copied().unwrap_or_default();
        if of_address >= HANDSHAKES_PER_ADDRESS_MAX || of_range >= HANDSHAKES_PER_RANGE_MAX {
            return Err(Taken::Own);
        }
        let mut handshake = self.begin_unproven()?;
        enter(&mut proven.addresses, address, HANDSHAKES_PER_ADDRESS_MAX);
        enter(&mut proven.ranges, range, HANDSHAKES_PER_RANGE_MAX);
        handshake.of = Some((from, Arc::clone(&self.proven)));
        Ok(handshake)
    }

    #[cfg(test)]
    pub(super) fn forgets_who_left(&self) -> bool {
        let proven = lock(&self.proven);
        proven.addresses.is_empty() && proven.ranges.is_empty()
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        if let Some((from, proven)) = &self.of {
            let mut proven = lock(proven);
            leave(&mut proven.addresses, address_of(*from));
            leave(&mut proven.ranges, range_of(*from));
        }
    }
}
