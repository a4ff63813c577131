//! Exit codes and failures: what happened, both numbers, what to do next.

mod home;

use crate::output::date;
use serde_json::{Map, Value, json};
use std::io::ErrorKind;
use std::path::Path;
use std::process::ExitCode;
use tombola_core::amount::{Amount, Asset, SECOND_MS};
use tombola_core::limits::{REFERENCE_BYTES_MAX, SERVED_GAP_MS};
use tombola_core::reject::{Code, Reject};
use tombola_ledger::ledger::LedgerFault;
use tombola_ledger::store::{DiskFault, StoreFault};
use tombola_node::admin::{AdminError, RequestError};
use tombola_node::disk::StoreError;
use tombola_node::escrow::{BackupError, EscrowNodeError, WitnessError};
use tombola_node::escrow_client::EscrowError;
use tombola_node::payee::PayeeError;

/// What `--help` says about exit codes; each is one [`Exit`].
pub(crate) const HELP: &str = "Exit codes:
  0  done
  1  failed; the message says why and what to do
  2  the command line is wrong
  3  the spending ceiling is reached: what has arrived is kept, and the command to go on is shown
  4  the other side is away: try again later
  5  another process works on this home
  6  something was checked and does not hold: books that do not balance, a claim that proves nothing
  7  not confirmed: nothing was paid
  8  another process was started as this escrow's writer, and this one stopped
  9  the escrow's store is not what its witness has seen: it lost events, or the witness is missing
  10 two histories of one ledger were shown: evidence

With --json, standard output has one JSON object: the result, or {\"error\": {\"code\", \"message\", ...}}; where a
check fails, the result with that \"error\" in it.
Logs go to standard error; --log-filter sets what is logged (for example --log-filter debug), --log-format json how.";

/// How a command ends if it does not do what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Failed,
    Ceiling,
    Away,
    Locked,
    CheckFailed,
    NotConfirmed,
    Fenced,
    RolledBack,
    TwoHistories,
}

impl Exit {
    /// By the stable name of an error, as it may come from another process.
    fn of(code: &str) -> Self {
        match code {
            CEILING => Self::Ceiling,
            ESCROW_AWAY | PAYEE_AWAY => Self::Away,
            LOCKED => Self::Locked,
            CHECK_FAILED => Self::CheckFailed,
            NOT_CONFIRMED => Self::NotConfirmed,
            FENCED => Self::Fenced,
            STORE_BEHIND | ANOTHER_HISTORY | WITNESS_MISSING => Self::RolledBack,
            TWO_HISTORIES => Self::TwoHistories,
            _ => Self::Failed,
        }
    }

    const fn number(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Ceiling => 3,
            Self::Away => 4,
            Self::Locked => 5,
            Self::CheckFailed => 6,
            Self::NotConfirmed => 7,
            Self::Fenced => 8,
            Self::RolledBack => 9,
            Self::TwoHistories => 10,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.number())
    }
}

/// Names of errors that have an exit code of their own.
pub(crate) const CEILING: &str = "ceiling_reached";
pub(crate) const ESCROW_AWAY: &str = "escrow_away";
pub(crate) const PAYEE_AWAY: &str = "payee_away";
pub(crate) const LOCKED: &str = "locked";
pub(crate) const CHECK_FAILED: &str = "check_failed";
pub(crate) const NOT_CONFIRMED: &str = "not_confirmed";
pub(crate) const FENCED: &str = "fenced";
pub(crate) const STORE_BEHIND: &str = "store_behind";
pub(crate) const ANOTHER_HISTORY: &str = "another_history";
pub(crate) const WITNESS_MISSING: &str = "witness_missing";
pub(crate) const TWO_HISTORIES: &str = "two_histories";
const DISK_FULL: &str = "disk_full";

/// The field of an error with the user whose key file it is about.
pub(crate) const OWNER: &str = "owner";
/// The field of an error that says what to do next.
const NEXT: &str = "next";

/// A command that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: AdminError,
    /// What a check that failed has found.
    found: Option<Value>,
}

/// A failure that does not say yet what to do: nobody is left with one.
#[derive(Debug)]
#[must_use]
pub(crate) struct Untold(AdminError);

impl Untold {
    pub(crate) fn with(self, key: &str, value: impl Into<Value>) -> Self {
        Self(self.0.with(key, value))
    }

    /// With what to do next.
    pub(crate) fn next(self, next: impl Into<String>) -> Failure {
        Failure::from(self.0).next(next)
    }
}

