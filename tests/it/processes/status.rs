//! What `status` shows of the risk that either side takes.

use super::{EVEN, PRICE, SURE, UNIT};
use serde_json::Value;
use tombola_tests::process::{Node, Offer, Signal, Town, atoms, number, ok, text};

/// Spec: B-16, D-03.
#[test]
fn status_shows_the_payees_credit_and_the_payers_windows() {
    let town = Town::new();
    let escrow = town.escrow();
    town.file("song", 20 * UNIT, 1);
    assert_eq!(town.payee("payee", &escrow, SURE).end(Signal::TERM), 0);
    let config = town.path("payee").join("config.toml");
    let lending = std::fs::read_to_string(&config)
        .unwrap()
        .replace("credit_units = 0", "credit_units = 3");
    std::fs::write(&config, lending).unwrap();
    let status = town.ask("payee", "status", "payee");
    assert_eq!((number(&status, "credit_units"), number(&status, "units_lent")), (3, 0));
    let payee = town.run_payee("payee", "127.0.0.1:0");
    let status = town.ask("payee", "status", "payee");
    assert_eq!((number(&status, "credit_units"), number(&status, "units_lent")), (3, 0));

    town.payer("payer", &escrow, "1");
    let none = town.ask("payer", "status", "payer");
    assert_eq!(
        (&none["node"]["running"], &none["windows"]),
        (&false.into(), &serde_json::json!([]))
    );
    let payer = Node::start(&["payer", "run", "--home", &town.arg("payer")]);
    let (url, output) = (format!("{}/song", payee.address()), town.arg("song"));
    ok(&[
        "payer",
        "get",
        &url,
        "-o",
        &output,
        "--home",
        &town.arg("payer"),
        "--spend-max",
        "0.5",
    ]);
    let status = town.ask("escrow", "status", "escrow");
    for (place, key) in [
        (&status, "next_expiry"),
        (&status, "last_event"),
        (&status["node"], "ledger_time"),
        (&status["node"]["writers"][0], "alive_at"),
        (&status["node"]["writers"][0], "served_since"),
    ] {
        is_twice(place, key);
    }
    // The windows are the running node's own, so nobody else needs to be there.
    assert_eq!((payee.end(Signal::TERM), escrow.end(Signal::TERM)), (0, 0));
    let status = town.ask("payer", "status", "payer");
    assert_eq!(status["node"]["running"], true);
    let [window] = status["windows"].as_array().unwrap().as_slice() else {
        panic!("one payee: {status}");
    };
    assert!(url.contains(text(window, "payee")), "{status}");
    assert_eq!(format!("{}/song", text(window, "address")), url);
    let values = ["in_flight_value", "lost", "limit"].map(|key| atoms(window, key));
    assert_eq!(
        (number(window, "in_flight"), values),
        (0, [0, 0, 64 * PRICE]),
        "{status}"
    );
    // What was charged only the escrow knows; the rates are the node's own.
    assert_eq!(status["escrow_away"], true);
    for key in ["acknowledged", "expected", "drawn", "luck"] {
        assert_eq!(status[key], Value::Null, "{key}");
    }
    assert!(status["tickets_per_second"].as_f64().unwrap() > 0.0, "{status}");
    assert!(atoms(&status, "expected_per_second") > 0, "{status}");
    assert_eq!(payer.end(Signal::TERM), 0);
}

/// Expected and drawn in atomic units, and luck.
fn luck(status: &Value) -> (u64, u64, f64) {
    let luck = status["luck"].as_f64().unwrap_or_else(|| panic!("no luck in {status}"));
    (atoms(status, "expected"), atoms(status, "drawn"), luck)
}

