//! Backups of a payee, and what a restored one does.

use super::{PRICE, SURE, UNIT};
use std::os::unix::fs::PermissionsExt;
use tombola_tests::process::{Signal, Town, atoms, number, ok, run, text};

/// Spec: B-06.
#[test]
fn a_restored_payee_claims_its_winners_and_asks_about_its_holds_first() {
    let town = Town::new();
    let escrow = town.escrow();
    town.file("one", 20 * UNIT, 1);
    town.file("two", 20 * UNIT, 2);
    let payee = town.payee("payee", &escrow, SURE);
    town.payer("payer", &escrow, "1");
    let (url, socket) = (payee.address().to_owned(), payee.socket());
    let (home, backup, payer) = (town.arg("payee"), town.arg("backup"), town.arg("payer"));
    let get = |name: &str| {
        let (url, output) = (format!("{url}/{name}"), town.arg(name));
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
        ])
    };
    get("one");
    // The escrow is away, so the winners are in the backup and not redeemed.
    let at = escrow.socket();
    assert_eq!(escrow.end(Signal::TERM), 0);
    let made = ok(&["payee", "backup", &backup, "--home", &home]);
    assert_eq!(
        (number(&made, "holds"), number(&made, "unclaimed_books")),
        (1, 1),
        "{made}"
    );
    let mode = |name: &str| std::fs::metadata(town.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        (mode("backup"), mode("payee/payee.redb"), mode("payer/payer.redb")),
        (0o600, 0o600, 0o600)
    );
    let refused = |args: &[&str]| text(&run(args).1["error"], "code").to_owned();
    assert_eq!(
        refused(&["payee", "backup", &backup, "--home", &home]),
        "file",
        "it is not overwritten"
    );
    assert_eq!(
        refused(&["payee", "restore", &backup, "--home", &home, "--replace"]),
        "locked"
    );
    payee.kill();
    assert_eq!(refused(&["payee", "restore", &backup, "--home", &home]), "exists");
    let copied = town.arg("payee/payee.redb");
    assert_eq!(
        refused(&["payee", "restore", &copied, "--home", &home, "--replace"]),
        "not_a_backup"
    );
    let restored = ok(&["payee", "restore", &backup, "--home", &home, "--replace"]);
    assert_eq!(number(&restored, "unclaimed_books"), 1, "{restored}");

    let payee = town.run_payee("payee", &socket);
    // Its hold is from before the restore, and there is nobody to ask about it.
    let (_, refused) = {
        let (url, output) = (format!("{url}/two"), town.arg("two"));
        run(&[
            "payer",
            "get",
            &url,
            "-o",
            &output,
            "--home",
            &payer,
            "--spend-max",
            "0.5",
        ])
    };
    println!("without the escrow: {refused}");
    assert_eq!(number(&town.ask("payee", "status", "payee"), "tickets"), 0);
    let escrow = town.run_escrow(&at);
    let again = get("two");
    assert_eq!(again["plan"]["hold_reused"], true, "{again}");
    ok(&["payee", "redeem", "--home", &home]);
    let status = town.ask("payee", "status", "payee");
    assert_eq!(number(&status, "winners_redeemed"), 40, "{status}");
    assert_eq!(atoms(&status, "redeemed"), 40 * PRICE, "{status}");
    assert_eq!((payee.end(Signal::TERM), escrow.end(Signal::TERM)), (0, 0));
}
