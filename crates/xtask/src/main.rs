//! What humans run: `cargo xtask ci | test | vectors | bench | fuzz | planted | soak`.

mod bench;
mod ci;
mod fuzz;
mod planted;
mod soak;
mod tasks;

use clap::{Parser, Subcommand};
use std::os::unix::process::CommandExt;
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Everything that is run on this repository")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Runs every test, documentation examples included.
    Test {
        #[command(flatten)]
        without: ci::Without,
    },
    /// Runs what a change must pass, and prints how long each stage took.
    Ci {
        /// Only these stages, in the order of all.
        #[arg(value_parser = clap::builder::PossibleValuesParser::new(ci::ALL.iter().map(|(name, ..)| *name)))]
        stages: Vec<String>,
        #[command(flatten)]
        without: ci::Without,
    },
    /// Measures: all figures, or those of one bench.
    Bench {
        /// Which: ticket-verify, stream, all-win, one-shot, paid-request, book-memory, claims or open-holds.
        name: Option<String>,
        #[command(flatten)]
        on: bench::On,
        /// One JSON array of {name, value, unit, floor, ratio, min, max}.
        #[arg(long)]
        json: bool,
    },
    /// Plants each bug of tests/planted in a copy, and shows which test catches it.
    Planted {
        /// Only these, by the names of their patches.
        names: Vec<String>,
    },
    /// Fuzzes every harness of crates/fuzz, or some, each for a time.
    Fuzz(fuzz::Options),
    /// Runs something for hours; it can be stopped, and goes on where it was.
    #[command(subcommand)]
    Soak(soak::Soak),
    /// Writes the test vectors, or checks that they are what the generator makes.
    Vectors {
        /// Only compares, byte for byte.
        #[arg(long)]
        check: bool,
    },
}

impl Task {
    /// Whether what it prints is worth something from an optimised build only. The rest starts minutes sooner without one.
    const fn measures(&self) -> bool {
        match self {
            Self::Bench { .. } | Self::Soak(soak::Soak::Flood(_)) => true,
            Self::Test { .. }
            | Self::Ci { .. }
            | Self::Planted { .. }
            | Self::Fuzz(_)
            | Self::Soak(soak::Soak::Fuzz(_) | soak::Soak::Kill(_))
            | Self::Vectors { .. } => false,
        }
    }
}

/// Becomes the optimised build of this program with the same arguments; comes back only if cargo cannot be run.
fn again_optimised() -> std::io::Error {
    eprintln!("building what measures with optimisation; the first time that takes some minutes");
    let mut command = tombola_tests::cargo::cargo();
    command.args(["run", "--quiet", "--release", "--package", "xtask", "--"]);
    command.args(std::env::args_os().skip(1)).exec()
}

fn main() -> ExitCode {
    let task = Arguments::parse().task;
    if cfg!(debug_assertions) && task.measures() {
        let error = again_optimised();
        eprintln!("xtask: cargo: {error}");
        return ExitCode::FAILURE;
    }
    let done = match task {
        Task::Test { without } => ci::run(&[ci::TESTS, ci::DOCTESTS], &without),
        Task::Ci { stages, without } => ci::run(&ci::selected(&stages), &without),
        Task::Bench { name, on, json } => bench::run(name.as_deref(), on, json),
        Task::Planted { names } => planted::run(&names),
        Task::Fuzz(options) => fuzz::run(&options),
        Task::Soak(soak) => soak::run(&soak),
        Task::Vectors { check: true } => tasks::check_vectors(),
        Task::Vectors { check: false } => tasks::write_vectors(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("xtask: {failure}");
            ExitCode::FAILURE
        }
    }
}
