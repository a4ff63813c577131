//! The program on disks that are full, fail to sync, cannot be written, or have files that are not what they were: what it
//! says, how it ends, and that nothing is lost once the disk is good again.

mod doctor;

use redb::ReadableTable;
use serde_json::Value;
use std::path::{Path, PathBuf};
use tombola_core::key::SecretKey;
use tombola_core::limits::WINDOW_PRICES_DEFAULT;
use tombola_tests::faulty::{SmallDisk, Watched, strace};
use tombola_tests::process::{Node, Offer, Running, Signal, Town, number, ok, run, text, wait_until};

/// Deposits after which a disk that fails has failed.
const TRIES: u32 = 40;
const UNIT: usize = 1_024;
/// Of what a payee sells.
const UNITS: u64 = 400;
/// Every ticket wins, and nothing is redeemed before it is asked for.
const SURE: Offer<'static> = Offer {
    price: "0.001",
    per: "1KiB",
    face_value_max: "0.001",
    redeem_at_value: "1000",
};

/// What a failed command said: its code, message, and what to do next.
fn error(value: &Value) -> (&str, &str, &str) {
    let error = &value["error"];
    (text(error, "code"), text(error, "message"), text(error, "next"))
}

fn account() -> String {
    SecretKey::from_seed(&[9; 32]).account().to_string()
}

fn deposit(home: &str, n: u32) -> i32 {
    let reference = n.to_string();
    let args = [
        "escrow",
        "deposit",
        &account(),
        "1",
        "--reference",
        &reference,
        "--home",
        home,
    ];
    run(&args).0
}

fn init_escrow(home: &str) {
    ok(&["escrow", "init", "--home", home, "--listen", "127.0.0.1:0"]);
}

fn run_args(home: &str) -> [&str; 6] {
    ["escrow", "run", "--home", home, "--listen", "127.0.0.1:0"]
}

/// Deposits until one is not told: how many were.
fn deposit_until_it_fails(home: &str, from: u32) -> u32 {
    let failed = (from..from + TRIES).find(|n| deposit(home, *n) != 0);
    failed.expect("the disk fails") - from
}

/// The escrow starts again, and has all that was told; what was under way is there once when it is repeated.
fn has_all(home: &str, told: u32) {
    let escrow = Watched::start(&run_args(home));
    assert!(escrow.is_ready(), "{}", escrow.first());
    for n in 0..=told {
        assert_eq!(deposit(home, n), 0, "repeated");
    }
    let audit = ok(&["escrow", "audit", "--home", home]);
    assert_eq!(
        (&audit["conserved"], number(&audit, "events")),
        (&Value::Bool(true), u64::from(told) + 1),
        "{audit}"
    );
    assert_eq!(escrow.end().0, 0);
}

/// Spec: R-17.
#[test]
fn an_escrow_on_a_full_disk_ends_says_so_and_has_all_when_there_is_room() {
    let Some(disk) = SmallDisk::mount(8) else { return };
    let home = disk.arg("escrow");
    init_escrow(&home);
    let escrow = Watched::start(&run_args(&home));
    for n in 0..3 {
        assert_eq!(deposit(&home, n), 0);
    }
    disk.fill_but(0);
    let told = 3 + deposit_until_it_fails(&home, 3);
    let (code, said) = escrow.finish();
    println!("after {told} deposits: {said}");
    let (name, message, next) = error(&said);
    assert_eq!((code, name), (1, "disk_full"));
    assert!(
        message.contains("escrow.redb") && message.contains("No space left"),
        "{message}"
    );
    assert!(next.contains("make room"), "{next}");
    // It does not start before there is room.
    let (code, said) = Watched::start(&run_args(&home)).finish();
    println!("{said}");
    assert_eq!(code, 1);
    assert!(error(&said).2.contains("make room"), "{said}");
    disk.free();
    has_all(&home, told);
}

/// Whatever room there was when its store was to be made.
#[test]
fn an_escrow_that_had_no_room_for_its_store_makes_it_when_there_is_some() {
    let Some(disk) = SmallDisk::mount(4) else { return };
    for pages in 0..5u64 {
        let home = disk.arg(&format!("escrow{pages}"));
        init_escrow(&home);
        disk.fill_but(pages * 4_096);
        let (code, said) = Watched::start(&run_args(&home)).finish();
        println!("{pages} pages: {said}");
        assert_eq!(code, 1, "{said}");
        assert!(error(&said).2.contains("make room"), "{said}");
        disk.free();
        has_all(&home, 0);
    }
}

