//! Two escrow processes on one PostgreSQL database.

use serde_json::Value;
use tombola_node::key_file::KEY_FILE;
use tombola_tests::postgres::Server;
use tombola_tests::process::{Node, Running, Signal, Town, atoms, number, ok, run, text, wait_until};

/// Makes the home of a writer of a database.
fn writer(town: &Town, name: &str, database: &str, number: u32, key: Option<&str>) -> Value {
    let (home, number) = (town.arg(name), number.to_string());
    let mut args = vec!["escrow", "init", "--home", &home, "--listen", "127.0.0.1:0"];
    args.extend(["--store", database, "--writer", &number]);
    let file = key.map(|from| town.path(from).join(KEY_FILE).display().to_string());
    if let Some(file) = &file {
        args.extend(["--key", file]);
    }
    ok(&args)
}

fn start(town: &Town, name: &str) -> Node {
    Node::start(&["escrow", "run", "--home", &town.arg(name)])
}

/// Asks the writer whose home has this name.
fn deposit(town: &Town, name: &str, account: &str, amount: &str, reference: &str) -> (i32, Value) {
    let home = town.arg(name);
    let deposit = ["escrow", "deposit", account, amount];
    run(&[deposit, ["--reference", reference, "--home", &home]].concat())
}

fn code(value: &Value) -> &str {
    text(&value["error"], "code")
}

