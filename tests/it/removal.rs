//! A writer of a shared ledger that dies and does not come back: its operator removes it.

use serde_json::Value;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use tombola_core::amount::{Amount, DAY_MS};
use tombola_core::hold::Fee;
use tombola_core::key::{RequestId, SecretKey};
use tombola_core::message::{EscrowAnswer, EscrowCommand, HoldRequest, RequestHeader};
use tombola_node::escrow_client::EscrowClient;
use tombola_tests::faketime::Clock;
use tombola_tests::postgres::Server;
use tombola_tests::process::{Node, Signal, Town, number, ok, run, text};
use tombola_tests::writers::init;

const DAYS: i64 = 24 * 3_600;
/// What the hold sets aside.
const CAP: u64 = 1_000_000_000;

/// The writer that is left, and the clock by which it and its database go.
struct Survivor<'a> {
    clock: &'a Clock,
    home: String,
    seconds: i64,
}

impl Survivor<'_> {
    /// Time goes on, and it shows that it lives.
    ///
    /// It is asked for what changes nothing: once, so that it wakes and does what has become due meanwhile, and again, so
    /// that this is over when it answers. Then no step of the clock comes between its look at it and its database's.
    fn step(&mut self, seconds: i64) {
        self.seconds += seconds;
        self.clock.step(self.seconds);
        for _ in 0..2 {
            let (_, told) = self.remove("9");
            assert_eq!(text(&told["error"], "code"), "writer_unknown", "{told}");
        }
    }

    fn open_holds(&self) -> u64 {
        number(&ok(&["escrow", "status", "--home", &self.home]), "open_holds")
    }

    fn remove(&self, writer: &str) -> (i32, Value) {
        run(&["escrow", "writers", "--remove", writer, "--home", &self.home])
    }
}

/// A payer's hold, opened by a request of its own.
fn open_hold(node: &Node, payer: &SecretKey) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let opened = runtime.block_on(async {
        let client = EscrowClient::new(node.address().parse().unwrap(), payer).unwrap();
        let now = client.info().await.unwrap().time;
        let hold = HoldRequest {
            signer: payer.account(),
            payee: SecretKey::from_seed(&[8; 32]).account(),
            face_value_min: Amount(1_000_000),
            face_value_max: Amount(1_000_000),
            book_length_max: 8,
            expires_at: now.plus_ms(DAY_MS),
            redeem_by: now.plus_ms(2 * DAY_MS),
            cap: Amount(CAP),
            fee_max: Fee {
                flat: Amount(1_000_000),
                ppm: 1_000_000,
            },
        };
        let request = RequestHeader {
            id: RequestId([1; 16]),
            issued_at: now,
        };
        let opened = client.request(EscrowCommand::OpenHold { request, hold }).await.unwrap();
        client.close().await;
        opened
    });
    assert!(matches!(opened, EscrowAnswer::Hold(_)), "{opened:?}");
}

/// Spec: G-13.
#[test]
fn a_dead_writer_is_removed_by_command_and_stays_dead() {
    let town = Town::new();
    let Some(clock) = Clock::new(&town, "clock") else {
        return;
    };
    if tombola_tests::without::is_without("postgres") {
        return;
    }
    // The server's user must be let through to the clock; the homes in it are closed.
    std::fs::set_permissions(town.path(""), Permissions::from_mode(0o711)).unwrap();
    let server = Server::start_by(&clock);
    let database = server.database();
    init(&town, "first", &["--store", &database]);
    let key = town.arg("first/key.pem");
    init(&town, "second", &["--store", &database, "--writer", "1", "--key", &key]);
    let start = |name: &str| {
        let args = ["escrow", "run", "--home", &town.arg(name)];
        Node::start_with(&args, &clock.variables_of_all_clocks())
    };
    let (first, second) = (start("first"), start("second"));
    let payer = SecretKey::from_seed(&[7; 32]);
    let mut survivor = Survivor {
        clock: &clock,
        home: town.arg("first"),
        seconds: 0,
    };
    let account = payer.account().to_string();
    let deposit = ["escrow", "deposit", &account, "5", "--reference", "one"];
    ok(&[&deposit[..], &["--home", &survivor.home]].concat());
    open_hold(&first, &payer);
    let (exit, told) = survivor.remove("1");
    assert_eq!((exit, text(&told["error"], "code")), (1, "writer_alive"), "{told}");
    second.kill();

    // As far as clocks may be apart: it does at once what it would do in the next moment, and then rests.
    survivor.step(4);
    // Longer than a writer may be silent.
    survivor.step(3 * DAYS);
    let removed = survivor.remove("1");
    assert_eq!(removed.0, 0, "{}", removed.1);
    // That the hour of serving then counts again is shown where clocks are arguments; here they jump. Spec: C-07.
    assert_eq!(survivor.open_holds(), 1);
    let audit = ok(&["escrow", "audit", "--home", &survivor.home]);
    assert_eq!(audit["conserved"], Value::Bool(true), "{audit}");
    // Dead is dead: it cannot be started again under its number.
    let second = ["escrow", "run", "--home", &town.arg("second")];
    let (exit, told) = tombola_tests::process::Running::start_with(&second, &clock.variables_of_all_clocks()).finish();
    assert_eq!((exit, text(&told["error"], "code")), (1, "writer_removed"), "{told}");
    assert_eq!(first.end(Signal::TERM), 0);
}
