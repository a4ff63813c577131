//! Holds and keys in memory, for verifying on many cores without asking the store or checking a key for each request.

use crate::key::{HoldKey, Key};
use crate::keys::CheckedKeys;
use crate::request::{KnownHold, KnownHolds, VerifiedRequest, holds_named};
use crate::row::{HoldRow, Record, Row, Table};
use crate::store::{Reader, StoreFault};
use std::sync::{PoisonError, RwLock};
use tombola_core::key::{AccountKey, HoldId};
use tombola_core::limits::HOLDS_MAX;
use tombola_core::message::EscrowRequest;

/// A bounded cache of holds, shared by the cores that verify. What verifying reads of a hold never changes, so an
/// entry is never stale; revision, cap and paid are the writer's to judge.
#[derive(Debug)]
pub struct HoldCache {
    escrow: AccountKey,
    holds: RwLock<KnownHolds>,
    keys: CheckedKeys,
}

impl HoldCache {
    /// An empty cache for one escrow.
    #[must_use]
    pub fn new(escrow: AccountKey) -> Self {
        Self {
            escrow,
            holds: RwLock::default(),
            keys: CheckedKeys::default(),
        }
    }

    /// Fetches the holds that a request names, then verifies it. The dear part runs on the caller's core.
    ///
    /// # Errors
    /// [`StoreFault`] if a hold could not be read.
    pub async fn verify<R: Reader>(
        &self,
        reader: &R,
        connection: AccountKey,
        request: EscrowRequest,
    ) -> Result<VerifiedRequest, StoreFault> {
        let holds = self.fetch(reader, &holds_named(&request)).await?;
        let (escrow, keys) = (&self.escrow, &self.keys);
        Ok(VerifiedRequest::verify(connection, request, escrow, &holds, keys))
    }

    /// The holds of these ids that exist.
    ///
    /// # Errors
    /// [`StoreFault`] if one could not be read.
    pub async fn fetch<R: Reader>(&self, reader: &R, ids: &[HoldId]) -> Result<KnownHolds, StoreFault> {
        let mut known: KnownHolds = {
            let cached = self.holds.read().unwrap_or_else(PoisonError::into_inner);
            let found = ids.iter().filter_map(|id| Some((*id, *cached.get(id)?)));
            found.collect()
        };
        let missing: Vec<HoldId> = ids.iter().filter(|id| !known.contains_key(*id)).copied().collect();
        for id in missing {
            if let Some(hold) = load_hold(reader, &id).await? {
                let damaged = StoreFault::DamagedRow(Table::Holds);
                let hold = KnownHold::new(hold.hold).map_err(|_| damaged)?;
                self.insert(id, hold);
                known.insert(id, hold);
            }
        }
        Ok(known)
    }

    fn insert(&self, id: HoldId, hold: KnownHold) {
        let mut cached = self.holds.write().unwrap_or_else(PoisonError::into_inner);
        // Forgetting costs a read of the store, so the simplest way to stay bounded is good enough.
        if cached.len() >= HOLDS_MAX {
            cached.clear();
        }
        cached.insert(id, hold);
    }
}

/// A hold by its id.
pub(crate) async fn load_hold<R: Reader>(reader: &R, id: &HoldId) -> Result<Option<HoldRow>, StoreFault> {
    let Some(row) = load_row::<R, HoldKey>(reader, Key::hold_id(id)).await? else {
        return Ok(None);
    };
    load_row(reader, Key::hold(row)).await
}

/// One row, decoded.
pub(crate) async fn load_row<R: Reader, T: Record + Clone>(reader: &R, key: Key) -> Result<Option<T>, StoreFault> {
    let stored = reader.load(&[key]).await?.into_iter().next().flatten();
    let Some(stored) = stored else { return Ok(None) };
    let damaged = StoreFault::DamagedRow(key.table());
    let row = Row::decode(key.table(), &stored.bytes).map_err(|_| damaged)?;
    T::of(&row).cloned().map(Some).ok_or(damaged)
}
