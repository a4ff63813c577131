//! Delegated signers: what an account signed for them, and the sum of what they promised.

use super::Work;
use super::hold::cause_of;
use crate::event::{Effect, ReadRow};
use crate::key::Key;
use crate::request::VerifiedRequest;
use crate::row::{AccountRow, Row, SignerRow};
use crate::view::Stop;
use tombola_core::amount::Amount;
use tombola_core::escrow::delegation::{self, DelegationVerdict, Promise, SignerRecord};
use tombola_core::hold::{Delegation, HoldTerms};
use tombola_core::message::EscrowAnswer;
use tombola_core::reject::{Code, Reject};

/// What the rules see of a signer.
pub(crate) fn judged(row: &SignerRow) -> SignerRecord {
    SignerRecord {
        delegation: row.delegation.clone(),
        // A sum that fits in no amount is over every limit all the same.
        committed: Amount(u64::try_from(row.committed).unwrap_or(u64::MAX)),
    }
}

impl Work<'_> {
    /// Puts a delegation in force. Spec: A-04.
    pub(super) fn delegate(&mut self, request: &VerifiedRequest, given: &Delegation) -> Result<EscrowAnswer, Stop> {
        if given.escrow != self.config.escrow {
            return Err(Reject::of(Code::WrongEscrow).into());
        }
        if given.signer == given.account {
            return Err(Reject::of(Code::BadTerms).into());
        }
        let unknown = Reject::of(Code::AccountUnknown);
        let (row, account) = self.account_row(&given.account)?.ok_or(Stop::No(unknown))?;
        let key = Key::signer(row, &given.signer);
        let found = self.view.find::<SignerRow>(key)?.cloned();
        let record = found.as_ref().map(judged);
        let answer = EscrowAnswer::Delegated { serial: given.serial };
        match delegation::accept(given, record.as_ref(), &self.config.escrow, account.signers)? {
            DelegationVerdict::Repeat => return Ok(answer),
            DelegationVerdict::Replace => {}
        }
        let signer = ReadRow::Signer(row, given.signer);
        let reads = match found {
            Some(_) => self.reads(&[signer]),
            None => self.reads(&[ReadRow::Account(row), signer]),
        };
        let committed = found.as_ref().map_or(0, |found| found.committed);
        if found.is_none() {
            self.count_signer(row);
        }
        let delegation = Some(given.clone());
        self.view.put(key, Row::Signers(SignerRow { delegation, committed }));
        let body = self.event_body(cause_of(request), Effect::Delegated, Vec::new(), reads);
        self.book(body, &[], &[]);
        Ok(answer)
    }

    /// Whether the connection's key may promise this: the account itself, or its signer within its delegation. Spec: A-05.
    pub(super) fn authorise(&self, request: &VerifiedRequest, promise: &Promise) -> Result<(), Stop> {
        let (connection, account) = (request.connection(), &request.request().account);
        if connection == account {
            return Ok(());
        }
        let unauthorized = Stop::No(Reject::of(Code::Unauthorized));
        let (row, _) = self.account_row(account)?.ok_or(unauthorized)?;
        let record = self.view.find::<SignerRow>(Key::signer(row, connection))?.map(judged);
        Ok(delegation::authorise(connection, promise, record.as_ref(), self.now)?)
    }

    /// The row of a hold's signer that is to be read with it: none where the payer signs itself.
    pub(super) fn signer_row(&self, payer: u64, terms: &HoldTerms) -> Result<Option<ReadRow>, Stop> {
        if terms.signer == terms.payer {
            return Ok(None);
        }
        self.view.find::<SignerRow>(Key::signer(payer, &terms.signer))?;
        Ok(Some(ReadRow::Signer(payer, terms.signer)))
    }

    /// As [`Self::signer_row`] for a new hold: one more signer must be within the limit. Spec: A-04.
    pub(super) fn new_signer_row(&self, payer: u64, terms: &HoldTerms) -> Result<Option<ReadRow>, Stop> {
        let row = self.signer_row(payer, terms)?;
        if let Some(ReadRow::Signer(_, signer)) = row
            && self.view.find::<SignerRow>(Key::signer(payer, &signer))?.is_none()
        {
            let signers = self.view.need::<AccountRow>(Key::account(payer))?.signers;
            delegation::check_signers(signers)?;
        }
        Ok(row)
    }

    /// Adds to what a signer's holds set aside or have paid; its row was read before. Spec: A-03.
    pub(super) fn commit_signer(&mut self, row: Option<ReadRow>, amount: Amount) {
        let Some(ReadRow::Signer(payer, signer)) = row else {
            return;
        };
        let key = Key::signer(payer, &signer);
        if self.view.peek::<SignerRow>(key).is_none() {
            self.count_signer(payer);
            let fresh = SignerRow {
                delegation: None,
                committed: 0,
            };
            self.view.put(key, Row::Signers(fresh));
        }
        self.view.edit::<SignerRow>(key, |row| {
            row.committed = row.committed.saturating_add(u128::from(amount.0));
        });
    }

    /// Takes back what an ended hold set aside and did not pay. Spec: A-03.
    pub(super) fn return_signer(&mut self, row: Option<ReadRow>, amount: Amount) {
        let Some(ReadRow::Signer(payer, signer)) = row else {
            return;
        };
        self.view.edit::<SignerRow>(Key::signer(payer, &signer), |row| {
            let after = row.committed.checked_sub(u128::from(amount.0));
            invariant!(after.is_some(), "a signer's sum covers its holds");
            row.committed = after.unwrap_or(0);
        });
    }

    fn count_signer(&mut self, account: u64) {
        self.view.edit::<AccountRow>(Key::account(account), |account| {
            account.signers = account.signers.saturating_add(1);
        });
    }
}
