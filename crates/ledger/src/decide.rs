//! The decisions: rows in, changes and postings out, synchronously. Each reads all it needs, then decides, then writes.

mod claim;
mod fold;
mod hold;
mod money;
mod payout;
mod recovery;
mod signer;
mod split;

pub(crate) use claim::capture_postings;
pub(crate) use payout::{settled_postings, terms_of};
pub(crate) use recovery::resubmit;
pub(crate) use signer::judged as judged_signer;
pub(crate) use split::share_of;

use crate::draft::Draft;
use crate::event::{Body, Cause, Effect, Event, Place, Posting, Read, ReadRow};
use crate::key::Key;
use crate::ledger::{Command, Outcome};
use crate::request::{Proof, VerifiedRequest};
use crate::row::{
    AccountRow, AnswerAge, AnswerRow, CreditRow, HoldRow, LogPlace, Row, Side, StatementRow, Totals, WithdrawalRow,
};
use crate::store::{Change, Sharing};
use crate::view::{Stop, View};
use tombola_core::amount::{Amount, Timestamp};
use tombola_core::claim::Head;
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

/// Where an event ended up.
#[derive(Debug, Clone, Copy)]
struct Logged {
    place: LogPlace,
    head: Head,
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

    /// Books an event: moves the money, appends to the log, to the statements of the accounts that it changed, and to
    /// those that it credited.
    fn book(&mut self, body: Body, changed: &[u64], credits: &[(u64, Amount)]) -> Logged {
        let sum: i128 = body.postings.iter().fold(0, |sum, p| sum.saturating_add(p.delta));
        invariant!(sum == 0, "postings sum to zero, not to {sum}");
        for posting in &body.postings {
            self.post(posting);
        }
        invariant!(
            self.totals.is_conserved(),
            "deposits = balances + held + fees + pending + withdrawn"
        );
        let place = self.totals.next_place(self.config.writer);
        let event = Event {
            writer: place.writer,
            height: place.height,
            previous: self.totals.head,
            body,
        };
        self.totals.follow(&event);
        let head = self.totals.head;
        self.view.put(Key::event(place), Row::Events(event));
        // Credits first: an account that pays and has a share of it is shown the balance of each.
        for (row, amount) in credits {
            match self.sharing {
                Sharing::Sole => {
                    self.credit(*row, *amount);
                    self.note(*row, place, Side::Credited);
                }
                Sharing::Shared => {
                    let credit = CreditRow { amount: *amount };
                    self.view.put(Key::credit(*row, place), Row::Credits(credit));
                }
            }
        }
        for row in changed {
            self.note(*row, place, Side::Own);
        }
        Logged { place, head }
    }

    /// Adds an entry to an account's statement, and checks the account.
    fn note(&mut self, row: u64, place: LogPlace, side: Side) {
        let balance = self
            .view
            .peek::<AccountRow>(Key::account(row))
            .map(|account| account.balance);
        invariant!(balance.is_some(), "an account is read before its statement grows");
        self.note_at(row, place, balance.unwrap_or(Amount::ZERO), side);
        self.check_account(row);
    }

    /// Adds an entry with the balance after it.
    fn note_at(&mut self, row: u64, place: LogPlace, balance: Amount, side: Side) {
        let mut sequence = 0;
        self.view.edit::<AccountRow>(Key::account(row), |account| {
            account.entries = account.entries.saturating_add(1);
            sequence = account.entries;
        });
        let entry = StatementRow { place, balance, side };
        self.view.put(Key::statement(row, sequence), Row::Statements(entry));
    }

    /// What an account has is what came in less what went out.
    fn check_account(&self, row: u64) {
        let account = self.view.peek::<AccountRow>(Key::account(row));
        let is_sound = account.is_some_and(|account| account.owned() == account.credits.checked_sub(account.debits));
        invariant!(is_sound, "balance + held + pending = credits - debits");
    }

    /// Moves money into or out of one place; no row goes below zero or over what an amount can be.
    fn post(&mut self, posting: &Posting) {
        let delta = posting.delta;
        match posting.place {
            // Credits are rows of their own, written or removed with the event.
            Place::Outside | Place::Fees | Place::Credit(_) => {}
            Place::Account(row) => self
                .view
                .edit::<AccountRow>(Key::account(row), |account| add(&mut account.balance, delta)),
            Place::Hold(hold) => {
                self.view
                    .edit::<HoldRow>(Key::hold(hold), |hold| add(&mut hold.left, delta));
                self.view
                    .edit::<AccountRow>(Key::account(hold.payer), |payer| add(&mut payer.held, delta));
            }
            Place::Withdrawal(number) => {
                let mut account = 0;
                self.view.edit::<WithdrawalRow>(Key::withdrawal(number), |row| {
                    add(&mut row.left, delta);
                    account = row.account;
                });
                self.view
                    .edit::<AccountRow>(Key::account(account), |owner| add(&mut owner.pending, delta));
            }
        }
        self.totals.post(posting);
    }

    fn event_body(&mut self, cause: Cause, effect: Effect, postings: Vec<Posting>, reads: Vec<Read>) -> Body {
        Body {
            at: self.now,
            cause,
            effect,
            postings,
            reads,
            created: std::mem::take(&mut self.created),
        }
    }

    fn credit(&mut self, row: u64, amount: Amount) {
        self.view.edit::<AccountRow>(Key::account(row), |account| {
            account.credits = account.credits.saturating_add(u128::from(amount.0));
        });
    }

    fn debit(&mut self, row: u64, amount: Amount) {
        self.view.edit::<AccountRow>(Key::account(row), |account| {
            account.debits = account.debits.saturating_add(u128::from(amount.0));
        });
    }
}

fn add(amount: &mut Amount, delta: i128) {
    let sum = i128::from(amount.0).checked_add(delta);
    let after = sum.and_then(|sum| u64::try_from(sum).ok());
    invariant!(
        after.is_some(),
        "no row goes negative or overflows: {amount:?} and {delta}"
    );
    *amount = after.map_or(*amount, Amount);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spec: G-04.
    #[test]
    #[should_panic(expected = "no row goes negative")]
    fn a_row_that_would_go_negative_stops_the_program() {
        add(&mut Amount(5), -6);
    }

    /// Spec: G-04.
    #[test]
    #[should_panic(expected = "postings sum to zero")]
    fn postings_that_make_money_stop_the_program() {
        let config = EscrowConfig {
            escrow: AccountKey([1; 32]),
            asset: tombola_core::amount::Asset::USD,
            name: tombola_core::message::Reference::default(),
            fee: tombola_core::hold::Fee::default(),
            face_value_min: Amount(1),
            cap_min: Amount(1),
            writer: 0,
            payout_fee: Amount::ZERO,
            payout_min: Amount::ZERO,
            epoch: 0,
        };
        let now = Timestamp(1);
        let terms = Terms {
            sharing: Sharing::Sole,
            now,
            served: Served::starting(now),
            phase: Phase::Open,
            restored_at: Timestamp(0),
        };
        let mut work = Work::new(&config, Totals::EMPTY, terms);
        let cause = Cause::Expire {
            hold: tombola_core::key::HoldId([0; 32]),
        };
        let postings = vec![Posting {
            place: Place::Fees,
            delta: 1,
        }];
        let body = work.event_body(cause, Effect::Transferred, postings, Vec::new());
        work.book(body, &[], &[]);
    }
}
