//! Odds: a win threshold against a price and a face value, exact in u128.
//!
//! A ticket wins with p = (threshold + 1) / 2^64, so its expected value is `face * (threshold + 1) / 2^64`. With p = 1
//! every ticket wins and a book is plain PayWord: exact payment without variance. One mechanism, one dial.

use crate::amount::Amount;
use bincode::{Decode, Encode};

/// The largest number that wins. `u64::MAX` is p = 1. Spec: O-01.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Encode, Decode)]
pub struct Threshold(pub u64);

impl serde::Serialize for Threshold {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl Threshold {
    /// Every ticket wins.
    pub const ALWAYS: Self = Self(u64::MAX);

    /// The smallest threshold whose expected value is at least `price`: `ceil(price * 2^64 / face) - 1`. Spec: O-02.
    ///
    /// # Errors
    /// [`BadTerms`] unless `1 <= price <= face`.
    pub fn for_price(price: Amount, face_value: Amount) -> Result<Self, BadTerms> {
        if price.is_zero() || price > face_value {
            return Err(BadTerms { price, face_value });
        }
        let scaled = u128::from(price.0) << 64;
        let threshold = scaled.div_ceil(u128::from(face_value.0)).saturating_sub(1);
        // price <= face, so the quotient is at most 2^64 and the threshold at most 2^64 - 1.
        u64::try_from(threshold)
            .map(Self)
            .map_err(|_| BadTerms { price, face_value })
    }

    /// Whether a ticket of this face value is worth at least `price` in expectation; no rounding. Spec: O-03.
    #[must_use]
    pub fn covers(self, price: Amount, face_value: Amount) -> bool {
        self.value_scaled(face_value) >= u128::from(price.0) << 64
    }

    /// Expected value of a ticket times 2^64; `u64::MAX * 2^64` fits in u128. Spec: O-01.
    #[must_use]
    pub fn value_scaled(self, face_value: Amount) -> u128 {
        let weight = u128::from(self.0).saturating_add(1);
        u128::from(face_value.0).saturating_mul(weight)
    }

    /// How many tickets of these odds are worth one face value in expectation, at least 1.
    #[must_use]
    pub fn tickets_per_win(self) -> u64 {
        let weight = u128::from(self.0).saturating_add(1);
        // To the nearest: rounding the threshold up makes 1 in 1,000 a little more often than that.
        let tickets = (1u128 << 64)
            .saturating_add(weight >> 1)
            .checked_div(weight)
            .unwrap_or(1);
        u64::try_from(tickets).unwrap_or(u64::MAX).max(1)
    }

    /// Expected value of `tickets` tickets, rounded to the nearest atomic unit; for people, never for booking.
    #[must_use]
    pub fn expected(self, face_value: Amount, tickets: u64) -> u128 {
        // (face * weight) may take 128 bits, so divide the high and low halves apart.
        let scaled = self.value_scaled(face_value);
        let (whole, part) = (scaled >> 64, scaled & u128::from(u64::MAX));
        let tickets = u128::from(tickets);
        let fraction = (part.saturating_mul(tickets) >> 63).saturating_add(1) >> 1;
        whole.saturating_mul(tickets).saturating_add(fraction)
    }
}

/// The price is zero or above the face value. Spec: O-02, code `bad_terms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("price must be at least 1 and at most the face value: price {price:?}, face value {face_value:?}")]
pub struct BadTerms {
    /// Price per ticket.
    pub price: Amount,
    /// Face value of a winner.
    pub face_value: Amount,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Spec: O-02, O-04.
    #[test]
    fn price_equal_to_face_always_wins() {
        assert_eq!(Threshold::for_price(Amount(5), Amount(5)), Ok(Threshold::ALWAYS));
        assert_eq!(
            Threshold::for_price(Amount(u64::MAX), Amount(u64::MAX)),
            Ok(Threshold::ALWAYS)
        );
        assert_eq!(Threshold::ALWAYS.tickets_per_win(), 1);
    }

    /// Spec: O-01, O-02.
    #[test]
    fn one_in_a_thousand() {
        let t = Threshold::for_price(Amount(1), Amount(1000)).unwrap();
        assert_eq!(t, Threshold(18_446_744_073_709_551));
        assert_eq!(t.tickets_per_win(), 1000);
        assert_eq!(t.expected(Amount(1000), 1_000_000), 1_000_000);
    }

    /// Spec: O-02.
    #[test]
    fn bad_terms_are_refused() {
        assert!(Threshold::for_price(Amount(0), Amount(5)).is_err());
        assert!(Threshold::for_price(Amount(6), Amount(5)).is_err());
    }

    proptest! {
        /// The threshold covers its price and the next smaller one does not: no rounding in anyone's favour.
        /// Spec: O-02, O-03.
        #[test]
        fn the_threshold_is_the_smallest_that_covers_the_price(face in 1u64.., part in 0u64..) {
            let price = Amount(part % face + 1);
            let t = Threshold::for_price(price, Amount(face)).unwrap();
            prop_assert!(t.covers(price, Amount(face)));
            prop_assert!(t.0 == 0 || !Threshold(t.0 - 1).covers(price, Amount(face)));
        }
    }
}
