//! Backups of a payee, and what a restored one does.

use super::{CEILING, PRICE, SURE, UNIT, connect};
use std::os::unix::fs::PermissionsExt;
use tombola_node::payer::PayerError;
use tombola_tests::process::{Signal, Town, atoms, number, ok, run, text, wait_until};

/// Spec: B-06.
#[test]
fn a_restored_payee_claims_its_winners_and_asks_about_its_holds_first() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _inside = runtime.enter();
    let town = Town::new();
    let escrow = town.escrow();
    for (name, units) in [("first", 1), ("second", 10), ("third", 5)] {
        town.file(name, units * UNIT, 1);
    }
    let node = town.payee("payee", &escrow, SURE);
    town.payer("payer", &escrow, "1");
    let (url, socket, at) = (node.address().to_owned(), node.socket(), escrow.socket());
    let payer = connect(&town, &escrow);
    let plan = |name: &str| {
        let url = format!("{url}/{name}").parse().unwrap();
        runtime
            .block_on(payer.plan_get(&url, Some(CEILING), &town.path(name)))
            .unwrap()
    };
    runtime.block_on(payer.get(&plan("first"), &|_| ())).unwrap();
    let (second, third) = (plan("second"), plan("third"));
    assert!(second.hold_reused && third.hold_reused);
    wait_until("the first winner's receipt", || {
        number(&town.ask("payee", "status", "payee"), "winners_redeemed") == 1
    });
    // The escrow is away, so what is won now is in the backup and not redeemed.
    escrow.kill();
    runtime.block_on(payer.get(&second, &|_| ())).unwrap();

    let (home, backup) = (town.arg("payee"), town.arg("backup"));
    let made = ok(&["payee", "backup", &backup, "--home", &home]);
    assert_eq!(
        (number(&made, "holds"), number(&made, "unclaimed_books")),
        (1, 1),
        "{made}"
    );
    for name in ["backup", "payee/payee.redb", "payer/payer.redb"] {
        let mode = std::fs::metadata(town.path(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let refused = |args: &[&str]| text(&run(args).1["error"], "code").to_owned();
    assert_eq!(
        refused(&["payee", "backup", &backup, "--home", &home]),
        "file",
        "it is not overwritten"
    );
    let replace = ["payee", "restore", &backup, "--home", &home, "--replace"];
    assert_eq!(refused(&replace), "locked");
    node.kill();
    assert_eq!(refused(&replace[..5]), "exists");
    let copied = town.arg("payee/payee.redb");
    assert_eq!(
        refused(&["payee", "restore", &copied, "--home", &home, "--replace"]),
        "not_a_backup"
    );
    assert_eq!(number(&ok(&replace), "unclaimed_books"), 1);

    // The hold is from before the restore, and nobody is there who could vouch for it.
    let node = town.run_payee("payee", &socket);
    let unchecked = runtime.block_on(payer.get(&third, &|_| ()));
    // Refused again and again the payer gives up on either count: without the check it would be sold to.
    let is_refused = matches!(
        unchecked,
        Err(PayerError::PayeeRejected(_) | PayerError::Undrawn { .. })
    );
    assert!(is_refused, "{unchecked:?}");
    runtime.block_on(payer.shutdown());
    drop(payer);
    assert_eq!(number(&town.ask("payee", "status", "payee"), "tickets"), 0);
    let escrow = town.run_escrow(&at);
    ok(&["payee", "redeem", "--home", &home]);
    let (url, output, payer) = (format!("{url}/third"), town.arg("third"), town.arg("payer"));
    ok(&[
        "payer",
        "get",
        &url,
        "-o",
        &output,
        "--home",
        &payer,
        "--spend-max",
        "0.5",
    ]);
    ok(&["payee", "redeem", "--home", &home]);
    let status = town.ask("payee", "status", "payee");
    assert_eq!(number(&status, "winners_redeemed"), 1 + 10 + 5, "{status}");
    assert_eq!(atoms(&status, "redeemed"), 16 * PRICE, "{status}");
    assert_eq!((node.end(Signal::TERM), escrow.end(Signal::TERM)), (0, 0));
}
