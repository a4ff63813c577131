//! Real processes of all roles, killed or stopped at random while they work; and then every promise against the books.

use crate::ci::Failure;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tombola_tests::dice;
use tombola_tests::kill::{self, Blow, Report, Store, Tally, Unfinished};
use tombola_tests::process::program;

/// A line of progress after so many kills; each pause has one.
const KILLS_PER_LINE: u32 = 10;
/// Each process of every role, with a file and with a database.
const PAUSES: u32 = 9;

/// How many, of whom, and where the escrow keeps its books.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// SIGKILLs, half of them with the escrow on a file and half with two of its processes on PostgreSQL.
    #[arg(long, default_value_t = 300)]
    kills: u32,
    /// Instead of kills, stops each process in turn for --pause seconds, and lets it go on.
    #[arg(long, conflicts_with = "kills")]
    pauses: bool,
    /// How long a stopped process stays stopped, in seconds.
    #[arg(long, default_value_t = 60, requires = "pauses")]
    pause: u64,
    /// Only with the escrow's books here.
    #[arg(long, value_parser = ["file", "postgres"])]
    store: Option<String>,
    /// Decides who is struck, and when: the number that a run prints. Without it a fresh one.
    #[arg(long)]
    seed: Option<u64>,
    /// Prints one JSON object for each store.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let interrupted = interrupts()?;
    let stores: &[Store] = match options.store.as_deref() {
        None => &[Store::File, Store::Database],
        Some("file") => &[Store::File],
        Some(_) => &[Store::Database],
    };
    let seed = options.seed.unwrap_or_else(dice::seed);
    println!("seed {seed}");
    // Building it is not a part of the run.
    program();
    let began = Instant::now();
    let mut blows = 0;
    for (n, store) in stores.iter().enumerate() {
        match strike(&options.of(*store, n, stores.len(), seed), &interrupted) {
            Ok(report) => {
                blows += report.tally.total();
                show(&report, options.json)?;
            }
            Err(Unfinished::NoDatabase) => {}
            Err(Unfinished::Interrupted) => {
                let again = "interrupted; every process is ended. The same again: cargo xtask soak kill --seed";
                return Err(Failure::Check(format!("{again} {seed}")));
            }
        }
    }
    println!(
        "{blows} times in {:.0} s, seed {seed}: nothing that was promised is lost, and nothing was paid twice",
        began.elapsed().as_secs_f64()
    );
    Ok(())
}

impl Options {
    /// The share of one store.
    fn of(&self, store: Store, n: usize, stores: usize, seed: u64) -> kill::Options {
        let (n, stores) = (u32::try_from(n).unwrap_or(0), u32::try_from(stores).unwrap_or(1));
        let (blow, blows) = match self.pauses {
            true => (Blow::Pause(Duration::from_secs(self.pause)), PAUSES),
            // What does not divide is of the first.
            false => (Blow::Kill, self.kills.saturating_sub(n).div_ceil(stores)),
        };
        kill::Options {
            store,
            blow,
            blows,
            seed,
        }
    }
}

/// Ctrl-C or SIGTERM, from now on.
fn interrupts() -> Result<Arc<AtomicBool>, Failure> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&interrupted);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(Failure::Io)?;
    let inside = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::Io)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::Io)?;
    drop(inside);
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        told.store(true, Ordering::Relaxed);
    });
    Ok(interrupted)
}

fn strike(options: &kill::Options, interrupted: &AtomicBool) -> Result<Report, Unfinished> {
    let (what, lines) = match options.blow {
        Blow::Kill => ("kills", KILLS_PER_LINE),
        Blow::Pause(_) => ("pauses", 1),
    };
    println!("{} {what}, the escrow's books: {:?}", options.blows, options.store);
    let began = Instant::now();
    kill::run(options, interrupted, &mut |tally: &Tally| {
        if tally.total().is_multiple_of(lines) {
            println!(
                "{:>4}/{} {what} {}; {} tickets, {} claims, {} files; {:.0} s",
                tally.total(),
                options.blows,
                of_whom(tally),
                tally.units,
                tally.claims,
                tally.files,
                began.elapsed().as_secs_f64()
            );
        }
    })
}

/// `(escrow 3, payee 4, payer 3)`
fn of_whom(tally: &Tally) -> String {
    let roles = tally.blows.iter().map(|(role, blows)| format!("{role} {blows}"));
    format!("({})", roles.collect::<Vec<_>>().join(", "))
}

fn show(report: &Report, json: bool) -> Result<(), Failure> {
    if json {
        let json = serde_json::to_string(report).map_err(|error| Failure::Check(error.to_string()))?;
        println!("{json}");
        return Ok(());
    }
    let (charged, units) = report.charged_for_units;
    let told = report.told.iter().map(|(told, times)| format!("{told} {times} times"));
    println!(
        "conserved; audits clean; {} winners redeemed, {} claims; where every ticket wins {charged} were charged for {units} units\n\
         commands told: {}; {:.0} s",
        report.winners,
        report.tally.claims,
        told.collect::<Vec<_>>().join(", "),
        report.seconds
    );
    Ok(())
}
