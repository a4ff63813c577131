//! What runs for hours: each kind is stopped and gone on with at will, and its figures add up in a file.

mod flood;
mod fuzz;
mod kill;

use crate::ci::Failure;

/// What is run for hours.
#[derive(Debug, Clone, clap::Subcommand)]
pub(crate) enum Soak {
    /// Floods a payee and says how much slower a paying client gets.
    Flood(flood::Options),
    /// Fuzzes every target in turn, from the corpora that earlier runs kept.
    Fuzz(fuzz::Options),
    /// Kills real processes of every role at random under load, and checks what was promised.
    Kill(kill::Options),
}

/// Runs one kind.
pub(crate) fn run(soak: &Soak) -> Result<(), Failure> {
    match soak {
        Soak::Flood(options) => flood::run(options),
        Soak::Fuzz(options) => fuzz::run(options),
        Soak::Kill(options) => kill::run(options),
    }
}
