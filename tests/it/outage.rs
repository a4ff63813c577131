//! An escrow under load whose processes are killed, and whose database server is killed.
//!
//! Kills come at random moments: so many answers after the last one, and then anywhere in a commit. `TOMBOLA_SEED`
//! chooses the moments again; what runs at that moment is up to the machine.

mod load;

use crate::pair::Dice;
use load::{Load, Outcome};
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tombola_node::key_file::KEY_FILE;
use tombola_tests::postgres::{Cluster, Server, without_postgres};
use tombola_tests::process::{Node, Signal, Town, atoms, number, ok, wait_until};

const KILLS: u32 = 10;

/// The processes of one escrow.
struct Processes {
    town: Town,
    names: Vec<&'static str>,
    nodes: Vec<Node>,
}

impl Processes {
    /// One process with a file.
    fn with_file() -> Self {
        let town = Town::new();
        init(&town, "first", &[]);
        Self::start(town, vec!["first"])
    }

    /// Two processes with a database.
    fn with_database(address: &str) -> Self {
        let town = Town::new();
        init(&town, "first", &["--store", address]);
        let key = town.path("first").join(KEY_FILE).display().to_string();
        init(&town, "second", &["--store", address, "--writer", "1", "--key", &key]);
        Self::start(town, vec!["first", "second"])
    }

    fn start(town: Town, names: Vec<&'static str>) -> Self {
        let nodes = names.iter().map(|name| run(&town, name, "127.0.0.1:0")).collect();
        Self { town, names, nodes }
    }

    fn load(&self) -> Arc<Load> {
        let addresses = self.nodes.iter().map(|node| node.address().parse().unwrap());
        let homes = self.names.iter().map(|name| self.town.path(name));
        Load::new(addresses.collect(), homes.collect())
    }

    /// Kills a process and starts it again at the same address.
    fn kill(&mut self, n: usize) {
        let node = self.nodes.remove(n);
        let socket = node.socket();
        node.kill();
        self.nodes.insert(n, run(&self.town, self.names[n], &socket));
    }

    /// Everything that was answered is there, and nothing else is.
    fn check(self, load: &Arc<Load>, mut outcome: Outcome) {
        let again = block_on(load.ask_again(&mut outcome));
        println!("{again} answers came again, byte for byte");
        for name in &self.names {
            let home = self.town.arg(name);
            let audit = ok(&["escrow", "audit", "--home", &home]);
            assert_eq!(
                (&audit["conserved"], &audit["findings"]),
                (&Value::Bool(true), &Value::Array(Vec::new())),
                "{audit}"
            );
            assert_eq!(number(&audit, "claims"), outcome.claims, "{audit}");
            assert_eq!(atoms(&audit, "deposits"), outcome.deposited(), "{audit}");
            for (account, expected) in outcome.accounts() {
                let found = ok(&["escrow", "account", &account.to_string(), "--home", &home]);
                assert_eq!(
                    (atoms(&found, "balance"), atoms(&found, "held")),
                    (expected.balance(), expected.held()),
                    "{found}"
                );
            }
        }
        for node in self.nodes {
            assert_eq!(node.end(Signal::TERM), 0);
        }
    }
}

fn init(town: &Town, name: &str, more: &[&str]) {
    let home = town.arg(name);
    ok(&[&["escrow", "init", "--home", &home, "--listen", "127.0.0.1:0"], more].concat());
}

fn run(town: &Town, name: &str, listen: &str) -> Node {
    Node::start(&["escrow", "run", "--home", &town.arg(name), "--listen", listen])
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Handle::current().block_on(work)
}

fn dice() -> Dice {
    let fresh = || {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        u64::from(since.subsec_nanos()) | 1
    };
    let seed = std::env::var("TOMBOLA_SEED").map_or_else(|_| fresh(), |seed| seed.parse().unwrap());
    println!("TOMBOLA_SEED={seed}");
    Dice::new(seed)
}

/// Waits for more answers than there were.
fn await_answers(load: &Load, more: u64) {
    let wanted = load.answers() + more;
    wait_until("more answers", || {
        assert!(!load.has_ended(), "a client failed, as it says above");
        load.answers() >= wanted
    });
}

/// Does something to the escrow while its clients work; they end when it is done.
fn under_load(load: &Arc<Load>, happen: impl FnOnce()) -> Outcome {
    let working = Arc::clone(load);
    let work = tokio::spawn(async move { working.work().await });
    happen();
    load.end();
    block_on(work).unwrap()
}

fn kill_often(mut processes: Processes) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _inside = runtime.enter();
    let began = Instant::now();
    let (mut dice, load) = (dice(), processes.load());
    let outcome = under_load(&load, || {
        for _ in 0..KILLS {
            await_answers(&load, 20 + dice.below(80));
            // An answer is the end of a commit; the kill is to come anywhere in the next ones. This waits for nothing.
            std::thread::sleep(Duration::from_micros(dice.below(20_000)));
            let one = usize::try_from(dice.below(2)).unwrap() % processes.nodes.len();
            processes.kill(one);
        }
        await_answers(&load, 50);
    });
    let (answers, lost) = (load.answers(), load.lost());
    println!(
        "{answers} answers and {lost} tries without one over {KILLS} kills in {:?}",
        began.elapsed()
    );
    processes.check(&load, outcome);
    println!("checked after {:?}", began.elapsed());
}

/// Spec: W-15.
#[test]
fn an_escrow_with_a_file_that_is_killed_ten_times_under_load_keeps_what_it_answered() {
    kill_often(Processes::with_file());
}

/// Spec: W-15. There are two processes; the other one goes on.
#[test]
fn an_escrow_with_a_database_that_is_killed_ten_times_under_load_keeps_what_it_answered() {
    let Some(server) = Server::shared() else { return };
    kill_often(Processes::with_database(&server.database()));
}

/// Spec: R-12. Two processes on one database, and half of the claims for each.
#[test]
fn one_claim_sent_64_times_at_once_to_two_processes_pays_once() {
    let Some(server) = Server::shared() else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _inside = runtime.enter();
    let processes = Processes::with_database(&server.database());
    let load = processes.load();
    let outcome = block_on(load.race(64, 8));
    println!("{} answers, {} tries without one", load.answers(), load.lost());
    processes.check(&load, outcome);
}

/// Spec: W-16. Two processes, and a primary with a synchronous standby that is promoted. Neither process is started again.
#[test]
fn an_escrow_outlives_the_server_of_its_database() {
    if without_postgres() {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _inside = runtime.enter();
    let began = Instant::now();
    let mut cluster = Cluster::primary_with_standby();
    let processes = Processes::with_database(&cluster.address("postgres"));
    let (mut dice, load) = (dice(), processes.load());
    let outcome = under_load(&load, || {
        await_answers(&load, 200 + dice.below(200));
        std::thread::sleep(Duration::from_micros(dice.below(20_000)));
        cluster.kill_primary();
        let (at_kill, killed) = (load.answers(), Instant::now());
        cluster.promote();
        await_answers(&load, (at_kill + 50).saturating_sub(load.answers()));
        println!("50 more answers {:?} after the kill", killed.elapsed());
        await_answers(&load, 200);
    });
    println!("{} answers, {} tries without one", load.answers(), load.lost());
    processes.check(&load, outcome);
    println!("checked after {:?}", began.elapsed());
}
