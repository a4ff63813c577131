//! Every vector, run against the code. Another implementation does the same with the same files.

use serde_json::{Value, json};
use tombola_core::amount::Amount;
use tombola_core::chain::{Chain, Preimage, step, walk};
use tombola_core::claim::Claim;
use tombola_core::codec::{decode, encode, tagged_bytes};
use tombola_core::draw::{Draw, Reveal};
use tombola_core::hold::Hold;
use tombola_core::key::{AccountKey, BookId, SecretKey, Signature, Signed};
use tombola_core::message::EscrowRequest;
use tombola_core::odds::Threshold;
use tombola_core::quote::{EpochSecret, Quote};
use tombola_tests::vectors::{self, load, run};

fn text<'a>(vector: &'a Value, name: &str) -> &'a str {
    vector[name].as_str().unwrap_or_else(|| panic!("{name} of {vector}"))
}

fn bytes(vector: &Value, name: &str) -> Vec<u8> {
    hex::decode(text(vector, name)).unwrap()
}

fn array<const N: usize>(vector: &Value, name: &str) -> [u8; N] {
    bytes(vector, name).try_into().unwrap()
}

fn decimal(vector: &Value, name: &str) -> u64 {
    text(vector, name).parse().unwrap()
}

/// The vectors of a file, of which there must be some.
fn each(name: &str) -> Vec<Value> {
    let found = load(name);
    assert!(!found.is_empty(), "{name} is empty");
    found
}

#[test]
fn the_checked_in_vectors_are_what_the_generator_makes() {
    assert_eq!(
        vectors::difference(&vectors::directory()),
        None,
        "run cargo xtask vectors"
    );
}

/// Spec: E-01, E-03, H-01, A-02, Q-01, T-01, B-01, P-01, P-02, P-05, D-01, D-02.
/// Spec.
#[test]
fn every_object_decodes_to_its_fields_and_encodes_back_to_its_bytes() {
    let mut objects = 0;
    for (file, _) in vectors::generate()
        .into_iter()
        .filter(|(file, _)| *file != "invalid.json")
    {
        for vector in load(file).iter().filter(|vector| vector["type"].is_string()) {
            let given = bytes(vector, "bytes");
            let (fields, encoded) = run::decode_as(text(vector, "type"), &given).unwrap();
            assert_eq!(fields, vector["fields"], "{file}: {}", vector["name"]);
            assert_eq!(encoded, given, "{file}: {}", vector["name"]);
            objects += 1;
        }
    }
    assert!(objects > 60, "only {objects} objects");
}

/// Spec: E-04, K-04.
#[test]
fn every_signed_object_verifies_and_covers_its_tag() {
    for file in ["delegation", "hold", "book", "claim", "receipt", "refusal", "release"] {
        for vector in each(&format!("{file}.json"))
            .iter()
            .filter(|v| v["signed_by"].is_string())
        {
            let key = AccountKey(array(vector, "signed_by"));
            let object = bytes(vector, "bytes");
            assert_eq!(
                run::verify_as(text(vector, "type"), &object, key),
                Ok(()),
                "{}",
                vector["name"]
            );
            let (covered, signature) = (bytes(vector, "covered"), &object[object.len() - 64..]);
            assert_eq!(covered[24..], object[..object.len() - 64], "{}", vector["name"]);
            let signature = Signature(signature.try_into().unwrap());
            assert_eq!(key.check().unwrap().verify_bytes(&covered, &signature), Ok(()));
        }
    }
}

/// Spec: K-01, K-03, K-05.
#[test]
fn keys_come_from_their_seeds() {
    for vector in each("keys.json") {
        let secret = SecretKey::from_seed(&array(&vector, "seed"));
        let key = AccountKey(array(&vector, "key"));
        assert_eq!(secret.account(), key);
        assert_eq!(text(&vector, "text").parse(), Ok(key));
        let signature = Signature(array(&vector, "signature"));
        let message = bytes(&vector, "message");
        assert_eq!(secret.sign_bytes(&message), signature, "Ed25519 is deterministic");
        assert_eq!(key.check().unwrap().verify_bytes(&message, &signature), Ok(()));
    }
}

/// Spec: B-02, E-05, H-02.
#[test]
fn ids_are_hashes_of_unsigned_bodies() {
    for vector in each("hold.json") {
        let hold: Signed<Hold> = decode(&bytes(&vector, "bytes")).unwrap();
        assert_eq!(hex::encode(hold.body.id().0), text(&vector["id"], "hex"));
        assert_eq!(hold.body.id().to_string(), text(&vector["id"], "text"));
    }
    for vector in each("book.json") {
        let book: Signed<tombola_core::book::Book> = decode(&bytes(&vector, "bytes")).unwrap();
        assert_eq!(hex::encode(book.body.id().0), text(&vector["id"], "hex"));
    }
    for vector in each("escrow-messages.json")
        .iter()
        .filter(|v| v["type"] == "EscrowRequest")
    {
        let request: EscrowRequest = decode(&bytes(vector, "bytes")).unwrap();
        assert_eq!(json!(request.hash()), vector["request_hash"]);
    }
}

