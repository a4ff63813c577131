//! An escrow that lost the end of its ledger, and a second implementation that brings it back.

use super::python::ask;
use super::{SEED, deposit};
use tombola_tests::process::{Node, Signal, Town, number, ok};
use tombola_tests::without::is_without;

/// Has the payer do what the escrow then loses: its disk is gone, and there is a backup of before. The escrow that runs
/// on it, with its operator's consent, and the serial of the hold that is lost.
fn lose(town: &Town, escrow: Node, backup: &str) -> (Node, u64) {
    let (home, backup, state, at) = (town.arg("escrow"), town.arg(backup), town.arg("state"), escrow.socket());
    ok(&["escrow", "backup", &backup, "--home", &home]);
    let lost = ask(&["lose", "--seed", SEED, "--escrow", escrow.address(), "--state", &state]);
    // An escrow that is told to end leaves a witness that has seen everything.
    assert_eq!(escrow.end(Signal::TERM), 0);
    std::fs::remove_file(town.path("escrow").join("escrow.redb")).unwrap();
    ok(&["escrow", "restore", &backup, "--home", &home]);
    let run = ["escrow", "run", "--home", &home, "--listen", &at, "--accept-rollback"];
    (Node::start(&run), number(&lost, "serial"))
}

/// Spec.
#[test]
fn a_recovering_escrow_refuses_with_both_numbers_and_takes_back_what_it_signed() {
    if is_without("interop") {
        return;
    }
    let town = Town::new();
    let home = town.arg("escrow");
    let escrow = town.escrow();
    deposit(&town, "first");
    // The hold of the first loss is of before the ledger that is restored after the second one, which does not have it.
    let (escrow, serial) = lose(&town, escrow, "first.redb");
    ok(&["escrow", "end-recovery", "--home", &home]);
    deposit(&town, "second");
    let (escrow, next) = lose(&town, escrow, "second.redb");
    assert_eq!((serial, next), (1, (1 << 40) | 1));

    let (state, at) = (town.arg("state"), escrow.address());
    let provoked = ask(&["recover", "--seed", SEED, "--escrow", at, "--state", &state]);
    println!("{provoked}");
    assert!(number(&provoked, "cases") >= 7, "{provoked}");
    ok(&["escrow", "end-recovery", "--home", &home]);
    assert_eq!(escrow.end(Signal::TERM), 0);
    ok(&["escrow", "audit", "--home", &home]);
}
