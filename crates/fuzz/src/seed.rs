//! Where fuzzing begins: the vectors, defaults, and a short life of each state machine. Made, not kept.

use crate::{certificate, claim, client, config, decoder, escrow, extract, key_file, payee, payer, quic};
use serde_json::Value;
use std::path::Path;
use tombola_tests::vectors;

/// The type and bytes of every object in the vectors that must be accepted.
pub(crate) fn vectors() -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for (name, text) in vectors::generate() {
        if name != "invalid.json" {
            collect(&serde_json::from_str(&text).expect("vectors are JSON"), &mut found);
        }
    }
    found
}

/// And of those that must be refused.
fn invalid() -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for (name, text) in vectors::generate() {
        if name == "invalid.json" {
            collect(&serde_json::from_str(&text).expect("vectors are JSON"), &mut found);
        }
    }
    found
}

/// Anything that has a `type` of an object and its `bytes`.
fn collect(value: &Value, found: &mut Vec<(String, Vec<u8>)>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| collect(value, found)),
        Value::Object(object) => {
            let text = |key: &str| object.get(key).and_then(Value::as_str);
            let bytes = text("bytes").and_then(|bytes| hex::decode(bytes).ok());
            if let (Some(kind), Some(bytes)) = (text("type"), bytes) {
                // Ids are typed, too, and are hashes of bytes that stand elsewhere.
                if decoder::seed(kind, &[]).is_some() {
                    found.push((kind.to_owned(), bytes));
                }
            }
            object.values().for_each(|value| collect(value, found));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The first inputs of a target, by its name.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    match target {
        "decoder" => {
            let all = vectors().into_iter().chain(invalid());
            all.filter_map(|(kind, bytes)| decoder::seed(&kind, &bytes)).collect()
        }
        "text" => texts(),
        "config" => config::seeds(),
        "key_file" => key_file::seeds(),
        "extract" => extract::seeds(),
        "certificate" => certificate::seeds(),
        "claim" => claim::seeds(),
        "payee_actions" => payee::seeds(),
        "payer_actions" => payer::seeds(),
        "escrow_actions" => escrow::seeds(),
        "quic_peer" => quic::seeds(),
        "client" => client::seeds(),
        _ => Vec::new(),
    }
}

/// Writes the first inputs of a target, by numbers.
///
/// # Errors
/// Whatever writing gives.
pub fn write(target: &str, directory: &Path) -> std::io::Result<usize> {
    std::fs::create_dir_all(directory)?;
    let seeds = seeds(target);
    for (number, seed) in seeds.iter().enumerate() {
        std::fs::write(directory.join(format!("seed-{number:03}")), seed)?;
    }
    Ok(seeds.len())
}

/// Texts of each kind, most from the vectors of keys.
fn texts() -> Vec<Vec<u8>> {
    let key = tombola_core::key::SecretKey::from_seed(&[7; 32]).account();
    let texts = [
        (0, key.to_string()),
        (1, tombola_core::key::HoldId([1; 32]).to_string()),
        (2, tombola_core::key::BookId([2; 32]).to_string()),
        (3, tombola_core::key::QuoteId([3; 16]).to_string()),
        (4, tombola_core::key::RequestId([4; 16]).to_string()),
        (5, format!("tombola://{key}@127.0.0.1:7401/a/b")),
        (5, format!("tombola://{key}@[::1]:1")),
        (6, "18446744073.709551615".to_owned()),
        (7, "0.0001".to_owned()),
        (8, "64KiB".to_owned()),
        (9, "USD".to_owned()),
        (10, "postgres://user:secret@host:5432/name?password=secret".to_owned()),
    ];
    let input = |(kind, text): (u8, String)| [&[kind, 9], text.as_bytes()].concat();
    texts.map(input).into()
}
