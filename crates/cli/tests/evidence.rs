//! `inspect` and `verify` on the test vectors.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod program;

use program::json;
use serde_json::{Value, json};
use std::path::PathBuf;

fn vectors(file: &str) -> Vec<Value> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/vectors")
        .join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut file: Value = serde_json::from_str(&text).unwrap();
    match file["vectors"].take() {
        Value::Array(vectors) => vectors,
        other => panic!("{other}"),
    }
}

/// The bytes of the first vector of a file, as hex.
fn bytes(file: &str) -> String {
    vectors(file)[0]["bytes"].as_str().unwrap().to_owned()
}

#[test]
fn inspect_knows_every_object_that_has_a_vector() {
    let files = [
        "hold.json",
        "book.json",
        "claim.json",
        "receipt.json",
        "refusal.json",
        "release.json",
        "delegation.json",
        "quote.json",
        "payee-messages.json",
        "escrow-messages.json",
    ];
    for vector in files.iter().flat_map(|file| vectors(file)) {
        let (code, found) = json(&["inspect", vector["bytes"].as_str().unwrap()]);
        assert_eq!(code, 0, "{}: {found}", vector["name"]);
        let objects = found["objects"].as_array().unwrap();
        let object = objects.iter().find(|object| object["type"] == vector["type"]);
        let object = object.unwrap_or_else(|| panic!("{} is not {}", vector["name"], vector["type"]));
        assert_eq!(object["fields"], vector["fields"], "{}", vector["name"]);
        for signature in object["signatures"].as_array().unwrap() {
            assert_ne!(signature["verifies"], json!(false), "{}", vector["name"]);
        }
    }
}

#[test]
fn inspect_reads_files_of_bytes_and_of_hex_and_texts() {
    let directory = tempfile::tempdir().unwrap();
    let hold = bytes("hold.json");
    let (raw, text) = (directory.path().join("raw"), directory.path().join("text"));
    std::fs::write(&raw, hex::decode(&hold).unwrap()).unwrap();
    std::fs::write(&text, format!("{hold}\n")).unwrap();
    let (_, given) = json(&["inspect", &hold]);
    assert_eq!(given["objects"][0]["signatures"][0]["verifies"], json!(true));
    for path in [&raw, &text] {
        assert_eq!(json(&["inspect", path.to_str().unwrap()]), (0, given.clone()));
    }
    for vector in vectors("keys.json") {
        let (_, found) = json(&["inspect", vector["text"].as_str().unwrap()]);
        assert_eq!(found["objects"][0]["fields"]["hex"], vector["key"]);
        let (_, found) = json(&["inspect", vector["key"].as_str().unwrap()]);
        assert_eq!(found["objects"][0]["fields"]["account"], vector["text"]);
    }
    // A flipped bit in the last byte leaves a hold whose signature does not verify.
    let mut forged = hex::decode(&hold).unwrap();
    *forged.last_mut().unwrap() ^= 1;
    let (_, found) = json(&["inspect", &hex::encode(forged)]);
    assert_eq!(found["objects"][0]["signatures"][0]["verifies"], json!(false));
    let (code, error) = json(&["inspect", "00ff"]);
    assert_eq!((code, &error["error"]["code"]), (1, &json!("malformed")));
}

/// Spec.
#[test]
fn verify_says_what_a_claim_proves_and_no_more() {
    let (hold, book, claim) = (bytes("hold.json"), bytes("book.json"), bytes("claim.json"));
    let (code, found) = json(&["verify", "claim", &hold, &book, &claim]);
    assert_eq!((code, &found["valid"]), (0, &json!(true)), "{found}");
    let vector = &vectors("claim.json")[0];
    assert_eq!(found["winners"], vector["winners"]);
    let terms = &vectors("hold.json")[0]["fields"]["body"]["terms"];
    let (escrow, payee) = (terms["escrow"].as_str().unwrap(), terms["payee"].as_str().unwrap());
    let owed = found["owed"].as_str().unwrap();
    let sentence =
        format!("escrow {escrow} owes payee {payee} {owed} USD unless it shows a receipt, release or spent hold");
    assert_eq!(found["statement"], json!(sentence));
    let atoms = |key: &str| vector[key].as_str().unwrap().parse::<u64>().unwrap();
    let credit = atoms("gross") - atoms("fee");
    assert_eq!(owed, format!("0.{credit:09}").trim_end_matches('0'));
}

#[test]
fn verify_names_the_check_that_fails() {
    let (hold, book, claim) = (bytes("hold.json"), bytes("book.json"), bytes("claim.json"));
    let other = vectors("book.json")[1]["bytes"].as_str().unwrap().to_owned();
    let forge = |object: &str| {
        let mut bytes = hex::decode(object).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        hex::encode(bytes)
    };
    let failing = |args: [&str; 3]| {
        let (code, found) = json(&["verify", "claim", args[0], args[1], args[2]]);
        assert_eq!((code, &found["error"]["code"]), (6, &json!("check_failed")), "{found}");
        assert_eq!(found["valid"], json!(false), "the result comes with the error: {found}");
        let checks = found["checks"].as_array().unwrap().clone();
        let code_of = |check: &Value| check["code"].as_str().map(str::to_owned);
        checks.iter().filter_map(code_of).collect::<Vec<_>>()
    };
    assert_eq!(failing([&forge(&hold), &book, &claim]), ["bad_signature"]);
    assert_eq!(failing([&hold, &forge(&book), &claim]), ["bad_signature"]);
    assert_eq!(failing([&hold, &other, &claim]), ["book_unknown"]);
    assert_eq!(failing([&hold, &book, &forge(&claim)]), ["claim_does_not_win"]);
}

/// Spec: R-14.
#[test]
fn verify_says_what_a_refusal_adds() {
    let (hold, book, claim) = (bytes("hold.json"), bytes("book.json"), bytes("claim.json"));
    let refusal = bytes("refusal.json");
    let (code, found) = json(&["verify", "claim", &hold, &book, &claim, "--refusal", &refusal]);
    assert_eq!(
        (code, &found["refusal"]["code"]),
        (0, &json!("claim_over_cap")),
        "{found}"
    );
    let adds = found["refusal"]["adds"].as_str().unwrap();
    assert!(
        adds.contains("a default unless it shows a receipt, release or spent hold"),
        "{adds}"
    );
    let receipt = bytes("receipt.json");
    let (code, error) = json(&["verify", "claim", &hold, &book, &claim, "--refusal", &receipt]);
    assert_eq!((code, &error["error"]["code"]), (1, &json!("malformed")));
}
