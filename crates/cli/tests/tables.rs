//! Bad input by table: what ARCHITECTURE.md says provokes each exit code and each error of a configuration or key file.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod program;

use program::json;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A home of a role, by its name; payee and payer have one of an escrow beside them.
fn home(directory: &Path, role: &str) -> PathBuf {
    let init = |role: &str, more: &[&str]| {
        let home = directory.join(role);
        let args = [&[role, "init", "--home", home.to_str().unwrap()], more].concat();
        let (code, made) = json(&args);
        assert_eq!(code, 0, "{made}");
        (home, made["address"].as_str().unwrap_or_default().to_owned())
    };
    let (home, address) = init("escrow", &[]);
    if role == "escrow" {
        return home;
    }
    init(role, &["--escrow", &address]).0
}

/// What the program says of a home: code, message, and what to do next.
fn said(role: &str, home: &Path) -> (i32, String, String, String) {
    let (code, value) = json(&[role, "status", "--home", home.to_str().unwrap()]);
    let text = |key: &str| value["error"][key].as_str().unwrap_or_default().to_owned();
    (code, text("code"), text("message"), text("next"))
}

/// The role, what is written into its configuration, and what the message must have: the setting and both numbers.
const SETTINGS: &[(&str, &str, &[&str])] = &[
    // Syntax: the line, the key, and what is wrong.
    ("escrow", "no_such_setting = 1", &["line 1", "no_such_setting"]),
    ("payee", "price = 1", &["line 1", "price"]),
    ("payee", "\nprice 1", &["line 2"]),
    ("escrow", "listen = \"nowhere\"", &["line 1", "listen"]),
    ("payee", "price = \"1,5\"", &["line 1", "price", "0.0001"]),
    ("payee", "per_bytes = -1", &["line 1", "per_bytes"]),
    ("payer", "price = \"1\"", &["line 1", "price"]),
    ("payer", "\naccount = \"tom1typo\"", &["line 2", "account"]),
    ("payer", "escrow = \"tombola://nobody\"", &["line 1", "escrow"]),
    ("payer", "hold_life_ms = \"1d\"", &["line 1", "hold_life_ms"]),
    // Amount.
    (
        "escrow",
        "decimals = 2\nfee_flat = \"0.001\"",
        &["fee_flat", "2 decimal places"],
    ),
    (
        "payee",
        "price = \"99999999999\"",
        &["price", "larger than any account"],
    ),
    (
        "payer",
        "decimals = 2\nfee_flat_max = \"0.001\"",
        &["fee_flat_max", "2 decimal places"],
    ),
    // AmountBelow.
    (
        "payee",
        "face_value_min = \"2\"",
        &["face_value_max", "face_value_min", "1.00", "2.00"],
    ),
    (
        "payee",
        "price = \"1\"\nface_value_max = \"0.5\"",
        &["face_value_max", "0.50", "1.00"],
    ),
    // Asset.
    ("escrow", "asset = \"\"", &["asset", "\"\"", "16"]),
    ("escrow", "decimals = 19", &["asset", "19", "18"]),
    (
        "payee",
        "asset = \"seventeen letters\"",
        &["asset", "seventeen letters", "16"],
    ),
    ("payer", "decimals = 255", &["asset", "255", "18"]),
    // OutOfRange.
    ("escrow", "fee_ppm = 1000001", &["fee_ppm", "1000001", "1000000"]),
    ("escrow", "name = \"\"", &["name", "0", "1", "64"]),
    ("escrow", "[store]\nwriter = 4294967295", &["writer", "4294967295"]),
    ("payee", "per_bytes = 0", &["per_bytes", "0", "1", "16777216"]),
    ("payee", "per_bytes = 16777217", &["per_bytes", "16777217", "16777216"]),
    ("payee", "book_length_max = 0", &["book_length_max", "0", "1", "65536"]),
    (
        "payee",
        "book_length_max = 65537",
        &["book_length_max", "65537", "65536"],
    ),
    ("payee", "jump_max = 65537", &["jump_max", "65537", "65536"]),
    ("payee", "fee_ppm_max = 1000001", &["fee_ppm_max", "1000001", "1000000"]),
    (
        "payee",
        "opens_per_second = 0",
        &["opens_per_second", "0", "1", "20000"],
    ),
    (
        "payee",
        "opens_per_second = 20001",
        &["opens_per_second", "20001", "20000"],
    ),
    (
        "payee",
        "redeem_window_min_ms = 34560000001",
        &["redeem_window_min_ms", "34560000001", "34560000000"],
    ),
    ("payer", "fee_ppm_max = 1000001", &["fee_ppm_max", "1000001", "1000000"]),
    ("payer", "redeem_window_ms = 1", &["redeem_window_ms", "1", "86400000"]),
    (
        "payer",
        "hold_life_ms = 3599999",
        &["hold_life_ms", "3599999", "3600000"],
    ),
    // Together with the redeem window of 7 days it is over 400.
    (
        "payer",
        "hold_life_ms = 34560000000",
        &["hold_life_ms", "34560000000", "7171200000"],
    ),
    (
        "payer",
        "escrow_patience_ms = 86400001",
        &["escrow_patience_ms", "86400001", "86400000"],
    ),
    ("payee", "jump_max = 0", &["jump_max", "0", "1", "65536"]),
    ("payee", "credit_units = 10001", &["credit_units", "10001", "10000"]),
    (
        "payee",
        "redeem_window_min_ms = 1",
        &["redeem_window_min_ms", "1", "86400000"],
    ),
    (
        "payee",
        "hold_life_max_ms = 34560000001",
        &["hold_life_max_ms", "34560000001", "90000000", "34560000000"],
    ),
    // Needs.
    ("escrow", "[store]\nwriter = 1", &["writer", "url"]),
    ("escrow", "[store]\ntls_root = \"roots.pem\"", &["tls_root", "url"]),
    // NotLoopback.
    (
        "payer",
        "metrics_listen = \"0.0.0.0:9100\"",
        &["metrics_listen", "0.0.0.0:9100", "metrics_beyond_loopback"],
    ),
    // Zero.
    ("escrow", "face_value_min = \"0\"", &["face_value_min", "0"]),
    ("payee", "face_value_min = \"0\"", &["face_value_min", "0"]),
    ("payee", "face_value_max = \"0.00\"", &["face_value_max", "0"]),
    ("payer", "window_value = \"0\"", &["window_value", "0"]),
    ("payee", "price = \"0\"", &["price", "0"]),
    ("escrow", "cap_min = \"0\"", &["cap_min", "0"]),
];

