//! After a rollback: books what the escrow signed, or a payee released, and the ledger lost. Spec: R-25.

use super::Work;
use super::claim::Ground;
use super::hold::judged;
use crate::event::{Cause, Effect, Place, ReadRow, moved};
use crate::fold;
use crate::key::{HoldKey, Key};
use crate::ledger::{LedgerFault, settle};
use crate::request::{Proof, VerifiedRequest};
use crate::row::{AccountRow, BookRow, HoldRow};
use crate::store::{Reader, StoreFault};
use crate::view::Stop;
use tombola_core::claim::{Claim, Winnings};
use tombola_core::codec::List;
use tombola_core::escrow::recovery::{HoldVerdict, Proved, check_phase, restore_hold, restore_receipt};
use tombola_core::escrow::{self, BookRecord, ReleaseVerdict, TopUp, Verdict};
use tombola_core::hold::{Hold, Release};
use tombola_core::message::{EscrowAnswer, EscrowCommand, Evidence, HoldState, ResubmitAnswer};
use tombola_core::reject::{Code, Reject};

/// Judges each piece of evidence of a request by itself, in its order; each that counts is an event. Spec: R-25.
pub(crate) async fn resubmit<R: Reader>(
    work: &mut Work<'_>,
    reader: &R,
    request: &VerifiedRequest,
) -> Result<EscrowAnswer, LedgerFault> {
    let EscrowCommand::Resubmit { evidence } = &request.request().command else {
        return Ok(EscrowAnswer::Rejected(Reject::of(Code::NotOffered)));
    };
    if let Err(reject) = check_phase(&request.request().command, work.phase) {
        return Ok(EscrowAnswer::Rejected(reject));
    }
    let proofs = match request.proof() {
        Proof::Evidence(proofs) => proofs,
        Proof::Unsound(reject) => return Ok(EscrowAnswer::Rejected(*reject)),
        Proof::Sound | Proof::Claims(_) => return Ok(EscrowAnswer::Rejected(Reject::of(Code::NotOffered))),
    };
    let mut answers = Vec::with_capacity(proofs.len());
    for (piece, proof) in evidence.as_slice().iter().zip(proofs) {
        let mut judged = settle(work, reader, |work| work.evidence(piece, proof)).await?;
        if let (Err(reject), Evidence::Hold(shown)) = (&judged, piece)
            && reject.code == Code::InsufficientFunds
            && fold::waiting_of_payer(work, reader, &shown.body.terms.payer).await?
        {
            judged = settle(work, reader, |work| work.evidence(piece, proof)).await?;
        }
        answers.push(judged.unwrap_or_else(ResubmitAnswer::Refused));
    }
    let answers = List::new(answers).map_err(|_| StoreFault::Damaged)?;
    Ok(EscrowAnswer::Resubmitted { answers })
}

