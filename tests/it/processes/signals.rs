//! Nodes that are told to end, and homes that two processes want.

use super::{SURE, UNIT, at_each};
use tombola_tests::process::{Node, Running, Signal, Town, number, ok, run, text, wait_until};

#[test]
fn told_to_end_every_role_drains_and_exits_well() {
    for signal in [Signal::INT, Signal::TERM] {
        let town = Town::new();
        let escrow = town.escrow();
        town.file("song", UNIT, 1);
        let payee = town.payee("payee", &escrow, SURE);
        town.payer("payer", &escrow, "1");
        let payer = Node::start(&["payer", "run", "--home", &town.arg("payer")]);
        assert_eq!(
            (payer.end(signal), payee.end(signal), escrow.end(signal)),
            (0, 0, 0),
            "{signal:?}"
        );
        for role in ["escrow", "payee"] {
            let status = town.ask(role, "status", role);
            assert_eq!(status["node"]["running"], false, "{status}");
        }
    }
}

/// A payee that is told to end in mid-stream redeems what it won; the payer goes on when it is back.
#[test]
fn told_to_end_in_mid_stream_a_payee_redeems_and_the_payer_goes_on() {
    at_each(&[(Signal::INT, 100), (Signal::TERM, 700)], |(signal, moment)| {
        let town = Town::new();
        let escrow = town.escrow();
        let content = town.file("song", 2_000 * UNIT, moment);
        let payee = town.payee("payee", &escrow, SURE);
        town.payer("payer", &escrow, "10");
        let (url, socket) = (format!("{}/song", payee.address()), payee.socket());
        let (output, home) = (town.arg("song"), town.arg("payer"));
        let get = ["payer", "get", &url, "-o", &output, "--home", &home, "--spend-max", "8"];
        let command = Running::start(&get);
        let partial = town.path("song.part");
        wait_until("bytes of the file", || {
            std::fs::metadata(&partial).is_ok_and(|found| found.len() >= moment * 1_024)
        });
        assert_eq!(payee.end(signal), 0);
        let status = town.ask("payee", "status", "payee");
        assert!(number(&status, "winners_redeemed") >= moment, "{status}");
        assert_eq!(text(&status, "owed"), "0.00", "all is redeemed before the end");
        let first = number(&status, "winners_redeemed");
        let payee = town.run_payee("payee", &socket);
        // It went on by itself, or was told that the payee is shutting down and is started again.
        let (code, done) = command.finish();
        if code != 0 {
            println!("{signal:?}: {done}");
            ok(&get);
        }
        assert_eq!(std::fs::read(&output).unwrap(), content);
        ok(&["payee", "redeem", "--home", &town.arg("payee")]);
        let paid = number(&town.ask("payee", "status", "payee"), "winners_redeemed");
        println!("{signal:?} at {moment}: {first} redeemed at the end, {paid} in all");
        assert!((2_000..=2_064).contains(&paid), "{paid}");
        assert_eq!((payee.end(signal), escrow.end(signal)), (0, 0));
    });
}

#[test]
fn a_download_that_is_interrupted_says_how_to_go_on_and_pays_no_unit_twice() {
    let town = Town::new();
    let escrow = town.escrow();
    let content = town.file("song", 2_000 * UNIT, 1);
    let payee = town.payee("payee", &escrow, SURE);
    town.payer("payer", &escrow, "10");
    let url = format!("{}/song", payee.address());
    let (output, home) = (town.arg("song"), town.arg("payer"));
    let get = ["payer", "get", &url, "-o", &output, "--home", &home, "--spend-max", "8"];
    let command = Running::start(&get);
    let partial = town.path("song.part");
    wait_until("bytes of the file", || {
        std::fs::metadata(&partial).is_ok_and(|found| found.len() >= 300 * 1_024)
    });
    let (code, told) = command.end(Signal::INT);
    assert_eq!((code, text(&told["error"], "code")), (1, "interrupted"), "{told}");
    assert!(text(&told["error"], "next").starts_with("tombola payer get "), "{told}");
    ok(&get);
    assert_eq!(std::fs::read(&output).unwrap(), content);
    ok(&["payee", "redeem", "--home", &town.arg("payee")]);
    let paid = number(&town.ask("payee", "status", "payee"), "winners_redeemed");
    println!("{paid} tickets for 2000 units");
    assert!((2_000..=2_064).contains(&paid), "{paid}");
    assert_eq!((payee.end(Signal::INT), escrow.end(Signal::INT)), (0, 0));
}

#[test]
fn of_two_processes_on_one_home_the_second_names_the_first() {
    let town = Town::new();
    let escrow = town.escrow();
    town.file("song", UNIT, 1);
    let payee = town.payee("payee", &escrow, SURE);
    town.payer("payer", &escrow, "1");
    let payer = Node::start(&["payer", "run", "--home", &town.arg("payer")]);
    for (role, node) in [("escrow", &escrow), ("payee", &payee), ("payer", &payer)] {
        let (code, told) = run(&[role, "run", "--home", &town.arg(role)]);
        assert_eq!((code, text(&told["error"], "code")), (5, "locked"), "{told}");
        assert_eq!(number(&told["error"], "pid"), u64::from(node.pid()), "{told}");
        let (message, next) = (text(&told["error"], "message"), text(&told["error"], "next"));
        let pid = node.pid().to_string();
        assert!(
            message.contains(&pid) && next.contains(&format!("kill {pid}")),
            "{told}"
        );
    }
    // The first ones are undisturbed.
    let (url, output) = (format!("{}/song", payee.address()), town.arg("song"));
    let home = town.arg("payer");
    let bought = ok(&["payer", "get", &url, "-o", &output, "--home", &home, "--spend-max", "1"]);
    assert_eq!(number(&bought, "tickets"), 1);
    for role in ["escrow", "payee", "payer"] {
        let status = town.ask(role, "status", role);
        assert_eq!(status["node"]["running"], true, "{status}");
    }
    // The lock dies with its process, whatever the process left behind.
    payer.kill();
    let payer = Node::start(&["payer", "run", "--home", &town.arg("payer")]);
    assert_eq!(
        (
            payer.end(Signal::TERM),
            payee.end(Signal::TERM),
            escrow.end(Signal::TERM)
        ),
        (0, 0, 0)
    );
}
