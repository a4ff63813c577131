//! Payer, payee and escrow as processes on a network that falls apart and comes together again.
//!
//! Where every ticket wins (a face value of one price), what was paid, redeemed and charged can be compared to the atom. A
//! cable is cut at a moment that the test observed, such as the 200th kilobyte, never after a sleep.

use serde_json::Value;
use tombola_tests::netns::{Net, Party};
use tombola_tests::process::{Node, Offer, Running, Signal, Town, atoms, number, ok, run, text, wait_until};

const UNIT: usize = 1_024;
/// Tickets that a payer risks with one payee.
const WINDOW: u64 = 64;
/// The exit code of commands whose other side is away.
const AWAY: i32 = 4;

/// Every ticket wins, and 50 winners are redeemed at once.
const SURE: Offer<'static> = Offer {
    price: "0.001",
    per: "1KiB",
    face_value_max: "0.001",
    redeem_at_value: "0.05",
};

/// Few tickets win, so that one hold pays for all of them.
const LOTTERY: Offer<'static> = Offer {
    face_value_max: "1.00",
    redeem_at_value: "1000",
    ..SURE
};

/// Three parties at their places.
struct World {
    // The processes end first, then their network, then their files.
    payee: Node,
    escrow: Node,
    net: Net,
    town: Town,
}

impl World {
    /// A payee, an escrow, and a payer for each name; none without namespaces.
    fn new(offer: Offer<'_>, payers: &[&str]) -> Option<Self> {
        let net = Net::new()?;
        let town = Town::new();
        let at = |party: Party| format!("{}:0", party.ip());
        let escrow = net.inside(Party::Escrow, || {
            town.escrow().kill();
            town.run_escrow(&at(Party::Escrow))
        });
        let payee = net.inside(Party::Payee, || {
            town.payee("payee", &escrow, offer).kill();
            town.run_payee("payee", &at(Party::Payee))
        });
        for payer in payers {
            net.inside(Party::Payer, || town.payer(payer, &escrow, "100"));
        }
        Some(Self {
            payee,
            escrow,
            net,
            town,
        })
    }

    /// The arguments that buy a file.
    fn get(&self, payer: &str, file: &str) -> Vec<String> {
        let (url, home) = (format!("{}/{file}", self.payee.address()), self.town.arg(payer));
        let output = self.output(payer, file);
        let get = ["payer", "get", &url, "-o", &output, "--home", &home, "--spend-max", "8"];
        get.map(str::to_owned).to_vec()
    }

    fn output(&self, payer: &str, file: &str) -> String {
        self.town.arg(&format!("{payer}.{file}"))
    }

    fn at_payer<T: Send>(&self, args: &[String], work: fn(&[&str]) -> T) -> T {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        self.net.inside(Party::Payer, || work(&args))
    }

    fn ask_payer(&self, payer: &str, what: &str) -> Value {
        self.net.inside(Party::Payer, || self.town.ask("payer", what, payer))
    }

    fn status(&self) -> Value {
        self.town.ask("payee", "status", "payee")
    }

    /// Begins to buy a file, and comes back when so many kilobytes of it have come and more are missing.
    fn begin(&self, payer: &str, file: &str, kilobytes: u64) -> Running {
        let mut command = self.at_payer(&self.get(payer, file), Running::start);
        let partial = format!("{}.part", self.output(payer, file));
        wait_until("the first bytes of the file", || {
            assert!(command.is_running(), "it ended before the network was cut");
            std::fs::metadata(&partial).is_ok_and(|found| found.len() >= kilobytes * 1_024)
        });
        command
    }

    /// Everybody says the same, to the atom, after so many tickets; how many of them won.
    fn check(self, payers: &[&str], tickets: u64) -> u64 {
        let redeem = || self.town.ask("payee", "redeem", "payee");
        let redeemed = self.net.inside(Party::Payee, redeem);
        assert_eq!(number(&redeemed, "unclaimed_books"), 0, "{redeemed}");
        let status = self.status();
        assert_eq!(number(&status, "tickets"), tickets, "{status}");
        let winners = number(&status, "winners_redeemed");
        let audits = payers.iter().map(|payer| {
            let audit = self.ask_payer(payer, "audit");
            assert_eq!(audit["clean"], true, "{audit}");
            (atoms(&audit, "charged"), number(&audit, "winners"))
        });
        let (charged, won) = audits.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        let account = self
            .net
            .inside(Party::Payee, || self.town.ask("payee", "balance", "payee"));
        assert_eq!(
            (atoms(&account, "balance"), won),
            (charged, winners),
            "{account} {status}"
        );
        assert_eq!(self.payee.end(Signal::TERM), 0);
        let audit = self.town.ask("escrow", "audit", "escrow");
        assert_eq!(
            (&audit["conserved"], number(&audit, "winners")),
            (&Value::Bool(true), winners)
        );
        assert_eq!(self.escrow.end(Signal::TERM), 0);
        winners
    }
}

