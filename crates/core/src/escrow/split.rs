//! Splits: how a payee's credit for winners is divided among accounts, to the last atomic unit.
//!
//! Each account is rounded to where its share ends, not how long it is: `floor(credit * cum_i / 10^6) - floor(credit *
//! cum_(i-1) / 10^6)`. So no unit is lost or made, nobody is more than one unit off its exact share, and the payee
//! keeps exactly what is behind the end of the last one.

use crate::amount::Amount;
use crate::key::AccountKey;
use crate::limits::SHARES_PPM_MAX;
use crate::message::{Share, SharePaid};
use crate::reject::{Code, Reject};

/// A credit, divided. Spec: R-22.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Division {
    /// What each account of the split gets, in its order; an amount may be 0.
    pub shares: Vec<SharePaid>,
    /// What the payee keeps.
    pub kept: Amount,
}

/// Divides a payee's credit by its split. Spec: R-22.
///
/// `shares` passed [`check`]; should they be over the whole, what is over it gets nothing.
#[must_use]
pub fn divide(credit: Amount, shares: &[Share]) -> Division {
    let mut end_ppm = 0u64;
    let mut given = Amount::ZERO;
    let mut paid = Vec::with_capacity(shares.len());
    for share in shares {
        end_ppm = end_ppm.saturating_add(u64::from(share.ppm)).min(SHARES_PPM_MAX);
        let end = part(credit, end_ppm);
        paid.push(SharePaid {
            account: share.account,
            amount: end.saturating_sub(given),
        });
        given = end;
    }
    Division {
        shares: paid,
        kept: credit.saturating_sub(given),
    }
}

/// `floor(credit * ppm / 10^6)`, for at most the whole.
fn part(credit: Amount, ppm: u64) -> Amount {
    let product = u128::from(credit.0).saturating_mul(u128::from(ppm));
    let part = product.checked_div(u128::from(SHARES_PPM_MAX)).unwrap_or(0);
    // At most the credit, which is a u64.
    Amount(u64::try_from(part).unwrap_or(credit.0))
}

/// Whether a payee may divide its credits so; none is the end of a split. Spec: R-22.
///
/// Checks keys too (25 us each): asked on any core, when the request is verified.
///
/// # Errors
/// `bad_terms` (1, 0) for a share of nothing, `split_to_self`, `share_repeated`, `shares_over` (limit, sum), `bad_key`.
pub fn check(payee: &AccountKey, shares: &[Share]) -> Result<(), Reject> {
    let mut sum = 0u64;
    let mut seen = Vec::with_capacity(shares.len());
    for share in shares {
        if share.ppm == 0 {
            return Err(Reject::compared(Code::BadTerms, 1, 0));
        }
        if share.account == *payee {
            return Err(Reject::of(Code::SplitToSelf));
        }
        if seen.contains(&share.account) {
            return Err(Reject::of(Code::ShareRepeated));
        }
        seen.push(share.account);
        sum = sum.saturating_add(u64::from(share.ppm));
    }
    if sum > SHARES_PPM_MAX {
        return Err(Reject::compared(Code::SharesOver, SHARES_PPM_MAX, sum));
    }
    for share in shares {
        share.account.check()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::SecretKey;
    use proptest::prelude::*;

    fn key(n: u8) -> AccountKey {
        SecretKey::from_seed(&[n; 32]).account()
    }

    fn shares(ppm: &[u32]) -> Vec<Share> {
        let share = |(ppm, n): (&u32, u8)| Share {
            account: key(n),
            ppm: *ppm,
        };
        ppm.iter().zip(10..).map(share).collect()
    }

    fn amounts(credit: u64, ppm: &[u32]) -> (Vec<u64>, u64) {
        let division = divide(Amount(credit), &shares(ppm));
        (division.shares.iter().map(|s| s.amount.0).collect(), division.kept.0)
    }

    /// Spec: R-22.
    #[test]
    fn royalties_are_divided_to_the_last_unit() {
        assert_eq!(amounts(100, &[700_000, 200_000, 100_000]), (vec![70, 20, 10], 0));
        assert_eq!(amounts(7, &[333_333, 333_333, 333_333]), (vec![2, 2, 2], 1));
        assert_eq!(amounts(8, &[333_333, 333_333, 333_334]), (vec![2, 3, 3], 0));
        assert_eq!(amounts(1, &[500_000]), (vec![0], 1));
        assert_eq!(amounts(u64::MAX, &[1_000_000]), (vec![u64::MAX], 0));
        assert_eq!(amounts(5, &[]), (vec![], 5));
    }

    /// Spec: R-22.
    #[test]
    fn a_split_over_the_whole_or_to_its_payee_is_refused() {
        let refused = |shares: &[Share]| check(&key(1), shares).unwrap_err();
        assert_eq!(check(&key(1), &shares(&[999_999, 1])), Ok(()));
        assert_eq!(check(&key(1), &[]), Ok(()));
        assert_eq!(
            refused(&shares(&[999_999, 2])),
            Reject::compared(Code::SharesOver, 1_000_000, 1_000_001)
        );
        assert_eq!(
            refused(&shares(&[u32::MAX; 32])).has,
            32 * u64::from(u32::MAX),
            "the sum is shown whole"
        );
        assert_eq!(refused(&shares(&[0])), Reject::compared(Code::BadTerms, 1, 0));
        let account = key(1);
        assert_eq!(refused(&[Share { account, ppm: 1 }]), Reject::of(Code::SplitToSelf));
        let twice = [shares(&[1]), shares(&[1])].concat();
        assert_eq!(refused(&twice), Reject::of(Code::ShareRepeated));
        let account = AccountKey([0xff; 32]);
        assert_eq!(refused(&[Share { account, ppm: 1 }]), Reject::of(Code::BadKey));
    }

    proptest! {
        /// Spec: R-22.
        #[test]
        fn nothing_is_lost_and_nobody_is_a_unit_off(
            credit in prop_oneof![any::<u64>(), 0u64..1_000],
            ppm in proptest::collection::vec(1u32..=31_250, 0..=32),
        ) {
            let shares = shares(&ppm);
            let division = divide(Amount(credit), &shares);
            let given: u128 = division.shares.iter().map(|s| u128::from(s.amount.0)).sum();
            prop_assert_eq!(given + u128::from(division.kept.0), u128::from(credit));
            for (paid, share) in division.shares.iter().zip(&shares) {
                prop_assert_eq!(paid.account, share.account);
                let exact = u128::from(credit) * u128::from(share.ppm);
                prop_assert!(u128::from(paid.amount.0).abs_diff(exact / 1_000_000) <= 1);
            }
        }

        #[test]
        fn a_larger_credit_leaves_no_prefix_of_the_split_with_less(
            credit in 0u64..u64::MAX,
            ppm in proptest::collection::vec(1u32..=250_000, 1..=4),
        ) {
            let ends = |credit| {
                let division = divide(Amount(credit), &shares(&ppm));
                let sums = division.shares.iter().scan(0u128, |sum, share| {
                    *sum += u128::from(share.amount.0);
                    Some(*sum)
                });
                sums.collect::<Vec<_>>()
            };
            let (less, more) = (ends(credit), ends(credit + 1));
            prop_assert!(less.iter().zip(&more).all(|(less, more)| less <= more));
        }
    }
}