impl Failure {
    #[expect(clippy::new_ret_no_self, reason = "it is one only when it says what to do")]
    pub(crate) fn new(code: &str, message: impl Into<String>) -> Untold {
        Untold(AdminError::new(code, message))
    }

    /// With something else to do next.
    pub(crate) fn next(self, next: impl Into<String>) -> Self {
        self.with(NEXT, next.into())
    }

    pub(crate) fn with(self, key: &str, value: impl Into<Value>) -> Self {
        Self {
            error: self.error.with(key, value),
            found: self.found,
        }
    }

    /// With what a check that failed has found, an object.
    pub(crate) fn found(self, found: Value) -> Self {
        Self {
            found: Some(found),
            ..self
        }
    }

    /// For programs: one object, the result if there is one, with the error in it.
    pub(crate) fn json(&self) -> Value {
        let mut object = match &self.found {
            Some(Value::Object(found)) => found.clone(),
            _ => Map::new(),
        };
        object.insert("error".to_owned(), json!(self.error));
        object.into()
    }

    pub(crate) fn exit(&self) -> Exit {
        Exit::of(&self.error.code)
    }

    /// What to do next, if it says.
    pub(crate) fn next_step(&self) -> Option<&str> {
        self.error.detail.get(NEXT).and_then(Value::as_str)
    }

    /// For people: what happened, then what to do.
    pub(crate) fn text(&self) -> String {
        let next = self.next_step();
        let next = next.map(|next| format!("\nnext: {next}")).unwrap_or_default();
        format!("error: {}{next}", self.error.message)
    }

    /// A refusal, with both numbers as decimals where they are money.
    pub(crate) fn rejected(who: &str, reject: &Reject, asset: Asset) -> Self {
        let failure = |message| Self::new(reject.code.name(), message).next(reject.code.advice());
        if reject.need == 0 && reject.has == 0 {
            return failure(format!("{who} refused: {}", reject.code));
        }
        let number = |n: u64| match is_money(reject.code) {
            true => Amount(n).decimal(asset.decimals).to_string(),
            false => n.to_string(),
        };
        let (need, has) = (number(reject.need), number(reject.has));
        failure(format!("{who} refused: {}: need {need}, has {has}", reject.code))
            .with("need", need)
            .with("has", has)
    }

    pub(crate) fn escrow(error: &EscrowError, asset: Asset) -> Self {
        match error {
            EscrowError::Rejected(reject) => Self::rejected("the escrow", reject, asset),
            EscrowError::Away(_) => Self::new(ESCROW_AWAY, error.to_string())
                .next("check that the escrow runs and that its address in config.toml is right, then try again"),
            _ => Self::new("unintelligible", error.to_string()).next("update the older of the two programs"),
        }
    }

    pub(crate) fn escrow_node(error: &EscrowNodeError, asset: Asset) -> Self {
        match error {
            EscrowNodeError::Rejected(reject) => Self::rejected("the ledger", reject, asset),
            EscrowNodeError::Witness(error) => Self::witness(error),
            EscrowNodeError::Backup(error) => Self::backup(error),
            EscrowNodeError::Net(_) => Self::new("network", error.to_string())
                .next("choose another address with --listen; port 0 takes any free one"),
            EscrowNodeError::Ledger(fault) => Self::ledger(*fault),
            EscrowNodeError::ResetSalt(_) => Self::new("failed", error.to_string()).next(RESET_SALT_ADVICE),
            EscrowNodeError::Name(_) => Self::new("failed", error.to_string()).next(format!(
                "correct name in config.toml: {REFERENCE_BYTES_MAX} bytes at most"
            )),
            _ => Self::new("failed", error.to_string()).next(AGAIN),
        }
    }

    pub(crate) fn witness(error: &WitnessError) -> Self {
        let recover = "find the newest store or backup; if there is none, start with --accept-rollback: parties bring back \
                       what they hold, and no new hold is opened until tombola escrow end-recovery";
        match error {
            WitnessError::Behind {
                height,
                witnessed,
                restored_at,
                time,
            } => Self::new(
                STORE_BEHIND,
                format!("{error}; the store's last event is of {}", date(*restored_at)),
            )
            .with("height", *height)
            .with("witnessed", *witnessed)
            .with("behind", witnessed.saturating_sub(*height))
            .with("since", restored_at.0)
            .with("until", time.0)
            .next(recover),
            WitnessError::AnotherHistory { height, .. } => Self::new(ANOTHER_HISTORY, error.to_string())
                .with("height", *height)
                .next(recover),
            WitnessError::Missing { height, .. } => Self::new(WITNESS_MISSING, error.to_string())
                .with("height", *height)
                .next("bring the witness back; if you are sure that the store lost nothing, start with --new-witness"),
            WitnessError::Io { kind, .. } => Self::new("witness", error.to_string()).next(disk_advice(kind.kind())),
            _ => {
                Self::new("witness", error.to_string()).next("look at the witness file and at `witness` in config.toml")
            }
        }
    }

