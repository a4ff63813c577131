//! `Statement` and `Subscribe`: an account's history, made from the log.

use super::account::Viewer;
use super::{Asked, Failure, account_row, decode, load_all, page};
use crate::draft::blank;
use crate::event::{Captured, Cause, Effect, Event};
use crate::holds::load_row;
use crate::key::Key;
use crate::row::{Side, StatementRow, Table};
use crate::store::{Reader, StoreFault};
use tombola_core::amount::Amount;
use tombola_core::claim::{Claim, Receipt};
use tombola_core::codec::List;
use tombola_core::escrow::payout::PayoutOutcome;
use tombola_core::key::AccountKey;
use tombola_core::message::{
    Charge, EscrowAnswer, EscrowCommand, EscrowRequest, Evidence, Redemption, STATEMENT_ITEMS_MAX, StatementEntry,
    StatementKind, StatementPage,
};

impl<R: Reader> Asked<'_, R> {
    /// A page of an account's history, and how many entries were read for it. Spec: R-16.
    pub(super) async fn statement(&self, after: u64) -> Result<(EscrowAnswer, usize), Failure> {
        let viewer = self.viewer().await?;
        let (row, _) = account_row(self.reader, self.account).await?;
        let entry = |number| Key::statement(row, number);
        let (page, more) = page(self.reader, entry, after, STATEMENT_ITEMS_MAX).await?;
        let mut notes = Vec::with_capacity(page.len());
        for (key, stored) in &page {
            notes.push((key.last_number(), decode::<StatementRow>(*key, stored)?));
        }
        let keys: Vec<Key> = notes.iter().map(|(_, note)| Key::event(note.place)).collect();
        let events = load_all::<R, Event>(self.reader, &keys).await?;
        let mut entries = Vec::with_capacity(events.len());
        for ((sequence, note), event) in notes.into_iter().zip(&events) {
            let kind = self.kind(event, note.side).await?;
            let entry = StatementEntry {
                sequence,
                at: event.body.at,
                balance: note.balance,
                kind,
            };
            entries.push(match viewer {
                Viewer::Owner => entry,
                Viewer::Signer(_) => shown_to(self.connection, entry, event),
            });
        }
        let page = StatementPage {
            entries: List::new(entries).map_err(|_| StoreFault::Damaged)?,
            more,
        };
        Ok((EscrowAnswer::Statement(page), keys.len()))
    }

    /// An event as one of its accounts sees it.
    async fn kind(&self, event: &Event, side: Side) -> Result<StatementKind, Failure> {
        let damaged = StoreFault::DamagedRow(Table::Events);
        if let Effect::Captured(captured) = &event.body.effect {
            return self.captured(event, captured, side).await;
        }
        let kind = match (&event.body.effect, &event.body.cause) {
            (Effect::Deposited, Cause::Deposit { amount, reference, .. }) => Some(StatementKind::Deposited {
                amount: *amount,
                reference: reference.clone(),
            }),
            (Effect::Transferred, Cause::Request { request, .. }) => transferred(self.account, request),
            (Effect::Collected, Cause::Collect { amount, reference, .. }) => Some(StatementKind::Received {
                from: self.config.escrow,
                amount: *amount,
                reference: reference.clone(),
                book: None,
            }),
            (effect, cause) => own(effect, cause),
        };
        kind.ok_or_else(|| damaged.into())
    }

    /// A paid claim as payer, payee, or an account that has a share of it sees it.
    async fn captured(&self, event: &Event, captured: &Captured, side: Side) -> Result<StatementKind, Failure> {
        let body = &event.body;
        let receipt = captured.receipt(self.config.escrow, body.at, event.place(), event.head());
        let (claim, receipt) = claimed(&body.cause, receipt).ok_or(StoreFault::DamagedRow(Table::Events))?;
        let charge = charge(self.reader, captured, claim, receipt).await?;
        let payee = charge.hold.body.terms.payee;
        Ok(match side {
            Side::Own => StatementKind::Charged(Box::new(charge)),
            Side::Credited if payee == *self.account => StatementKind::Redeemed(Box::new(Redemption {
                charge,
                shares: captured.shares.clone(),
            })),
            Side::Credited => {
                let mut shares = captured.shares.as_slice().iter();
                let share = shares.find(|share| share.account == *self.account);
                StatementKind::Shared {
                    payee,
                    book: captured.book,
                    amount: share.map_or(Amount::ZERO, |share| share.amount),
                }
            }
        })
    }
}