#[test]
fn every_wrong_setting_is_named_with_both_numbers_and_what_to_do() {
    for role in ["escrow", "payee", "payer"] {
        let directory = tempfile::tempdir().unwrap();
        let home = home(directory.path(), role);
        for (_, text, must_say) in SETTINGS.iter().filter(|(of, ..)| *of == role) {
            std::fs::write(home.join("config.toml"), text).unwrap();
            let (exit, code, message, next) = said(role, &home);
            assert_eq!((exit, code.as_str()), (1, "config"), "{text:?}: {message}");
            // In: the file, always.
            assert!(message.contains("config.toml"), "{message}");
            for word in *must_say {
                assert!(message.contains(word), "{text:?}: no {word:?} in {message:?}");
            }
            assert!(!next.is_empty(), "{text:?}");
        }
    }
}

#[test]
fn a_configuration_that_cannot_be_read_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let home = home(directory.path(), "escrow");
    std::fs::remove_file(home.join("config.toml")).unwrap();
    std::fs::create_dir(home.join("config.toml")).unwrap();
    let (exit, code, message, next) = said("escrow", &home);
    assert_eq!((exit, code.as_str()), (1, "config"), "{message}");
    assert!(message.contains("config.toml") && !next.is_empty());
}

/// A key file, its mode, and what must be said of it and of what to do.
const KEYS: &[(&[u8], u32, &str, &str)] = &[
    (b"", 0o600, "empty", "your copy"),
    (
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        0o600,
        "damaged",
        "your copy",
    ),
    (b"-----BEGIN PRIVATE KEY-----\nAAAA\n", 0o600, "cut off", "your copy"),
    (b"\xff\xfe", 0o600, "PKCS#8", "key import"),
    (&[b'a'; 5_000], 0o600, "PKCS#8", "key import"),
    (b"-----BEGIN PRIVATE KEY-----\n", 0o644, "mode 644", "chmod 600"),
];

#[test]
fn every_bad_key_file_is_named_and_why() {
    let directory = tempfile::tempdir().unwrap();
    let home = home(directory.path(), "payer");
    let path = home.join("key.pem");
    for (bytes, mode, word, advice) in KEYS {
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(*mode)).unwrap();
        let (exit, value) = json(&["key", "show", path.to_str().unwrap()]);
        let message = value["error"]["message"].as_str().unwrap_or_default();
        assert_eq!(
            (exit, value["error"]["code"].as_str()),
            (1, Some("key_file")),
            "{value}"
        );
        assert!(message.contains(word) && message.contains("key.pem"), "{value}");
        let next = value["error"]["next"].as_str().unwrap_or_default();
        assert!(next.contains(advice), "{value}");
    }
}

#[test]
fn a_key_that_is_no_file_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let (exit, value) = json(&["key", "show", directory.path().to_str().unwrap()]);
    let message = value["error"]["message"].as_str().unwrap_or_default();
    assert_eq!(
        (exit, value["error"]["code"].as_str()),
        (1, Some("key_file")),
        "{value}"
    );
    assert!(message.contains("not a file"), "{message}");
    assert!(value["error"]["next"].as_str().unwrap().contains("key.pem"), "{value}");
}

/// The table says no more than there is: each file has the test, and each exit code a row.
#[test]
fn every_row_of_the_tables_names_a_test_that_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let text = std::fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let (_, section) = text.split_once("## Bad input, by table").unwrap();
    let section = section.split_once("\n## ").map_or(section, |(section, _)| section);
    let mut first_cells = Vec::new();
    for row in section
        .lines()
        .filter(|line| line.starts_with("| ") && line.ends_with("` |"))
    {
        let cells: Vec<&str> = row.trim_matches(['|', ' ']).split(" | ").collect();
        let test = cells.last().unwrap().trim_matches('`');
        let (path, name) = test.split_once("::").unwrap();
        let source = std::fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        let (before, _) = source
            .split_once(&format!("fn {name}("))
            .unwrap_or_else(|| panic!("{path} has no {name}"));
        let attributes = before.rsplit_once('}').map_or(before, |(_, after)| after);
        assert!(attributes.contains("#[test]"), "{test} is not run");
        first_cells.push(cells[0].trim_matches('`').to_owned());
    }
    for number in 0..=10 {
        assert!(
            first_cells.contains(&number.to_string()),
            "no row of exit code {number}"
        );
    }
}
