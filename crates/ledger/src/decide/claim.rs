//! Claims: each is judged by itself, and is an event of its own if it pays.

use super::Work;
use super::hold::judged;
use super::recovery::cause_of;
use crate::draft::blank;
use crate::event::{Captured, Cause, Effect, Place, Posting, ReadRow};
use crate::key::{HoldKey, Key};
use crate::request::{Proof, VerifiedRequest};
use crate::row::{AccountRow, BookRow, HoldRow, Row};
use crate::view::Stop;
use tombola_core::amount::Amount;
use tombola_core::claim::{Claim, Receipt, Refusal, Winnings};
use tombola_core::escrow::{BookRecord, Capture, Verdict, judge};
use tombola_core::key::AccountKey;
use tombola_core::message::{ClaimAnswer, Evidence};
use tombola_core::reject::{Code, Reject};

/// Why a claim is paid.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ground<'a> {
    /// Its payee asked.
    Claim,
    /// It was paid before a rollback: the receipt stands as it was signed. Spec: R-25.
    Evidence(&'a Evidence),
}

impl Work<'_> {
    /// What verifying showed of each claim of a batch, or why there is nothing to judge.
    pub(crate) fn claims<'r>(&self, request: &'r VerifiedRequest) -> Result<&'r [Result<Winnings, Reject>], Reject> {
        match request.proof() {
            Proof::Claims(proofs) => Ok(proofs),
            Proof::Unsound(reject) => Err(*reject),
            Proof::Sound | Proof::Evidence(_) => Err(Reject::of(Code::NotOffered)),
        }
    }

    /// Judges one claim and pays it, repeats its receipt, or refuses it. Spec: R-12.
    pub(crate) fn claim(
        &mut self,
        payee: &AccountKey,
        claim: &Claim,
        proof: &Result<Winnings, Reject>,
    ) -> Result<ClaimAnswer, Stop> {
        self.view.begin();
        let (row, hold) = match self.hold_row(&claim.book.body.hold) {
            Ok(found) => found,
            Err(Stop::No(reject)) => return Ok(self.refuse(claim, None, reject)),
            Err(stop) => return Err(stop),
        };
        let winnings = match proof {
            Ok(winnings) => winnings,
            Err(reject) => return Ok(self.refuse(claim, Some(&hold), *reject)),
        };
        let book = self.view.find::<BookRow>(Key::book(row, &winnings.book))?;
        let book = book.map(|book| BookRecord {
            preimage: book.preimage,
            receipt: book.receipt,
        });
        match judge(winnings, payee, book.as_ref(), &judged(&hold)) {
            Err(reject) => Ok(self.refuse(claim, Some(&hold), reject)),
            Ok(Verdict::Repeat(receipt)) => Ok(ClaimAnswer::Receipt(blank(receipt))),
            Ok(Verdict::Capture(capture)) => {
                let receipt = self.capture(row, &hold, claim, winnings, &capture, Ground::Claim)?;
                Ok(ClaimAnswer::Receipt(blank(receipt)))
            }
        }
    }

    /// Books a paid claim.
    pub(super) fn capture(
        &mut self,
        row: HoldKey,
        hold: &HoldRow,
        claim: &Claim,
        winnings: &Winnings,
        capture: &Capture,
        ground: Ground<'_>,
    ) -> Result<Receipt, Stop> {
        self.view.need::<AccountRow>(Key::account(row.payer))?;
        let divided = self.divided(hold.payee, capture.credit)?;
        let mut read = vec![
            ReadRow::Hold(row),
            ReadRow::Book(row, winnings.book),
            ReadRow::Account(row.payer),
        ];
        read.extend(self.check_creditable(hold.payee)?);
        for (share, _) in divided.credits() {
            read.extend(self.check_creditable(share)?);
        }
        let reads = self.reads(&read);
        let captured = Captured {
            hold: claim.book.body.hold,
            book: winnings.book,
            through: winnings.through,
            winners: winnings.winners,
            gross: winnings.gross,
            fee: winnings.fee,
            hold_paid_after: capture.hold_paid_after,
            amount: capture.amount,
            signed_in: hold.signed_in,
            split: divided.version,
            shares: divided.listed(),
        };
        self.debit(row.payer, capture.amount);
        self.view
            .edit::<HoldRow>(Key::hold(row), |hold| hold.paid = capture.hold_paid_after);
        let cause = match ground {
            Ground::Claim => Cause::Claim {
                payee: hold.hold.terms.payee,
                claim: *claim,
            },
            Ground::Evidence(piece) => cause_of(piece),
        };
        let mut credits = vec![(hold.payee, divided.kept)];
        credits.extend(divided.credits());
        let places: Vec<(Place, Amount)> = credits
            .iter()
            .map(|(row, amount)| (self.credited(*row), *amount))
            .collect();
        let postings = capture_postings(row, &places, capture);
        let body = self.event_body(cause, Effect::Captured(captured.clone()), postings, reads);
        let logged = self.book(body, &[row.payer], &credits);
        self.check_hold(row);
        self.totals.claims = self.totals.claims.saturating_add(1);
        self.totals.winners = self.totals.winners.saturating_add(u64::from(capture.winners));
        let receipt = match ground {
            Ground::Evidence(Evidence::Receipt { receipt, .. }) => receipt.body,
            Ground::Claim | Ground::Evidence(_) => {
                captured.receipt(self.config.escrow, self.now, logged.place, logged.head)
            }
        };
        let entry = BookRow {
            preimage: winnings.preimage,
            receipt,
        };
        self.view.put(Key::book(row, &winnings.book), Row::Books(entry));
        Ok(receipt)
    }

    /// A refusal with the hold's standing at this moment. It changes nothing. Spec: R-14.
    fn refuse(&self, claim: &Claim, hold: Option<&HoldRow>, reject: Reject) -> ClaimAnswer {
        let zero = (0, Amount::ZERO, Amount::ZERO);
        let (revision, cap, paid) = hold.map_or(zero, |row| (row.hold.revision, row.hold.cap, row.paid));
        ClaimAnswer::Refusal(blank(Refusal {
            escrow: self.config.escrow,
            writer: self.config.writer,
            book: claim.book.body.id(),
            claim_hash: claim.hash(),
            code: reject.code,
            revision,
            cap,
            paid,
            at: self.now,
        }))
    }
}

/// From the hold to the payee and those it shares with, less the escrow's fee. Spec: G-07.
pub(crate) fn capture_postings(hold: HoldKey, credits: &[(Place, Amount)], capture: &Capture) -> Vec<Posting> {
    let posting = |place, delta| Posting { place, delta };
    let mut postings = vec![posting(
        Place::Hold(hold),
        0i128.saturating_sub(i128::from(capture.amount.0)),
    )];
    let credits = credits.iter();
    postings.extend(credits.map(|(place, amount)| posting(*place, i128::from(amount.0))));
    postings.push(posting(Place::Fees, i128::from(capture.fee.0)));
    postings
}
