//! Token buckets of address ranges, in a table of fixed size.

use crate::limits::{ADDRESS_RANGES_MAX, PROVEN_BURST, PROVEN_PER_SECOND};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::net::Ipv6Addr;

/// Places that a range may have: where all are taken it shares the one with the least to work off.
const WAYS: usize = 4;
/// Parts of a token that are counted.
const PARTS: u32 = 1_000;

/// What has been taken and not yet worked off, in thousandths, as of a time in milliseconds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Bucket {
    taken: u32,
    at: u32,
}

impl Bucket {
    /// Takes one, if no more than `burst` are taken then; `per_second` are worked off each second.
    pub(super) fn take(&mut self, per_second: u32, burst: u32, now: u32) -> bool {
        let taken = self.taken_at(per_second, now);
        if taken > burst.saturating_sub(1).saturating_mul(PARTS) {
            return false;
        }
        *self = Self {
            taken: taken + PARTS,
            at: now,
        };
        true
    }

    fn taken_at(&self, per_second: u32, now: u32) -> u32 {
        // A thousandth of a token a millisecond is one token a second.
        let passed = now.wrapping_sub(self.at);
        self.taken.saturating_sub(passed.saturating_mul(per_second))
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    /// Which range it is, as far as 32 bits tell.
    tag: u32,
    bucket: Bucket,
}

/// The buckets of all ranges. Its places are picked by a keyed hash, so nobody can aim at the place of another.
pub(super) struct Ranges {
    secret: [u8; 32],
    sets: Vec<[Slot; WAYS]>,
}

impl std::fmt::Debug for Ranges {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ranges").finish_non_exhaustive()
    }
}

impl Ranges {
    pub(super) fn new(secret: [u8; 32]) -> Self {
        Self {
            secret,
            sets: vec![[Slot::default(); WAYS]; ADDRESS_RANGES_MAX / WAYS],
        }
    }

    /// Takes one from the bucket of a range.
    pub(super) fn take(&mut self, range: Ipv6Addr, now: u32) -> bool {
        let (place, tag) = self.place(range);
        let Some(set) = self.sets.get_mut(place) else {
            return false;
        };
        let own = set.iter().position(|slot| slot.tag == tag);
        let least = || {
            let taken = |(_, slot): &(usize, &Slot)| slot.bucket.taken_at(PROVEN_PER_SECOND, now);
            set.iter().enumerate().min_by_key(taken).map(|(index, _)| index)
        };
        let Some(slot) = own.or_else(least).and_then(|index| set.get_mut(index)) else {
            return false;
        };
        // A place is taken over with what is on it: then filling the table forgives nobody anything.
        slot.tag = tag;
        slot.bucket.take(PROVEN_PER_SECOND, PROVEN_BURST, now)
    }

    fn place(&self, range: Ipv6Addr) -> (usize, u32) {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.secret) else {
            unreachable!("HMAC takes keys of any length")
        };
        mac.update(&range.octets());
        let hash: [u8; 32] = mac.finalize().into_bytes().into();
        let word = |at: usize| u32::from_le_bytes([hash[at], hash[at + 1], hash[at + 2], hash[at + 3]]);
        let place = usize::try_from(word(0)).unwrap_or(0) % self.sets.len();
        // No range has the tag of an empty place.
        (place, word(4) | 1)
    }
}

const _: () = assert!(ADDRESS_RANGES_MAX.is_multiple_of(WAYS));
const _: () = assert!(size_of::<Slot>() == 12);