    pub(crate) fn backup(error: &BackupError) -> Self {
        match error {
            BackupError::Exists { .. } => Self::new("exists", error.to_string()).next("choose another name"),
            BackupError::Newer { store, backup } => Self::new("store_newer", error.to_string())
                .with("store", *store)
                .with("backup", *backup)
                .next("keep the store; if it is broken, restore with --over-newer: it is kept beside the backup"),
            BackupError::Database => Self::new("not_a_file", error.to_string())
                .next("back it up with pg_basebackup or pg_dump, and restore it with their tools"),
            BackupError::AnotherEscrow { .. } => {
                Self::new("backup", error.to_string()).next("give a backup of this escrow, or --home of that one")
            }
            BackupError::Empty { .. } => {
                Self::new("backup", error.to_string()).next("give a file that `tombola escrow backup` wrote")
            }
            BackupError::Io { kind: disk, .. } | BackupError::Store(StoreFault::Io(disk)) => {
                Self::new("backup", error.to_string()).next(disk_advice(disk.kind()))
            }
            _ => Self::new("backup", error.to_string()).next(AGAIN),
        }
    }

    /// Why a ledger cannot be opened or go on.
    fn ledger(fault: LedgerFault) -> Self {
        let failure = |code: &str| Self::new(code, fault.to_string());
        match fault {
            LedgerFault::Fenced { writer } => failure(FENCED).with("writer", writer).next(format!(
                "make sure that only one process runs as writer {writer}; give the other one a number of its own \
                 (writer in [store] of its config.toml), then start this one again"
            )),
            LedgerFault::ClockApart {
                here,
                there,
                apart_ms,
                limit_ms,
            } => failure("clock_apart")
                .with("need", limit_ms)
                .with("has", apart_ms)
                .with("here_ms", here.0)
                .with("there_ms", there.0)
                .next("let NTP set the clocks of this machine and of the database server, then start again"),
            LedgerFault::AnotherEscrow { stored } => failure("another_escrow")
                .with("stored", json!(stored))
                .next("use the key.pem of that escrow, or another database or file"),
            LedgerFault::AnotherAsset { .. } => failure("another_asset")
                .next("set asset and decimals in config.toml to what the ledger counts, or use another store"),
            LedgerFault::AnotherFormat { stored } => failure("another_format")
                .with("stored", stored)
                .next("run the version of tombola that wrote it"),
            LedgerFault::WriterOutOfRange { writer, limit } => failure("writer_out_of_range")
                .with("need", limit.saturating_sub(1))
                .with("has", writer)
                .next("choose another number: writer in [store] of config.toml"),
            LedgerFault::WriterRemoved { writer } => failure("writer_removed")
                .with("writer", writer)
                .next("take a number that was never used: writer in [store] of config.toml"),
            LedgerFault::WriterAlive { writer, silent_ms } => failure("writer_alive")
                .with("writer", writer)
                .with("need", SERVED_GAP_MS)
                .with("has", silent_ms)
                .next(format!(
                    "stop its process, wait until it has been silent for more than {} s, and repeat",
                    SERVED_GAP_MS / SECOND_MS
                )),
            LedgerFault::WriterUnknown { writer } => failure("writer_unknown")
                .with("writer", writer)
                .next("tombola escrow writers lists those that there are"),
            LedgerFault::Store(StoreFault::Foreign) => {
                failure("another_store").next("this is no ledger of an escrow: use another database or file")
            }
            LedgerFault::Store(StoreFault::FileFormat) => {
                failure("another_format").next("run the version of tombola that wrote it")
            }
            LedgerFault::Store(StoreFault::Locked) => failure(LOCKED).next("stop the other process"),
            LedgerFault::Store(StoreFault::Io(disk)) => failure(disk_code(&disk)).next(disk_advice(disk.kind())),
            LedgerFault::Store(StoreFault::Damaged | StoreFault::DamagedRow(_)) => failure("store_damaged")
                .next("keep the file as it is, and put the newest backup in its place: tombola escrow restore FILE"),
            LedgerFault::Store(StoreFault::Unreachable) => failure("store_unreachable")
                .next("look after the database server and start again; what was answered before is durable"),
            LedgerFault::Store(StoreFault::Address | StoreFault::Untrusted | StoreFault::NotDurable) => {
                failure("store_address").next("correct [store] in config.toml, or the server, and start again")
            }
            _ => failure("store_failed").next("look at the disk and at the log; what was answered before is durable"),
        }
    }

