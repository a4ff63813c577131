//! Clocks that somebody sets, two hours forward and two hours back, below nodes that run.

use super::status::is_twice;
use super::{PRICE, SURE, UNIT, WINDOW};
use serde_json::Value;
use tombola_tests::faketime::Clock;
use tombola_tests::postgres::Server;
use tombola_tests::process::{Node, Running, Signal, Town, atoms, number, ok, run, text, wait_until};
use tombola_tests::writers::init;

const HOURS: i64 = 3_600;
const DAYS: i64 = 24 * HOURS;
const UNITS: u64 = 20;

/// Starts a node again at its address, by another clock.
fn by_clock(town: &Town, role: &str, node: Node, clock: &Clock) -> Node {
    let socket = node.socket();
    assert_eq!(node.end(Signal::TERM), 0);
    start(town, role, &socket, clock)
}

fn start(town: &Town, role: &str, socket: &str, clock: &Clock) -> Node {
    let args = [role, "run", "--home", &town.arg(role), "--listen", socket];
    Node::start_with(&args, &clock.variables())
}

/// The command that buys a file under a name of its own.
fn get<'a>(url: &'a str, output: &'a str, home: &'a str) -> [&'a str; 9] {
    ["payer", "get", url, "-o", output, "--home", home, "--spend-max", "1"]
}

/// Buys a file whole: its tickets.
fn buy(town: &Town, payee: &Node, name: &str) -> u64 {
    let url = format!("{}/song", payee.address());
    let done = ok(&get(&url, &town.arg(name), &town.arg("payer")));
    number(&done, "tickets")
}

/// All is paid, conserved, and clean.
fn check(town: &Town, tickets: std::ops::RangeInclusive<u64>) {
    ok(&["payee", "redeem", "--home", &town.arg("payee")]);
    let status = town.ask("payee", "status", "payee");
    let winners = number(&status, "winners_redeemed");
    assert!(tickets.contains(&winners), "{tickets:?}: {status}");
    assert_eq!(
        (atoms(&status, "owed"), number(&status, "refusals")),
        (0, 0),
        "{status}"
    );
    let audit = town.ask("payer", "audit", "payer");
    assert_eq!(
        (&audit["clean"], atoms(&audit, "charged")),
        (&Value::Bool(true), winners * PRICE)
    );
    assert_eq!(town.ask("escrow", "audit", "escrow")["conserved"], true);
}

/// What `doctor` says of the escrow's clock.
fn clock_found(town: &Town) -> (i32, String, String) {
    let (code, found) = run(&["doctor", "escrow", "--home", &town.arg("escrow")]);
    let findings = found["findings"].as_array().unwrap();
    let clock = findings.iter().find(|finding| finding["check"] == "clock").unwrap();
    (code, text(clock, "verdict").to_owned(), clock.to_string())
}

/// Waits until the escrow says that it believes its clock, or that it does not.
fn believes(town: &Town, name: &str, is_right: bool) {
    let node = || town.ask("escrow", "status", "escrow")["node"].clone();
    wait_until(name, || node()["clock_jump"].is_null() == is_right);
    if !is_right {
        let jump = &node()["clock_jump"];
        is_twice(jump, "wall");
        is_twice(jump, "expected");
    }
}

