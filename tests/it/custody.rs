//! Money in and out, shares and signers, with the program as its users run it.

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use tombola_tests::process::{Node, Offer, Signal, Town, atoms, number, ok, program, run, text};

/// Every ticket wins, and what wins is redeemed when it is asked for.
const SURE: Offer<'static> = Offer {
    price: "0.01",
    per: "1KiB",
    face_value_max: "0.01",
    redeem_at_value: "1000",
};

struct Place {
    town: Town,
    escrow: Node,
}

impl Place {
    fn open() -> Self {
        let town = Town::new();
        let escrow = town.escrow();
        Self { town, escrow }
    }

    fn at(&self, home: &str, role: &str, args: &[&str]) -> (i32, Value) {
        let home = self.town.arg(home);
        run(&[&[role], args, &["--home", home.as_str()]].concat())
    }

    fn done(&self, home: &str, role: &str, args: &[&str]) -> Value {
        let (code, value) = self.at(home, role, args);
        assert_eq!(code, 0, "{args:?}: {value}");
        value
    }

    fn refused(&self, home: &str, role: &str, args: &[&str]) -> Value {
        let (code, value) = self.at(home, role, args);
        assert_ne!(code, 0, "{args:?}: {value}");
        value["error"].clone()
    }

    fn operator(&self, args: &[&str]) -> Value {
        self.done("escrow", "escrow", args)
    }

    fn account(&self, home: &str) -> String {
        let made = ok(&[
            "payer",
            "init",
            "--home",
            &self.town.arg(home),
            "--escrow",
            self.escrow.address(),
        ]);
        text(&made, "account").to_owned()
    }
}

#[test]
fn withdrawals_go_out_by_csv_and_come_back_when_they_fail() {
    let place = Place::open();
    place.town.payer("alice", &place.escrow, "150");
    let payer = |args: &[&str]| place.done("alice", "payer", args);
    let paid = number(
        &payer(&["withdraw", "10", "IBAN DE00, Alice", "--reference", "rent"]),
        "withdrawal",
    );
    let failed = number(&payer(&["withdraw", "5", "nowhere"]), "withdrawal");
    assert_eq!(atoms(&payer(&["balance"]), "pending"), 15_000_000_000);
    let over = place.refused("alice", "payer", &["withdraw", "136", "x"]);
    assert_eq!(
        (text(&over, "code"), text(&over, "need"), text(&over, "has")),
        ("insufficient_funds", "136.00", "135.00")
    );

    let csv = place.town.arg("payouts.csv");
    let exported = place.operator(&["payouts", "export", "--csv", &csv]);
    assert_eq!(exported["payouts"].as_array().unwrap().len(), 2);
    let written = std::fs::read_to_string(&csv).unwrap();
    let lines: Vec<&str> = written.lines().collect();
    assert_eq!(
        lines[0],
        "number,account,amount,fee,payout,destination,reference,requested_at"
    );
    assert!(lines[1].starts_with(&format!("{paid},tom1")) && lines[1].contains("\"IBAN DE00, Alice\",rent"));

    // Wrong lines are told by their number, and the others are booked all the same.
    let results = place.town.arg("results.csv");
    let said = format!(
        "number,result,reference\n{paid},paid,wire-1\n99,paid,wire-2\n{failed},lost,x\n{failed},failed,\"no, such\"\n"
    );
    std::fs::write(&results, said).unwrap();
    for _ in 0..2 {
        let (code, imported) = place.at("escrow", "escrow", &["payouts", "import", &results]);
        assert_eq!(
            (code, number(&imported, "booked"), number(&imported, "failed")),
            (6, 2, 2),
            "{imported}"
        );
        let at = |line: usize| &imported["lines"][line];
        assert_eq!(
            (number(at(1), "line"), text(&at(1)["error"], "code")),
            (3, "withdrawal_unknown")
        );
        assert_eq!((number(at(2), "line"), text(&at(2)["error"], "code")), (4, "malformed"));
    }
    let balance = payer(&["balance"]);
    assert_eq!(
        (atoms(&balance, "balance"), atoms(&balance, "pending")),
        (140_000_000_000, 0)
    );
    assert_eq!(
        place.operator(&["payouts", "export"])["payouts"],
        Value::Array(Vec::new())
    );
    assert_eq!(place.operator(&["audit"])["conserved"], Value::Bool(true));
}

