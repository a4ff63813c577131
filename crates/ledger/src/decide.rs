//! The decisions: rows in, changes and postings out, synchronously. Each reads all it needs, then decides, then writes.

mod claim;
mod hold;
mod money;

pub(crate) use claim::capture_postings;

use crate::draft::Draft;
use crate::event::{Body, Cause, Effect, Event, Place, Posting, Read, ReadRow};
use crate::key::Key;
use crate::ledger::{Command, Outcome};
use crate::request::{Proof, VerifiedRequest};
use crate::row::{AccountRow, AnswerAge, AnswerRow, HoldRow, Row, StatementRow, Totals};
use crate::store::Change;
use crate::view::{Stop, View};
use tombola_core::amount::{Amount, Timestamp};
use tombola_core::claim::Head;
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

    pub(crate) fn rejected(reject: Reject) -> Self {
        Self::answer(EscrowAnswer::Rejected(reject))
    }

    /// A refusal in the form that the command's sender expects.
    pub(crate) fn refused(command: &Command, reject: Reject) -> Self {
        match command {
            Command::Deposit { .. } | Command::Expire { .. } => Self::Outcome(Outcome::Rejected(reject)),
            Command::Request(_) => Self::rejected(reject),
        }
    }
}

/// One batch in the making.
#[derive(Debug)]
pub(crate) struct Work<'a> {
    config: &'a EscrowConfig,
    now: Timestamp,
    served: Served,
    phase: Phase,
    totals: Totals,
    pub(crate) view: View,
}

/// Where an event ended up.
#[derive(Debug, Clone, Copy)]
struct Logged {
    height: u64,
    head: Head,
}

impl<'a> Work<'a> {
    pub(crate) fn new(config: &'a EscrowConfig, totals: Totals, now: Timestamp, served: Served, phase: Phase) -> Self {
        invariant!(now >= totals.time, "ledger time never goes back");
        Self {
            config,
            now,
            served,
            phase,
            totals,
            view: View::default(),
        }
    }

    /// The sums afterwards, and what to commit.
    pub(crate) fn finish(self) -> (Totals, Vec<Change>) {
        (self.totals, self.view.into_changes())
    }

    /// Decides anything but claims.
    pub(crate) fn command(&mut self, command: &Command) -> Result<Decided, Stop> {
        match command {
            Command::Deposit {
                account,
                amount,
                reference,
            } => self.deposit(account.account(), *amount, reference),
            Command::Expire { hold } => self.expire(hold),
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
            // Claims are decided one by one; the others were refused when they were verified.
            EscrowCommand::Claim { .. }
            | EscrowCommand::Delegate { .. }
            | EscrowCommand::Withdraw { .. }
            | EscrowCommand::Subscribe { .. }
            | EscrowCommand::SetPayout { .. }
            | EscrowCommand::SetSplit { .. }
            | EscrowCommand::Resubmit { .. } => Err(Reject::of(Code::NotOffered).into()),
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
            self.view
                .put(Key::answer_age(self.now, self.totals.height), Row::AnswerAges(age));
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

    /// The row of an account, made if it has none. Only after all reads.
    fn ensure_account(&mut self, account: &AccountKey, found: Option<(u64, AccountRow)>) -> u64 {
        if let Some((row, _)) = found {
            return row;
        }
        let row = self.totals.accounts;
        self.totals.accounts = row.saturating_add(1);
        let fresh = AccountRow {
            account: *account,
            balance: Amount::ZERO,
            held: Amount::ZERO,
            credits: 0,
            debits: 0,
            open_holds: 0,
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
        };
        let read = |row: &ReadRow| Read {
            row: *row,
            version: self.view.version(key(row)),
        };
        rows.iter().map(read).collect()
    }

    /// Books an event: moves the money, appends to the log and to the statements of the accounts it concerns.
    fn book(&mut self, body: Body, accounts: &[u64]) -> Logged {
        let sum: i128 = body.postings.iter().fold(0, |sum, p| sum.saturating_add(p.delta));
        invariant!(sum == 0, "postings sum to zero, not to {sum}");
        for posting in &body.postings {
            self.post(posting);
        }
        invariant!(self.totals.is_conserved(), "deposits = balances + held + fees");
        self.totals.time = body.at;
        let event = Event {
            writer: self.config.writer,
            height: self.totals.height.saturating_add(1),
            previous: self.totals.head,
            body,
        };
        let logged = Logged {
            height: event.height,
            head: event.head(),
        };
        self.totals.height = logged.height;
        self.totals.head = logged.head;
        self.view.put(Key::event(logged.height), Row::Events(event));
        for row in accounts {
            self.note(*row, logged.height);
        }
        logged
    }

    /// Adds an entry to an account's statement, and checks the account.
    fn note(&mut self, row: u64, height: u64) {
        let mut entry = None;
        self.view.edit::<AccountRow>(Key::account(row), |account| {
            account.entries = account.entries.saturating_add(1);
            let owned = u128::from(account.balance.0).checked_add(u128::from(account.held.0));
            let net = account.credits.checked_sub(account.debits);
            invariant!(owned.is_some() && owned == net, "balance + held = credits - debits");
            entry = Some((account.entries, account.balance));
        });
        if let Some((sequence, balance)) = entry {
            self.view.put(
                Key::statement(row, sequence),
                Row::Statements(StatementRow { height, balance }),
            );
        }
    }

    /// Moves money into or out of one place; none goes below zero or over what an amount can be.
    fn post(&mut self, posting: &Posting) {
        let delta = posting.delta;
        match posting.place {
            // What came in is what outside is short of.
            Place::Outside => add_total(&mut self.totals.deposits, 0i128.saturating_sub(delta)),
            Place::Fees => add_total(&mut self.totals.fees, delta),
            Place::Account(row) => {
                self.view
                    .edit::<AccountRow>(Key::account(row), |account| add(&mut account.balance, delta));
                add_total(&mut self.totals.balances, delta);
            }
            Place::Hold(row) => {
                let mut payer = None;
                self.view.edit::<HoldRow>(Key::hold(row), |hold| {
                    add(&mut hold.left, delta);
                    payer = Some(hold.payer);
                });
                if let Some(payer) = payer {
                    self.view
                        .edit::<AccountRow>(Key::account(payer), |account| add(&mut account.held, delta));
                }
                add_total(&mut self.totals.held, delta);
            }
        }
    }

    fn event_body(&self, cause: Cause, effect: Effect, postings: Vec<Posting>, reads: Vec<Read>) -> Body {
        Body {
            at: self.now,
            cause,
            effect,
            postings,
            reads,
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

fn add_total(total: &mut u128, delta: i128) {
    let after = total.checked_add_signed(delta);
    invariant!(after.is_some(), "no sum goes negative: {total} and {delta}");
    *total = after.unwrap_or(*total);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "no row goes negative")]
    fn a_row_that_would_go_negative_stops_the_program() {
        add(&mut Amount(5), -6);
    }

    #[test]
    #[should_panic(expected = "no sum goes negative")]
    fn a_sum_that_would_go_negative_stops_the_program() {
        add_total(&mut 5, -6);
    }

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
        let mut work = Work::new(&config, Totals::EMPTY, now, Served::starting(now), Phase::Open);
        let cause = Cause::Expire {
            hold: tombola_core::key::HoldId([0; 32]),
        };
        let postings = vec![Posting {
            place: Place::Fees,
            delta: 1,
        }];
        let body = work.event_body(cause, Effect::Transferred, postings, Vec::new());
        work.book(body, &[]);
    }
}
