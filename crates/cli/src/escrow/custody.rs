//! What an operator does for the day when a disk is lost, and on that day.

use super::books::Request;
use super::{ROLE, operate, options};
use crate::exit::Failure;
use crate::local::{HomeArg, lock_unanswered};
use crate::output::{Output, fields};
use clap::Subcommand;
use serde_json::{Value, json};
use std::path::PathBuf;
use tombola_node::escrow::{Consent, OverNewer, restore};

#[derive(Debug, Subcommand)]
pub(super) enum Custody {
    /// Copy the ledger as it is at this moment into a new file, beside the running node or without it.
    Backup {
        /// The file; it must not exist.
        file: PathBuf,
    },
    /// Put a backup where the store of the stopped escrow is; the store that was there is kept beside it.
    Restore {
        /// The backup.
        file: PathBuf,
        /// Also if the store that is there has more events, or cannot be read.
        #[arg(long)]
        over_newer: bool,
    },
    /// Write an extract of the log into a new file, for tombola verify log and receipt: every event whole, private ones too.
    Log {
        /// The file; it must not exist.
        #[arg(short, long)]
        output: PathBuf,
        /// Of which writer.
        #[arg(long, default_value_t = 0)]
        writer: u32,
        /// First height.
        #[arg(long, default_value_t = 1)]
        from: u64,
        /// Last height [default: the end of the log].
        #[arg(long, default_value_t = u64::MAX, hide_default_value = true)]
        to: u64,
    },
    /// After a rollback: take no more evidence, and open new holds again. What was not brought back is lost.
    EndRecovery,
}

/// What the operator consents to, for one start.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct ConsentArgs {
    /// The store has lost events for good: raise the epoch of serials, and take back what parties hold.
    #[arg(long, conflicts_with = "new_witness")]
    accept_rollback: bool,
    /// There is no witness any more, and the store has lost nothing: begin a new one.
    #[arg(long)]
    new_witness: bool,
}

impl ConsentArgs {
    pub(super) const fn consent(self) -> Consent {
        match (self.accept_rollback, self.new_witness) {
            (true, _) => Consent::Rollback,
            (false, true) => Consent::NewWitness,
            (false, false) => Consent::None,
        }
    }
}

pub(super) async fn run(home: &HomeArg, command: Custody, output: Output) -> Result<(), Failure> {
    match command {
        Custody::Backup { file } => {
            // The node that runs may have another working directory.
            let file = std::path::absolute(file)?;
            let report = operate(home, &Request::Backup { file: file.clone() }).await?;
            home.note_backup(ROLE, &file);
            output.result(&report, || fields(&report));
        }
        Custody::Restore { file, over_newer } => {
            let report = put_back(
                home,
                file,
                if over_newer {
                    OverNewer::Replace
                } else {
                    OverNewer::Refuse
                },
            )
            .await?;
            output.result(&report, || fields(&report));
        }
        Custody::Log {
            output: file,
            writer,
            from,
            to,
        } => {
            let file = std::path::absolute(file)?;
            let request = Request::Extract { writer, from, to, file };
            let report = operate(home, &request).await?;
            output.result(&report, || fields(&report));
        }
        Custody::EndRecovery => {
            let done = operate(home, &Request::EndRecovery {}).await?;
            output.result(&done, || fields(&done));
        }
    }
    Ok(())
}

async fn put_back(arg: &HomeArg, file: PathBuf, over_newer: OverNewer) -> Result<Value, Failure> {
    let home = arg.open(ROLE)?;
    let _lock = lock_unanswered(&home)?;
    let (options, _) = options(&home, arg)?;
    let report = restore(&file, &options.store, &options.key.account(), over_newer).await;
    let report = report.map_err(|error| Failure::backup(&error))?;
    Ok(json!(report))
}
