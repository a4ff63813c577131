//! Losing a disk: the drill of the README, step by step, with all nodes as processes of their own.

use super::*;
use serde_json::Value;
use tombola_core::message::EscrowInfo;
use tombola_node::escrow_client::EscrowClient;
use tombola_tests::process::{Running, Signal, atoms, number, ok, run, text, wait_until};

fn info(address: &str) -> EscrowInfo {
    let key = tombola_core::key::SecretKey::from_seed(&[77; 32]);
    let runtime = tokio::runtime::Handle::current();
    runtime.block_on(async {
        let client = EscrowClient::new(address.parse().unwrap(), &key).unwrap();
        let info = client.info().await.unwrap();
        client.close().await;
        info
    })
}

/// The height that a witness has seen.
fn witnessed(path: &Path) -> u64 {
    let bytes = std::fs::read(path).unwrap();
    u64::from_le_bytes(bytes[48..56].try_into().unwrap())
}

/// Balance and held money of every account, by its key.
fn accounts(home: &str) -> Vec<(String, u64, u64)> {
    let all = ok(&["escrow", "account", "--home", home]);
    let mut found: Vec<_> = all["accounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|account| {
            (
                text(account, "account").to_owned(),
                atoms(account, "balance"),
                atoms(account, "held"),
            )
        })
        .collect();
    found.sort();
    found
}

/// What is whose, however much of it is in holds.
fn owned(accounts: &[(String, u64, u64)]) -> Vec<(&str, u64)> {
    accounts
        .iter()
        .map(|(account, balance, held)| (account.as_str(), balance + held))
        .collect()
}

fn buy(town: &Town, node: &Node, payer: &str, name: &str, units: usize) {
    town.file(name, units * UNIT, 7);
    let (url, output, home) = (
        format!("{}/{name}", node.address()),
        town.arg(&format!("bought-{name}-by-{payer}")),
        town.arg(payer),
    );
    ok(&["payer", "get", &url, "-o", &output, "--spend-max", "1", "--home", &home]);
    // Every winner is a receipt before the next step.
    let _ = town.ask("payee", "redeem", "payee");
}

fn start_refused(home: &str, more: &[&str]) -> (i32, Value) {
    let args = [&["escrow", "run", "--home", home, "--listen", "127.0.0.1:0"], more].concat();
    Running::start(&args).finish()
}

/// The receipts in a payer's statement are events of the escrow's log, word for word.
fn receipts_are_of_the_log(town: &Town, log: &str) {
    let saved = town.path("evidence");
    let (directory, home) = (town.arg("evidence"), town.arg("payer"));
    ok(&["payer", "statement", "--save", &directory, "--home", &home]);
    let files = std::fs::read_dir(saved).unwrap().map(|file| file.unwrap().path());
    let receipts: Vec<_> = files
        .filter(|file| file.to_str().unwrap().ends_with("-receipt"))
        .collect();
    assert!(!receipts.is_empty());
    for receipt in &receipts {
        let found = ok(&["verify", "receipt", receipt.to_str().unwrap(), "--log", log]);
        assert_eq!(
            (&found["valid"], &found["evidence"]),
            (&Value::Bool(true), &Value::Bool(false)),
            "{found}"
        );
    }
}

/// Spec: G-09, G-11, G-12, R-25, R-26.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_disk_costs_nobody_anything() {
    tokio::task::spawn_blocking(drill).await.unwrap();
}

