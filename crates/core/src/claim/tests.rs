use super::*;
use crate::amount::{Asset, DAY_MS};
use crate::book::Anchor;
use crate::chain::Chain;
use crate::hold::{Fee, HoldTerms};
use crate::key::SecretKey;
use crate::odds::Threshold;

const LENGTH: u32 = 5;
const FACE: Amount = Amount(1_000);

fn secret(n: u8) -> SecretKey {
    SecretKey::from_seed(&[n; 32])
}

fn hold() -> Hold {
    let terms = HoldTerms {
        escrow: secret(1).account(),
        asset: Asset::USD,
        payer: secret(2).account(),
        signer: secret(2).account(),
        payee: secret(3).account(),
        serial: 7,
        fee: Fee {
            flat: Amount(2),
            ppm: 10_000,
        },
        face_value_min: FACE,
        face_value_max: FACE,
        book_length_max: LENGTH,
        opened_at: Timestamp(DAY_MS),
        expires_at: Timestamp(2 * DAY_MS),
        redeem_by: Timestamp(3 * DAY_MS),
    };
    Hold {
        terms,
        revision: 0,
        cap: Amount(100 * FACE.0),
    }
}

/// A claim of all tickets of a book, signed by somebody.
fn claim(threshold: Threshold, signer: &SecretKey) -> Claim {
    let reveal = Reveal([8; 32]);
    let mut chain = Chain::new(Preimage([9; 32]), LENGTH);
    let book = Book {
        hold: hold().id(),
        commitment: reveal.commitment(),
        anchor: Anchor(chain.anchor().0),
        length: LENGTH,
        face_value: FACE,
        threshold,
    };
    Claim {
        book: Signed::new(book, signer),
        reveal,
        through: LENGTH,
        preimage: chain.preimage(LENGTH).unwrap(),
    }
}

/// Spec: R-11.
#[test]
fn a_claim_wins_its_face_values_less_the_fee_of_each() {
    let won = claim(Threshold(u64::MAX), &secret(2)).verify(&hold()).unwrap();
    assert_eq!((won.winners, won.gross, won.fee), (5, Amount(5_000), Amount(60)));
}

/// Spec: R-11.
#[test]
fn whatever_is_altered_in_a_claim_is_refused_with_its_code() {
    let sure = claim(Threshold(u64::MAX), &secret(2));
    let refused = |change: fn(&mut Claim)| {
        let mut altered = sure;
        change(&mut altered);
        altered.verify(&hold()).unwrap_err().code
    };
    assert_eq!(refused(|claim| claim.book.signature.0[0] ^= 1), Code::BadSignature);
    assert_eq!(refused(|claim| claim.book.body.anchor.0[0] ^= 1), Code::BadSignature);
    assert_eq!(refused(|claim| claim.reveal.0[0] ^= 1), Code::CommitmentMismatch);
    assert_eq!(refused(|claim| claim.preimage.0[0] ^= 1), Code::ChainBroken);
    assert_eq!(refused(|claim| claim.through = 0), Code::IndexZero);
    assert_eq!(refused(|claim| claim.through = LENGTH - 1), Code::ChainBroken);
    assert_eq!(refused(|claim| claim.through = LENGTH + 1), Code::IndexPastEnd);
    let stranger = claim(Threshold(u64::MAX), &secret(4));
    assert_eq!(stranger.verify(&hold()).unwrap_err().code, Code::BadSignature);
    let loser = claim(Threshold(0), &secret(2));
    assert_eq!(loser.verify(&hold()).unwrap_err().code, Code::ClaimDoesNotWin);
}

/// Spec: R-11, N-11.
#[test]
fn what_is_refused_before_the_walk_has_walked_nothing() {
    let walked = |claim: &Claim| {
        let refused = claim.verify(&hold()).err().map(|reject| reject.code);
        (refused, claim.tickets_walked(refused))
    };
    let sure = claim(Threshold(u64::MAX), &secret(2));
    assert_eq!(walked(&sure), (None, LENGTH));
    let mut broken = sure;
    broken.preimage.0[0] ^= 1;
    assert_eq!(walked(&broken), (Some(Code::ChainBroken), LENGTH));
    let loser = claim(Threshold(0), &secret(2));
    assert_eq!(walked(&loser), (Some(Code::ClaimDoesNotWin), 0));
    let stranger = claim(Threshold(u64::MAX), &secret(4));
    assert_eq!(walked(&stranger), (Some(Code::BadSignature), 0));
    let mut endless = sure;
    (endless.through, endless.book.body.length) = (u32::MAX, u32::MAX);
    assert_eq!((walked(&endless).1, endless.tickets_max()), (0, 65_536));
}