    pub(crate) fn payee_node(error: &PayeeError, asset: Asset) -> Self {
        match error {
            PayeeError::Escrow(error) => Self::escrow(error, asset),
            PayeeError::Net(_) => Self::new("network", error.to_string())
                .next("choose another address with --listen; port 0 takes any free one"),
            PayeeError::Store(error) => Self::store(error),
            PayeeError::Rules(reject) => Self::rejected("the payee", reject, asset),
            PayeeError::File { kind, .. } => Self::new("file", error.to_string()).next(disk_advice(*kind)),
            PayeeError::ResetSalt(_) => Self::new("failed", error.to_string()).next(RESET_SALT_ADVICE),
            _ => Self::new("failed", error.to_string()).next(AGAIN),
        }
    }

    /// What went wrong with a store of payee or payer.
    pub(crate) fn store(error: &StoreError) -> Self {
        let failure = |code: &str| Self::new(code, error.to_string());
        match error {
            StoreError::Locked => failure(LOCKED).next("stop the other process"),
            StoreError::Io(disk) => failure(disk_code(disk)).next(disk_advice(disk.kind())),
            StoreError::Foreign | StoreError::ForeignLog { .. } => failure("another_store")
                .next("bring back the file that was there, or move this one away: without it a new store is made"),
            StoreError::Version { found, known } => failure("another_format")
                .with("stored", *found)
                .with("known", *known)
                .next("run the version of tombola that wrote it"),
            StoreError::Corrupted { .. } => failure("store_damaged").next(
                "keep its files as they are; a payee puts its newest backup in their place (tombola payee restore FILE), and a \
                 payer may move its store away: it has only how far books were acknowledged",
            ),
            _ => failure("store_failed").next(disk_advice(ErrorKind::Other)),
        }
    }

    /// Names the file that a failure of a store is about, if the store is one.
    pub(crate) fn in_file(mut self, file: Option<&Path>) -> Self {
        let Some(file) = file else {
            return self;
        };
        let is_of_store = matches!(
            self.error.code.as_str(),
            DISK_FULL | "another_format" | "another_store" | "store_damaged" | "store_failed"
        );
        let file = file.display().to_string();
        if is_of_store && !self.error.message.contains(&file) {
            self.error.message = format!("{file}: {}", self.error.message);
        }
        self
    }
}

/// What helps where nothing better is known.
pub(crate) const AGAIN: &str = "repeat it; if it fails again, --log-filter debug shows more";
/// What helps where the random bytes of a home cannot be had.
const RESET_SALT_ADVICE: &str = "let this user read and write reset.salt in the home, or remove it: a new one is made";

const fn disk_code(disk: &DiskFault) -> &'static str {
    if disk.is_full() { DISK_FULL } else { "store_failed" }
}

/// What helps where a disk refuses.
pub(crate) const fn disk_advice(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "make room on that disk, then start again; what was answered before is durable"
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "let this user read and write there: check owner and mode, and whether the disk is mounted read-only"
        }
        ErrorKind::NotFound => "look where that file is, or see whether its name is right",
        _ => "look at the disk and at the system's log, then start again; what was answered before is durable",
    }
}

/// Whether the numbers of a refusal are amounts.
fn is_money(code: Code) -> bool {
    matches!(
        code,
        Code::BadTerms
            | Code::HoldExhausted
            | Code::FaceOutOfRange
            | Code::OddsTooLow
            | Code::PriceMismatch
            | Code::InsufficientFunds
            | Code::CapOutOfRange
            | Code::ReferenceReused
            | Code::ReleaseMismatch
            | Code::SupplyExceeded
            | Code::ClaimOverCap
            | Code::PayoutTooSmall
            | Code::OverSpendMax
    )
}

impl From<AdminError> for Failure {
    fn from(error: AdminError) -> Self {
        Self { error, found: None }
    }
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Failed(error) => error.into(),
            other => Self::new("node_lost", other.to_string())
                .next("the command may have been carried out or not: look before you repeat it"),
        }
    }
}