/// Spec: C-02, C-07, W-11, W-12, H-09. After a step of 60 days and a restart a hold is past its `redeem_by`, and still
/// pays.
#[test]
fn an_escrow_whose_clock_steps_serves_on_and_expires_nothing_early() {
    let town = Town::new();
    let Some(clock) = Clock::new(&town, "clock") else {
        return;
    };
    let escrow = by_clock(&town, "escrow", town.escrow(), &clock);
    town.file("song", usize::try_from(UNITS).unwrap() * UNIT, 1);
    let payee = town.payee("payee", &escrow, SURE);
    town.payer("payer", &escrow, "10");
    let account = town.ask("payer", "balance", "payer");
    let (account, home) = (text(&account, "account").to_owned(), town.arg("escrow"));
    let deposit = |reference: &str| {
        let done = ok(&[
            "escrow",
            "deposit",
            &account,
            "1",
            "--reference",
            reference,
            "--home",
            &home,
        ]);
        number(&done, "at")
    };
    let started = deposit("right");
    assert_eq!(clock_found(&town).1, "ok");
    let mut bought = 0;
    for (name, seconds) in [
        ("forward", 2 * HOURS),
        ("back", 0),
        ("further back", -2 * HOURS),
        ("right again", 0),
        ("sixty days", 60 * DAYS),
    ] {
        clock.step(seconds);
        // Ledger time goes on as before, and stands still while the clock is behind.
        let at = deposit(name);
        assert!(
            (started..started + 3_600_000).contains(&at),
            "{name}: {at}, {started} before"
        );
        believes(&town, name, seconds == 0);
        bought += buy(&town, &payee, name);
    }
    let (code, verdict, found) = clock_found(&town);
    assert_eq!((code, verdict.as_str()), (6, "failed"), "{found}");
    assert!(found.contains("restart"), "{found}");
    // A start believes the clock.
    let socket = escrow.socket();
    assert_eq!(escrow.end(Signal::TERM), 0);
    let escrow = start(&town, "escrow", &socket, &clock);
    // It looks for what has expired when it starts: at the latest between two batches.
    for name in ["after the start", "after its first look"] {
        assert!(deposit(name) > started + 59 * 86_400_000, "{name}");
    }
    believes(&town, "the start", true);
    let status = town.ask("escrow", "status", "escrow");
    assert_eq!(number(&status, "open_holds"), 1, "{status}");
    check(&town, bought..=bought);
    assert_eq!(number(&town.ask("payer", "balance", "payer"), "open_holds"), 1);
    assert_eq!((payee.end(Signal::TERM), escrow.end(Signal::TERM)), (0, 0));
    // The clock of whoever looks is right, and the ledger two months ahead of it.
    let (code, verdict, found) = clock_found(&town);
    assert_eq!((code, verdict.as_str()), (6, "failed"), "{found}");
    assert!(found.contains("stands still"), "{found}");
}

/// Spec: C-02, W-07, W-08. A download goes on over the steps; what has expired for a payee stays expired until its restart.
#[test]
fn a_payee_whose_clock_steps_loses_no_winner_and_its_time_never_goes_back() {
    let town = Town::new();
    let Some(clock) = Clock::new(&town, "clock") else {
        return;
    };
    let escrow = town.escrow();
    let content = town.file("song", 2_000 * UNIT, 1);
    let payee = by_clock(&town, "payee", town.payee("payee", &escrow, SURE), &clock);
    town.payer("payer", &escrow, "20");
    let (url, socket) = (format!("{}/song", payee.address()), payee.socket());
    let (output, home) = (town.arg("one"), town.arg("payer"));
    let args = ["payer", "get", &url, "-o", &output, "--home", &home, "--spend-max", "8"];
    let mut command = Running::start(&args);
    for (units, seconds) in [(200, 2 * HOURS), (700, -2 * HOURS), (1_200, 2 * HOURS)] {
        wait_until("more of the file", || {
            let arrived = std::fs::metadata(town.path("one.part")).map_or(0, |found| found.len());
            arrived >= units * 1_024 || !command.is_running()
        });
        clock.step(seconds);
    }
    let (code, told) = command.finish();
    assert_eq!(code, 0, "{told}");
    assert_eq!(std::fs::read(town.path("one")).unwrap(), content);
    check(&town, 2_000..=2_000 + 3 * WINDOW);

    // Past the end of the hold, and right again: it is refused as before.
    for seconds in [31 * DAYS, 0] {
        clock.step(seconds);
        let (code, told) = run(&get(&url, &town.arg("two"), &home));
        let error = &told["error"];
        assert_eq!((code, text(error, "code")), (1, "hold_expired"), "{seconds}: {told}");
        assert!(
            !text(error, "next").is_empty() && error.get("need").is_some() == error.get("has").is_some(),
            "{told}"
        );
    }
    assert_eq!(payee.end(Signal::TERM), 0);
    let payee = start(&town, "payee", &socket, &clock);
    ok(&[
        "payer",
        "get",
        &url,
        "-o",
        &town.arg("two"),
        "--home",
        &home,
        "--spend-max",
        "8",
    ]);
    check(&town, 4_000..=4_000 + 3 * WINDOW);
    assert_eq!((payee.end(Signal::TERM), escrow.end(Signal::TERM)), (0, 0));
}

