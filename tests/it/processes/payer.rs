//! A payer that is killed.

use super::{PRICE, SURE, UNIT, at_each};
use serde_json::Value;
use tombola_tests::process::{Node, Running, Signal, Town, atoms, number, ok, text, wait_until};

const UNITS: usize = 2_000;
const DEPOSIT: u64 = 10_000_000_000;

/// Who is killed: the command itself, or a payer node that works for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Command,
    Node,
}

/// What left the account for good, by its statement.
fn charged(town: &Town) -> u64 {
    let statement = town.ask("payer", "statement", "payer");
    let entries = statement["entries"].as_array().unwrap();
    let charges = entries.iter().filter(|entry| text(entry, "kind") == "charged");
    charges.map(|entry| atoms(entry, "amount")).sum()
}

/// Balance and holds are what was paid in less what winners cost, whatever the payer was doing.
fn check_whole(town: &Town) -> Value {
    let balance = town.ask("payer", "balance", "payer");
    let whole = atoms(&balance, "balance") + atoms(&balance, "held") + charged(town);
    assert_eq!(whole, DEPOSIT, "{balance}");
    balance
}

fn kill_and_go_on((victim, moment): (Victim, u64)) {
    let town = Town::new();
    let escrow = town.escrow();
    let content = town.file("song", UNITS * UNIT, moment);
    let payee = town.payee("payee", &escrow, SURE);
    town.payer("payer", &escrow, "10");
    let (home, output) = (town.arg("payer"), town.arg("song"));
    let url = format!("{}/song", payee.address());
    let get = ["payer", "get", &url, "-o", &output, "--home", &home, "--spend-max", "8"];
    let node = (victim == Victim::Node).then(|| Node::start(&["payer", "run", "--home", &home]));
    let mut command = Running::start(&get);
    let partial = town.path("song.part");
    wait_until("the first bytes of the file", || {
        assert!(command.is_running(), "it ended before it was killed");
        std::fs::metadata(&partial).is_ok_and(|found| found.len() >= moment * 1_024)
    });
    match node {
        Some(node) => {
            node.kill();
            let (code, told) = command.finish();
            assert_eq!((code, text(&told["error"], "code")), (1, "node_lost"), "{told}");
        }
        None => command.kill(),
    }
    let arrived = std::fs::metadata(&partial).unwrap().len() / 1_024;
    let balance = check_whole(&town);
    assert_eq!(number(&balance, "open_holds"), 1);

    let again = ok(&get);
    assert_eq!(again["plan"]["hold_reused"], true, "{again}");
    assert_eq!(std::fs::read(&output).unwrap(), content);
    assert_eq!(number(&check_whole(&town), "open_holds"), 1);
    ok(&["payee", "redeem", "--home", &town.arg("payee")]);
    let status = town.ask("payee", "status", "payee");
    let (paid, units) = (number(&status, "tickets"), u64::try_from(UNITS).unwrap());
    println!("{victim:?} at {moment}: {arrived} units had arrived, {paid} tickets for {units} units");
    assert_eq!(paid, units, "no unit is paid twice");
    assert_eq!(number(&status, "winners_redeemed"), paid);
    check_whole(&town);
    assert_eq!(charged(&town), paid * PRICE);
    let audit = town.ask("payer", "audit", "payer");
    assert_eq!(audit["clean"], true, "{audit}");
    assert_eq!(payee.end(Signal::TERM), 0);
    assert_eq!(town.ask("escrow", "audit", "escrow")["conserved"], true);
    assert_eq!(escrow.end(Signal::TERM), 0);
}

#[test]
fn killed_in_a_download_a_payer_has_all_its_money_less_what_it_spent() {
    at_each(
        &[(Victim::Command, 1), (Victim::Command, 500), (Victim::Node, 900)],
        kill_and_go_on,
    );
}
