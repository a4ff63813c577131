//! The specification says what the code does, where a machine can tell.

use std::collections::{BTreeMap, BTreeSet};
use tombola_core::reject::Code;
use tombola_tests::{spec, workspace};

fn text() -> String {
    spec::text(&workspace()).unwrap()
}

/// Spec: X-01.
#[test]
fn every_code_is_in_the_table_with_its_number_and_name() {
    let of_code: BTreeMap<u16, String> = Code::ALL.iter().map(|c| (c.number(), c.name().to_string())).collect();
    assert_eq!(spec::codes(&text()), of_code);
}

/// Spec: X-03.
#[test]
fn the_table_says_which_codes_are_retryable() {
    let text = text();
    for code in Code::ALL {
        let start = format!("| {} | `{}` |", code.number(), code.name());
        let row = text.lines().find(|line| line.starts_with(&start)).unwrap();
        let retry = if code.is_retryable() { "| yes |" } else { "| no |" };
        assert!(row.contains(retry), "{row}");
    }
}

#[test]
fn every_clause_that_the_code_cites_exists_once() {
    let clauses = spec::clauses(&text());
    let unique: BTreeSet<&String> = clauses.iter().collect();
    assert_eq!(unique.len(), clauses.len(), "a clause id is used twice");
    let cited = spec::cited(&workspace()).unwrap();
    assert!(cited.len() > 40, "found only {} citations", cited.len());
    let missing: Vec<_> = cited.iter().filter(|(id, _)| !clauses.contains(id)).collect();
    assert!(missing.is_empty(), "cited and not in the spec: {missing:?}");
}

#[test]
fn every_clause_is_cited_by_a_test() {
    let tested = spec::tested(&workspace()).unwrap();
    let clauses = spec::clauses(&text());
    for id in &clauses {
        assert!(
            tested.contains(id),
            "no test cites {id} of proto-spec.md: write `Spec: {id}.` above the test that fails when the clause is \
             broken, or write that test"
        );
    }
}

/// Spec: L-01.
#[test]
fn every_limit_of_the_protocol_is_in_the_table_of_limits() {
    let source = std::fs::read_to_string(workspace().join("crates/core/src/limits.rs")).unwrap();
    let text = text();
    let names = source
        .lines()
        .filter_map(|line| line.strip_prefix("pub const ")?.split(':').next());
    let missing: Vec<_> = names.filter(|name| !text.contains(&format!("\n| {name} | "))).collect();
    assert!(missing.is_empty(), "limits that the spec lacks: {missing:?}");
}

/// Spec: L-01.
#[test]
fn limits_have_the_values_of_the_table() {
    macro_rules! values {
        ($($name:ident)*) => {
            [$((stringify!($name), i128::try_from(tombola_core::limits::$name).unwrap())),*]
        };
    }
    let limits = values! {
        BOOK_LENGTH_MAX
        BOOK_LENGTH_DEFAULT
        JUMP_DEFAULT
        OPEN_BOOKS_PER_HOLD_MAX
        OPENED_QUOTES_MAX
        HOLDS_MAX
        OPENS_PER_SECOND_MAX
        QUOTE_LIFE_MS
        QUOTE_EPOCH_MS
        EXPIRY_MARGIN_MS
        REDEEM_WINDOW_MIN_MS
        REDEEM_WINDOW_DEFAULT_MS
        HOLD_LIFE_DEFAULT_MS
        HOLD_LIFE_MAX_MS
        HOLD_LIFE_ACCEPTED_MS
        EXPIRE_GRACE_MS
        EXPIRE_SERVED_MS
        SERVED_GAP_MS
        CLOCK_JUMP_MAX_MS
        CLOCK_FOLLOWED_PPM
        OPEN_HOLDS_PER_ACCOUNT_MAX
        BOOK_IDLE_MS
        HOLD_IDLE_MS
        HOLD_CHECK_MS
        REQUEST_AGE_MAX_MS
        REQUEST_AHEAD_MAX_MS
        ANSWER_KEPT_MS
        ENDED_KEPT_MS
        CLAIMS_PER_BATCH_MAX
        PAGE_ITEMS_MAX
        SERVICE_BYTES_MAX
        REFERENCE_BYTES_MAX
        ESCROWS_MAX
        PAYEES_MAX
        SIGNERS_PER_ACCOUNT_MAX
        SHARES_MAX
        SHARES_PPM_MAX
        PAYOUT_EVERY_MIN_MS
        EVIDENCE_MAX
        EPOCH_MAX
        SUBSCRIPTIONS_PER_CONNECTION_MAX
        SUBSCRIPTION_LAG_MAX
        UNIT_BYTES_MAX
        WINDOW_PRICES_DEFAULT
        HASHES_PER_PAYEE_PER_SECOND
    };
    let text = text();
    for (name, value) in limits {
        let start = format!("| {name} | ");
        let row = text.lines().find_map(|line| line.strip_prefix(start.as_str())).unwrap();
        let digits: String = row
            .chars()
            .take_while(|c| !" |".contains(*c))
            .filter(char::is_ascii_digit)
            .collect();
        assert_eq!(digits.parse(), Ok(value), "{name}");
    }
}

