//! A second implementation, in Python and from the specification alone, against real nodes: `tests/interop`.
//!
//! With `TOMBOLA_WITHOUT=interop` these tests say `NOT RUN: interop`; none is left out silently.

mod metrics;
mod python;
mod recovery;

use python::{account, ask};
use std::path::Path;
use std::process::{Command, Stdio};
use tombola_tests::process::{Node, Offer, Signal, Town, atoms, number, ok, program, wait_until};
use tombola_tests::without::is_without;
use tombola_tests::workspace;

/// Of the payers; each escrow of a test is its own.
const SEED: &str = "0707070707070707070707070707070707070707070707070707070707070707";

const DEPOSIT: &str = "50.00";

/// Price and face value far apart, so that nearly all tickets lose; nothing is redeemed before it is asked for.
const OFFER: Offer<'_> = Offer {
    price: "0.0001",
    per: "16KiB",
    face_value_max: "1.00",
    redeem_at_value: "1.00",
};

/// Spec: X-05.
#[test]
fn every_vector_holds_for_a_second_implementation() {
    if is_without("interop") {
        return;
    }
    let vectors = workspace().join("tests/vectors");
    let checked = ask(&["vectors", &vectors.display().to_string()]);
    let mut there = 0;
    for path in tombola_tests::files_below(&vectors, &["json"]).unwrap() {
        let file: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        there += file["vectors"].as_array().unwrap().len();
    }
    assert_eq!(number(&checked, "vectors"), u64::try_from(there).unwrap());
}

/// Spec: D-03, D-04, S-02.
#[test]
fn a_payer_in_python_buys_resumes_tips_and_agrees_to_the_unit() {
    if is_without("interop") {
        return;
    }
    let town = Town::new();
    for (name, bytes, seed) in [("whole", 1_000_003, 1), ("cut", 300_001, 2)] {
        town.file(name, bytes, seed);
    }
    let escrow = town.escrow();
    let payee = town.payee("payee", &escrow, OFFER);
    deposit(&town, "interop");
    let (files, state) = (town.arg("files"), town.arg("state"));
    let who = ["--seed", SEED, "--escrow", escrow.address(), "--state", &state];
    let at = ["--payee", payee.address(), "--files", &files];
    let bought = ask(&[&["buy"], &who[..], &at[..]].concat());
    // 62 and 19 units, a ticket each, and two tips: what was paid before the cut is not paid again.
    assert_eq!((number(&bought, "units"), number(&bought, "tickets")), (81, 83));

    wait_until("every winner has its receipt", || {
        number(&town.ask("payee", "redeem", "payee"), "unclaimed_books") == 0
    });
    let audit = ask(&[&["audit"], &who[..]].concat());
    assert!(number(&audit, "charges") >= 1, "{audit}");
    assert!(
        number(&audit, "charged") >= 20_000_000,
        "the exact tip is charged: {audit}"
    );
    assert!(number(&audit, "drawn") <= 83, "{audit}");
    // The nodes say the same of both accounts.
    let earned = town.ask("payee", "balance", "payee");
    assert_eq!(atoms(&earned, "balance"), number(&audit, "charged"), "{earned} {audit}");
    let shown = ok(&["escrow", "account", &account(SEED), "--home", &town.arg("escrow")]);
    assert_eq!(atoms(&shown, "balance"), number(&audit, "balance"), "{shown} {audit}");
    assert_eq!(payee.end(Signal::TERM), 0);
    assert_eq!(escrow.end(Signal::TERM), 0);
    ok(&["escrow", "audit", "--home", &town.arg("escrow")]);
}

/// Spec: N-05, P-03, P-05, D-05, X-01, X-02.
#[test]
fn every_code_that_a_payer_can_provoke_comes_with_both_numbers() {
    if is_without("interop") {
        return;
    }
    let town = Town::new();
    for (name, bytes, seed) in [("whole", 1_000_003, 1), ("cut", 300_001, 2)] {
        town.file(name, bytes, seed);
    }
    let home = town.arg("escrow");
    let fees = ["--fee-flat", "0.000001", "--fee-ppm", "1000"];
    let payouts = ["--payout-fee", "0.25", "--payout-min", "1"];
    ok(&[&["escrow", "init", "--home", &home], &fees[..], &payouts[..]].concat());
    let escrow = town.run_escrow("127.0.0.1:0");
    let payee = strict_payee(&town, &escrow);
    deposit(&town, "interop");
    let pid = payee.pid().to_string();
    let at = ["--escrow", escrow.address(), "--payee", payee.address()];
    let provoked = ask(&[&["provoke", "--seed", SEED, "--payee-pid", &pid], &at[..]].concat());
    let (cases, codes) = (number(&provoked, "cases"), provoked["codes"].as_array().unwrap());
    println!("{cases} cases, {} codes", codes.len());
    for (code, why) in provoked["unprovoked"].as_object().unwrap() {
        println!("not provoked: {code}: {why}");
    }
    // Every code is in one of the two lists or provoked in `recovery`; the table checks that itself.
    assert!(cases >= 100 && codes.len() >= 60, "{provoked}");
    // The last case told the payee to end.
    assert_eq!(payee.end(Signal::TERM), 0);
    ok(&["escrow", "audit", "--home", &town.arg("escrow")]);
}

