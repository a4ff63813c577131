//! A second verifier of claims, written from the text of the specification and nothing of the core: slow and obvious.

use curve25519_dalek::constants::ED25519_BASEPOINT_POINT;
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use sha2::{Digest, Sha256, Sha512};

/// Winners, gross and fee, or the name of the code. Both inputs have their fixed lengths. Spec: R-11 from step 2.
pub(super) fn verify(hold: &[u8], claim: &[u8]) -> Result<(u32, u64, u64), &'static str> {
    let book = &claim[..116];
    let (length, face, threshold) = (u32_at(book, 96), u64_at(book, 100), u64_at(book, 108));
    let (reveal, through, preimage) = (&claim[180..212], u32_at(claim, 212), &claim[216..248]);
    // B-03.
    if book[..32] != sha256(&[&tag("tombola/hold-id/v1"), &hold[..209]]) {
        return Err("hold_mismatch");
    }
    if length < 1 || length > u32_at(hold, 181).min(65_536) {
        return Err("book_too_long");
    }
    if face < u64_at(hold, 165) || face > u64_at(hold, 173) {
        return Err("face_out_of_range");
    }
    if through < 1 {
        return Err("index_zero");
    }
    if through > length {
        return Err("index_past_end");
    }
    if book[32..64] != sha256(&[&tag("tombola/commitment/v1"), reveal]) {
        return Err("commitment_mismatch");
    }
    let id = sha256(&[&tag("tombola/book-id/v1"), book]);
    let number = |index: u32, value: &[u8]| {
        let hash = sha256(&[&id, reveal, value, &index.to_le_bytes(), b"tombola/draw/v1"]);
        u64_at(&hash, 0)
    };
    if number(through, preimage) > threshold {
        return Err("claim_does_not_win");
    }
    signature(&hold[81..113], &[&tag("tombola/book/v1"), book], &claim[116..180])?;
    let (mut value, mut winners) = (preimage.to_vec(), 0u32);
    for index in (1..=through).rev() {
        winners += u32::from(number(index, &value) <= threshold);
        value = sha256(&[&value, &index.to_le_bytes(), b"tombola/chain/v1"]).to_vec();
    }
    if value != book[64..96] {
        return Err("chain_broken");
    }
    let gross = u128::from(winners) * u128::from(face);
    let gross = u64::try_from(gross).map_err(|_| "claim_over_cap")?;
    // H-04.
    let share = (u128::from(face) * u128::from(u32_at(hold, 161))).div_ceil(1_000_000);
    let fee = u128::from(face).min(u128::from(u64_at(hold, 153)) + share);
    let fee = u64::try_from(fee * u128::from(winners)).map_err(|_| "claim_over_cap")?;
    Ok((winners, gross, fee))
}

/// Spec: K-02, K-04.
fn signature(key: &[u8], message: &[&[u8]], signature: &[u8]) -> Result<(), &'static str> {
    let a = point(key).filter(|a| {
        let torsion_free = a.is_torsion_free();
        a.compress().as_bytes() == key && !is_small(a) && torsion_free
    });
    let a = a.ok_or("bad_key")?;
    let (r, s) = signature.split_at(32);
    let s: [u8; 32] = s.try_into().map_err(|_| "bad_signature")?;
    let s = Option::<Scalar>::from(Scalar::from_canonical_bytes(s)).ok_or("bad_signature")?;
    point(r).filter(|r| !is_small(r)).ok_or("bad_signature")?;
    let mut hash = Sha512::new();
    for part in [&[r, key], message].concat() {
        hash.update(part);
    }
    let k = Scalar::from_bytes_mod_order_wide(&hash.finalize().into());
    let expected = (ED25519_BASEPOINT_POINT * s - a * k).compress();
    if expected.as_bytes() == r {
        Ok(())
    } else {
        Err("bad_signature")
    }
}

fn point(bytes: &[u8]) -> Option<EdwardsPoint> {
    CompressedEdwardsY::from_slice(bytes).ok()?.decompress()
}

/// `[8]P` is the identity.
fn is_small(point: &EdwardsPoint) -> bool {
    point.mul_by_cofactor() == EdwardsPoint::default()
}

fn tag(name: &str) -> [u8; 24] {
    let mut tag = [0; 24];
    tag[..name.len()].copy_from_slice(name.as_bytes());
    tag
}

fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    Sha256::digest(parts.concat()).into()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|n| bytes[at + n]))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|n| bytes[at + n]))
}
