//! The `tombola` program: an escrow, a payee and a payer in one binary, and tools that check what they say.

mod account;
mod demo;
mod doctor;
mod escrow;
mod exit;
mod inspect;
mod key;
mod local;
mod output;
mod payee;
mod payer;
mod verify;
mod watch;

use clap::{Parser, Subcommand};
use exit::Failure;
use output::Output;
use std::process::ExitCode;
use watch::LogArgs;

/// Pay fractions of a cent with lottery tickets.
///
/// A payer hands over tickets whose expected value is the price. Nearly all lose and never leave the two parties; the
/// few that win are redeemed at the escrow that keeps the payer's deposit.
#[derive(Debug, Parser)]
#[command(name = "tombola", version, after_help = exit::HELP, propagate_version = true)]
struct Cli {
    /// Print one JSON object instead of text.
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    log: LogArgs,
    #[command(subcommand)]
    role: Role,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// See it work: three nodes on this machine, one payment step by step, then a million.
    Demo(demo::Args),
    /// Keep deposits, grant holds, redeem winners.
    Escrow(escrow::Args),
    /// Sell files unit by unit as tickets arrive, and redeem the winners.
    Payee(payee::Args),
    /// Buy, tip, and check what was paid.
    Payer(payer::Args),
    /// Look for what would cost money later: disks, clocks, keys, limits, the escrow; one role's home or all.
    Doctor(doctor::Args),
    /// Make, show, carry and protect key files.
    Key(key::Args),
    /// Show any object of the protocol: its type, its fields, and whether its signatures verify.
    Inspect(inspect::Args),
    /// Check evidence offline.
    Verify(verify::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = if cli.json { Output::Programs } else { Output::People };
    if let Err(failure) = cli.log.begin() {
        output.failure(&failure);
        return failure.exit().into();
    }
    if let Err(error) = tombola_node::key_file::forbid_core_dumps() {
        tracing::warn!(%error, "core dumps could not be turned off: a crash may write keys to a disk");
    }
    match run(cli.role, output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output.failure(&failure);
            failure.exit().into()
        }
    }
}

fn run(role: Role, output: Output) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match role {
            Role::Demo(args) => demo::run(args, output).await,
            Role::Escrow(args) => escrow::run(args, output).await,
            Role::Payee(args) => payee::run(args, output).await,
            Role::Payer(args) => payer::run(args, output).await,
            Role::Doctor(args) => doctor::run(args, output).await,
            Role::Key(args) => key::run(args, output),
            Role::Inspect(args) => inspect::run(&args, output),
            Role::Verify(args) => verify::run(&args, output),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    /// Two options of one name would only be noticed by whoever gives one of them.
    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
