//! A large flood at a real payee: how much slower a paying client gets, and what memory it takes.

use crate::ci::Failure;
use std::time::Duration;
use tombola_tests::flood;

/// The paying client's 99th percentile in the flood may be so many times that of its idle time.
const RATIO_MAX: f64 = 3.0;

/// How large.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Seconds without the flood, and as many with it.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Attempts to connect, per second.
    #[arg(long, default_value_t = 5_000)]
    rate: u32,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let report = flood::run(flood::Options {
        each: Duration::from_secs(options.seconds),
        per_second: options.rate,
    });
    let report = report.map_err(Failure::Check)?;
    if options.json {
        let json = serde_json::to_string_pretty(&report);
        println!("{}", json.map_err(|error| Failure::Check(error.to_string()))?);
    } else {
        println!(
            "idle     p50 {:>8.0} us   p99 {:>8.0} us   {} paid requests",
            report.idle.p50_us, report.idle.p99_us, report.idle.count
        );
        println!(
            "flooded  p50 {:>8.0} us   p99 {:>8.0} us   {} paid requests",
            report.flooded.p50_us, report.flooded.p99_us, report.flooded.count
        );
        println!(
            "ratio {:.2} (at most {RATIO_MAX}); {:.0} attempts/s; {} broken books; memory {} KiB before, {} KiB at most, {} KiB allowed",
            report.ratio,
            report.attempts_per_second,
            report.broken_books,
            report.resident_kib.0,
            report.resident_kib.1,
            report.resident_kib_max
        );
        println!("turned away {}; load {}", report.turned_away, report.load);
    }
    if report.resident_kib.1 > report.resident_kib_max {
        return Err(Failure::Check(format!(
            "the payee held {} KiB in the flood, over {} KiB: look for what grows with connections or attempts",
            report.resident_kib.1, report.resident_kib_max
        )));
    }
    if report.ratio > RATIO_MAX {
        return Err(Failure::Check(format!(
            "the 99th percentile of paid requests grew {:.2} times, over {RATIO_MAX}; run it on a machine that does nothing else",
            report.ratio
        )));
    }
    Ok(())
}
