//! The decisions: rows in, changes and postings out, synchronously. Each reads all it needs, then decides, then writes.

mod book;
mod claim;
mod fold;
mod hold;
mod money;
mod payout;
mod recovery;
mod signer;
mod split;
mod writer;

pub(crate) use claim::capture_postings;
pub(crate) use payout::{settled_postings, terms_of};
pub(crate) use recovery::resubmit;
pub(crate) use signer::judged as judged_signer;
pub(crate) use split::share_of;

use crate::draft::Draft;
use crate::event::{Place, Read, ReadRow};
use crate::key::Key;
use crate::ledger::{Command, Outcome};
use crate::request::{Proof, VerifiedRequest};
use crate::row::{AccountRow, AnswerAge, AnswerRow, LogPlace, Row, Totals};
use crate::store::{Change, Sharing};
use crate::view::{Stop, View};
use tombola_core::amount::{Amount, Timestamp};
use tombola_core::escrow::recovery::check_phase;
use tombola_core::escrow::{EscrowConfig, Served, check_issued};
use tombola_core::key::AccountKey;
use tombola_core::message::{EscrowAnswer, EscrowCommand, Phase, RequestHeader};
use tombola_core::reject::{Code, Reject};

/// What is known about a command before the commit.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "outcomes are nearly all")]
pub(crate) enum Decided {
    /// What to say when the batch is durable.
    Outcome(Outcome),
    /// To be answered from the store after the commit.
    Query,
}

impl Decided {
    fn answer(answer: EscrowAnswer) -> Self {
        Self::Outcome(Outcome::Answer(Draft::new(answer)))
    }

    /// What to say, where no store is to be asked.
    pub(crate) fn into_outcome(self) -> Outcome {
        match self {
            Self::Outcome(outcome) => outcome,
            Self::Query => Outcome::Answer(Draft::new(EscrowAnswer::Rejected(Reject::of(Code::Busy)))),
        }
    }

    pub(crate) fn rejected(reject: Reject) -> Self {
        Self::answer(EscrowAnswer::Rejected(reject))
    }

    /// A refusal in the form that the command's sender expects.
    pub(crate) fn refused(command: &Command, reject: Reject) -> Self {
        match command {
            Command::Deposit { .. }
            | Command::Expire { .. }
            | Command::Settle { .. }
            | Command::CollectFees { .. }
            | Command::PayOut { .. }
            | Command::RemoveWriter { .. }
            | Command::Fold { .. } => Self::Outcome(Outcome::Rejected(reject)),
            Command::Request(_) => Self::rejected(reject),
        }
    }
}

/// One batch in the making.
#[derive(Debug)]
pub(crate) struct Work<'a> {
    config: &'a EscrowConfig,
    sharing: Sharing,
    now: Timestamp,
    served: Served,
    phase: Phase,
    restored_at: Timestamp,
    totals: Totals,
    created: Vec<(AccountKey, u64)>,
    pub(crate) view: View,
}

/// What stays the same for a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) sharing: Sharing,
    pub(crate) now: Timestamp,
    pub(crate) served: Served,
    pub(crate) phase: Phase,
    /// After a rollback: the time of the last event that is left.
    pub(crate) restored_at: Timestamp,
}

impl<'a> Work<'a> {
    pub(crate) fn new(config: &'a EscrowConfig, totals: Totals, terms: Terms) -> Self {
        let Terms {
            sharing,
            now,
            served,
            phase,
            restored_at,
        } = terms;
        invariant!(now >= totals.time, "ledger time never goes back");
        Self {
            config,
            sharing,
            now,
            served,
            phase,
            restored_at,
            totals,
            created: Vec::new(),
            view: View::default(),
        }
    }

    /// The sums afterwards, what to commit, and what other writers must not have changed.
    pub(crate) fn finish(self) -> (Totals, Vec<Change>, Vec<(Key, u64)>) {
        let reads = match self.sharing {
            Sharing::Sole => Vec::new(),
            Sharing::Shared => self.view.reads(),
        };
        (self.totals, self.view.into_changes(), reads)
    }

    /// Decides anything but claims.
    pub(crate) fn command(&mut self, command: &Command) -> Result<Decided, Stop> {
        self.view.begin();
        match command {
            Command::Deposit {
                account,
                amount,
                reference,
            } => self.deposit(account.account(), *amount, reference),
            Command::Expire { hold } => self.expire(hold),
            Command::Settle {
                withdrawal,
                outcome,
                reference,
            } => self.settle(*withdrawal, *outcome, reference),
            Command::CollectFees {
                account,
                amount,
                reference,
            } => self.collect(account.account(), *amount, reference),
            Command::PayOut { account } => self.pay_out(*account),
            Command::Fold { account, credits } => self.fold(*account, credits),
            Command::RemoveWriter { writer } => self.remove_writer(*writer),
            Command::Request(request) => self.request(request),
        }
    }

