//! Folding: credits that several writers appended go into their account's balance and statement.

use super::{Decided, Work};
use crate::event::{Cause, Effect, Place, ReadRow, moved};
use crate::key::Key;
use crate::ledger::Outcome;
use crate::row::{AccountRow, CreditRow, LogPlace, Side};
use crate::view::Stop;
use tombola_core::amount::Amount;

impl Work<'_> {
    /// Folds those of the credits that are still there, in their order. Spec: G-06.
    pub(super) fn fold(&mut self, row: u64, credits: &[LogPlace]) -> Result<Decided, Stop> {
        let account = self.view.need::<AccountRow>(Key::account(row))?.account;
        let mut found: Vec<(LogPlace, Amount)> = Vec::with_capacity(credits.len());
        for place in credits {
            if let Some(credit) = self.view.find::<CreditRow>(Key::credit(row, *place))? {
                found.push((*place, credit.amount));
            }
        }
        let folded = Decided::Outcome(Outcome::Folded { credits: found.len() });
        if found.is_empty() {
            return Ok(folded);
        }
        let reads = self.reads(&[ReadRow::Account(row)]);
        let sum = found
            .iter()
            .try_fold(Amount::ZERO, |sum, (_, amount)| sum.checked_add(*amount));
        invariant!(sum.is_some(), "all money of a ledger fits in one amount");
        let sum = sum.unwrap_or(Amount::ZERO);
        let effect = Effect::Folded {
            account: row,
            credits: found.iter().map(|(place, _)| *place).collect(),
        };
        let postings = moved(Place::Credit(row), Place::Account(row), sum).to_vec();
        let before = self.view.need::<AccountRow>(Key::account(row))?.balance;
        let body = self.event_body(Cause::Fold { account }, effect, postings, reads);
        self.book(body, &[], &[]);
        // The event moved the whole sum; each entry of the statement shows the balance at its own credit.
        let mut balance = before;
        for (place, amount) in found {
            self.view.remove(Key::credit(row, place));
            balance = balance.checked_add(amount).unwrap_or(balance);
            self.credit(row, amount);
            self.note_at(row, place, balance, Side::Credited);
        }
        self.check_account(row);
        Ok(folded)
    }
}
