//! Processes of all roles that are killed while all work; `cargo xtask soak kill` does it for long.

use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tombola_net::limits::IDLE_TIMEOUT;
use tombola_tests::dice::{SEED, seed};
use tombola_tests::kill::{Blow, Options, Report, Store, Unfinished, run};

const KILLS: u32 = 20;
/// Every connection of whoever is stopped is given up meanwhile. `cargo xtask soak kill --pauses` stops each for a minute.
const PAUSE: Duration = IDLE_TIMEOUT.saturating_add(Duration::from_secs(1));

fn strike(store: Store, blow: Blow, blows: u32) {
    let seed = seed();
    println!("{SEED}={seed}");
    let options = Options {
        store,
        blow,
        blows,
        seed,
    };
    let report: Report = match run(&options, &AtomicBool::new(false), &mut |_| ()) {
        Ok(report) => report,
        Err(Unfinished::NoDatabase) => return,
        Err(Unfinished::Interrupted) => panic!("nobody interrupts a test"),
    };
    println!("{report:?}");
    assert_eq!(report.tally.total(), blows);
}

/// Spec: W-13, W-14, W-15, B-12.
#[test]
fn of_all_that_was_promised_before_twenty_kills_nothing_is_lost_and_nothing_is_paid_twice() {
    strike(Store::File, Blow::Kill, KILLS);
}

/// Spec: W-13, W-14, W-15, B-12.
#[test]
fn nor_is_it_where_two_processes_of_the_escrow_share_a_database() {
    strike(Store::Database, Blow::Kill, KILLS);
}

/// Spec: W-01, W-02, W-05, W-06.
#[test]
fn a_process_of_each_role_that_is_stopped_and_goes_on_costs_nobody_anything() {
    strike(Store::File, Blow::Pause(PAUSE), 3);
}