/// Spec.
#[test]
fn a_quote_commits_to_the_reveal_of_its_terms() {
    for vector in each("quote.json") {
        let quote: Quote = decode(&bytes(&vector, "bytes")).unwrap();
        let secret = EpochSecret::new(array(&vector, "epoch_secret"));
        let reveal = secret.reveal(&quote.terms);
        assert_eq!(reveal, Reveal(array(&vector, "reveal")));
        assert_eq!(json!(reveal.commitment()), vector["commitment"]);
        assert_eq!(quote.commitment, reveal.commitment());
    }
}

/// Spec: T-02.
#[test]
fn chains_have_the_values_of_the_spec() {
    for vector in each("chain.json") {
        let length = u32::try_from(vector["length"].as_u64().unwrap()).unwrap();
        let secret = Preimage(array(&vector, "secret"));
        let anchor = Preimage(array(&vector, "anchor"));
        let mut chain = Chain::new(secret, length);
        assert_eq!((chain.anchor(), walk(&secret, length, 0)), (anchor, anchor));
        for (index, value) in vector["values"].as_object().unwrap() {
            let index: u32 = index.parse().unwrap();
            let value = Preimage(hex::decode(value.as_str().unwrap()).unwrap().try_into().unwrap());
            assert_eq!(chain.preimage(index), Some(value));
            assert_eq!(walk(&value, index, 0), anchor);
            assert_eq!(walk(&step(&value, index), index - 1, 0), anchor);
        }
    }
}

/// Spec: T-03, T-04.
#[test]
fn draws_win_up_to_and_at_the_threshold() {
    for vector in each("draw.json") {
        let threshold = Threshold(decimal(&vector, "threshold"));
        let draw = Draw::new(
            &BookId(array(&vector, "book_id")),
            &Reveal(array(&vector, "reveal")),
            threshold,
        );
        let index = u32::try_from(vector["index"].as_u64().unwrap()).unwrap();
        let preimage = Preimage(array(&vector, "preimage"));
        assert_eq!(
            draw.number(index, &preimage),
            decimal(&vector, "number"),
            "{}",
            vector["name"]
        );
        assert_eq!(json!(draw.wins(index, &preimage)), vector["wins"], "{}", vector["name"]);
    }
}

/// Spec: O-01, O-02, O-03.
#[test]
fn thresholds_are_the_smallest_that_cover_the_price() {
    for vector in each("odds.json") {
        let (price, face_value) = (
            Amount(decimal(&vector, "price")),
            Amount(decimal(&vector, "face_value")),
        );
        let threshold = Threshold::for_price(price, face_value);
        if vector["code"] == "bad_terms" {
            assert!(threshold.is_err(), "{}", vector["name"]);
            continue;
        }
        let threshold = threshold.unwrap();
        assert_eq!(
            threshold,
            Threshold(decimal(&vector, "threshold")),
            "{}",
            vector["name"]
        );
        assert_eq!(
            threshold.value_scaled(face_value).to_string(),
            text(&vector, "value_scaled")
        );
        assert!(threshold.covers(price, face_value));
        assert_eq!(vector["less_covers"], json!(false), "{}", vector["name"]);
    }
}

/// Spec: H-04, R-11.
#[test]
fn a_claim_wins_what_its_vector_says() {
    let vector = &each("claim.json")[0];
    let claim: Claim = decode(&bytes(vector, "bytes")).unwrap();
    let hold: Signed<Hold> = decode(&bytes(vector, "hold")).unwrap();
    let won = claim.verify(&hold.body).unwrap();
    assert_eq!(json!(won.winners), vector["winners"]);
    assert_eq!(json!(won.gross), vector["gross"]);
    assert_eq!(json!(won.fee), vector["fee"]);
    assert_eq!(json!(claim.hash()), vector["claim_hash"]);
    let draw = Draw::new(&won.book, &claim.reveal, claim.book.body.threshold);
    let winning: Vec<u32> = (1..=claim.through)
        .filter(|index| draw.wins(*index, &walk(&claim.preimage, claim.through, *index)))
        .collect();
    assert_eq!(json!(winning), vector["winning_indices"]);
}

/// Spec: X-04.
#[test]
fn every_invalid_vector_gets_its_code() {
    let invalid = each("invalid.json");
    assert!(invalid.len() >= 40, "only {} invalid vectors", invalid.len());
    let wrong: Vec<String> = invalid.iter().filter_map(wrong_code).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn wrong_code(vector: &Value) -> Option<String> {
    let found = match run::invalid(vector) {
        Ok(()) => "nothing".to_string(),
        Err(reject) => format!("{} ({}, {})", reject.code, reject.need, reject.has),
    };
    let [code, need, has] = ["code", "need", "has"].map(|name| text(vector, name));
    let expected = format!("{code} ({need}, {has})");
    (found != expected).then(|| format!("{}: expected {expected}, got {found}", vector["name"]))
}

/// Spec: E-04, E-07.
#[test]
fn what_signatures_cover_starts_with_the_padded_tag() {
    let vector = &each("hold.json")[0];
    let hold: Signed<Hold> = decode(&bytes(vector, "bytes")).unwrap();
    let covered = bytes(vector, "covered");
    assert_eq!(&covered[..24], b"tombola/hold/v1\0\0\0\0\0\0\0\0\0");
    assert_eq!(
        covered,
        tagged_bytes(<Hold as tombola_core::key::Tagged>::TAG, &hold.body)
    );
    assert_eq!(covered[24..], encode(&hold.body));
}
