//! How fast the store takes batches as large as an escrow's. Not run by default: a figure, not a claim.

use super::{account, at, change, commit, put};
use std::time::{Duration, Instant};
use tombola_ledger::row::Table;
use tombola_ledger::store::Change;
use tombola_tests::postgres::Server;

/// Claims in one commit, and the rows that each changes.
const CLAIMS: u64 = 1_000;
const FOR: Duration = Duration::from_secs(10);

/// A claim appends an event, a book, two statement entries and two credits, and changes a hold and an account.
fn batch(round: u64) -> Vec<Change> {
    let mut changes = Vec::new();
    for n in 0..CLAIMS {
        let number = round * CLAIMS + n;
        let of = |table: Table, body: usize, first: u64| {
            let key = at(table, &[first, number]);
            change(key, 0, &vec![7; body])
        };
        changes.push(of(Table::Events, 1_200, 0));
        changes.push(of(Table::Books, 300, n));
        changes.push(of(Table::Statements, 100, n));
        changes.push(of(Table::Statements, 100, n + CLAIMS));
        changes.push(of(Table::OpenHolds, 100, n));
        changes.push(of(Table::Due, 100, n));
        changes.push(change(at(Table::Holds, &[n]), round, &[7; 300]));
        changes.push(change(account(n), round, &[7; 120]));
    }
    changes
}

#[test]
#[ignore = "a measurement: cargo test --release -p tombola-store -- --ignored --nocapture claims_a_second"]
fn claims_a_second() {
    let Some(server) = Server::shared() else { return };
    let store = super::empty_store().unwrap();
    let began = Instant::now();
    let mut committing = Duration::ZERO;
    let mut rounds = 0;
    while began.elapsed() < FOR {
        let next = commit(rounds, &[], batch(rounds));
        let at = Instant::now();
        put(&store, next).unwrap();
        committing += at.elapsed();
        rounds += 1;
    }
    let claims = u32::try_from(rounds * CLAIMS).unwrap();
    let claims = f64::from(claims) / committing.as_secs_f64();
    println!(
        "{claims:.0} claims/s, {:.0} rows/s in batches of {CLAIMS} claims, {rounds} commits",
        claims * 8.0
    );
    server.program("pgbench", &["-i", "-q", "postgres"]);
    let bench = server.program("pgbench", &["-c", "8", "-j", "2", "-T", "5", "postgres"]);
    println!(
        "{}",
        bench
            .lines()
            .filter(|line| line.contains("tps"))
            .collect::<Vec<_>>()
            .join("\n")
    );
}
