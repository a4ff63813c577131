//! The parties of a hold, whose keys the harnesses own.

use std::sync::OnceLock;
use tombola_core::amount::{Amount, Asset, DAY_MS, Timestamp};
use tombola_core::hold::{Fee, HoldTerms};
use tombola_core::key::SecretKey;

/// When a harness begins.
pub(crate) const START: Timestamp = Timestamp(20_000 * DAY_MS);

pub(crate) fn bank() -> &'static SecretKey {
    static KEY: OnceLock<SecretKey> = OnceLock::new();
    KEY.get_or_init(|| SecretKey::from_seed(&[1; 32]))
}

pub(crate) fn payer() -> &'static SecretKey {
    static KEY: OnceLock<SecretKey> = OnceLock::new();
    KEY.get_or_init(|| SecretKey::from_seed(&[2; 32]))
}

pub(crate) fn payee() -> &'static SecretKey {
    static KEY: OnceLock<SecretKey> = OnceLock::new();
    KEY.get_or_init(|| SecretKey::from_seed(&[3; 32]))
}

/// A hold between them, for any face value and without a fee.
pub(crate) fn hold_terms() -> HoldTerms {
    HoldTerms {
        escrow: bank().account(),
        asset: Asset::USD,
        payer: payer().account(),
        signer: payer().account(),
        payee: payee().account(),
        serial: 1,
        fee: Fee::default(),
        face_value_min: Amount(1),
        face_value_max: Amount(u64::MAX),
        book_length_max: 4_096,
        opened_at: START,
        expires_at: START.plus_ms(DAY_MS),
        redeem_by: START.plus_ms(3 * DAY_MS),
    }
}
