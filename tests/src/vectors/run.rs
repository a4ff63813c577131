//! Runs vectors against the code: types by name, and what `invalid.json` asks for.

use super::{custody, ledger, opening};
use bincode::{Decode, Encode};
use serde::Serialize;
use serde_json::{Value, json};
use std::fmt::Debug;
use tombola_core::amount::Amount;
use tombola_core::book::{Book, Ticket};
use tombola_core::claim::{Claim, ClaimBatch, Receipt, Refusal};
use tombola_core::codec::{DecodeError, decode, encode};
use tombola_core::hold::{Delegation, Hold, Release};
use tombola_core::key::{AccountKey, Signature, Signed, Tagged};
use tombola_core::message::{
    BookFrame, EscrowAnswer, EscrowRequest, PayeeAnswer, PayeeRequest, ResponseHeader, ServiceOffer, StatementEntry,
};
use tombola_core::odds::Threshold;
use tombola_core::quote::Quote;
use tombola_core::reject::Reject;

/// An object as `{type, fields, bytes}`.
pub(crate) fn typed<T: Encode + Serialize>(kind: &str, object: &T) -> Value {
    json!({"type": kind, "fields": object, "bytes": hex::encode(encode(object))})
}

/// Something to do with every type that has vectors.
pub trait Use {
    /// What does it.
    type Of;

    /// What does it with this type.
    fn of<T: Encode + Decode<()> + Serialize + Debug>() -> Self::Of;
}

/// What does something with each type that has vectors, by the name of the type.
#[must_use]
pub fn with_each_type<U: Use>() -> [(&'static str, U::Of); 19] {
    [
        ("BookFrame", U::of::<BookFrame>()),
        ("Claim", U::of::<Claim>()),
        ("EscrowAnswer", U::of::<EscrowAnswer>()),
        ("EscrowRequest", U::of::<EscrowRequest>()),
        ("PayeeAnswer", U::of::<PayeeAnswer>()),
        ("PayeeRequest", U::of::<PayeeRequest>()),
        ("Quote", U::of::<Quote>()),
        ("Reject", U::of::<Reject>()),
        ("ResponseHeader", U::of::<ResponseHeader>()),
        ("ServiceOffer", U::of::<ServiceOffer>()),
        ("Signed<Book>", U::of::<Signed<Book>>()),
        ("Signed<ClaimBatch>", U::of::<Signed<ClaimBatch>>()),
        ("Signed<Delegation>", U::of::<Signed<Delegation>>()),
        ("Signed<Hold>", U::of::<Signed<Hold>>()),
        ("Signed<Receipt>", U::of::<Signed<Receipt>>()),
        ("Signed<Refusal>", U::of::<Signed<Refusal>>()),
        ("Signed<Release>", U::of::<Signed<Release>>()),
        ("StatementEntry", U::of::<StatementEntry>()),
        ("Ticket", U::of::<Ticket>()),
    ]
}

/// Decoding, to show and to encode again.
struct Shown;

impl Use for Shown {
    type Of = fn(&[u8]) -> Result<(Value, Vec<u8>), DecodeError>;

    fn of<T: Encode + Decode<()> + Serialize + Debug>() -> Self::Of {
        |bytes| decode::<T>(bytes).map(|object| (json!(object), encode(&object)))
    }
}

/// Decodes bytes as the named type and gives its fields, and its bytes as encoded again.
///
/// # Errors
/// [`DecodeError`] as the decoder gave it.
///
/// # Panics
/// If the name is not one of a type that has vectors.
pub fn decode_as(kind: &str, bytes: &[u8]) -> Result<(Value, Vec<u8>), DecodeError> {
    let types = with_each_type::<Shown>();
    let found = types.iter().find(|(name, _)| *name == kind);
    let (_, shown) = found.unwrap_or_else(|| panic!("no type {kind}"));
    shown(bytes)
}

/// Verifies the signature of a signed object of the named type.
///
/// # Errors
/// `malformed`, `bad_key` or `bad_signature`.
///
/// # Panics
/// If the name is not one of a signed type.
pub fn verify_as(kind: &str, bytes: &[u8], key: AccountKey) -> Result<(), Reject> {
    match kind {
        "Signed<Book>" => verify::<Book>(bytes, key),
        "Signed<ClaimBatch>" => verify::<ClaimBatch>(bytes, key),
        "Signed<Delegation>" => verify::<Delegation>(bytes, key),
        "Signed<Hold>" => verify::<Hold>(bytes, key),
        "Signed<Receipt>" => verify::<Receipt>(bytes, key),
        "Signed<Refusal>" => verify::<Refusal>(bytes, key),
        "Signed<Release>" => verify::<Release>(bytes, key),
        _ => panic!("no signed type {kind}"),
    }
}

fn verify<T: Tagged + Decode<()> + 'static>(bytes: &[u8], key: AccountKey) -> Result<(), Reject> {
    let object: Signed<T> = decode(bytes)?;
    object.verify(&key.check()?)?;
    Ok(())
}