/// Spec: E-07.
#[test]
fn every_tag_of_the_protocol_is_in_the_table_of_tags() {
    let text = text();
    let clause = text.split("**E-07**").nth(1).unwrap().split("\n## ").next().unwrap();
    let row = |line: &str| Some(line.strip_prefix("| `")?.split_once("` | ")?.0.to_owned());
    let in_table: BTreeSet<String> = clause.lines().filter_map(row).collect();
    let mut in_code = BTreeSet::new();
    for path in tombola_tests::files_below(&workspace().join("crates"), &["rs"]).unwrap() {
        let source = std::fs::read_to_string(&path).unwrap();
        in_code.extend(tags(&source).map(str::to_owned));
    }
    for end_of_hash in ["tombola/chain/v1", "tombola/draw/v1"] {
        assert!(in_code.remove(end_of_hash) && clause.contains(&format!("`{end_of_hash}`")));
    }
    assert_eq!(in_code, in_table);
}

/// What looks like a tag in a string: `tombola/WHAT/v1`.
fn tags(source: &str) -> impl Iterator<Item = &str> {
    source.match_indices("\"tombola/").filter_map(|(at, _)| {
        let tag = &source[at + 1..];
        let what = tag["tombola/".len()..].split_once("/v1")?.0;
        let is_name = what.chars().all(|c| c.is_ascii_lowercase() || c == '-');
        is_name.then(|| &tag[..("tombola/".len() + what.len() + "/v1".len())])
    })
}

/// Numbers of the variants in the first table after a clause.
fn variants(text: &str, clause: &str) -> BTreeSet<u32> {
    let after = text.split(&format!("**{clause}**")).nth(1).unwrap();
    let lines = after
        .lines()
        .skip_while(|line| !line.starts_with("| variant |"))
        .skip(2);
    let rows = lines.take_while(|line| line.starts_with("| "));
    rows.map(|row| row[2..].split(' ').next().unwrap().parse().unwrap())
        .collect()
}

/// Spec: P-01, P-02, P-05, R-01, R-03, R-16.
#[test]
fn every_variant_of_every_message_in_the_spec_has_a_vector() {
    let text = text();
    for (file, kind, clause, offset) in [
        ("payee-messages.json", "PayeeRequest", "P-01", 0),
        ("payee-messages.json", "PayeeAnswer", "P-02", 0),
        ("payee-messages.json", "BookFrame", "P-05", 0),
        ("escrow-messages.json", "EscrowRequest", "R-01", 32),
        ("escrow-messages.json", "EscrowAnswer", "R-03", 0),
        ("escrow-messages.json", "StatementEntry", "R-16", 24),
    ] {
        let vectors = tombola_tests::vectors::load(file);
        let of_kind = vectors.iter().filter(|vector| vector["type"] == kind);
        let number = |vector: &serde_json::Value| {
            let bytes = hex::decode(vector["bytes"].as_str().unwrap()).unwrap();
            u32::from_le_bytes(bytes[offset..offset + 4].try_into().unwrap())
        };
        let shown: BTreeSet<u32> = of_kind.map(number).collect();
        assert_eq!(shown, variants(&text, clause), "{kind}");
    }
}
