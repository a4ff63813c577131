//! The file format that `redb_store.rs` describes is the one that is written: its version, tables, keys and row sizes.

use std::collections::BTreeMap;
use tombola_core::amount::Timestamp;
use tombola_core::key::{AccountKey, BookId, HoldId, RequestId};
use tombola_core::message::Reference;
use tombola_ledger::key::{HoldKey, Key};
use tombola_ledger::row::{FORMAT, LogPlace, MAGIC, Row, Table};
use tombola_tests::workspace;

fn text() -> String {
    std::fs::read_to_string(workspace().join("crates/store/src/redb_store.rs")).unwrap()
}

/// Key and row of each table, as they are described.
fn described(text: &str) -> BTreeMap<&str, (&str, &str)> {
    let row = |line| {
        let cells = str::strip_prefix(line, "//! | `")?.strip_suffix(" |")?;
        let (name, rest) = cells.split_once("` | ")?;
        Some((name, rest.split_once(" | ")?))
    };
    text.lines().filter_map(row).collect()
}

/// Bytes of one described field; of what may be absent or empty, the fewest.
fn field_bytes(field: &str) -> usize {
    if field.ends_with(" or none") {
        return 1;
    }
    // A number that must be what it is.
    let field = field.split_once(" (= ").map_or(field, |(field, _)| field);
    if let Some((_, size)) = field.strip_suffix(')').and_then(|field| field.rsplit_once('(')) {
        return size.parse().unwrap();
    }
    match field.rsplit(' ').next().unwrap() {
        "u8" => 1,
        "u32" => 4,
        "u64" | "text" | "list" => 8,
        // A writer and a height.
        "place" => 12,
        "u128" | "i128" => 16,
        "Receipt" => 148,
        "Hold" => 221,
        _ => panic!("a field without a size: {field}"),
    }
}

fn row_bytes(row: &str) -> usize {
    if row == "nothing" {
        return 0;
    }
    // Neither remarks nor what a list repeats.
    let fields = row.split(';').next().unwrap();
    let fields = fields.split(", and for each").next().unwrap();
    fields.split(", ").map(field_bytes).sum()
}

#[test]
fn the_header_of_the_store_says_the_version_and_the_magic_that_are_written() {
    let text = text();
    assert!(text.contains(&format!("//! # File format, version {FORMAT}\n")));
    let (_, header) = described(&text)["header"];
    let magic = std::str::from_utf8(&MAGIC).unwrap();
    assert!(header.starts_with(&format!("magic `{magic}` (8), format u32 (= {FORMAT}), ")));
}

/// A row of zeros is the smallest of its table, so it reads back from exactly as many bytes as are described.
#[test]
fn rows_have_the_sizes_that_are_described() {
    let text = text();
    let rows = described(&text);
    assert_eq!(rows.len(), Table::ALL.len());
    for table in Table::ALL {
        let (_, row) = rows[table.name()];
        let mut zeros = match table {
            // A deposit: account, amount and reference.
            Table::Events => vec![0; row_bytes(&row.replace("cause, effect, ", "")) + 4 + 48 + 4],
            // `Delegated`, as a rejection of number 0 is none.
            Table::Answers => vec![0; 32 + 4 + 8],
            _ => vec![0; row_bytes(row)],
        };
        if *table == Table::Answers {
            assert_eq!(row, "request hash (32), EscrowAnswer with zeros for signatures");
            zeros[32] = 7;
        }
        let read = Row::decode(*table, &zeros);
        let read = read.unwrap_or_else(|error| panic!("{} of {} bytes: {error}", table.name(), zeros.len()));
        assert_eq!(read.encode(), zeros, "{}", table.name());
    }
}

#[test]
fn keys_have_the_sizes_that_are_described() {
    let text = text();
    let rows = described(&text);
    for key in keys() {
        let (described, _) = rows[key.table().name()];
        let parts = described.split(", ").map(|part| match part.ends_with([')', '2']) {
            true => field_bytes(part),
            false => 8,
        });
        assert_eq!(parts.sum::<usize>(), key.as_bytes().len(), "{}", key.table().name());
    }
}

/// One key of each table.
fn keys() -> Vec<Key> {
    let (row, at, place) = (1, Timestamp(1), LogPlace { writer: 1, height: 1 });
    let hold = HoldKey { payer: 1, serial: 1 };
    let (account, request) = (AccountKey([1; 32]), RequestId([1; 16]));
    let reference = Reference::new("one").unwrap();
    let keys = vec![
        Key::header(),
        Key::totals(1),
        Key::account_id(&account),
        Key::account(row),
        Key::hold_id(&HoldId([1; 32])),
        Key::hold(hold),
        Key::open_hold(hold),
        Key::due(at, hold),
        Key::ended(at, hold),
        Key::book(hold, &BookId([1; 32])),
        Key::answer(&account, &request),
        Key::answer_age(at, place),
        Key::deposit(&reference),
        Key::event(place),
        Key::statement(row, 1),
        Key::credit(row, place),
        Key::withdrawal(1),
        Key::pending_withdrawal(1),
        Key::settled_withdrawal(at, 1),
        Key::payout(row),
        Key::split(row),
        Key::signer(row, &account),
        Key::collection(&reference),
    ];
    let tables: Vec<Table> = keys.iter().map(Key::table).collect();
    assert_eq!(tables, Table::ALL);
    keys
}
