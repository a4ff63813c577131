//! Keys and signatures that no honest program makes, and on which Ed25519 implementations disagree.

use curve25519_dalek::EdwardsPoint;
use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
use curve25519_dalek::edwards::CompressedEdwardsY;
use curve25519_dalek::scalar::{Scalar, clamp_integer};
use sha2::{Digest, Sha512};

/// The prime 2^255 - 19 as 32 little-endian bytes.
const FIELD_PRIME: [u8; 32] = {
    let mut bytes = [0xff; 32];
    bytes[0] = 0xed;
    bytes[31] = 0x7f;
    bytes
};

/// The order l of the base point.
const GROUP_ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// A point of small order; `n` from 1 to 7, all of order 2, 4 or 8.
pub(crate) fn torsion(n: usize) -> EdwardsPoint {
    EIGHT_TORSION[n]
}

/// The identity as a public key.
pub(crate) fn identity() -> [u8; 32] {
    let mut key = [0; 32];
    key[0] = 1;
    key
}

/// The identity with the sign bit of x set, which is no canonical encoding of anything.
pub(crate) fn negative_zero() -> [u8; 32] {
    let mut key = identity();
    key[31] = 0x80;
    key
}

/// A key whose y is not reduced modulo p: the first y of 2 to 18 that is a point of large order, plus p.
pub(crate) fn key_not_reduced() -> [u8; 32] {
    let reduced = (2..19u8).map(|y| {
        let mut bytes = [0; 32];
        bytes[0] = y;
        bytes
    });
    let on_curve = |bytes: &[u8; 32]| {
        let point = CompressedEdwardsY(*bytes).decompress();
        point.is_some_and(|point| !point.is_small_order())
    };
    let mut found = reduced
        .into_iter()
        .find(on_curve)
        .expect("some y below 19 is on the curve");
    add(&mut found, &FIELD_PRIME);
    found
}

/// A y that is on no point of the curve.
pub(crate) fn key_off_curve() -> [u8; 32] {
    let candidates = (2..=255u8).map(|y| [y; 32]);
    let off_curve = |bytes: &[u8; 32]| CompressedEdwardsY(*bytes).decompress().is_none();
    candidates
        .into_iter()
        .find(off_curve)
        .expect("half of all y are off the curve")
}

/// A good key plus a point of order 8.
pub(crate) fn key_with_torsion(key: &[u8; 32]) -> [u8; 32] {
    let point = CompressedEdwardsY(*key).decompress().expect("a good key");
    (point + torsion(1)).compress().to_bytes()
}

/// A signature by the key's own seed whose R has a component of small order: cofactored verifiers accept it.
pub(crate) fn torsion_in_r(seed: &[u8; 32], message: &[u8], n: usize) -> [u8; 64] {
    let nonce = Scalar::from_bytes_mod_order([0x77; 32]);
    let r = (ED25519_BASEPOINT_POINT * nonce + torsion(n)).compress().to_bytes();
    finish(seed, message, r, nonce)
}

/// A signature by the key's own seed whose R is the identity: some verifiers accept it.
pub(crate) fn small_order_r(seed: &[u8; 32], message: &[u8]) -> [u8; 64] {
    finish(seed, message, identity(), Scalar::ZERO)
}

/// The same with R written as p + 1, which is the identity again for a lax decoder.
pub(crate) fn small_order_r_not_reduced(seed: &[u8; 32], message: &[u8]) -> [u8; 64] {
    let mut r = identity();
    add(&mut r, &FIELD_PRIME);
    finish(seed, message, r, Scalar::ZERO)
}

/// R = B and s = 1: for the identity key this verifies over any message.
pub(crate) fn base_point_signature() -> [u8; 64] {
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(&ED25519_BASEPOINT_POINT.compress().to_bytes());
    signature[32] = 1;
    signature
}

/// A good signature with l added to s.
pub(crate) fn s_not_reduced(signature: &[u8; 64]) -> [u8; 64] {
    let mut s: [u8; 32] = std::array::from_fn(|i| signature[32 + i]);
    add(&mut s, &GROUP_ORDER);
    let mut crafted = *signature;
    crafted[32..].copy_from_slice(&s);
    crafted
}

/// Completes a signature for a given R: s = nonce + SHA-512(R || A || M) * a.
fn finish(seed: &[u8; 32], message: &[u8], r: [u8; 32], nonce: Scalar) -> [u8; 64] {
    let expanded: [u8; 64] = Sha512::digest(seed).into();
    let low: [u8; 32] = std::array::from_fn(|i| expanded[i]);
    let secret = Scalar::from_bytes_mod_order(clamp_integer(low));
    let public = (ED25519_BASEPOINT_POINT * secret).compress().to_bytes();
    let hash = Sha512::new().chain_update(r).chain_update(public).chain_update(message);
    let challenge = Scalar::from_bytes_mod_order_wide(&hash.finalize().into());
    let s = (nonce + challenge * secret).to_bytes();
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(&r);
    signature[32..].copy_from_slice(&s);
    signature
}

/// Adds 256-bit little-endian numbers that do not overflow.
fn add(a: &mut [u8; 32], b: &[u8; 32]) {
    let mut carry = 0u16;
    for (x, y) in a.iter_mut().zip(b) {
        let sum = u16::from(*x) + u16::from(*y) + carry;
        *x = (sum & 0xff) as u8;
        carry = sum >> 8;
    }
    assert_eq!(carry, 0, "no overflow");
}
