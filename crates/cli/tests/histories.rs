//! Stores that are not what their witness has seen, and what `verify log` and `verify receipt` say of histories.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod program;

use program::json;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

fn error(found: &(i32, Value)) -> (i32, &str) {
    (found.0, found.1["error"]["code"].as_str().unwrap_or("none"))
}

/// An escrow that does not run: each command opens its store, beside its witness, and closes it.
struct Home {
    directory: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        let home = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        assert_eq!(home.escrow(&["init", "--listen", "127.0.0.1:0"]).0, 0);
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn arg(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn escrow(&self, args: &[&str]) -> (i32, Value) {
        json(&[&["escrow"], args, &["--home", &self.arg("home")]].concat())
    }

    /// Runs until it is ready to serve, and is killed.
    fn run_once(&self, args: &[&str]) {
        let mut running = Command::new(env!("CARGO_BIN_EXE_tombola"))
            .args([&["--json", "escrow", "run", "--home", &self.arg("home")], args].concat())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        let read = BufReader::new(running.stdout.take().unwrap()).read_line(&mut ready);
        running.kill().unwrap();
        running.wait().unwrap();
        assert!(read.unwrap() > 0 && ready.contains("address"), "{args:?}: {ready:?}");
    }

    fn deposit(&self, reference: &str, amount: &str) -> (i32, Value) {
        self.escrow(&["deposit", &account(), amount, "--reference", reference])
    }

    fn log(&self, name: &str) -> String {
        let path = self.arg(name);
        let (code, written) = self.escrow(&["log", "--output", &path]);
        assert_eq!(code, 0, "{written}");
        path
    }

    /// Copies a file of the home aside, or back.
    fn copy(&self, from: &str, to: &str) {
        std::fs::copy(self.path(from), self.path(to)).unwrap();
    }
}

/// Anybody's account.
fn account() -> String {
    let key = tombola_core::key::SecretKey::from_seed(&[7; 32]);
    key.account().to_string()
}

const STORE: &str = "home/escrow.redb";
const WITNESS: &str = "home/witness";

/// Spec: G-12.
#[test]
fn a_store_that_is_not_what_its_witness_has_seen_is_refused_and_left_alone() {
    let home = Home::new();
    assert_eq!(home.deposit("one", "1").0, 0);
    home.copy(STORE, "store-1");
    home.copy(WITNESS, "witness-1");
    assert_eq!(home.deposit("two", "1").0, 0);
    assert_eq!(home.deposit("three", "1").0, 0);
    home.copy(STORE, "store-3");
    home.copy(WITNESS, "witness-3");

    // An older store: what came after it is missing, by number.
    home.copy("store-1", STORE);
    for refused in [home.deposit("four", "1"), home.escrow(&["run"])] {
        assert_eq!(error(&refused), (9, "store_behind"));
        let numbers = ["height", "witnessed", "behind"].map(|key| refused.1["error"][key].as_u64().unwrap());
        assert_eq!(numbers, [1, 3, 2]);
    }
    assert_eq!(
        std::fs::read(home.path(WITNESS)).unwrap(),
        std::fs::read(home.path("witness-3")).unwrap()
    );

    // As long a history as the lost one, and another: it has its own witness, and the lost one's witness tells.
    home.copy("witness-1", WITNESS);
    for reference in ["other two", "other three", "other four"] {
        assert_eq!(home.deposit(reference, "2").0, 0);
    }
    home.copy("witness-3", WITNESS);
    let refused = home.deposit("four", "1");
    assert_eq!(error(&refused), (9, "another_history"));
    assert_eq!(refused.1["error"]["height"], json!(3));

    // No witness, with events that it may have seen more of.
    home.copy("store-3", STORE);
    std::fs::remove_file(home.path(WITNESS)).unwrap();
    let refused = home.deposit("four", "1");
    assert_eq!(error(&refused), (9, "witness_missing"));
    assert_eq!(refused.1["error"]["height"], json!(3));
    assert!(!home.path(WITNESS).exists(), "it is the operator who begins one");
    home.run_once(&["--new-witness"]);
    assert_eq!(home.deposit("after the new witness", "1").0, 0);
    // From then on it is as good as the one that was lost.
    home.copy(STORE, "store-4");
    home.copy("store-1", STORE);
    assert_eq!(error(&home.deposit("four", "1")), (9, "store_behind"));
    home.copy("store-4", STORE);

    // A store that is ahead of its witness lost nothing: a kill comes between the two.
    home.copy("witness-1", WITNESS);
    assert_eq!(home.deposit("four", "1").0, 0);
}

/// Spec: G-09, G-10.
#[test]
fn a_log_is_checked_by_itself_and_against_another_history() {
    let home = Home::new();
    assert_eq!(home.deposit("one", "1").0, 0);
    home.copy(STORE, "store-1");
    home.copy(WITNESS, "witness-1");
    let first = home.log("first.log");
    assert_eq!(home.deposit("two", "1").0, 0);
    let longer = home.log("longer.log");
    let (code, found) = json(&["verify", "log", &longer]);
    assert_eq!(
        (code, &found["valid"], &found["to"]),
        (0, &json!(true), &json!(2)),
        "{found}"
    );
    // One that goes on is the same history.
    let (code, found) = json(&["verify", "log", &first, &longer]);
    assert_eq!(
        (code, &found["common"], &found["evidence"]),
        (0, &json!(1), &json!(false))
    );

    // Any change is found, wherever it is: in an event, in what was signed, in the signature.
    let bytes = std::fs::read(&longer).unwrap();
    let tampered = home.arg("tampered.log");
    for (at, failing) in [(110, "log_broken"), (bytes.len() - 1, "bad_signature")] {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1;
        std::fs::write(&tampered, bytes).unwrap();
        let found = json(&["verify", "log", &tampered]);
        assert_eq!(error(&found), (6, "check_failed"), "{}", found.1);
        let checks = found.1["checks"].as_array().unwrap();
        assert!(
            checks.iter().any(|check| check["code"] == json!(failing)),
            "{}",
            found.1
        );
        // What is no sound log is no evidence against anybody.
        let found = json(&["verify", "log", &tampered, &longer]);
        assert_eq!((found.0, &found.1["evidence"]), (6, &json!(false)));
    }

    // The same escrow, another second event.
    home.copy("store-1", STORE);
    home.copy("witness-1", WITNESS);
    assert_eq!(home.deposit("another", "3").0, 0);
    let other = home.log("other.log");
    let found = json(&["verify", "log", &longer, &other]);
    assert_eq!(error(&found), (10, "two_histories"));
    assert_eq!(
        (&found.1["evidence"], &found.1["error"]["height"]),
        (&json!(true), &json!(2))
    );
}

/// Spec: R-12, G-10.
#[test]
fn a_receipt_is_the_escrows_word_and_no_word_of_another_log() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/receipt.json");
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let receipt = file["vectors"][0]["bytes"].as_str().unwrap();
    let (code, found) = json(&["verify", "receipt", receipt]);
    assert_eq!((code, &found["valid"]), (0, &json!(true)), "{found}");
    let mut forged = hex::decode(receipt).unwrap();
    *forged.last_mut().unwrap() ^= 1;
    let found = json(&["verify", "receipt", &hex::encode(forged)]);
    assert_eq!(error(&found), (6, "check_failed"));

    let home = Home::new();
    assert_eq!(home.deposit("one", "1").0, 0);
    let log = home.log("log");
    let found = json(&["verify", "receipt", receipt, "--log", &log]);
    assert_eq!(error(&found), (6, "check_failed"));
    let checks = found.1["checks"].as_array().unwrap();
    assert!(
        checks.iter().any(|check| check["code"] == json!("another_log")),
        "{}",
        found.1
    );
    assert_eq!(found.1["evidence"], json!(false));
}
