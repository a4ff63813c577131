//! Heap bytes of an open book at its payee, as counted by a program of its own.

use super::{Better, Figure};
use tombola_tests::cargo::cargo;

/// What the other program prints.
#[derive(serde::Deserialize)]
struct Counted {
    bytes_per_book: f64,
    claim_bytes: usize,
    book_bytes: usize,
    books: usize,
    books_per_hold: u32,
}

pub(super) fn run() -> Result<Vec<Figure>, String> {
    let output = cargo()
        .args([
            "run",
            "--quiet",
            "--release",
            "--package",
            "xtask",
            "--bin",
            "book-memory",
        ])
        .current_dir(tombola_tests::workspace())
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(format!("book-memory: {}", String::from_utf8_lossy(&output.stderr)));
    }
    let counted: Counted = serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())?;
    let note = format!(
        "{} open books, {} a hold, a ticket drawn in each, holds included; {} of it is the book itself; \
         floor: what a claim of the book needs",
        counted.books, counted.books_per_hold, counted.book_bytes
    );
    let figure = Figure::new(
        "book-memory",
        "B/book",
        Better::Less,
        vec![counted.bytes_per_book],
        vec![counted.claim_bytes as f64],
    );
    Ok(vec![figure.with_note(note)])
}
