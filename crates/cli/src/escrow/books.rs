//! What an escrow's operator asks, of the running node or of the books of a stopped one, and the answers as JSON.

use crate::exit::Failure;
use crate::output::{date, money, sum};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::PathBuf;
use tombola_core::amount::{Amount, Asset};
use tombola_core::escrow::payout::PayoutOutcome;
use tombola_core::key::AccountKey;
use tombola_core::limits::REFERENCE_BYTES_MAX;
use tombola_core::message::Reference;
use tombola_core::reject::{Code, Reject};
use tombola_ledger::audit::{AuditReport, Progress as AuditProgress};
use tombola_ledger::query::{FeeReport, PendingWithdrawal};
use tombola_node::escrow::{
    AccountSummary, BooksReader, Deposited, Escrow, EscrowBooks, EscrowNodeError, EscrowTotals, WriterSummary,
};

/// Accounts of one answer of the socket: a third of the longest line.
const ACCOUNTS_PER_PAGE: usize = 1_000;
/// Pending withdrawals of one answer, with two references each.
const PAYOUTS_PER_PAGE: usize = 500;

/// What became of a payout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Word {
    Paid,
    Failed,
}

/// What the socket of a running escrow takes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Request {
    Deposit {
        account: AccountKey,
        amount: String,
        reference: String,
    },
    Account {
        account: AccountKey,
    },
    Accounts {
        from: u64,
    },
    Audit {},
    Backup {
        file: PathBuf,
    },
    EndRecovery {},
    Extract {
        writer: u32,
        from: u64,
        to: u64,
        file: PathBuf,
    },
    Status {},
    Writers {},
    Fees {},
    CollectFees {
        account: AccountKey,
        amount: String,
        reference: String,
    },
    Payouts {
        after: u64,
    },
    Settle {
        withdrawal: u64,
        outcome: Word,
        reference: String,
    },
    RemoveWriter {
        writer: u32,
    },
}

/// The books of a running escrow, or of one that is stopped.
pub(super) enum Books<'a> {
    Running(&'a Escrow),
    Alone(Box<EscrowBooks>),
}

