//! A download whose payee stays away: the program gives it up by itself, and a later command goes on with it.

use super::NONE;
use tokio::runtime::Builder;
use tombola_net::Address;
use tombola_tests::chaos::{Proxy, Way};
use tombola_tests::dice::{SEED, seed};
use tombola_tests::process::{Offer, Running, Signal, Town, atoms, number, ok, text, wait_until};

const UNIT: usize = 1_024;
const UNITS: usize = 4_000;
/// Where it goes dark.
const MOMENT: u64 = 200 * 1_024;
/// The exit code of commands whose other side is away.
const AWAY: i32 = 4;

/// Every ticket wins, so what was paid can be compared to the atom.
const SURE: Offer<'static> = Offer {
    price: "0.001",
    per: "1KiB",
    face_value_max: "0.001",
    redeem_at_value: "1000",
};

/// Spec: D-04, W-02. What it waits for are the idle time of the connection and the limits of six handshakes.
#[test]
fn a_download_whose_payee_stays_away_ends_and_a_later_command_pays_nothing_twice() {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    println!("{SEED}={}", seed());
    let town = Town::new();
    let escrow = town.escrow();
    let content = town.file("song", UNITS * UNIT, seed());
    let payee = town.payee("payee", &escrow, SURE);
    town.payer("payer", &escrow, "10");
    let address: Address = payee.address().parse().unwrap();
    let server = payee.socket().parse().unwrap();
    let proxy = runtime.block_on(Proxy::start(server, NONE, seed())).unwrap();
    let through = Address::new(address.key, "127.0.0.1", proxy.address().port());
    let (url, output, home) = (format!("{through}/song"), town.arg("song"), town.arg("payer"));
    let get = ["payer", "get", &url, "-o", &output, "--home", &home, "--spend-max", "8"];

    let mut command = Running::start(&get);
    let partial = town.path("song.part");
    let arrived = || std::fs::metadata(&partial).map_or(0, |found| found.len());
    wait_until("bytes of the file", || {
        assert!(command.is_running(), "it ended before it went dark");
        arrived() >= MOMENT
    });
    for way in [Way::ToServer, Way::ToClient] {
        proxy.darken(way);
    }
    let (code, told) = command.finish();
    assert_eq!((code, text(&told["error"], "code")), (AWAY, "payee_away"), "{told}");
    assert!(text(&told["error"], "next").contains("repeat the command"), "{told}");
    let kept = arrived();
    assert!((MOMENT..content.len() as u64).contains(&kept), "{kept} bytes are kept");

    proxy.heal();
    let done = ok(&get);
    assert_eq!(std::fs::read(&output).unwrap(), content);
    let bought = number(&done, "tickets");
    assert!(bought < UNITS as u64, "what had come is not bought again: {done}");
    ok(&["payee", "redeem", "--home", &town.arg("payee")]);
    let status = town.ask("payee", "status", "payee");
    let paid = (number(&status, "tickets"), number(&status, "winners_redeemed"));
    assert_eq!(paid, (UNITS as u64, UNITS as u64), "{status}");
    let audit = town.ask("payer", "audit", "payer");
    assert_eq!(audit["clean"], true, "{audit}");
    assert_eq!(
        (atoms(&audit, "charged"), number(&audit, "winners")),
        (UNITS as u64 * 1_000_000, paid.1)
    );
    assert_eq!(payee.end(Signal::TERM), 0);
    assert_eq!(town.ask("escrow", "audit", "escrow")["conserved"], true);
    assert_eq!(escrow.end(Signal::TERM), 0);
}