/// A payer buys a file of so many units, and its payee claims: what all three say of luck, by the payer's status.
fn buy_and_compare(offer: Offer<'_>, units: u64) -> (u64, u64, f64) {
    let town = Town::new();
    let escrow = town.escrow();
    town.file("song", usize::try_from(units).unwrap() * UNIT, 7);
    let payee = town.payee("payee", &escrow, offer);
    town.payer("payer", &escrow, "20");
    let (home, output) = (town.arg("payer"), town.arg("song"));
    let none = town.ask("payer", "status", "payer");
    assert_eq!((number(&none, "acknowledged"), luck(&none)), (0, (0, 0, 0.0)));
    let payer = Node::start(&["payer", "run", "--home", &home]);
    let url = format!("{}/song", payee.address());
    ok(&[
        "payer",
        "get",
        &url,
        "-o",
        &output,
        "--home",
        &home,
        "--spend-max",
        "10",
    ]);

    // How much of it has been claimed by now is the payee's affair.
    let before = town.ask("payer", "status", "payer");
    let (expected, drawn, z) = luck(&before);
    assert_eq!((number(&before, "acknowledged"), expected), (units, units * PRICE));
    let seller = town.ask("payee", "status", "payee");
    ok(&["payee", "redeem", "--home", &town.arg("payee")]);
    // The second answer reads on where the first ended, and counts no charge twice.
    let after = town.ask("payer", "status", "payer");
    assert_eq!(luck(&town.ask("payer", "status", "payer")), luck(&after));
    assert_eq!(luck(&after), luck(&seller), "payer and payee: {after} {seller}");
    assert!(drawn <= luck(&after).1 && z <= luck(&after).2, "{before} {after}");

    let statement = town.ask("payer", "statement", "payer");
    let entries = statement["entries"].as_array().unwrap();
    let charged = entries.iter().filter(|entry| text(entry, "kind") == "charged");
    let charged: u64 = charged.map(|entry| atoms(entry, "amount")).sum();
    assert_eq!(luck(&after).1, charged, "{statement}");
    let audit = town.ask("payer", "audit", "payer");
    let audited = (
        atoms(&audit, "expected"),
        atoms(&audit, "charged"),
        audit["z"].as_f64().unwrap(),
    );
    assert_eq!((&audit["clean"], luck(&after)), (&true.into(), audited), "{audit}");
    assert_eq!(number(&after, "acknowledged"), number(&audit, "acknowledged"));
    assert_eq!(payer.end(Signal::TERM), 0);

    // A command by itself reads the statement from the beginning, and is over too soon to have rates.
    let alone = town.ask("payer", "status", "payer");
    assert_eq!(luck(&alone), luck(&after));
    assert_eq!(
        (&alone["tickets_per_second"], &alone["expected_per_second"]),
        (&Value::Null, &Value::Null)
    );
    for node in [payee, escrow] {
        assert_eq!(node.end(Signal::TERM), 0);
    }
    luck(&after)
}

/// Spec: S-01.
#[test]
fn a_payers_luck_agrees_with_its_payee_its_audit_and_its_statement() {
    let (expected, drawn, z) = buy_and_compare(EVEN, 600);
    println!("expected {expected}, drawn {drawn}, {z:+.2} standard deviations");
    // Every second one wins two prices: a deviation of sqrt(600) prices.
    let by_hand = (drawn as f64 - expected as f64) / (600_f64.sqrt() * PRICE as f64);
    assert!((z - by_hand).abs() < 1e-6 && z.abs() < 6.0, "{z} {by_hand}");
    assert_eq!(buy_and_compare(SURE, 100), (100 * PRICE, 100 * PRICE, 0.0));
}

/// A date is for people, and programs have the same time in ms.
pub(super) fn is_twice(place: &Value, key: &str) {
    let (date, ms) = (text(place, key), number(place, &format!("{key}_ms")));
    let clock = date.split_once(' ').unwrap().1;
    let seconds = clock
        .split(':')
        .fold(0, |sum, part| 60 * sum + part.parse::<u64>().unwrap());
    assert_eq!(ms / 1_000 % 86_400, seconds, "{key} in {place}");
    assert!(ms > 1_600_000_000_000, "{key} in {place}");
}