    fn request(&mut self, request: &VerifiedRequest) -> Result<Decided, Stop> {
        if let Proof::Unsound(reject) = request.proof() {
            return Err((*reject).into());
        }
        let account = &request.request().account;
        match &request.request().command {
            EscrowCommand::Info
            | EscrowCommand::Account { .. }
            | EscrowCommand::HoldStatus { .. }
            | EscrowCommand::Subscribe { .. }
            | EscrowCommand::Statement { .. } => Ok(Decided::Query),
            EscrowCommand::OpenHold { request: header, hold } => {
                self.once(request, header, |work| work.open_hold(request, hold))
            }
            EscrowCommand::TopUpHold {
                request: header,
                hold,
                revision,
                cap,
            } => self.once(request, header, |work| work.top_up(request, hold, *revision, *cap)),
            EscrowCommand::Transfer {
                request: header,
                to,
                amount,
                reference,
                ..
            } => self.once(request, header, |work| {
                work.transfer(request, account, to, *amount, reference)
            }),
            EscrowCommand::Release(release) => self.release(request, &release.body),
            EscrowCommand::Delegate {
                request: header,
                delegation,
            } => self.once(request, header, |work| work.delegate(request, &delegation.body)),
            EscrowCommand::Withdraw {
                request: header,
                amount,
                destination,
                reference,
            } => self.once(request, header, |work| {
                work.withdraw(request, *amount, destination, reference)
            }),
            EscrowCommand::SetPayout {
                request: header,
                policy,
            } => self.once(request, header, |work| work.set_payout(request, policy.as_ref())),
            EscrowCommand::SetSplit {
                request: header,
                shares,
            } => self.once(request, header, |work| work.set_split(request, shares.as_slice())),
            // Claims and evidence are decided one by one.
            EscrowCommand::Claim { .. } | EscrowCommand::Resubmit { .. } => Err(Reject::of(Code::NotOffered).into()),
        }
    }

    /// Does a request once: a repeat gets the kept answer, another body under the same id is refused. Spec: R-02.
    fn once(
        &mut self,
        request: &VerifiedRequest,
        header: &RequestHeader,
        decision: impl FnOnce(&mut Self) -> Result<EscrowAnswer, Stop>,
    ) -> Result<Decided, Stop> {
        let key = Key::answer(request.connection(), &header.id);
        if let Some(kept) = self.view.find::<AnswerRow>(key)? {
            if kept.hash != *request.hash() {
                return Err(Reject::of(Code::RequestIdReused).into());
            }
            return Ok(Decided::answer(kept.answer.clone()));
        }
        check_issued(header, self.now)?;
        check_phase(&request.request().command, self.phase)?;
        let height = self.totals.height;
        let answer = decision(self)?;
        if self.totals.height > height {
            let kept = AnswerRow {
                hash: *request.hash(),
                answer: answer.clone(),
            };
            let age = AnswerAge {
                connection: *request.connection(),
                request: header.id,
            };
            self.view.put(key, Row::Answers(kept));
            let place = LogPlace {
                writer: self.config.writer,
                height: self.totals.height,
            };
            self.view.put(Key::answer_age(self.now, place), Row::AnswerAges(age));
        }
        Ok(Decided::answer(answer))
    }

    /// The row of an account, if it has one.
    fn account_row(&self, account: &AccountKey) -> Result<Option<(u64, AccountRow)>, Stop> {
        let Some(row) = self.view.find::<u64>(Key::account_id(account))?.copied() else {
            return Ok(None);
        };
        let account = self.view.need::<AccountRow>(Key::account(row))?;
        Ok(Some((row, *account)))
    }

    /// The row number of an account that is to be credited, if it has one: its row itself may be everybody's.
    fn account_number(&self, account: &AccountKey) -> Result<Option<u64>, Stop> {
        let row = self.view.find::<u64>(Key::account_id(account))?.copied();
        if let Some(row) = row {
            self.check_creditable(row)?;
        }
        Ok(row)
    }

    /// The row of an account, made if it has none. Only after all reads.
    fn ensure_account(&mut self, account: &AccountKey, found: Option<u64>) -> u64 {
        if let Some(row) = found {
            return row;
        }
        let row = self.totals.next_account(self.config.writer);
        self.totals.accounts = self.totals.accounts.saturating_add(1);
        self.created.push((*account, row));
        let fresh = AccountRow {
            account: *account,
            balance: Amount::ZERO,
            held: Amount::ZERO,
            pending: Amount::ZERO,
            credits: 0,
            debits: 0,
            open_holds: 0,
            signers: 0,
            serial: 1,
            entries: 0,
        };
        self.view.put(Key::account_id(account), Row::AccountIds(row));
        self.view.put(Key::account(row), Row::Accounts(fresh));
        row
    }

    /// The versions of rows that a decision was made on; taken before its first write.
    fn reads(&self, rows: &[ReadRow]) -> Vec<Read> {
        let key = |row: &ReadRow| match row {
            ReadRow::Account(row) => Key::account(*row),
            ReadRow::Hold(row) => Key::hold(*row),
            ReadRow::Book(hold, book) => Key::book(*hold, book),
            ReadRow::Withdrawal(number) => Key::withdrawal(*number),
            ReadRow::Payout(row) => Key::payout(*row),
            ReadRow::Split(row) => Key::split(*row),
            ReadRow::Signer(row, signer) => Key::signer(*row, signer),
        };
        let read = |row: &ReadRow| Read {
            row: *row,
            version: self.view.version(key(row)),
        };
        let mut reads: Vec<Read> = Vec::with_capacity(rows.len());
        for read in rows.iter().map(read) {
            // A payer may have a share of what it pays: one event changes a row once.
            if !reads.contains(&read) {
                reads.push(read);
            }
        }
        reads
    }

    /// Where a credit goes: to its account's row, or beside it where other writers may change that row.
    fn credited(&self, row: u64) -> Place {
        match self.sharing {
            Sharing::Sole => Place::Account(row),
            Sharing::Shared => Place::Credit(row),
        }
    }

    /// What must be loaded of an account that is to be credited.
    fn check_creditable(&self, row: u64) -> Result<Option<ReadRow>, Stop> {
        match self.sharing {
            Sharing::Sole => {
                self.view.need::<AccountRow>(Key::account(row))?;
                Ok(Some(ReadRow::Account(row)))
            }
            Sharing::Shared => Ok(None),
        }
    }
}