/// Spec: C-05, W-03, W-04.
#[test]
fn a_payer_whose_clock_steps_pays_as_before() {
    let town = Town::new();
    let Some(clock) = Clock::new(&town, "clock") else {
        return;
    };
    let escrow = town.escrow();
    town.file("song", usize::try_from(UNITS).unwrap() * UNIT, 1);
    let payee = town.payee("payee", &escrow, SURE);
    town.payer("payer", &escrow, "10");
    let args = ["payer", "run", "--home", &town.arg("payer")];
    let payer = Node::start_with(&args, &clock.variables());
    let mut bought = 0;
    for (name, seconds) in [
        ("right", 0),
        ("forward", 2 * HOURS),
        ("back", 0),
        ("further back", -2 * HOURS),
    ] {
        clock.step(seconds);
        bought += buy(&town, &payee, name);
    }
    check(&town, bought..=bought);
    assert_eq!(bought, 4 * UNITS);
    let ends = [
        payer.end(Signal::TERM),
        payee.end(Signal::TERM),
        escrow.end(Signal::TERM),
    ];
    assert_eq!(ends, [0, 0, 0]);
}

/// Spec: C-06.
#[test]
fn where_a_database_is_shared_a_writer_whose_clock_steps_stops_and_says_so() {
    let town = Town::new();
    let (Some(clock), Some(server)) = (Clock::new(&town, "clock"), Server::shared()) else {
        return;
    };
    init(&town, "escrow", &["--store", &server.database()]);
    let home = town.arg("escrow");
    let args = ["escrow", "run", "--home", &home];
    let told = |(code, told): (i32, Value)| {
        let error = &told["error"];
        assert_eq!((code, text(error, "code")), (1, "clock_apart"), "{told}");
        assert_eq!(number(error, "need"), 5_000, "{told}");
        assert!((7_100_000..7_300_000).contains(&number(error, "has")), "{told}");
        assert!(text(error, "next").contains("NTP"), "{told}");
    };
    let account = tombola_core::key::SecretKey::from_seed(&[9; 32]).account().to_string();
    for (deposits, seconds) in [(1, 2 * HOURS), (2, -2 * HOURS)] {
        clock.step(0);
        let mut running = Running::start_with(&args, &clock.variables());
        let socket = town.path("escrow").join("admin.sock");
        let status = ["escrow", "status", "--home", &home];
        wait_until("the escrow to listen", || socket.exists() && run(&status).0 == 0);
        let reference = format!("before {seconds}");
        let deposit = ["escrow", "deposit", &account, "1", "--reference", &reference];
        ok(&[&deposit[..], &["--home", &home]].concat());
        clock.step(seconds);
        // It folds the deposit soon, or shows a sign of life later: that batch is not kept.
        wait_until("the writer to stop", || !running.is_running());
        told(running.finish());
        // Nor does it start so.
        told(Running::start_with(&args, &clock.variables()).finish());
        let audit = ok(&["escrow", "audit", "--home", &home]);
        assert_eq!(
            (atoms(&audit, "deposits"), &audit["conserved"]),
            (deposits * 1_000_000_000, &Value::Bool(true))
        );
    }
}
