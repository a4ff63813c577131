//! An escrow under load whose processes are killed, and whose database server is killed.
//!
//! Kills come at random moments: so many answers after the last one, and then anywhere in a commit. `TOMBOLA_SEED`
//! chooses the moments again; what runs at that moment is up to the machine.

mod load;

use load::{Load, Outcome};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tombola_tests::dice::{Dice, SEED, seed};
use tombola_tests::postgres::{Cluster, Server};
use tombola_tests::process::{Town, atoms, number, ok, wait_until};
use tombola_tests::without::is_without;
use tombola_tests::writers::Writers;

const KILLS: u32 = 10;

/// The processes of one escrow and its homes.
struct Processes {
    town: Town,
    writers: Writers,
}

impl Processes {
    /// One process with a file.
    fn with_file() -> Self {
        let town = Town::new();
        let writers = Writers::with_file(&town);
        Self { town, writers }
    }

    /// Two processes with a database.
    fn with_database(address: &str) -> Self {
        let town = Town::new();
        let writers = Writers::with_database(&town, address);
        Self { town, writers }
    }

    fn load(&self) -> Arc<Load> {
        let homes = self.writers.names().iter().map(|name| self.town.path(name));
        Load::new(self.writers.addresses(), homes.collect())
    }

    /// Everything that was answered is there, and nothing else is.
    fn check(self, load: &Arc<Load>, mut outcome: Outcome) {
        let again = block_on(load.ask_again(&mut outcome));
        println!("{again} answers came again, byte for byte");
        for audit in self.writers.audit(&self.town) {
            assert_eq!(number(&audit, "claims"), outcome.claims, "{audit}");
            assert_eq!(atoms(&audit, "deposits"), outcome.deposited(), "{audit}");
        }
        for name in self.writers.names() {
            let home = self.town.arg(name);
            for (account, expected) in outcome.accounts() {
                let found = ok(&["escrow", "account", &account.to_string(), "--home", &home]);
                assert_eq!(
                    (atoms(&found, "balance"), atoms(&found, "held")),
                    (expected.balance(), expected.held()),
                    "{found}"
                );
            }
        }
        self.writers.end();
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Handle::current().block_on(work)
}

fn dice() -> Dice {
    let seed = seed();
    println!("{SEED}={seed}");
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
            let one = dice.index(processes.writers.nodes().len());
            processes.writers.kill(&processes.town, one);
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
    if is_without("postgres") {
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