/// At any sync of a start, and while it serves.
#[test]
fn an_escrow_whose_disk_fails_to_sync_ends_at_once_and_has_all_that_it_told() {
    let Some(strace) = strace() else { return };
    let town = Town::new();
    let trace = town.path("trace");
    let home = town.arg("escrow");
    init_escrow(&home);
    let mut told = 0;
    let whole = Watched::start_failing(strace, 10_000, &trace, &run_args(&home));
    let at_start = whole.syncs();
    assert_eq!((whole.is_ready(), whole.end().0), (true, 0));
    for first_failing in [1, 2, at_start + 1, at_start + 2, at_start + 3, at_start + 6] {
        let escrow = Watched::start_failing(strace, first_failing, &trace, &run_args(&home));
        if escrow.is_ready() {
            told += deposit_until_it_fails(&home, told);
        }
        let (code, said) = escrow.finish();
        println!("sync {first_failing} of {at_start}: {told} deposits, {said}");
        let (name, message, next) = error(&said);
        assert_eq!(code, 1);
        assert!(["store_failed", "witness", "failed"].contains(&name), "{said}");
        assert!(message.contains("nput/output error"), "{message}");
        assert!(next.contains("look at the disk"), "{next}");
        has_all(&home, told);
        told += 1;
    }
}