#[test]
fn a_payer_and_a_payee_pay_through_different_processes_of_one_escrow() {
    let Some(server) = Server::shared() else { return };
    let (town, database) = (Town::new(), server.database());
    writer(&town, "first", &database, 0, None);
    writer(&town, "second", &database, 1, Some("first"));
    let (first, second) = (start(&town, "first"), start(&town, "second"));
    town.file("song", 50 * 1_024, 1);
    let (files, shop, alice) = (town.arg("files"), town.arg("shop"), town.arg("alice"));
    let what = ["--files", &files, "--price", "0.01", "--per", "1KiB"];
    let init = ["payee", "init", "--home", &shop, "--escrow", second.address()];
    ok(&[init, what].concat());
    let payee = town.run_payee("shop", "127.0.0.1:0");
    let made = ok(&["payer", "init", "--home", &alice, "--escrow", first.address()]);
    let account = text(&made, "account");
    let home = town.arg("first");
    // The same reference at the other process moves nothing.
    for name in ["first", "second"] {
        let (exit, done) = deposit(&town, name, account, "150", "one");
        assert_eq!(exit, 0, "{done}");
    }
    let (url, out) = (format!("{}/song", payee.address()), town.arg("song.got"));
    for n in 0..3 {
        let out = format!("{out}{n}");
        let get = ["payer", "get", &url, "-o", &out, "--home", &alice];
        ok(&[&get[..], &["--spend-max", "20", "--yes"]].concat());
    }
    // Exactly, by a transfer.
    let payee_account = payee.address().to_owned();
    ok(&["payer", "transfer", &payee_account, "7.99", "--home", &alice]);
    ok(&["payee", "redeem", "--home", &shop]);
    for name in ["first", "second"] {
        let audit = ok(&["escrow", "audit", "--home", &town.arg(name)]);
        assert_eq!(audit["conserved"], Value::Bool(true), "{audit}");
    }
    let balance = ok(&["payee", "balance", "--home", &shop]);
    assert!(atoms(&balance, "balance") >= 7_990_000_000, "{balance}");
    assert_eq!(ok(&["payer", "audit", "--home", &alice])["clean"], Value::Bool(true));
    let writers = ok(&["escrow", "writers", "--home", &home]);
    let heights: Vec<u64> = writers["writers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|w| number(w, "height"))
        .collect();
    assert!(
        heights.len() == 2 && heights.iter().all(|height| *height > 0),
        "{writers}"
    );
    let (exit, alive) = run(&["escrow", "writers", "--remove", "1", "--home", &home]);
    assert_eq!((exit, code(&alive)), (1, "writer_alive"), "{alive}");
    assert_eq!((first.end(Signal::TERM), second.end(Signal::TERM)), (0, 0));
}

/// One writer with two homes, `first` and `again`; a process runs in the first.
fn run_first_of_two(town: &Town, database: &str) -> Running {
    writer(town, "first", database, 0, None);
    writer(town, "again", database, 0, Some("first"));
    let first = Running::start(&["escrow", "run", "--home", &town.arg("first")]);
    let socket = town.path("first").join("admin.sock");
    wait_until("the first process to listen", || socket.exists());
    first
}

#[test]
fn a_second_process_of_one_writer_fences_the_first_off() {
    let Some(server) = Server::shared() else { return };
    let town = Town::new();
    let mut first = run_first_of_two(&town, &server.database());
    let again = start(&town, "again");
    let account = text(
        &ok(&["payer", "init", "--home", &town.arg("p"), "--escrow", again.address()]),
        "account",
    )
    .to_owned();
    let (exit, refused) = deposit(&town, "first", &account, "1", "late");
    assert_ne!(exit, 0, "{refused}");
    wait_until("the first process to end", || !first.is_running());
    assert_eq!(first.finish().0, 8);
    let (exit, done) = deposit(&town, "again", &account, "1", "in time");
    assert_eq!(exit, 0, "{done}");
    assert_eq!(again.end(Signal::TERM), 0);
}

#[test]
fn the_database_of_another_escrow_and_a_newer_one_are_refused() {
    let Some(server) = Server::shared() else { return };
    let (town, database) = (Town::new(), server.database());
    writer(&town, "ours", &database, 0, None);
    assert_eq!(start(&town, "ours").end(Signal::TERM), 0);
    writer(&town, "theirs", &database, 1, None);
    let (exit, other) = run(&["escrow", "run", "--home", &town.arg("theirs")]);
    assert_eq!((exit, code(&other)), (1, "another_escrow"), "{other}");
    let name = database.rsplit('/').next().unwrap().split('?').next().unwrap();
    // The format is behind the 8 bytes of the magic.
    server.sql(
        name,
        "UPDATE tombola_header SET body = overlay(body placing '\\x63000000'::bytea from 9 for 4)",
    );
    let (exit, newer) = run(&["escrow", "run", "--home", &town.arg("ours")]);
    assert_eq!((exit, code(&newer)), (1, "another_format"), "{newer}");
    let (exit, nowhere) = run(&["escrow", "init", "--home", &town.arg("x"), "--store", "mysql://h/d"]);
    assert_eq!((exit, nowhere), (2, Value::Null));
}

/// What it was asked while it was stopped is decided by whoever has its place, or not at all.
#[test]
fn a_writer_that_was_stopped_and_replaced_notices_before_it_commits() {
    let Some(server) = Server::shared() else { return };
    let town = Town::new();
    let mut first = run_first_of_two(&town, &server.database());
    let account = tombola_core::key::SecretKey::from_seed(&[7; 32]).account().to_string();
    let (exit, done) = deposit(&town, "first", &account, "1", "before");
    assert_eq!(exit, 0, "{done}");
    first.signal(Signal::STOP);
    let home = town.arg("first");
    let late = [
        "escrow",
        "deposit",
        &account,
        "2",
        "--reference",
        "late",
        "--home",
        &home,
    ];
    let late = Running::start(&late);
    // On another machine, with a witness of its own.
    let again = Node::start(&["escrow", "run", "--home", &town.arg("again"), "--new-witness"]);
    let (exit, done) = deposit(&town, "again", &account, "4", "in its place");
    assert_eq!(exit, 0, "{done}");
    first.signal(Signal::CONT);
    let (exit, refused) = late.finish();
    assert_ne!(exit, 0, "{refused}");
    wait_until("the first process to end", || !first.is_running());
    let (exit, told) = first.finish();
    assert_eq!((exit, code(&told)), (8, "fenced"), "{told}");
    assert!(
        text(&told["error"], "next").contains("only one process runs as writer 0"),
        "{told}"
    );
    let audit = ok(&["escrow", "audit", "--home", &town.arg("again")]);
    assert_eq!(
        (atoms(&audit, "deposits"), &audit["conserved"]),
        (5_000_000_000, &Value::Bool(true))
    );
    assert_eq!(again.end(Signal::TERM), 0);
}