#[test]
fn a_payee_shares_what_winners_bring_and_refunds_the_payer_of_a_book() {
    let place = Place::open();
    place.town.payer("alice", &place.escrow, "150");
    place.town.file("song", 10 * 1_024, 1);
    let payee = place.town.payee("shop", &place.escrow, SURE);
    let (author, publisher) = (place.account("author"), place.account("publisher"));
    let payee_does = |args: &[&str]| place.done("shop", "payee", args);
    // An account begins with the first money that comes to it.
    place.done("alice", "payer", &["transfer", payee.address(), "1"]);
    let (most, less) = (format!("{author}=70%"), format!("{publisher}=20%"));
    payee_does(&["split", &most, &less]);
    let over = place.refused("shop", "payee", &["split", &most, &format!("{publisher}=30.0001%")]);
    assert_eq!(
        (text(&over, "code"), text(&over, "need"), text(&over, "has")),
        ("shares_over", "1000000", "1000001")
    );

    let (url, out) = (format!("{}/song", payee.address()), place.town.arg("song.got"));
    place.done(
        "alice",
        "payer",
        &["get", &url, "-o", &out, "--spend-max", "1", "--yes"],
    );
    payee_does(&["redeem"]);
    assert_eq!(atoms(&payee_does(&["balance"]), "balance"), 1_010_000_000);
    assert_eq!(
        atoms(&place.done("author", "payer", &["balance"]), "balance"),
        70_000_000
    );
    assert_eq!(
        atoms(&place.done("publisher", "payer", &["balance"]), "balance"),
        20_000_000
    );
    let statement = payee_does(&["statement"]);
    let redeemed = statement["entries"]
        .as_array()
        .unwrap()
        .iter()
        .find(|entry| text(entry, "kind") == "redeemed");
    let redeemed = redeemed.unwrap();
    assert_eq!(redeemed["shares"].as_array().unwrap().len(), 2, "{redeemed}");

    let book = text(redeemed, "book");
    let before = atoms(&place.done("alice", "payer", &["balance"]), "balance");
    payee_does(&["refund", book, "0.004"]);
    assert_eq!(
        atoms(&place.done("alice", "payer", &["balance"]), "balance"),
        before + 4_000_000
    );
    let none = place.refused(
        "shop",
        "payee",
        &["refund", &tombola_core::key::BookId([0; 32]).to_string(), "0.001"],
    );
    assert_eq!(text(&none, "code"), "book_unknown");
    payee_does(&["split", "--off"]);
    assert_eq!(payee_does(&["split"])["shares"], Value::Array(Vec::new()));
    assert_eq!(place.operator(&["audit"])["conserved"], Value::Bool(true));
}

#[test]
fn a_signer_pays_from_an_account_whose_key_is_elsewhere_until_it_is_revoked() {
    let place = Place::open();
    place.town.payer("alice", &place.escrow, "150");
    place.town.file("song", 10 * 1_024, 2);
    let payee = place.town.payee("shop", &place.escrow, SURE);
    let signer = place.account("till");
    let account = text(&place.done("alice", "payer", &["balance"]), "account").to_owned();
    let config = place.town.path("till").join("config.toml");
    let set = std::fs::read_to_string(&config)
        .unwrap()
        .replace("# account =", &format!("account = \"{account}\""));
    std::fs::write(&config, set).unwrap();
    let (url, out) = (format!("{}/song", payee.address()), place.town.arg("song.got"));
    let get = ["get", url.as_str(), "-o", &out, "--spend-max", "0.5", "--yes"];
    assert_eq!(text(&place.refused("till", "payer", &get), "code"), "unauthorized");
    let limits = [
        "--spend-max",
        "0.5",
        "--face-max",
        "0.01",
        "--payee",
        payee.address(),
        "--expires",
        "30d",
    ];
    place.done(
        "alice",
        "payer",
        &[&["delegate", signer.as_str()], &limits[..]].concat(),
    );
    place.done("till", "payer", &get);
    assert_eq!(
        std::fs::read(&out).unwrap(),
        std::fs::read(place.town.path("files").join("song")).unwrap()
    );
    place.done("shop", "payee", &["redeem"]);
    assert_eq!(
        atoms(&place.done("shop", "payee", &["balance"]), "balance"),
        100_000_000
    );
    let refused = place.refused("till", "payer", &["withdraw", "1", "mine"]);
    assert_eq!(text(&refused, "code"), "unauthorized");
    place.done("alice", "payer", &["delegate", &signer, "--revoke"]);
    // What is left of its open hold stays good, and there is no more.
    let get_as = |name: &str| {
        let out = place.town.arg(name);
        place.at(
            "till",
            "payer",
            &["get", &url, "-o", &out, "--spend-max", "0.2", "--yes"],
        )
    };
    let (code, second) = get_as("second");
    assert_eq!(code, 0, "{second}");
    let (code, third) = get_as("third");
    assert_eq!((code, text(&third["error"], "code")), (1, "delegation_revoked"));
}

#[test]
fn a_followed_statement_shows_each_entry_as_it_happens() {
    let place = Place::open();
    place.town.payer("alice", &place.escrow, "1");
    let home = place.town.arg("alice");
    let mut follow = Command::new(program());
    follow.args(["--json", "payer", "statement", "--follow", "--home", &home]);
    let mut follow = follow.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    let account = text(&place.done("alice", "payer", &["balance"]), "account").to_owned();
    assert_eq!(number(&next(), "sequence"), 1);
    for n in 2..=3u64 {
        place.operator(&["deposit", &account, "2", "--reference", &format!("more {n}")]);
        let entry = next();
        assert_eq!((number(&entry, "sequence"), text(&entry, "kind")), (n, "deposited"));
    }
    follow.kill().unwrap();
    follow.wait().unwrap();
    assert_eq!(place.escrow.end(Signal::TERM), 0);
}