/// Spec: W-05, B-06. The payee knows the hold, so it needs nobody to sell on it.
#[test]
fn a_payee_cut_off_from_its_escrow_sells_on_and_redeems_when_it_is_back() {
    let Some(world) = World::new(SURE, &["payer"]) else {
        return;
    };
    let (first, second) = (20, 500);
    let content = world.town.file("second", second * UNIT, 2);
    world.town.file("first", first * UNIT, 1);
    world.at_payer(&world.get("payer", "first"), ok);
    let redeemed = || number(&world.status(), "winners_redeemed");
    wait_until("the first file is redeemed", || redeemed() == 20);

    world.net.cut(Party::Payee, Party::Escrow);
    let bought = world.at_payer(&world.get("payer", "second"), ok);
    assert_eq!(bought["plan"]["hold_reused"], true, "{bought}");
    assert_eq!(std::fs::read(world.output("payer", "second")).unwrap(), content);
    let status = world.status();
    assert!(number(&status, "unclaimed_winners") >= 500, "{status}");
    assert_eq!(number(&status, "winners_redeemed"), 20, "{status}");

    world.net.mend(Party::Payee, Party::Escrow);
    wait_until("what was claimed in the dark is redeemed", || redeemed() >= 450);
    assert_eq!(world.check(&["payer"], 520), 520);
}

/// Spec: W-02, D-04. Others are told at once that the payee is away.
#[test]
fn a_download_cut_off_from_its_payee_goes_on_and_pays_nothing_twice() {
    let Some(world) = World::new(SURE, &["payer", "other"]) else {
        return;
    };
    let units = 2_000;
    let content = world.town.file("song", units * UNIT, 3);
    let mut command = world.begin("payer", "song", 200);
    world.net.cut(Party::Payer, Party::Payee);
    let (code, told) = world.at_payer(&world.get("other", "song"), run);
    assert_eq!((code, text(&told["error"], "code")), (AWAY, "payee_away"), "{told}");
    assert!(command.is_running(), "it waits for its payee");
    world.net.mend(Party::Payer, Party::Payee);
    let (code, done) = command.finish();
    assert_eq!((code, number(&done, "tickets")), (0, 2_000), "{done}");
    assert_eq!(std::fs::read(world.output("payer", "song")).unwrap(), content);
    assert_eq!(world.check(&["payer", "other"], 2_000), 2_000);
}

/// Spec: W-02, W-13, D-04.
#[test]
fn a_payer_killed_while_it_is_cut_off_goes_on_later_and_pays_at_most_a_window_twice() {
    let Some(world) = World::new(SURE, &["payer"]) else {
        return;
    };
    let units = 2_000;
    let content = world.town.file("song", units * UNIT, 4);
    let command = world.begin("payer", "song", 200);
    world.net.cut(Party::Payer, Party::Payee);
    command.kill();
    world.net.mend(Party::Payer, Party::Payee);
    let done = world.at_payer(&world.get("payer", "song"), ok);
    assert_eq!(done["plan"]["hold_reused"], true, "{done}");
    assert_eq!(std::fs::read(world.output("payer", "song")).unwrap(), content);
    let redeem = || world.town.ask("payee", "redeem", "payee");
    world.net.inside(Party::Payee, redeem);
    let paid = number(&world.status(), "tickets");
    println!("{paid} tickets for {units} units");
    assert!((2_000..=2_000 + WINDOW).contains(&paid), "{paid}");
    assert_eq!(world.check(&["payer"], paid), paid);
}

/// Spec: W-01. Only who needs a new hold needs the escrow.
#[test]
fn a_payer_cut_off_from_its_escrow_pays_on_from_its_hold_and_gets_no_new_one() {
    let Some(world) = World::new(LOTTERY, &["payer", "other"]) else {
        return;
    };
    let content = world.town.file("song", 2_000 * UNIT, 5);
    let mut command = world.begin("payer", "song", 200);
    // The download stands still, so that what is left of it comes while the escrow is away.
    world.net.cut(Party::Payer, Party::Payee);
    world.net.cut(Party::Payer, Party::Escrow);
    assert!(command.is_running());
    world.net.mend(Party::Payer, Party::Payee);
    let (code, told) = world.at_payer(&world.get("other", "song"), run);
    assert_eq!((code, text(&told["error"], "code")), (AWAY, "escrow_away"), "{told}");
    assert!(told["error"]["next"].is_string(), "{told}");
    let (code, done) = command.finish();
    assert_eq!((code, number(&done, "tickets")), (0, 2_000), "{done}");
    assert_eq!(std::fs::read(world.output("payer", "song")).unwrap(), content);

    world.net.mend(Party::Payer, Party::Escrow);
    let done = world.at_payer(&world.get("other", "song"), ok);
    assert_eq!(number(&done, "tickets"), 2_000, "{done}");
    world.check(&["payer", "other"], 4_000);
}