impl Books<'_> {
    /// `on_progress` is shown how far a long work is.
    pub(super) async fn carry_out(
        &mut self,
        request: Request,
        asset: Asset,
        mut on_progress: impl FnMut(&Value) + Send + 'static,
    ) -> Result<Value, Failure> {
        let reader = self.reader();
        let result = match request {
            Request::Deposit {
                account,
                amount,
                reference,
            } => return self.deposit(&account, &amount, &reference, asset).await,
            Request::Account { account } => reader.account(&account).await.and_then(|found| match found {
                Some(found) => Ok(account_json(&found, asset)),
                None => Err(Reject::of(Code::AccountUnknown).into()),
            }),
            Request::Accounts { from } => reader.accounts(from, ACCOUNTS_PER_PAGE).await.map(|(page, next)| {
                let accounts: Vec<Value> = page.iter().map(|account| account_json(account, asset)).collect();
                json!({ "accounts": accounts, "next": next })
            }),
            Request::Audit {} => {
                let audit = reader.audit_with(move |progress: AuditProgress| on_progress(&json!(progress)));
                audit.await.map(|report| audit_json(&report, asset))
            }
            Request::Backup { file } => reader.backup(file).await.map(|report| json!(report)),
            Request::EndRecovery {} => self.end_recovery().await,
            Request::Extract { writer, from, to, file } => {
                let report = match self {
                    Self::Running(escrow) => escrow.extract(writer, (from, to), file).await,
                    Self::Alone(books) => books.extract(writer, (from, to), &file).await,
                };
                report.map(|report| json!(report))
            }
            Request::Status {} => self.status(asset).await,
            Request::Fees {} => reader.fees().await.map(|report| fees_json(&report, asset)),
            Request::CollectFees {
                account,
                amount,
                reference,
            } => return self.collect(&account, &amount, &reference, asset).await,
            Request::Payouts { after } => reader
                .pending_withdrawals(after, PAYOUTS_PER_PAGE)
                .await
                .map(|page| pending_json(&page, asset)),
            Request::Settle {
                withdrawal,
                outcome,
                reference,
            } => return self.settle(withdrawal, outcome, &reference, asset).await,
            Request::Writers {} => reader.writers().await.map(|found| writers_json(&found)),
            Request::RemoveWriter { writer } => match self.remove_writer(writer).await {
                Ok(()) => reader.writers().await.map(|found| writers_json(&found)),
                Err(error) => Err(error),
            },
        };
        result.map_err(|error| Failure::escrow_node(&error, asset))
    }

    fn reader(&self) -> BooksReader {
        match self {
            Self::Running(escrow) => escrow.reader(),
            Self::Alone(books) => books.reader(),
        }
    }

    async fn deposit(
        &mut self,
        account: &AccountKey,
        amount: &str,
        reference: &str,
        asset: Asset,
    ) -> Result<Value, Failure> {
        let amount = parse_amount(amount, asset)?;
        let given = parse_reference(reference)?;
        let done = match self {
            Self::Running(escrow) => escrow.deposit(account, amount, &given).await,
            Self::Alone(books) => books.deposit(account, amount, &given).await,
        };
        let done: Deposited = done.map_err(|error| Failure::escrow_node(&error, asset))?;
        let found = self.reader().account(account).await;
        let found = found.map_err(|error| Failure::escrow_node(&error, asset))?;
        Ok(json!({
            "account": done.account,
            "amount": money(done.amount, asset),
            "reference": done.reference,
            "at": done.at,
            "height": done.height,
            "balance": money(found.map_or(Amount::ZERO, |found| found.balance), asset),
        }))
    }

    /// Only a node that runs can be recovering.
    async fn end_recovery(&self) -> Result<Value, EscrowNodeError> {
        let Self::Running(escrow) = self else {
            return Err(Reject::of(Code::NotRecovering).into());
        };
        escrow.end_recovery().await?;
        Ok(json!({ "phase": escrow.status().await?.phase }))
    }

    async fn collect(
        &mut self,
        account: &AccountKey,
        amount: &str,
        reference: &str,
        asset: Asset,
    ) -> Result<Value, Failure> {
        let (amount, given) = (parse_amount(amount, asset)?, parse_reference(reference)?);
        let done = match self {
            Self::Running(escrow) => escrow.collect_fees(account, amount, &given).await,
            Self::Alone(books) => books.collect_fees(account, amount, &given).await,
        };
        let done = done.map_err(|error| Failure::escrow_node(&error, asset))?;
        Ok(json!({
            "account": done.account,
            "amount": money(done.amount, asset),
            "reference": done.reference,
            "at": done.at,
            "height": done.height,
        }))
    }

    async fn settle(&mut self, withdrawal: u64, word: Word, reference: &str, asset: Asset) -> Result<Value, Failure> {
        let given = parse_reference(reference)?;
        let outcome = match word {
            Word::Paid => PayoutOutcome::Paid,
            Word::Failed => PayoutOutcome::Failed,
        };
        let done = match self {
            Self::Running(escrow) => escrow.settle(withdrawal, outcome, &given).await,
            Self::Alone(books) => books.settle(withdrawal, outcome, &given).await,
        };
        let done = done.map_err(|error| Failure::escrow_node(&error, asset))?;
        Ok(json!({
            "withdrawal": done.withdrawal,
            "outcome": done.outcome,
            "amount": money(done.amount, asset),
            "fee": money(done.fee, asset),
            "at": done.at,
        }))
    }

    async fn remove_writer(&mut self, writer: u32) -> Result<(), EscrowNodeError> {
        match self {
            Self::Running(escrow) => escrow.remove_writer(writer).await,
            Self::Alone(books) => books.remove_writer(writer).await,
        }
    }

    async fn status(&self, asset: Asset) -> Result<Value, EscrowNodeError> {
        match self {
            Self::Alone(books) => Ok(totals_json(
                &books.reader().totals().await?,
                asset,
                json!({ "running": false }),
            )),
            Self::Running(escrow) => {
                let status = escrow.status().await?;
                let node = json!({
                    "running": true,
                    "address": escrow.address(),
                    "version": status.version,
                    "uptime_ms": status.uptime_ms,
                    "serving": status.is_serving,
                    "phase": status.phase,
                    "ledger_time": date(status.time),
                    "ledger_time_ms": status.time,
                    "clock_behind_ms": status.clock_behind_ms,
                    "clock_jump": status.clock_jump.map(|jump| {
                        json!({
                            "wall": date(jump.wall),
                            "wall_ms": jump.wall,
                            "expected": date(jump.expected),
                            "expected_ms": jump.expected,
                        })
                    }),
                    "connections": status.connections,
                    "requests": status.requests,
                    "requests_per_second": status.requests_per_second,
                    "claims_answered": status.claims_answered,
                    "claims_per_second": status.claims_per_second,
                    "writers": writers_json(&status.writers)["writers"],
                    "turned_away": status.turned_away,
                    "connections_turned_away": status.connections_turned_away,
                });
                Ok(totals_json(&status.totals, asset, node))
            }
        }
    }
}