/// The claim behind a capture, and the receipt that its book keeps.
fn claimed(cause: &Cause, receipt: Receipt) -> Option<(&Claim, Receipt)> {
    match cause {
        Cause::Claim { claim, .. } => Some((claim, receipt)),
        Cause::Evidence { piece } => match piece.as_ref() {
            Evidence::Receipt { claim, receipt } => Some((claim, receipt.body)),
            Evidence::Hold(_) | Evidence::Release(_) => None,
        },
        Cause::Deposit { .. }
        | Cause::Expire { .. }
        | Cause::Request { .. }
        | Cause::PayOut { .. }
        | Cause::Settle { .. }
        | Cause::Collect { .. }
        | Cause::Fold { .. }
        | Cause::RemoveWriter { .. } => None,
    }
}

/// What an account did, or an operator with it.
fn own(effect: &Effect, cause: &Cause) -> Option<StatementKind> {
    Some(match effect {
        Effect::Opened { hold } => StatementKind::Held {
            hold: Box::new(blank(*hold)),
            amount: hold.cap,
        },
        Effect::Raised { hold, amount } => StatementKind::Held {
            hold: Box::new(blank(*hold)),
            amount: *amount,
        },
        Effect::Ended {
            hold,
            state,
            paid,
            returned,
            ..
        } => StatementKind::Returned {
            hold: *hold,
            paid: *paid,
            amount: *returned,
            state: *state,
        },
        Effect::Withdrawn {
            withdrawal,
            amount,
            fee,
            destination,
            reference,
        } => StatementKind::Withdrawn {
            withdrawal: *withdrawal,
            amount: *amount,
            fee: *fee,
            destination: destination.clone(),
            reference: reference.clone(),
        },
        Effect::Settled { amount, .. } => settled(*amount, cause)?,
        Effect::Deposited
        | Effect::Captured(_)
        | Effect::Transferred
        | Effect::Folded { .. }
        | Effect::PayoutSet
        | Effect::SplitSet
        | Effect::Delegated
        | Effect::Collected
        | Effect::WriterRemoved { .. } => return None,
    })
}

fn settled(amount: Amount, cause: &Cause) -> Option<StatementKind> {
    let Cause::Settle {
        withdrawal,
        outcome,
        reference,
    } = cause
    else {
        return None;
    };
    let (withdrawal, reference) = (*withdrawal, reference.clone());
    Some(match outcome {
        PayoutOutcome::Paid => StatementKind::WithdrawalPaid { withdrawal, reference },
        PayoutOutcome::Failed => StatementKind::WithdrawalFailed {
            withdrawal,
            amount,
            reference,
        },
    })
}

/// What a signer may see of an entry: only what is of holds that it signs. Spec: A-06.
fn shown_to(signer: &AccountKey, entry: StatementEntry, event: &Event) -> StatementEntry {
    let is_theirs = match (&entry.kind, &event.body.effect) {
        (StatementKind::Held { hold, .. }, _) => hold.body.terms.signer == *signer,
        (StatementKind::Charged(charge), _) => charge.hold.body.terms.signer == *signer,
        (StatementKind::Returned { .. }, Effect::Ended { signer: of_hold, .. }) => of_hold == signer,
        _ => false,
    };
    StatementEntry {
        balance: Amount::ZERO,
        kind: if is_theirs { entry.kind } else { StatementKind::Private },
        ..entry
    }
}

async fn charge<R: Reader>(
    reader: &R,
    captured: &Captured,
    claim: &Claim,
    receipt: Receipt,
) -> Result<Charge, Failure> {
    // From the log: the row of an old hold is pruned.
    let signed: Option<Event> = load_row(reader, Key::event(captured.signed_in)).await?;
    let (Some(Effect::Opened { hold }) | Some(Effect::Raised { hold, .. })) = signed.map(|event| event.body.effect)
    else {
        return Err(StoreFault::DamagedRow(Table::Events).into());
    };
    Ok(Charge {
        hold: blank(hold),
        claim: *claim,
        receipt: blank(receipt),
        amount: captured.amount,
    })
}

fn transferred(account: &AccountKey, request: &EscrowRequest) -> Option<StatementKind> {
    let EscrowCommand::Transfer {
        to,
        amount,
        reference,
        book,
        ..
    } = &request.command
    else {
        return None;
    };
    let (amount, reference) = (*amount, reference.clone());
    Some(if request.account == *account {
        StatementKind::Sent {
            to: *to,
            amount,
            reference,
        }
    } else {
        StatementKind::Received {
            from: request.account,
            amount,
            reference,
            book: *book,
        }
    })
}
