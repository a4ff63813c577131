//! Holds that have ended: of each, as little as it takes to refuse it.

use super::exposure::HoldRow;
use crate::amount::Timestamp;
use crate::hold::Hold;
use crate::key::HoldId;
use crate::limits::{EXPIRE_GRACE_MS, EXPIRE_SERVED_MS, HOLDS_MAX};
use crate::reject::Code;
use std::collections::BTreeMap;

/// What the store has of a hold that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// Nothing.
    Nothing,
    /// Its row, which is worth nothing once nobody can present the hold.
    Row,
    /// Its row, and receipts or refusals: evidence for an escrow that may lose them or owes an answer, for as long as that
    /// keeps the hold.
    Evidence,
}

impl Kept {
    pub(super) fn of(row: &HoldRow) -> Self {
        // What the escrow has ended without this payee's word may have winners that it refuses.
        if row.paid.is_zero() && row.release.is_some() {
            Self::Row
        } else {
            Self::Evidence
        }
    }
}

/// One of them.
#[derive(Debug)]
struct EndedHold {
    code: Code,
    forget_at: Timestamp,
    kept: Kept,
}

/// By the time at which the escrow opened them, as the oldest are forgotten first.
#[derive(Debug)]
pub(super) struct EndedHolds {
    holds: BTreeMap<(Timestamp, HoldId), EndedHold>,
    /// How many are remembered at once.
    pub(super) places: usize,
}

/// A hold that is remembered no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Forgotten {
    pub(super) id: HoldId,
    pub(super) opened_at: Timestamp,
    /// Whether its row is to be deleted.
    pub(super) has_row: bool,
}

impl EndedHolds {
    pub(super) const fn new() -> Self {
        Self {
            holds: BTreeMap::new(),
            places: HOLDS_MAX,
        }
    }

    /// How a hold has ended, if it is remembered.
    pub(super) fn code(&self, hold: &Hold) -> Option<Code> {
        self.holds
            .get(&(hold.terms.opened_at, hold.id()))
            .map(|ended| ended.code)
    }

    pub(super) fn len(&self) -> usize {
        self.holds.len()
    }

    /// Remembers a hold until it can be presented no more, or its evidence is worth nothing. Returns one that had to make
    /// room for it; evidence is not deleted for that.
    pub(super) fn remember(&mut self, hold: &Hold, code: Code, kept: Kept) -> Option<Forgotten> {
        let forget_at = match kept {
            Kept::Nothing | Kept::Row => hold.terms.expires_at,
            Kept::Evidence => gone_at(hold),
        };
        let ended = EndedHold { code, forget_at, kept };
        self.holds.insert((hold.terms.opened_at, hold.id()), ended);
        if self.holds.len() <= self.places {
            return None;
        }
        let ((opened_at, id), oldest) = self.holds.pop_first()?;
        let has_row = oldest.kept == Kept::Row;
        Some(Forgotten { id, opened_at, has_row })
    }

    /// Forgets those whose time has passed.
    pub(super) fn take_over(&mut self, now: Timestamp) -> Vec<Forgotten> {
        let mut over = Vec::new();
        self.holds.retain(|(opened_at, id), ended| {
            let stays = now <= ended.forget_at;
            if !stays {
                over.push(Forgotten {
                    id: *id,
                    opened_at: *opened_at,
                    has_row: ended.kept != Kept::Nothing,
                });
            }
            stays
        });
        over
    }
}

/// When an escrow that serves has expired a hold, so that nothing is paid from it any more.
pub(super) fn gone_at(hold: &Hold) -> Timestamp {
    let after = EXPIRE_GRACE_MS.saturating_add(EXPIRE_SERVED_MS);
    hold.terms.redeem_by.plus_ms(after)
}