fn drill() {
    let town = Town::new();
    let escrow = town.escrow();
    let (home, socket) = (town.arg("escrow"), escrow.socket());
    let node = town.payee("payee", &escrow, SURE);
    town.payer("payer", &escrow, "10");
    buy(&town, &node, "payer", "one", 20);

    // The backup, beside the running node; and then the part that will be lost.
    let backup = town.arg("backup.redb");
    let taken = ok(&["escrow", "backup", &backup, "--home", &home]);
    buy(&town, &node, "payer", "two", 30);
    buy(&town, &node, "payer", "three", 40);
    let lost_log = town.arg("lost.log");
    ok(&["escrow", "log", "--output", &lost_log, "--home", &home]);
    receipts_are_of_the_log(&town, &lost_log);
    let before = accounts(&home);
    let height = info(escrow.address()).height;
    let witness = town.path("escrow").join("witness");
    wait_until("the witness has seen it all", || witnessed(&witness) == height);
    escrow.kill();

    // The disk is lost: all that there is is the backup and the witness.
    let (code, refused) = run(&["escrow", "restore", &backup, "--home", &home]);
    assert_eq!((code, text(&refused["error"], "code")), (1, "store_newer"), "{refused}");
    std::fs::remove_file(town.path("escrow").join("escrow.redb")).unwrap();
    let restored = ok(&["escrow", "restore", &backup, "--home", &home]);
    assert_eq!(number(&restored, "height"), number(&taken, "height"));
    let (code, refused) = start_refused(&home, &[]);
    assert_eq!(
        (code, text(&refused["error"], "code")),
        (9, "store_behind"),
        "{refused}"
    );
    let behind = number(&refused["error"], "behind");
    assert_eq!(behind, height - number(&restored, "height"), "{refused}");
    let (code, refused) = run(&[
        "escrow",
        "deposit",
        &before[0].0,
        "1",
        "--reference",
        "x",
        "--home",
        &home,
    ]);
    assert_eq!(
        (code, text(&refused["error"], "code")),
        (9, "store_behind"),
        "{refused}"
    );

    // With the operator's consent it starts, and the parties bring back what was lost.
    let run_args = [
        "escrow",
        "run",
        "--home",
        &home,
        "--listen",
        &socket,
        "--accept-rollback",
    ];
    let escrow = Node::start(&run_args);
    assert_eq!(format!("{:?}", info(escrow.address()).phase), "Recovering");
    ok(&["payer", "balance", "--home", &town.arg("payer")]);
    wait_until("the payee brought everything back", || {
        owned(&accounts(&home)) == owned(&before)
    });
    // A top-up that the payer asked for ahead of need, and left before it had the answer, is nobody's evidence: what it
    // set aside is the payer's balance again.
    let after = accounts(&home);
    let least_held = after.iter().zip(&before).all(|(after, before)| after.2 <= before.2);
    assert!(least_held, "{after:?} {before:?}");

    // The phase outlives a restart, and the flag changes nothing more.
    assert_eq!(escrow.end(Signal::TERM), 0);
    let escrow = town.run_escrow(&socket);
    assert_eq!(format!("{:?}", info(escrow.address()).phase), "Recovering");
    ok(&["escrow", "end-recovery", "--home", &home]);
    assert_eq!(format!("{:?}", info(escrow.address()).phase), "Open");
    assert_eq!(town.ask("escrow", "audit", "escrow")["conserved"], true);
    assert_eq!(accounts(&home), after);

    // Two histories were signed, and both logs together show it.
    let log = town.arg("log");
    ok(&["escrow", "log", "--output", &log, "--home", &home]);
    assert_eq!(run(&["verify", "log", &log]).0, 0);
    let (code, evidence) = run(&["verify", "log", &lost_log, &log]);
    assert_eq!((code, &evidence["evidence"]), (10, &Value::Bool(true)), "{evidence}");

    // Business goes on: in the hold that was brought back, and in new ones with serials of the next epoch.
    buy(&town, &node, "payer", "four", 20);
    town.payer("newcomer", &escrow, "1");
    buy(&town, &node, "newcomer", "two", 30);
    let serial = |home| number(&town.ask("payer", "balance", home)["holds"][0], "serial");
    assert_eq!(serial("payer"), 1);
    assert_eq!(serial("newcomer"), (1 << 40) | 1);
    assert_eq!(town.ask("escrow", "audit", "escrow")["conserved"], true);
    assert_eq!(node.end(Signal::TERM), 0);
    assert_eq!(escrow.end(Signal::TERM), 0);
}
