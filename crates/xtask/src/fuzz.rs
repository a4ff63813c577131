//! Fuzzing: builds the harnesses of `crates/fuzz` under libfuzzer, runs them, and says how much they did.

mod build;
mod campaign;

pub(crate) use build::Programs;
pub(crate) use campaign::{Campaign, Done};

use crate::ci::{Failure, target_directory};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use tombola_fuzz::TARGETS;

/// How long each target runs in `ci`.
pub(crate) const CI_SECONDS: u64 = 20;

/// What is fuzzed, and for how long.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// How long each target runs, in seconds; two run at once where there are two cores.
    #[arg(long, default_value_t = CI_SECONDS, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Only these targets.
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(TARGETS.iter().map(|(name, _)| *name)))]
    targets: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seconds: CI_SECONDS,
            targets: Vec::new(),
        }
    }
}

/// Builds all, runs each chosen target once from the corpus that it has, and fails with what was found.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let programs = Programs::build(&directory())?;
    let campaign = Campaign::new(directory(), &programs);
    let chosen = |name: &&str| options.targets.is_empty() || options.targets.iter().any(|wanted| wanted == *name);
    let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).filter(chosen).collect();
    println!("{}", Done::HEADING);
    let waiting = Mutex::new(names.into_iter());
    let found = Mutex::new(Vec::new());
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(2);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    // Its own statement: the lock is let go before the target runs.
                    let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some(name) = next else { return };
                    let done = campaign.run(name, options.seconds);
                    if let Ok(done) = &done {
                        println!("{done}");
                    }
                    found.lock().unwrap_or_else(PoisonError::into_inner).push(done);
                }
            });
        }
    });
    let done = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    let done = done.into_iter().collect::<Result<Vec<_>, _>>()?;
    let executions: u64 = done.iter().map(|done| done.executions).sum();
    println!("{executions} executions of {} targets, {}", done.len(), programs.how());
    fail_if_found(&done)
}

/// Fails if something was found, with how to see it again.
pub(crate) fn fail_if_found(done: &[Done]) -> Result<(), Failure> {
    let crashes: Vec<String> = done.iter().filter_map(Done::crash_report).collect();
    if crashes.is_empty() {
        return Ok(());
    }
    Err(Failure::Check(crashes.join("\n")))
}

/// Where programs, corpora and what was found are kept: below the target directory, so they outlive a run.
pub(crate) fn directory() -> PathBuf {
    target_directory().join("fuzz")
}
