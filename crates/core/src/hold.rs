//! Holds: an escrow's signed promise that part of a payer's deposit is set aside for one payee.

use crate::amount::{Amount, Asset, Timestamp};
use crate::codec::{Tag, tagged_hash};
use crate::key::{AccountKey, HoldId, Tagged};
use crate::limits::REDEEM_WINDOW_MIN_MS;
use crate::reject::{Code, Reject};
use bincode::{Decode, Encode};

/// What an escrow keeps of each winner it pays. Spec: H-04.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode, serde::Serialize)]
pub struct Fee {
    /// Atomic units per winner.
    pub flat: Amount,
    /// Millionths of the face value per winner.
    pub ppm: u32,
}

impl Fee {
    /// Fee of one winner: `min(face, flat + ceil(face * ppm / 10^6))`. Spec: H-04.
    #[must_use]
    pub fn per_winner(&self, face_value: Amount) -> Amount {
        let share = u128::from(face_value.0)
            .saturating_mul(u128::from(self.ppm))
            .div_ceil(1_000_000);
        let fee = share
            .saturating_add(u128::from(self.flat.0))
            .min(u128::from(face_value.0));
        // At most the face value, which is a u64.
        Amount(u64::try_from(fee).unwrap_or(face_value.0))
    }
}

/// The fields of a hold that never change; their hash is its id. Spec: H-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, serde::Serialize)]
pub struct HoldTerms {
    /// Who promises; its key is the network id.
    pub escrow: AccountKey,
    /// The escrow's one asset.
    pub asset: Asset,
    /// Whose deposit is set aside.
    pub payer: AccountKey,
    /// Who signs books: the payer itself or a delegated signer.
    pub signer: AccountKey,
    /// Who alone can claim.
    pub payee: AccountKey,
    /// Given out by the escrow, strictly increasing per payer.
    pub serial: u64,
    /// What a winner costs the payee.
    pub fee: Fee,
    /// Smallest face value of a book on this hold.
    pub face_value_min: Amount,
    /// Largest face value of a book on this hold.
    pub face_value_max: Amount,
    /// Longest book on this hold.
    pub book_length_max: u32,
    /// When the escrow signed the first revision.
    pub opened_at: Timestamp,
    /// No ticket is taken after this.
    pub expires_at: Timestamp,
    /// Claims are paid at least until this.
    pub redeem_by: Timestamp,
}

/// A hold: its terms, and how much of the deposit it sets aside. Spec: H-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, serde::Serialize)]
pub struct Hold {
    /// Everything that the id binds.
    pub terms: HoldTerms,
    /// Starts at 0; each top-up adds 1.
    pub revision: u32,
    /// The most that can be paid from this hold, fees included. A revision can only raise it.
    pub cap: Amount,
}

impl Hold {
    /// The id: a hash of the terms, so that revisions share it. Spec: H-02.
    #[must_use]
    pub fn id(&self) -> HoldId {
        HoldId(tagged_hash(HOLD_ID_TAG, &self.terms))
    }

    /// The rules that any hold obeys, whoever looks at it. Spec: H-03.
    ///
    /// # Errors
    /// `self_hold`, `face_out_of_range`, `book_too_long`, `redeem_window_short`, `time_out_of_range`.
    pub fn check_shape(&self) -> Result<(), Reject> {
        let t = &self.terms;
        if t.payer == t.payee || t.signer == t.payee {
            return Err(Reject::of(Code::SelfHold));
        }
        if t.face_value_min.is_zero() || t.face_value_min > t.face_value_max {
            return Err(Reject::compared(
                Code::FaceOutOfRange,
                t.face_value_max.0,
                t.face_value_min.0,
            ));
        }
        if t.book_length_max == 0 || t.book_length_max > crate::limits::BOOK_LENGTH_MAX {
            let limit = u64::from(crate::limits::BOOK_LENGTH_MAX);
            return Err(Reject::compared(Code::BookTooLong, limit, u64::from(t.book_length_max)));
        }
        if t.expires_at <= t.opened_at {
            return Err(Reject::compared(Code::TimeOutOfRange, t.opened_at.0, t.expires_at.0));
        }
        if t.redeem_by < t.expires_at.plus_ms(REDEEM_WINDOW_MIN_MS) {
            let window = t.redeem_by.0.saturating_sub(t.expires_at.0);
            return Err(Reject::compared(Code::RedeemWindowShort, REDEEM_WINDOW_MIN_MS, window));
        }
        Ok(())
    }

