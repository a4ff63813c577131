//! Claims that were tampered with, judged twice: by the escrow's rules, and by a naive reading of the specification.

mod naive;

use crate::input::Input;
use crate::party::{hold_terms, payer};
use std::sync::OnceLock;
use tombola_core::amount::Amount;
use tombola_core::book::{Anchor, Book};
use tombola_core::chain::{Chain, Preimage};
use tombola_core::claim::Claim;
use tombola_core::codec::{decode, encode};
use tombola_core::draw::{Draw, Reveal};
use tombola_core::hold::{Fee, Hold, HoldTerms};
use tombola_core::key::Signed;
use tombola_core::odds::Threshold;

const LENGTH: u32 = 24;
/// Where the claim's `through` is.
const THROUGH_AT: usize = 212;

/// Picks a good claim, alters bytes of hold and claim, signs the book anew where that is asked for, and compares.
/// Spec: R-11.
pub fn claim(data: &[u8]) {
    let mut input = Input::new(data);
    let good = input.pick(good());
    let mut hold = encode(&good.0);
    let mut claim = encode(&good.1);
    while !input.is_empty() {
        match input.byte() {
            // One byte of the claim, of the hold, or one number of either.
            0..100 => alter(&mut claim, &mut input),
            100..150 => alter(&mut hold, &mut input),
            150..170 => set_number(&mut claim, &[96, 100, 108, THROUGH_AT], &mut input),
            170..190 => set_number(&mut hold, &[153, 161, 165, 173, 181, 213], &mut input),
            // The claim of another index, with a preimage that may be right.
            190..215 => {
                let index = u32::from(input.byte()) % (LENGTH + 2);
                claim[THROUGH_AT..THROUGH_AT + 4].copy_from_slice(&index.to_le_bytes());
                if let Some(preimage) = chain().get(usize::try_from(index).unwrap_or_default()) {
                    claim[THROUGH_AT + 4..].copy_from_slice(preimage);
                }
            }
            // The book names the hold as it is now.
            215..235 => {
                if let Ok(hold) = decode::<Hold>(&hold) {
                    claim[..32].copy_from_slice(&hold.id().0);
                }
            }
            _ => sign(&mut claim),
        }
    }
    compare(&hold, &claim);
}

fn compare(hold: &[u8], claim: &[u8]) {
    let naive = naive::verify(hold, claim);
    // Any bytes of these lengths are such objects; whether they are good is asked below.
    let (hold, claim): (Hold, Claim) = match (decode(hold), decode(claim)) {
        (Ok(hold), Ok(claim)) => (hold, claim),
        other => panic!("fixed fields decode: {other:?}"),
    };
    let verified = claim.verify(&hold);
    let said = verified.map(|won| (won.winners, won.gross.0, won.fee.0));
    let said = said.map_err(|reject| reject.code.name());
    assert_eq!(said, naive, "{hold:?} {claim:?}");
    if let Ok(signer) = hold.terms.signer.check() {
        assert_eq!(claim.verify_by(&hold, &signer), verified);
    }
}

fn alter(bytes: &mut [u8], input: &mut Input<'_>) {
    let at = usize::from(input.short()) % bytes.len();
    bytes[at] ^= input.byte();
}

/// Sets a number of four or eight bytes to one that is at some edge.
fn set_number(bytes: &mut [u8], places: &[usize], input: &mut Input<'_>) {
    let at = input.pick(places);
    let long = input.long();
    let number = input.pick(&[0, 1, u64::MAX, u64::from(u32::MAX), u64::from(LENGTH), long]);
    let width = if matches!(at, 96 | 161 | 181 | THROUGH_AT) {
        4
    } else {
        8
    };
    bytes[at..at + width].copy_from_slice(&number.to_le_bytes()[..width]);
}

fn sign(claim: &mut [u8]) {
    if let Ok(body) = decode::<Book>(&claim[..116]) {
        claim[..180].copy_from_slice(&encode(&Signed::new(body, payer())));
    }
}

/// `w[0]` to `w[LENGTH]`.
fn chain() -> &'static [[u8; 32]] {
    static CHAIN: OnceLock<Vec<[u8; 32]>> = OnceLock::new();
    CHAIN.get_or_init(|| {
        let mut chain = Chain::new(Preimage([4; 32]), LENGTH);
        let above = (1..=LENGTH).filter_map(|index| chain.preimage(index));
        let above: Vec<_> = above.map(|preimage| preimage.0).collect();
        [vec![chain.anchor().0], above].concat()
    })
}

/// A claim of each kind: every ticket wins, every second, one in ten.
fn good() -> &'static [(Hold, Claim)] {
    static GOOD: OnceLock<Vec<(Hold, Claim)>> = OnceLock::new();
    GOOD.get_or_init(|| [u64::MAX, u64::MAX / 2, u64::MAX / 10].map(made).into())
}

fn made(threshold: u64) -> (Hold, Claim) {
    let hold = Hold {
        terms: HoldTerms {
            fee: Fee {
                flat: Amount(3),
                ppm: 25_000,
            },
            ..hold_terms()
        },
        revision: 0,
        cap: Amount(1_000_000),
    };
    // A reveal with which something wins.
    let claims = (0..u8::MAX).map(|n| claim_of(&hold, Reveal([n; 32]), Threshold(threshold)));
    let found = claims.flatten().next();
    (hold, found.expect("one of 255 reveals wins"))
}

fn claim_of(hold: &Hold, reveal: Reveal, threshold: Threshold) -> Option<Claim> {
    let body = Book {
        hold: hold.id(),
        commitment: reveal.commitment(),
        anchor: Anchor(chain()[0]),
        length: LENGTH,
        face_value: Amount(1_000),
        threshold,
    };
    let draw = Draw::new(&body.id(), &reveal, threshold);
    let above: Vec<(u32, Preimage)> = (1..).zip(chain().iter().skip(1).copied().map(Preimage)).collect();
    let highest = above.iter().rev().find(|(index, preimage)| draw.wins(*index, preimage));
    let (through, preimage) = *highest?;
    Some(Claim {
        book: Signed::new(body, payer()),
        reveal,
        through,
        preimage,
    })
}

/// Each good claim as it is, cut at another index, altered, and signed anew.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for kind in 0..3 {
        seeds.push(vec![kind]);
        seeds.extend([1, 12, 25].map(|index| vec![kind, 190, index]));
        seeds.push(vec![kind, 0, 0, 0, 1]);
        seeds.push(vec![kind, 150, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 240]);
        seeds.push(vec![kind, 170, 0, 9, 0, 0, 0, 0, 0, 0, 0, 2, 215, 240]);
    }
    seeds
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD_BYTES: usize = 221;
    const CLAIM_BYTES: usize = 248;

    #[test]
    fn good_claims_are_good_and_any_other_byte_is_not() {
        for (hold, claim) in good() {
            assert_eq!((encode(hold).len(), encode(claim).len()), (HOLD_BYTES, CLAIM_BYTES));
            assert!(claim.verify(hold).is_ok());
            for at in 0..CLAIM_BYTES {
                let mut bad = encode(claim);
                bad[at] ^= 0x40;
                compare(&encode(hold), &bad);
                assert!(decode::<Claim>(&bad).unwrap().verify(hold).is_err(), "byte {at}");
            }
        }
    }
}