#[test]
fn both_implementations_agree_on_evidence_and_on_every_altered_byte() {
    if is_without("interop") {
        return;
    }
    let town = Town::new();
    town.file("song", 300_001, 3);
    let escrow = town.escrow();
    let payee = town.payee("payee", &escrow, OFFER);
    town.payer("payer", &escrow, "5.00");
    let (home, out) = (town.arg("payer"), town.arg("song.out"));
    ok(&["payer", "send", payee.address(), "0.02", "--home", &home]);
    let url = format!("{}/song", payee.address());
    ok(&[
        "payer",
        "get",
        &url,
        "-o",
        &out,
        "--spend-max",
        "0.50",
        "--yes",
        "--home",
        &home,
    ]);
    wait_until("every winner has its receipt", || {
        number(&town.ask("payee", "redeem", "payee"), "unclaimed_books") == 0
    });
    let evidence = town.path("evidence");
    let saved = evidence.display().to_string();
    ok(&["payer", "statement", "--home", &home, "--save", &saved]);
    // The tip is the account's third entry, after the deposit and the hold.
    let parts = ["hold", "book", "claim", "receipt"].map(|part| evidence.join(format!("3-{part}")));
    agree_on(&parts.each_ref().map(|path| path.to_str().unwrap()));
    agree_on_altered(&parts.each_ref().map(|path| path.as_path()), &town);
}

/// Both take the evidence, and say the same of it.
fn agree_on(parts: &[&str; 4]) {
    let [hold, book, claim, receipt] = *parts;
    let ours = ok(&["verify", "claim", hold, book, claim]);
    let theirs = ask(&["check", "claim", hold, book, claim, "--receipt", receipt]);
    for of_claim in ["through", "winners"] {
        assert_eq!(number(&ours, of_claim), number(&theirs, of_claim));
    }
    assert_eq!(atoms(&ours, "gross"), number(&theirs, "gross"));
    assert_eq!(atoms(&ours, "fee"), number(&theirs, "fee"));
    ok(&["verify", "receipt", receipt]);
    for (kind, path) in [
        ("Signed<Hold>", hold),
        ("Signed<Book>", book),
        ("Claim", claim),
        ("Signed<Receipt>", receipt),
    ] {
        let ours = ok(&["inspect", path]);
        let theirs = ask(&["check", "show", kind, path]);
        assert_eq!(ours["objects"][0]["fields"], theirs["fields"], "{kind}");
    }
}

/// The Python checker tries every byte; of each part some go through both.
fn agree_on_altered(parts: &[&Path; 4], town: &Town) {
    const SAMPLES: usize = 12;
    let bytes = parts.map(|path| hex::decode(std::fs::read_to_string(path).unwrap().trim()).unwrap());
    let files = parts.map(|path| path.to_str().unwrap());
    let refused = ask(&[&["check", "altered"], &files[..]].concat());
    let all: usize = bytes.iter().map(Vec::len).sum();
    assert_eq!(number(&refused, "refused"), u64::try_from(all).unwrap());
    for (number, part) in bytes.iter().enumerate() {
        for sample in 0..SAMPLES {
            let mut altered = part.clone();
            altered[sample * part.len() / SAMPLES] ^= 0x10;
            let path = town.path("altered");
            std::fs::write(&path, hex::encode(altered)).unwrap();
            let mut given = files;
            let altered = path.display().to_string();
            given[number] = &altered;
            let args = if number == 3 {
                vec!["verify", "receipt", given[3]]
            } else {
                vec!["verify", "claim", given[0], given[1], given[2]]
            };
            let status = Command::new(program())
                .args(&args)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            assert_ne!(
                status.unwrap().code(),
                Some(0),
                "{args:?}, part {number}, sample {sample}"
            );
        }
    }
}

/// Pays money in for the payer in Python, under a new reference.
fn deposit(town: &Town, reference: &str) {
    println!("seed {SEED}");
    let (account, home) = (account(SEED), town.arg("escrow"));
    ok(&[
        "escrow",
        "deposit",
        &account,
        DEPOSIT,
        "--reference",
        reference,
        "--home",
        &home,
    ]);
}

/// A payee whose limits are close at hand.
fn strict_payee(town: &Town, escrow: &Node) -> Node {
    let (home, files) = (town.arg("payee"), town.arg("files"));
    let what = ["--files", &files, "--price", OFFER.price, "--per", OFFER.per];
    ok(&[
        &["payee", "init", "--home", &home, "--escrow", escrow.address()],
        &what[..],
    ]
    .concat());
    let path = town.path("payee").join("config.toml");
    let mut config = std::fs::read_to_string(&path).unwrap();
    for (key, value) in [("jump_max", "1000"), ("redeem_at_value", "\"0.20\"")] {
        let line = config
            .lines()
            .find(|line| line.starts_with(&format!("{key} =")))
            .unwrap()
            .to_owned();
        config = config.replace(&line, &format!("{key} = {value}"));
    }
    std::fs::write(&path, config).unwrap();
    town.run_payee("payee", "127.0.0.1:0")
}