    /// When the payee must have claimed what it won: half of the redeem window after expiry. Spec: C-04.
    #[must_use]
    pub fn claim_deadline(&self) -> Timestamp {
        let window = self.terms.redeem_by.0.saturating_sub(self.terms.expires_at.0);
        self.terms.expires_at.plus_ms(window >> 1)
    }
}

impl Tagged for Hold {
    const TAG: Tag = Tag::new("tombola/hold/v1");
}

/// A payee's final word on a hold: what is left goes back to the payer. Spec: H-07.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, serde::Serialize)]
pub struct Release {
    /// Which hold.
    pub hold: HoldId,
    /// What the payee was paid from it in all, gross; must agree with the ledger.
    pub paid: Amount,
}

impl Tagged for Release {
    const TAG: Tag = Tag::new("tombola/release/v1");
}

/// An account's permission for another key to sign on its deposit. Spec: A-02.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, serde::Serialize)]
pub struct Delegation {
    /// The only escrow this is for.
    pub escrow: AccountKey,
    /// Whose deposit.
    pub account: AccountKey,
    /// Who may sign.
    pub signer: AccountKey,
    /// The most the signer's holds may set aside or have paid; 0 revokes.
    pub spend_max: Amount,
    /// The largest face value of its books.
    pub face_value_max: Amount,
    /// Whom it may pay; empty means anyone.
    pub payees: crate::codec::List<AccountKey, { crate::limits::PAYEES_MAX }>,
    /// When it ends by itself.
    pub expires_at: Timestamp,
    /// A larger serial replaces a smaller one.
    pub serial: u64,
}

impl Tagged for Delegation {
    const TAG: Tag = Tag::new("tombola/delegation/v1");
}

const HOLD_ID_TAG: Tag = Tag::new("tombola/hold-id/v1");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amount::DAY_MS;
    use crate::key::SecretKey;
    use std::collections::BTreeSet;

    /// Spec: H-02.
    #[test]
    fn a_holds_id_binds_every_term_and_no_revision() {
        let key = |n| SecretKey::from_seed(&[n; 32]).account();
        let terms = HoldTerms {
            escrow: key(1),
            asset: Asset::USD,
            payer: key(2),
            signer: key(2),
            payee: key(3),
            serial: 7,
            fee: Fee::default(),
            face_value_min: Amount(10),
            face_value_max: Amount(1_000),
            book_length_max: 4_096,
            opened_at: Timestamp(DAY_MS),
            expires_at: Timestamp(2 * DAY_MS),
            redeem_by: Timestamp(3 * DAY_MS),
        };
        let changes: [fn(&mut HoldTerms, AccountKey); 14] = [
            |t, key| t.escrow = key,
            |t, _| t.asset = Asset::new("EUR", 9).unwrap(),
            |t, key| t.payer = key,
            |t, key| t.signer = key,
            |t, key| t.payee = key,
            |t, _| t.serial += 1,
            |t, _| t.fee.flat.0 += 1,
            |t, _| t.fee.ppm += 1,
            |t, _| t.face_value_min.0 += 1,
            |t, _| t.face_value_max.0 += 1,
            |t, _| t.book_length_max += 1,
            |t, _| t.opened_at.0 += 1,
            |t, _| t.expires_at.0 += 1,
            |t, _| t.redeem_by.0 += 1,
        ];
        let id = |terms, revision, cap| {
            let cap = Amount(cap);
            Hold { terms, revision, cap }.id()
        };
        let mut ids = BTreeSet::from([id(terms, 0, 5_000)]);
        for change in changes {
            let mut other = terms;
            change(&mut other, key(4));
            ids.insert(id(other, 0, 5_000));
        }
        assert_eq!(ids.len(), 1 + changes.len());
        assert_eq!(id(terms, 1, 6_000), id(terms, 0, 5_000));
    }

    /// Spec: H-04.
    #[test]
    fn the_fee_never_exceeds_the_face_value_and_rounds_up() {
        let fee = |flat, ppm, face| {
            Fee {
                flat: Amount(flat),
                ppm,
            }
            .per_winner(Amount(face))
            .0
        };
        assert_eq!(fee(0, 0, 100), 0);
        assert_eq!(fee(1, 10_000, 101), 3);
        assert_eq!(fee(500, 0, 100), 100);
        assert_eq!(fee(u64::MAX, u32::MAX, u64::MAX), u64::MAX);
    }
}
