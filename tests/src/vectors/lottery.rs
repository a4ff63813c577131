//! Vectors of the chain, the draw and the odds.

use super::File;
use super::sample::{CHAIN_SECRET, Sample, threshold};
use serde_json::{Value, json};
use tombola_core::amount::Amount;
use tombola_core::chain::{Chain, Preimage};
use tombola_core::draw::{Draw, Reveal};
use tombola_core::key::BookId;
use tombola_core::odds::Threshold;

pub(crate) fn chains() -> File {
    let vectors = [1, 2, 3, 8, 64, 100, 4_096, 65_536].map(chain_vector);
    File::new(
        "Chains by length: the anchor, and w[0], w[1], ... for short ones, some values for long ones. T-02.",
        vectors.into(),
    )
}

fn chain_vector(length: u32) -> Value {
    let mut chain = Chain::new(CHAIN_SECRET, length);
    let shown: Vec<u32> = match length {
        0..=8 => (1..=length).collect(),
        _ => vec![1, 2, length / 2, length - 1, length],
    };
    let values: serde_json::Map<String, Value> = shown
        .iter()
        .map(|index| {
            let value = chain.preimage(*index).expect("an index of the chain");
            (index.to_string(), json!(value))
        })
        .collect();
    json!({
        "name": format!("length {length}"),
        "length": length,
        "secret": CHAIN_SECRET,
        "anchor": chain.anchor(),
        "values": values,
    })
}

pub(crate) fn draws(sample: &Sample) -> File {
    let id = sample.book.id();
    let of_book = |index: u32| (id, sample.reveal, index, sample.ticket(index).preimage);
    let top = *sample.winners().last().expect("the sample book has winners");
    let losing = (1..=sample.book.length)
        .find(|index| !sample.winners().contains(index))
        .expect("the sample book has losers");
    let plain = (BookId([1; 32]), Reveal([2; 32]), 9, Preimage([3; 32]));
    let number = number_of(plain);
    let odds = sample.book.threshold;
    let vectors = vec![
        draw_vector("a winner of the sample book", of_book(top), odds),
        draw_vector("a loser of the sample book", of_book(losing), odds),
        draw_vector("exactly at the threshold wins", plain, Threshold(number)),
        draw_vector("one above the threshold loses", plain, Threshold(number - 1)),
        draw_vector("one below the threshold wins", plain, Threshold(number + 1)),
        draw_vector("p = 1 always wins", plain, Threshold::ALWAYS),
        draw_vector("the smallest p, 2^-64, loses", plain, Threshold(0)),
        draw_vector("index 1", (plain.0, plain.1, 1, plain.3), threshold(1, 2)),
        draw_vector("index 65536", (plain.0, plain.1, 65_536, plain.3), threshold(1, 2)),
    ];
    File::new("Draws: the number and whether it wins. T-03, T-04.", vectors)
}

type DrawInput = (BookId, Reveal, u32, Preimage);

fn number_of((book, reveal, index, preimage): DrawInput) -> u64 {
    Draw::new(&book, &reveal, Threshold(0)).number(index, &preimage)
}

fn draw_vector(name: &str, input: DrawInput, threshold: Threshold) -> Value {
    let (book, reveal, index, preimage) = input;
    let draw = Draw::new(&book, &reveal, threshold);
    json!({
        "name": name,
        "book_id": hex::encode(book.0),
        "reveal": reveal,
        "index": index,
        "preimage": preimage,
        "number": draw.number(index, &preimage).to_string(),
        "threshold": threshold,
        "wins": draw.wins(index, &preimage),
    })
}

pub(crate) fn odds() -> File {
    let max = u64::MAX;
    let pairs = [
        (1, 1),
        (1, 2),
        (1, 3),
        (2, 3),
        (1, 7),
        (1, 10),
        (1, 1_000),
        (100_000, 100_000_000),
        (100_000, 1_000_000),
        (999, 1_000),
        (1_000, 1_000),
        (1_000, 1_000_000_000),
        (1, 1 << 32),
        (1, 1 << 63),
        (1, max),
        (2, max),
        (max / 2, max),
        (max - 1, max),
        (max, max),
        (max - 2, max - 1),
        (1 << 63, max),
        (123_456_789, 987_654_321_987),
        (0, 1),
        (0, max),
        (2, 1),
        (max, max - 1),
        (max, 1),
        (1, 0),
    ];
    File::new(
        "Thresholds of price and face value, or the code; `less_covers` says whether the threshold one smaller would do. O-01 to O-03.",
        pairs.map(odds_vector).into(),
    )
}

fn odds_vector((price, face_value): (u64, u64)) -> Value {
    let (price, face_value) = (Amount(price), Amount(face_value));
    let name = format!("{price:?} of {face_value:?}");
    match Threshold::for_price(price, face_value) {
        Ok(threshold) => {
            let less = threshold.0.checked_sub(1).map(Threshold);
            json!({
                "name": name,
                "price": price,
                "face_value": face_value,
                "threshold": threshold,
                "value_scaled": threshold.value_scaled(face_value).to_string(),
                "covers": threshold.covers(price, face_value),
                "less_covers": less.is_some_and(|less| less.covers(price, face_value)),
            })
        }
        Err(_) => json!({"name": name, "price": price, "face_value": face_value, "code": "bad_terms"}),
    }
}