/// What happens to a payee's disk while it sells.
enum Trouble<'a> {
    Full(&'a SmallDisk),
    Sync(&'a str),
}

fn status(home: &str) -> Value {
    ok(&["payee", "status", "--home", home])
}

fn buy(town: &Town, address: &str) -> Running {
    let (url, output, home) = (format!("{address}/song"), town.arg("song"), town.arg("payer"));
    Running::start(&[
        "payer",
        "get",
        &url,
        "-o",
        &output,
        "--spend-max",
        "5",
        "--yes",
        "--home",
        &home,
    ])
}

fn payee_in_trouble(town: &Town, home: &str, trouble: &Trouble<'_>) {
    let escrow = town.escrow();
    let content = town.file("song", usize::try_from(UNITS).unwrap() * UNIT, 1);
    // Made where its home is to be.
    let node: Node = town.payee(home, &escrow, SURE);
    assert_eq!(node.end(Signal::TERM), 0);
    town.payer("payer", &escrow, "10");
    let home = town.arg(home);
    let args = ["payee", "run", "--home", &home, "--listen", "127.0.0.1:0"];
    let payee = match trouble {
        Trouble::Full(disk) => {
            let payee = Watched::start(&args);
            disk.fill_but(0);
            payee
        }
        Trouble::Sync(strace) => {
            let trace = town.path("trace");
            let whole = Watched::start_failing(strace, 10_000, &trace, &args);
            let at_start = whole.syncs();
            assert_eq!(whole.end().0, 0);
            Watched::start_failing(strace, at_start + 20, &trace, &args)
        }
    };
    assert!(payee.is_ready(), "{}", payee.first());
    let buying = buy(town, text(payee.first(), "address"));
    wait_until("the payee notices", || status(&home)["health"] == "restart_needed");
    let in_trouble = status(&home);
    println!("{}: {}", in_trouble["health"], in_trouble["health_means"]);
    if let Trouble::Full(disk) = trouble {
        disk.free();
    }
    // Room alone is not enough: what the disk has is only known after a restart.
    ok(&["payee", "redeem", "--home", &home]);
    let later = status(&home);
    assert_eq!(later["health"], "restart_needed");
    assert!(text(&later, "health_means").contains("only a restart"), "{later}");
    let drawn = number(&later, "tickets");
    assert_eq!(payee.end().0, 0);
    let (code, said) = buying.end(Signal::INT);
    println!("the payer: {code} {said}");

    let payee = town.run_payee(&home, "127.0.0.1:0");
    let (code, said) = buy(town, payee.address()).finish();
    assert_eq!(
        (code, std::fs::read(town.path("song")).unwrap()),
        (0, content),
        "{said}"
    );
    ok(&["payee", "redeem", "--home", &home]);
    let after = status(&home);
    println!("{drawn} drawn before: {after}");
    assert_eq!(
        (number(&after, "refusals"), number(&after, "unclaimed_books")),
        (0, 0),
        "{after}"
    );
    assert_eq!(town.ask("escrow", "audit", "escrow")["conserved"], true);
    paid_within_a_window(town);
    assert_eq!((payee.end(Signal::TERM), escrow.end(Signal::TERM)), (0, 0));
}

/// What a disk kept of a write that it said had failed is found at the restart and redeemed, though nobody was told of it:
/// tickets in flight, of which a payer risks a window. Nothing else is wrong.
fn paid_within_a_window(town: &Town) {
    let (code, audit) = run(&["payer", "audit", "--home", &town.arg("payer")]);
    let draws = number(&audit, "draws");
    assert!((UNITS..=UNITS + WINDOW_PRICES_DEFAULT).contains(&draws), "{audit}");
    let is_beyond = audit["beyond"] != serde_json::json!([]);
    assert_eq!(
        (&audit["adds_up"], &audit["faults"], code != 0),
        (&Value::Bool(true), &serde_json::json!([]), is_beyond),
        "{audit}"
    );
}

/// Spec: B-14.
#[test]
fn a_payee_on_a_full_disk_sells_nothing_until_it_is_restarted_with_room() {
    let Some(disk) = SmallDisk::mount(8) else { return };
    payee_in_trouble(&Town::new(), &disk.arg("payee"), &Trouble::Full(&disk));
}

/// Spec: B-14.
#[test]
fn a_payee_whose_disk_fails_to_sync_sells_nothing_until_it_is_restarted() {
    let Some(strace) = strace() else { return };
    payee_in_trouble(&Town::new(), "payee", &Trouble::Sync(strace));
}

#[test]
fn a_home_that_cannot_be_written_is_told_and_works_when_it_can() {
    let Some(mut disk) = SmallDisk::mount(8) else { return };
    let home = disk.arg("escrow");
    init_escrow(&home);
    disk.remount("ro");
    for args in [&run_args(&home)[..], &["escrow", "status", "--home", &home]] {
        let (code, said) = run(args);
        println!("{said}");
        let (name, message, next) = error(&said);
        assert_eq!((code, name), (1, "home"));
        assert!(message.contains("read-only") && next.contains("read-only"), "{said}");
    }
    disk.remount("rw");
    has_all(&home, 0);
}

/// What is done to a file.
#[derive(Debug, Clone, Copy)]
enum Harm {
    Cut,
    Foreign,
    /// Another role's store, by its name in the town.
    Other(&'static str),
    Gone,
    Newer,
}

/// A command, the file that is harmed, how, and what is said: the code, a part of the message, and of what to do next.
type Row = (
    &'static [&'static str],
    &'static str,
    Harm,
    &'static str,
    &'static str,
    &'static str,
);

const ESCROW: &[&str] = &["escrow", "status"];
const PAYEE: &[&str] = &["payee", "status"];
const PAYER: &[&str] = &["payer", "balance"];
const FILES: &[Row] = &[
    (ESCROW, "escrow.redb", Harm::Cut, "store_damaged", "damaged", "restore"),
    (
        ESCROW,
        "escrow.redb",
        Harm::Foreign,
        "another_store",
        "not a ledger",
        "another database or file",
    ),
    (
        ESCROW,
        "escrow.redb",
        Harm::Other("payee/payee.redb"),
        "another_store",
        "not a ledger",
        "another database or file",
    ),
    (
        ESCROW,
        "escrow.redb",
        Harm::Newer,
        "another_format",
        "format",
        "the version of tombola that wrote it",
    ),
    (PAYEE, "payee.redb", Harm::Cut, "store_damaged", "corrupted", "restore"),
    (
        PAYEE,
        "payee.redb",
        Harm::Foreign,
        "another_store",
        "not the store of this role",
        "bring back",
    ),
    (
        PAYEE,
        "payee.redb",
        Harm::Other("escrow/escrow.redb"),
        "another_store",
        "not the store of this role",
        "bring back",
    ),
    (
        PAYEE,
        "payee.redb",
        Harm::Newer,
        "another_format",
        "format 99",
        "the version of tombola",
    ),
    (
        PAYEE,
        "payee.log",
        Harm::Cut,
        "store_damaged",
        "the log beside it",
        "restore",
    ),
    (
        PAYEE,
        "payee.log",
        Harm::Foreign,
        "store_damaged",
        "the log beside it",
        "restore",
    ),
    (
        PAYEE,
        "payee.log",
        Harm::Gone,
        "store_damaged",
        "the log beside it",
        "restore",
    ),
    (
        PAYER,
        "payer.redb",
        Harm::Cut,
        "store_damaged",
        "corrupted",
        "keep its files",
    ),
    (
        PAYER,
        "payer.redb",
        Harm::Foreign,
        "another_store",
        "not the store of this role",
        "bring back",
    ),
    (
        PAYER,
        "payer.redb",
        Harm::Other("payee/payee.redb"),
        "another_store",
        "not the store of this role",
        "bring back",
    ),
    (
        PAYER,
        "payer.redb",
        Harm::Newer,
        "another_format",
        "format 99",
        "the version of tombola",
    ),
];

/// Raises the format that a store says it has.
fn renew(store: &Path, role: &str) {
    let database = redb::Database::open(store).unwrap();
    let write = database.begin_write().unwrap();
    if role == "escrow" {
        let header: redb::TableDefinition<'_, &[u8], &[u8]> = redb::TableDefinition::new("header");
        let mut table = write.open_table(header).unwrap();
        let key = [0; 8];
        let mut row = table.get(&key[..]).unwrap().unwrap().value().to_vec();
        // Behind the row's version and the magic.
        row[16] = 99;
        table.insert(&key[..], row.as_slice()).unwrap();
    } else {
        let meta: redb::TableDefinition<'_, &str, u64> = redb::TableDefinition::new("meta");
        write.open_table(meta).unwrap().insert("version", 99).unwrap();
    }
    write.commit().unwrap();
}

fn harm(town: &Town, file: &Path, role: &str, harm: Harm) {
    let bytes = std::fs::read(file).unwrap();
    match harm {
        Harm::Cut => std::fs::write(file, &bytes[..bytes.len() / 2]).unwrap(),
        Harm::Foreign => std::fs::write(file, b"Dear diary,\n".repeat(20_000)).unwrap(),
        Harm::Other(other) => drop(std::fs::copy(town.path(other), file).unwrap()),
        Harm::Gone => std::fs::remove_file(file).unwrap(),
        Harm::Newer => renew(file, role),
    }
}

#[test]
fn each_file_that_is_not_what_it_was_is_told_with_what_to_do_and_left_alone() {
    let town = Town::new();
    let escrow = town.escrow();
    let payee = town.payee("payee", &escrow, SURE);
    town.payer("payer", &escrow, "1");
    ok(&["payer", "balance", "--home", &town.arg("payer")]);
    assert_eq!((payee.end(Signal::TERM), escrow.end(Signal::TERM)), (0, 0));
    for (command, name, how, code, message, next) in FILES {
        let role = command[0];
        let (home, file): (_, PathBuf) = (town.arg(role), town.path(role).join(name));
        let before = std::fs::read(&file).unwrap();
        harm(&town, &file, role, *how);
        let harmed = std::fs::read(&file).ok();
        let (exit, said) = run(&[*command, &["--home", &home]].concat());
        println!("{name}, {how:?}: {said}");
        let found = error(&said);
        assert_eq!((exit, found.0), (1, *code), "{name}, {how:?}: {said}");
        assert!(
            found.1.contains(message) && found.2.contains(next),
            "{name}, {how:?}: {said}"
        );
        assert!(found.1.contains(&format!("{role}.redb")), "it is named: {said}");
        // A file of redb is opened to be looked at, which marks it as open; whatever else it has stays.
        if matches!(how, Harm::Foreign | Harm::Gone) {
            assert!(std::fs::read(&file).ok() == harmed, "{name}, {how:?}: it is as it was");
        }
        std::fs::write(&file, before).unwrap();
    }
    // All are as they were, and all works.
    let escrow = town.run_escrow("127.0.0.1:0");
    assert_eq!(town.ask("escrow", "audit", "escrow")["conserved"], true);
    assert_eq!(town.ask("payee", "status", "payee")["health"], "selling");
    assert_eq!(escrow.end(Signal::TERM), 0);
}