impl Work<'_> {
    /// Takes one piece of evidence back, or finds that it is known.
    fn evidence(&mut self, piece: &Evidence, proof: &Result<Proved, Reject>) -> Result<ResubmitAnswer, Stop> {
        self.view.begin();
        match piece {
            Evidence::Hold(signed) => {
                // The asset comes before the signature, and the writer knows it.
                let is_proved = !matches!(proof, Err(reject) if reject.code == Code::WrongEscrow);
                if is_proved && signed.body.terms.asset != self.config.asset {
                    return Err(Reject::of(Code::WrongAsset).into());
                }
                proof.as_ref().map_err(|reject| Stop::No(*reject))?;
                self.shown_hold(&signed.body, piece)
            }
            Evidence::Release(signed) => {
                self.hold_row(&signed.body.hold)?;
                proof.as_ref().map_err(|reject| Stop::No(*reject))?;
                self.shown_release(&signed.body, piece)
            }
            Evidence::Receipt { claim, .. } => {
                self.hold_row(&claim.book.body.hold)?;
                match proof {
                    Err(reject) => Err((*reject).into()),
                    Ok(Proved::Receipt(won)) => self.shown_receipt(claim, won, piece),
                    Ok(Proved::Hold | Proved::Release) => Err(Reject::of(Code::Malformed).into()),
                }
            }
        }
    }

    /// A hold that bears the escrow's signature.
    fn shown_hold(&mut self, shown: &Hold, piece: &Evidence) -> Result<ResubmitAnswer, Stop> {
        let place = self.view.find::<HoldKey>(Key::hold_id(&shown.id()))?.copied();
        let known = match place {
            Some(row) => Some((row, *self.view.need::<HoldRow>(Key::hold(row))?)),
            None => None,
        };
        let payer = self.account_row(&shown.terms.payer)?;
        // Who has no account is told so, and not that it has too little; but only if the hold counts at all.
        let balance = payer.map_or(shown.cap, |(_, payer)| payer.balance);
        let record = known.map(|(_, row)| judged(&row));
        match restore_hold(shown, record.as_ref(), balance, self.restored_at)? {
            HoldVerdict::Known => Ok(ResubmitAnswer::Known),
            HoldVerdict::Restore(hold) => {
                let (payer_row, _) = payer.ok_or(Stop::No(Reject::of(Code::AccountUnknown)))?;
                self.restore(payer_row, &hold, piece)
            }
            HoldVerdict::Raise(raised) => {
                let (row, _) = known.ok_or(Stop::No(Reject::of(Code::HoldUnknown)))?;
                self.raise_again(row, &raised, piece)
            }
        }
    }

    /// Opens a lost hold as it was, with its id, serial and revision.
    fn restore(&mut self, payer_row: u64, hold: &Hold, piece: &Evidence) -> Result<ResubmitAnswer, Stop> {
        let row = HoldKey {
            payer: payer_row,
            serial: hold.terms.serial,
        };
        // Two holds of one serial: the escrow has given it out again, and only one of them can be in its ledger.
        if self.view.find::<HoldRow>(Key::hold(row))?.is_some() {
            return Err(Reject::of(Code::HoldMismatch).into());
        }
        let payee = self.account_number(&hold.terms.payee)?;
        let signer = self.signer_row(payer_row, &hold.terms)?;
        let mut read = vec![ReadRow::Account(payer_row)];
        read.extend(signer);
        let reads = self.reads(&read);
        self.add_hold(row, hold, payee);
        self.commit_signer(signer, hold.cap);
        let postings = moved(Place::Account(payer_row), Place::Hold(row), hold.cap).to_vec();
        let body = self.event_body(cause_of(piece), Effect::Opened { hold: *hold }, postings, reads);
        self.book(body, &[payer_row], &[]);
        self.check_hold(row);
        Ok(ResubmitAnswer::Restored)
    }

    /// Raises a hold to a revision that was lost.
    fn raise_again(&mut self, row: HoldKey, raised: &TopUp, piece: &Evidence) -> Result<ResubmitAnswer, Stop> {
        let TopUp { hold, amount } = *raised;
        self.view.need::<AccountRow>(Key::account(row.payer))?;
        let signer = self.signer_row(row.payer, &hold.terms)?;
        let mut read = vec![ReadRow::Hold(row), ReadRow::Account(row.payer)];
        read.extend(signer);
        let reads = self.reads(&read);
        self.commit_signer(signer, amount);
        let signed_in = self.totals.next_place(self.config.writer);
        self.view.edit::<HoldRow>(Key::hold(row), |known| {
            known.hold = hold;
            known.signed_in = signed_in;
        });
        let postings = moved(Place::Account(row.payer), Place::Hold(row), amount).to_vec();
        let body = self.event_body(cause_of(piece), Effect::Raised { hold, amount }, postings, reads);
        self.book(body, &[row.payer], &[]);
        self.check_hold(row);
        Ok(ResubmitAnswer::Restored)
    }

    /// A receipt with its claim: pays what the ledger has not paid yet, and keeps the receipt as it was signed.
    fn shown_receipt(&mut self, claim: &Claim, won: &Winnings, piece: &Evidence) -> Result<ResubmitAnswer, Stop> {
        let (row, hold) = self.hold_row(&claim.book.body.hold)?;
        let book = self.view.find::<BookRow>(Key::book(row, &won.book))?;
        let book = book.map(|book| BookRecord {
            preimage: book.preimage,
            receipt: book.receipt,
        });
        match restore_receipt(won, book.as_ref(), &judged(&hold))? {
            Verdict::Repeat(_) => Ok(ResubmitAnswer::Known),
            Verdict::Capture(capture) => {
                self.capture(row, &hold, claim, won, &capture, Ground::Evidence(piece))?;
                Ok(ResubmitAnswer::Restored)
            }
        }
    }

    /// A payee's last word on a hold.
    fn shown_release(&mut self, release: &Release, piece: &Evidence) -> Result<ResubmitAnswer, Stop> {
        let (row, record) = self.hold_row(&release.hold)?;
        match escrow::release(release, &judged(&record))? {
            ReleaseVerdict::Repeat => Ok(ResubmitAnswer::Known),
            ReleaseVerdict::Return(returned) => {
                self.end_hold(row, &record, HoldState::Released, returned, cause_of(piece))?;
                Ok(ResubmitAnswer::Restored)
            }
        }
    }
}

/// The event says what was shown, so that whoever replays it can judge it again.
pub(super) fn cause_of(piece: &Evidence) -> Cause {
    Cause::Evidence {
        piece: Box::new(*piece),
    }
}
