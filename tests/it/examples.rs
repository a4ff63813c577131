//! The worked examples of the specification are the vectors, and nothing else.

use serde_json::Value;
use tombola_tests::{spec, workspace};

/// All worked examples.
fn examples() -> String {
    let text = spec::text(&workspace()).unwrap();
    text.split("\n## 22. ").nth(1).unwrap().to_owned()
}

/// Checks that the example that opens with these words has each part, lines that were wrapped joined again.
fn shows(opening: &str, parts: &[String]) {
    let examples = examples();
    let example = examples.split(&format!("\n**{opening}**")).nth(1).unwrap();
    let example = example.split("\n**").next().unwrap().replace('\n', " ");
    for part in parts {
        assert!(example.contains(part.as_str()), "{opening}: {part} is not in {example}");
    }
}

fn vector(file: &str, name: &str) -> Value {
    let vectors = tombola_tests::vectors::load(file);
    vectors.into_iter().find(|vector| vector["name"] == name).unwrap()
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// Hex in lines of 96 digits, as the examples write it.
fn wrapped(hex: &str) -> String {
    let at = (0..hex.len()).step_by(96);
    let lines: Vec<&str> = at.map(|at| &hex[at..hex.len().min(at + 96)]).collect();
    lines.join(" ")
}

#[test]
fn the_keys_are_the_vectors() {
    for name in ["escrow", "payer", "payee"] {
        let key = vector("keys.json", name);
        let line = format!("{name:<6} {}        {}", word(&key["key"]), word(&key["text"]));
        shows("Keys", &[line]);
    }
}

/// Spec: T-02, T-03, O-02.
#[test]
fn chain_draw_and_thresholds_are_the_vectors() {
    let chain = vector("chain.json", "length 3");
    let value = |index: u32| format!("w[{index}] {} ", word(&chain["values"][index.to_string()]));
    let anchor = format!("w[0] {}  (the anchor)", word(&chain["anchor"]));
    shows("A chain of 3", &[value(3), value(2), value(1), anchor]);
    let wins = vector("draw.json", "exactly at the threshold wins");
    let loses = vector("draw.json", "one above the threshold loses");
    let lines = [
        format!("number     {} ", word(&wins["number"])),
        format!("threshold  {}: wins", word(&wins["threshold"])),
        format!("threshold  {}: loses", word(&loses["threshold"])),
    ];
    shows("A draw", &lines);
    for name in ["1 of 1", "1 of 3", "1 of 1000", "100000 of 100000000"] {
        let odds = vector("odds.json", name);
        let (price, face, t) = (&odds["price"], &odds["face_value"], &odds["threshold"]);
        let line = format!("price {}, face {}: t = {} ", word(price), word(face), word(t));
        shows("Thresholds", &[line]);
    }
}

/// Spec: H-01, H-02, Q-01, Q-03, B-01, B-02.
#[test]
fn hold_quote_and_book_are_the_vectors() {
    let hold = vector("hold.json", "revision 0");
    let (terms, rest) = word(&hold["bytes"]).split_at(2 * 209);
    let (id, text) = (word(&hold["id"]["hex"]), word(&hold["id"]["text"]));
    let lines = [
        wrapped(terms),
        format!("HoldId    {id}           {text} "),
        format!("revision  {} cap       {} ", &rest[..8], &rest[8..24]),
        format!("signature {}", wrapped(&rest[24..])),
    ];
    shows("A hold id", &lines);
    let quote = vector("quote.json", "a file");
    let lines = [
        wrapped(word(&quote["bytes"])),
        format!("reveal      {} ", word(&quote["reveal"])),
        format!("commitment  {} ", word(&quote["commitment"])),
    ];
    shows("A quote", &lines);
    let book = vector("book.json", "odds 1 in 10");
    let (body, signature) = word(&book["bytes"]).split_at(2 * 116);
    let lines = [
        wrapped(body),
        format!("BookId     {} ", word(&book["id"]["hex"])),
        format!("signature {}", wrapped(signature)),
    ];
    shows("A book", &lines);
}

/// Spec: T-01, P-05, R-10.
#[test]
fn ticket_frame_and_claim_are_the_vectors() {
    let ticket = vector("payee-messages.json", "a ticket record");
    let (index, preimage) = word(&ticket["bytes"]).split_at(8);
    shows("A ticket record", &[format!("index     {index} preimage  {preimage} ")]);
    let ack = vector("payee-messages.json", "all up to 7 is drawn");
    let message = word(&ack["bytes"]);
    let length = hex::encode(u32::try_from(message.len() / 2).unwrap().to_le_bytes());
    shows("An Ack frame", &[format!("length    {length} message   {message} ")]);
    let claim = vector("claim.json", "through the highest winner");
    let winners = claim["winning_indices"].as_array().unwrap().iter();
    let winners: Vec<String> = winners.map(ToString::to_string).collect();
    let lines = [
        format!("through   {} ", claim["fields"]["through"]),
        format!("winners   {} ", winners.join(", ")),
        format!("gross     {} ", word(&claim["gross"])),
        format!("fee       {} ", word(&claim["fee"])),
    ];
    shows("A claim", &lines);
}

/// What is not named above is not there: every longer piece of hex is in some vector, or says a tag.
#[test]
fn the_examples_have_no_bytes_of_their_own() {
    let mut vectors = String::new();
    for path in tombola_tests::files_below(&workspace().join("tests/vectors"), &["json"]).unwrap() {
        vectors.push_str(&std::fs::read_to_string(path).unwrap());
    }
    let examples = examples();
    let pieces = examples.split(|c: char| !c.is_ascii_hexdigit());
    let mut seen = 0;
    for piece in pieces.filter(|piece| piece.len() >= 16) {
        let is_tag = || hex::decode(piece).is_ok_and(|bytes| bytes.starts_with(b"tombola/"));
        assert!(vectors.contains(piece) || is_tag(), "{piece} is in no vector");
        seen += 1;
    }
    assert!(seen >= 30, "only {seen} pieces");
}
