//! What `status` shows of the risk that either side takes.

use super::{SURE, UNIT};
use serde_json::Value;
use tombola_tests::process::{Node, Signal, Town, atoms, number, ok, text};

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
        (0, [0, 0, 64 * super::PRICE]),
        "{status}"
    );
    assert_eq!(payer.end(Signal::TERM), 0);
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
