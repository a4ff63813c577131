//! Vectors of keys and of the signed objects.

use super::File;
use super::run::typed;
use super::sample::{EPOCH, Sample, list};
use serde_json::{Value, json};
use tombola_core::amount::Amount;
use tombola_core::codec::{encode, tagged_bytes};
use tombola_core::key::{SecretKey, Signed, Tagged};
use tombola_core::odds::Threshold;
use tombola_core::quote::EpochSecret;

pub(crate) fn keys(sample: &Sample) -> File {
    let named = [
        ("escrow", &sample.escrow),
        ("payer", &sample.payer),
        ("payee", &sample.payee),
        ("signer", &sample.signer),
    ];
    let vectors = named.map(|(name, key)| {
        let message = b"tombola";
        json!({
            "name": name,
            "seed": hex::encode(*key.seed()),
            "key": hex::encode(key.account().0),
            "text": key.account().to_string(),
            "message": hex::encode(message),
            "signature": key.sign_bytes(message).to_string(),
        })
    });
    File::new(
        "Ed25519 keys from their seeds, their text, and a signature over raw bytes. K-01, K-03, K-05.",
        vectors.into(),
    )
}

pub(crate) fn delegations(sample: &Sample) -> File {
    let first = sample.delegation();
    let mut anyone = first.clone();
    anyone.payees = list(vec![]);
    anyone.serial = 2;
    let mut revoked = first.clone();
    revoked.spend_max = Amount::ZERO;
    revoked.serial = 3;
    let vectors = [
        signed("for one payee", first, &sample.payer),
        signed("for anyone", anyone, &sample.payer),
        signed("revoked", revoked, &sample.payer),
    ];
    File::new("Delegations signed by the account. A-02.", vectors.into())
}

pub(crate) fn holds(sample: &Sample) -> File {
    let id = json!({"type": "HoldId", "hex": hex::encode(sample.hold.id().0), "text": sample.hold.id()});
    let mut topped_up = sample.hold;
    topped_up.revision = 1;
    topped_up.cap = Amount(3_000_000_000);
    let mut delegated = sample.hold;
    delegated.terms.signer = sample.signer.account();
    let delegated_id = json!({"type": "HoldId", "hex": hex::encode(delegated.id().0), "text": delegated.id()});
    let vectors = vec![
        with(signed("revision 0", sample.hold, &sample.escrow), "id", id.clone()),
        with(
            signed("revision 1 has the same id", topped_up, &sample.escrow),
            "id",
            id,
        ),
        with(
            signed("with a delegated signer", delegated, &sample.escrow),
            "id",
            delegated_id,
        ),
    ];
    File::new("Holds signed by the escrow, and their ids. H-01, H-02.", vectors)
}

pub(crate) fn quotes(sample: &Sample) -> File {
    let secret = EpochSecret::new(EPOCH);
    let mut tip = sample.quote.terms.clone();
    tip.service = super::sample::service("tip");
    tip.escrows = list(vec![sample.escrow.account(), sample.signer.account()]);
    let vectors = [("a file", sample.quote.terms.clone()), ("a tip, two escrows", tip)].map(|(name, terms)| {
        let mut vector = typed("Quote", &secret.quote(terms.clone()));
        vector["name"] = json!(name);
        vector["epoch_secret"] = json!(hex::encode(EPOCH));
        vector["reveal"] = json!(secret.reveal(&terms));
        vector["commitment"] = json!(secret.reveal(&terms).commitment());
        vector
    });
    File::new(
        "Quotes, the reveal that an epoch secret makes of their terms, and its commitment. Q-01 to Q-03.",
        vectors.into(),
    )
}

pub(crate) fn books(sample: &Sample) -> File {
    let mut exact = sample.book;
    exact.threshold = Threshold::ALWAYS;
    exact.length = 1;
    let vectors = [("odds 1 in 10", sample.book), ("p = 1, one ticket", exact)].map(|(name, book)| {
        let id = json!({"type": "BookId", "hex": hex::encode(book.id().0), "text": book.id()});
        with(signed(name, book, &sample.payer), "id", id)
    });
    File::new(
        "Books signed by the hold's signer, and their ids. B-01, B-02.",
        vectors.into(),
    )
}

pub(crate) fn claims(sample: &Sample) -> File {
    let claim = sample.claim();
    let won = claim.verify(&sample.hold).expect("the sample claim is good");
    let mut vector = typed("Claim", &claim);
    vector["name"] = json!("through the highest winner");
    vector["hold"] = json!(hex::encode(encode(&sample.signed_hold())));
    vector["claim_hash"] = json!(claim.hash());
    vector["winning_indices"] = json!(sample.winners());
    vector["winners"] = json!(won.winners);
    vector["gross"] = json!(won.gross);
    vector["fee"] = json!(won.fee);
    let batch = signed("a signed batch", sample.batch(), &sample.payee);
    File::new(
        "A claim with the hold it draws on and what it wins, and a signed batch. R-10, R-11.",
        vec![vector, batch],
    )
}

pub(crate) fn receipts(sample: &Sample) -> File {
    let vector = signed("of the claim in claim.json", sample.receipt(), &sample.escrow);
    File::new("A receipt signed by the escrow. R-13.", vec![vector])
}

pub(crate) fn refusals(sample: &Sample) -> File {
    let vector = signed("of the claim in claim.json", sample.refusal(), &sample.escrow);
    File::new("A refusal signed by the escrow. R-14.", vec![vector])
}

pub(crate) fn releases(sample: &Sample) -> File {
    let vector = signed("of the hold in hold.json", sample.release(), &sample.payee);
    File::new("A release signed by the payee. H-07.", vec![vector])
}

/// A signed object: its fields, its bytes, and what the signature covers.
fn signed<T: Tagged + serde::Serialize + 'static>(name: &str, body: T, key: &SecretKey) -> Value {
    let covered = tagged_bytes(T::TAG, &body);
    let object = Signed::new(body, key);
    let kind = std::any::type_name::<T>().rsplit("::").next().unwrap_or_default();
    let mut vector = typed(&format!("Signed<{kind}>"), &object);
    vector["name"] = json!(name);
    vector["signed_by"] = json!(hex::encode(key.account().0));
    vector["covered"] = json!(hex::encode(covered));
    vector
}

fn with(mut vector: Value, key: &str, value: Value) -> Value {
    vector[key] = value;
    vector
}
