//! A small flood at a real payee: the client that pays goes on, and memory stays within the budget.

use std::time::Duration;
use tombola_tests::flood::{Options, run};

/// Spec: N-07, N-10, N-11, B-05. How much slower it gets is for `cargo xtask soak flood`, on a machine that does nothing else.
#[test]
fn a_client_goes_on_paying_in_a_flood_and_the_payee_stays_within_its_memory() {
    let options = Options {
        each: Duration::from_secs(2),
        per_second: 2_000,
    };
    let report = run(options).unwrap();
    println!("{report:?}");
    assert!(report.flooded.count > 20, "{report:?}");
    assert!(report.broken_books > 0, "{report:?}");
    // What is not proven is told to come again: most of what comes gets no handshake.
    let unproven = report.turned_away.get("unproven").and_then(serde_json::Value::as_u64);
    assert!(unproven.is_some_and(|unproven| unproven > 100), "{report:?}");
    let (before, most) = report.resident_kib;
    println!(
        "resident: {before} KiB before, {most} KiB at most of {}",
        report.resident_kib_max
    );
    assert!(0 < before && most <= report.resident_kib_max, "{report:?}");
}