fn parse_amount(amount: &str, asset: Asset) -> Result<Amount, Failure> {
    Amount::parse(amount, asset.decimals)
        .map_err(|error| Failure::new("amount", format!("amount {amount}: {error}")).next("write it as 10.00"))
}

fn parse_reference(reference: &str) -> Result<Reference, Failure> {
    Reference::new(reference).map_err(|error| {
        Failure::new("reference", format!("reference: {error}"))
            .next(format!("shorten it to {REFERENCE_BYTES_MAX} bytes of UTF-8"))
    })
}

fn pending_json(page: &[PendingWithdrawal], asset: Asset) -> Value {
    let withdrawal = |pending: &PendingWithdrawal| {
        json!({
            "withdrawal": pending.withdrawal,
            "account": pending.account,
            "amount": money(pending.amount, asset),
            "fee": money(pending.fee, asset),
            "payout": money(pending.amount.saturating_sub(pending.fee), asset),
            "destination": pending.destination,
            "reference": pending.reference,
            "requested_at": date(pending.asked_at),
        })
    };
    let is_last = page.len() < PAYOUTS_PER_PAGE;
    let next = page.last().filter(|_| !is_last).map(|last| last.withdrawal);
    json!({ "payouts": page.iter().map(withdrawal).collect::<Vec<_>>(), "next": next })
}

fn fees_json(report: &FeeReport, asset: Asset) -> Value {
    // What several writers have adds up to what is not negative; one that paid out for others may be below.
    let show = |atoms: i128| {
        let sign = if atoms < 0 { "-" } else { "" };
        format!("{sign}{}", sum(atoms.unsigned_abs(), asset))
    };
    json!({
        "asset": asset.name(),
        "winners": show(report.winners),
        "payouts": show(report.payouts),
        "collected": show(report.collected),
        "now": show(report.left),
        "now_of_this_writer": show(report.left_of_writer),
    })
}

fn account_json(account: &AccountSummary, asset: Asset) -> Value {
    json!({
        "account": account.account,
        "asset": asset.name(),
        "balance": money(account.balance, asset),
        "held": money(account.held, asset),
        "pending": money(account.pending, asset),
        "open_holds": account.open_holds,
        "credits": sum(account.credits, asset),
        "debits": sum(account.debits, asset),
        "entries": account.entries,
    })
}

fn writers_json(writers: &[WriterSummary]) -> Value {
    let writer = |found: &WriterSummary| {
        json!({
            "writer": found.writer,
            "this": found.is_this,
            "incarnation": found.incarnation,
            "removed": found.is_removed,
            "alive_at": date(found.alive_at),
            "alive_at_ms": found.alive_at,
            "served_since": date(found.served_since),
            "served_since_ms": found.served_since,
            "height": found.height,
        })
    };
    json!({ "writers": writers.iter().map(writer).collect::<Vec<_>>() })
}

fn audit_json(report: &AuditReport, asset: Asset) -> Value {
    json!({
        "conserved": report.conserved,
        "asset": asset.name(),
        "deposits": sum(report.deposits, asset),
        "balances": sum(report.balances, asset),
        "held": sum(report.held, asset),
        "fees": sum(report.fees, asset),
        "pending": sum(report.pending, asset),
        "withdrawn": sum(report.withdrawn, asset),
        "events": report.events,
        "rows": report.rows,
        "accounts": report.accounts,
        "holds": report.holds,
        "books": report.books,
        "claims": report.claims,
        "winners": report.winners,
        "findings": report.findings,
    })
}

fn totals_json(totals: &EscrowTotals, asset: Asset, node: Value) -> Value {
    json!({
        "node": node,
        "escrow": totals.escrow,
        "asset": asset.name(),
        "conserved": totals.conserved,
        "deposits": sum(totals.deposits, asset),
        "balances": sum(totals.balances, asset),
        "held": sum(totals.held, asset),
        "fees": sum(totals.fees, asset),
        "pending": sum(totals.pending, asset),
        "withdrawn": sum(totals.withdrawn, asset),
        "accounts": totals.accounts,
        "holds": totals.holds,
        "open_holds": totals.open_holds,
        "next_expiry": totals.next_expiry.map(date),
        "next_expiry_ms": totals.next_expiry,
        "claims": totals.claims,
        "winners": totals.winners,
        "height": totals.height,
        "last_event": date(totals.time),
        "last_event_ms": totals.time,
    })
}