/// Runs one vector of `invalid.json`; it must come back as an error with the vector's code.
///
/// # Errors
/// What the code under test refuses with.
///
/// # Panics
/// If the vector's operation is unknown or lacks an input.
pub fn invalid(vector: &Value) -> Result<(), Reject> {
    let operation = vector["operation"].as_str().expect("an operation");
    match operation {
        "decode" => {
            decode_as(text(vector, "type"), &bytes(vector, "bytes"))?;
            Ok(())
        }
        "check_key" => Ok(AccountKey(array(vector, "key")).check().map(|_| ())?),
        "verify_bytes" => {
            let key = AccountKey(array(vector, "key")).check()?;
            Ok(key.verify_bytes(&bytes(vector, "message"), &Signature(array(vector, "signature")))?)
        }
        "verify_object" => verify_as(
            text(vector, "type"),
            &bytes(vector, "object"),
            AccountKey(array(vector, "key")),
        ),
        "check_hold" => decode::<Signed<Hold>>(&bytes(vector, "hold"))?.body.check_shape(),
        "threshold" => {
            Threshold::for_price(amount(vector, "price"), amount(vector, "face_value"))?;
            Ok(())
        }
        "verify_claim" => {
            let hold: Signed<Hold> = decode(&bytes(vector, "hold"))?;
            let claim: Claim = decode(&bytes(vector, "claim"))?;
            claim.verify(&hold.body)?;
            Ok(())
        }
        "open_book" => opening::open(vector),
        "present_hold" => opening::present(vector),
        "take_ticket" => opening::take(vector),
        _ => ledger::run(operation, vector)
            .or_else(|| custody::run(operation, vector))
            .unwrap_or_else(|| panic!("no operation {operation}")),
    }
}

/// A text input.
pub(crate) fn text<'a>(vector: &'a Value, name: &str) -> &'a str {
    vector[name]
        .as_str()
        .unwrap_or_else(|| panic!("input {name} of {vector}"))
}

/// Bytes as hex, or one byte repeated as `{"byte", "count"}`.
pub(crate) fn bytes(vector: &Value, name: &str) -> Vec<u8> {
    if let Some(count) = vector[name]["count"].as_u64() {
        let byte = bytes(&vector[name], "byte");
        return byte.repeat(usize::try_from(count).expect("a small count"));
    }
    hex::decode(text(vector, name)).unwrap_or_else(|e| panic!("input {name}: {e}"))
}

/// Bytes of a fixed length.
pub(crate) fn array<const N: usize>(vector: &Value, name: &str) -> [u8; N] {
    let given = bytes(vector, name);
    given
        .try_into()
        .unwrap_or_else(|_| panic!("input {name} must have {N} bytes"))
}

/// A number.
pub(crate) fn number(vector: &Value, name: &str) -> u64 {
    vector[name]
        .as_u64()
        .unwrap_or_else(|| panic!("input {name} of {vector}"))
}

/// An amount as a decimal string.
pub(crate) fn amount(vector: &Value, name: &str) -> Amount {
    let parsed = text(vector, name).parse().map(Amount);
    parsed.unwrap_or_else(|e| panic!("input {name}: {e}"))
}
