//! Choosing, opening and topping up holds.

use super::paying::HoldInUse;
use super::{HoldFault, Inner, PayerBalance, PayerError, PayerEvent};
use crate::escrow_client::EscrowError;
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};
use tombola_core::amount::{Amount, Timestamp};
use tombola_core::hold::Hold;
use tombola_core::key::{AccountKey, HoldId, Signed};
use tombola_core::limits::{
    BOOK_LENGTH_MAX, EXPIRE_GRACE_MS, EXPIRE_SERVED_MS, EXPIRY_MARGIN_MS, OPEN_HOLDS_PER_ACCOUNT_MAX,
};
use tombola_core::message::{EscrowAnswer, EscrowCommand, Evidence, HoldRequest, HoldStatus};
use tombola_core::payer::Purchase;
use tombola_core::quote::QuoteTerms;
use tombola_core::reject::{Code, Reject};

/// A hold that ends sooner is not used again: a purchase may take a while.
const LIFE_LEFT_MIN_MS: u64 = 10 * EXPIRY_MARGIN_MS;

/// An account has no more open holds, whatever its escrow says.
const HOLDS_SHOWN_MAX: usize = OPEN_HOLDS_PER_ACCOUNT_MAX as usize;

/// First pause before an escrow that is away is asked again; doubles up to the last.
const AWAY_PAUSE_FIRST: Duration = Duration::from_millis(250);
const AWAY_PAUSE_LAST: Duration = Duration::from_secs(15);

/// The number of a hold among its payer's.
const fn serial_of(status: &HoldStatus) -> u64 {
    status.hold.body.terms.serial
}

/// Adds a page of holds and says whether to ask for the next: an escrow that leads nowhere, or on and on, is not followed.
fn add_page(holds: &mut Vec<HoldStatus>, page: &[HoldStatus], is_more: bool) -> bool {
    let (last, before) = (holds.last().map(serial_of), holds.len());
    let rising = page.iter().filter(|status| Some(serial_of(status)) > last);
    holds.extend(rising.copied());
    is_more && holds.len() > before && holds.len() < HOLDS_SHOWN_MAX
}

/// A hold taken by one purchase; free again when the last copy is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Lease {
    _held: Arc<Held>,
}

#[derive(Debug)]
struct Held {
    inner: Weak<Inner>,
    hold: HoldId,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.upgrade() {
            inner
                .leased
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&self.hold);
        }
    }
}

impl Inner {
    /// Takes a hold for one purchase, unless another has it.
    pub(crate) fn lease(self: &Arc<Self>, hold: HoldId) -> Option<Lease> {
        let is_free = self.leased.lock().unwrap_or_else(PoisonError::into_inner).insert(hold);
        is_free.then(|| Lease {
            _held: Arc::new(Held {
                inner: Arc::downgrade(self),
                hold,
            }),
        })
    }

    fn is_leased(&self, hold: &HoldId) -> bool {
        self.leased
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(hold)
    }

    /// The account with all of its open holds.
    pub(crate) async fn balance(&self) -> Result<PayerBalance, PayerError> {
        let account = self.account_page(0).await?;
        let mut holds = Vec::new();
        let mut is_more = add_page(&mut holds, account.holds.as_slice(), account.more);
        while is_more {
            let page = self.account_page(holds.last().map_or(0, serial_of)).await?;
            is_more = add_page(&mut holds, page.holds.as_slice(), page.more);
        }
        holds.iter().try_for_each(|status| self.check_status(status))?;
        Ok(PayerBalance { account, holds })
    }

    /// All open holds for a payee, oldest first.
    pub(crate) async fn open_holds(&self, payee: &AccountKey) -> Result<Vec<HoldStatus>, PayerError> {
        let mut holds = self.balance().await?.holds;
        holds.retain(|status| status.hold.body.terms.payee == *payee);
        Ok(holds)
    }

    /// An open hold that suits a purchase: the payee's, mine to sign, long enough, and with no more left than the ceiling.
    pub(crate) async fn suitable_hold(
        &self,
        quote: &QuoteTerms,
        purchase: &Purchase,
    ) -> Result<Option<HoldStatus>, PayerError> {
        let holds = self.open_holds(&quote.payee).await?;
        let now = self.escrow.time().await?;
        Ok(holds.into_iter().find(|status| {
            let terms = &status.hold.body.terms;
            let left = status.hold.body.cap.saturating_sub(status.paid);
            terms.signer == self.key.account()
                && terms.expires_at > now.plus_ms(LIFE_LEFT_MIN_MS)
                && (terms.face_value_min..=terms.face_value_max).contains(&purchase.face_value)
                && left <= purchase.spend_max
                && !self.is_leased(&status.hold.body.id())
        }))
    }

    /// Sets the purchase's cap aside for the payee.
    pub(crate) async fn open_hold(
        self: &Arc<Self>,
        quote: &QuoteTerms,
        purchase: &Purchase,
    ) -> Result<HoldInUse, PayerError> {
        let info = self.escrow.info().await?;
        let expires_at = info.time.plus_ms(self.terms.hold_life_ms);
        let hold = HoldRequest {
            signer: self.key.account(),
            payee: quote.payee,
            face_value_min: info.face_value_min.min(purchase.face_value),
            face_value_max: self.face_value_max(quote, purchase),
            book_length_max: BOOK_LENGTH_MAX,
            expires_at,
            redeem_by: expires_at.plus_ms(self.terms.redeem_window_ms),
            cap: purchase.cap,
            fee_max: self.terms.fee_max,
        };
        let (hold, answer) = match self.ask_hold(hold).await {
            // A delegation that ends before the hold would: the hold is to end with it.
            Err(EscrowError::Rejected(reject))
                if reject.code == Code::DelegationExpired && reject.need == expires_at.0 =>
            {
                let hold = hold_until(hold, Timestamp(reject.has), self.terms.redeem_window_ms);
                (hold, self.ask_hold(hold).await?)
            }
            answer => (hold, answer?),
        };
        let EscrowAnswer::Hold(signed) = answer else {
            return Err(PayerError::Unintelligible);
        };
        self.check_hold(&signed, &hold)?;
        self.keep(&signed, info.time);
        let lease = self.lease(signed.body.id()).ok_or(PayerError::Unintelligible)?;
        let (cap_max, room) = (purchase.spend_max, signed.body.cap);
        Ok(HoldInUse {
            hold: signed,
            cap_max,
            room,
            paid: Amount::ZERO,
            _lease: lease,
        })
    }

    async fn ask_hold(&self, hold: HoldRequest) -> Result<EscrowAnswer, EscrowError> {
        let request = self.escrow.request_header().await?;
        self.escrow.request(EscrowCommand::OpenHold { request, hold }).await
    }

    /// A hold serves later purchases too, so its faces go up to what the payee takes; a delegated signer may not know
    /// how far it may go, and asks for no more than it needs.
    fn face_value_max(&self, quote: &QuoteTerms, purchase: &Purchase) -> Amount {
        match self.account == self.key.account() {
            true => quote.face_value_max.max(purchase.face_value),
            false => purchase.face_value,
        }
    }

    /// A hold must say what was asked for, or tickets on it would be worth something else.
    fn check_hold(&self, signed: &Signed<Hold>, asked: &HoldRequest) -> Result<(), PayerError> {
        self.check_shown(signed)?;
        check_cap(signed, asked.cap)?;
        let terms = &signed.body.terms;
        let is_as_asked = terms.signer == asked.signer
            && terms.payee == asked.payee
            && terms.face_value_min == asked.face_value_min
            && terms.face_value_max == asked.face_value_max;
        if is_as_asked {
            Ok(())
        } else {
            Err(false_hold(signed, HoldFault::Terms))
        }
    }

    /// Whatever the escrow shows: nobody pays from a hold that the payee would refuse, or that is another's.
    fn check_shown(&self, signed: &Signed<Hold>) -> Result<(), PayerError> {
        let escrow = self.escrow.address().key;
        let is_signed = escrow
            .check()
            .map_err(Reject::from)
            .and_then(|key| signed.verify(&key).map_err(Reject::from));
        is_signed.map_err(|reject| false_hold(signed, HoldFault::Signature(reject)))?;
        let terms = &signed.body.terms;
        if terms.escrow == escrow && terms.payer == self.account {
            Ok(())
        } else {
            Err(false_hold(signed, HoldFault::Party))
        }
    }

    /// What a hold has paid raises how far it may be topped up, so it must be within the cap.
    fn check_status(&self, status: &HoldStatus) -> Result<(), PayerError> {
        self.check_shown(&status.hold)?;
        let (paid, cap) = (status.paid, status.hold.body.cap);
        if paid > cap {
            return Err(false_hold(&status.hold, HoldFault::Paid { paid, cap }));
        }
        Ok(())
    }

    /// Raises a hold's cap; goes on from the escrow's revision where ours is behind.
    pub(crate) async fn top_up(&self, hold: &Signed<Hold>, cap: Amount) -> Result<Signed<Hold>, PayerError> {
        let id = hold.body.id();
        let mut current = *hold;
        for _ in 0..2 {
            if current.body.cap >= cap {
                return Ok(current);
            }
            let (request, revision) = (self.escrow.request_header().await?, current.body.revision);
            match self
                .escrow
                .request(EscrowCommand::TopUpHold {
                    request,
                    hold: id,
                    revision,
                    cap,
                })
                .await?
            {
                EscrowAnswer::Hold(raised) if raised.body.id() == id => {
                    self.check_shown(&raised)?;
                    check_cap(&raised, cap)?;
                    self.keep(&raised, request.issued_at);
                    return Ok(raised);
                }
                EscrowAnswer::RevisionStale(newer) if newer.body.id() == id => {
                    self.check_shown(&newer)?;
                    if newer.body.cap >= cap {
                        return check_cap(&newer, cap).map(|()| newer);
                    }
                    current = newer;
                }
                _ => return Err(PayerError::Unintelligible),
            }
        }
        Err(PayerError::Escrow(EscrowError::Rejected(Reject::of(
            Code::RevisionStale,
        ))))
    }

    /// Writes a hold down, and forgets those whose time has run out.
    fn keep(&self, hold: &Signed<Hold>, now: Timestamp) {
        let gone = now.minus_ms(EXPIRE_GRACE_MS).minus_ms(EXPIRE_SERVED_MS);
        self.store.keep(hold, gone);
    }

    /// Shows an escrow that was rolled back the holds that it may have lost, once a connection. Spec: R-25.
    pub(crate) async fn resubmit(&self) -> Result<(), EscrowError> {
        let mut resubmitting = self.resubmitting.lock().await;
        if !resubmitting.is_due(&self.escrow).await {
            return Ok(());
        }
        let evidence = || match self.store.holds() {
            Ok(holds) => holds.into_iter().map(Evidence::Hold).collect(),
            Err(error) => {
                tracing::error!(%error, "what the escrow signed cannot be read");
                Vec::new()
            }
        };
        resubmitting.tend(&self.escrow, evidence).await.map(drop)
    }

    /// As [`Self::top_up`], waiting for an escrow that is away as long as the configuration says. A repeat moves money
    /// once: the cap is set, not added to, and only on the revision that was seen. Spec: W-01.
    pub(crate) async fn top_up_patiently(
        &self,
        hold: &Signed<Hold>,
        cap: Amount,
        on_event: &(dyn Fn(PayerEvent) + Send + Sync),
    ) -> Result<Signed<Hold>, PayerError> {
        let (began, patience) = (Instant::now(), Duration::from_millis(self.terms.escrow_patience_ms));
        let mut pause = AWAY_PAUSE_FIRST;
        loop {
            let away = match self.top_up(hold, cap).await {
                Err(away @ PayerError::Escrow(EscrowError::Away(_))) => away,
                outcome => return outcome,
            };
            let waited = began.elapsed();
            let left = patience.saturating_sub(waited);
            if left.is_zero() {
                return Err(away);
            }
            let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            on_event(PayerEvent::EscrowAway {
                waited_ms: ms(waited),
                patience_ms: ms(patience),
            });
            tokio::time::sleep(pause.min(left)).await;
            pause = (pause * 2).min(AWAY_PAUSE_LAST);
        }
    }

    /// How a hold stands at the escrow.
    pub(crate) async fn hold_status(&self, hold: HoldId) -> Result<HoldStatus, PayerError> {
        match self.escrow.request(EscrowCommand::HoldStatus { hold }).await? {
            EscrowAnswer::HoldStatus(status) if status.hold.body.id() == hold => {
                self.check_status(&status).map(|()| status)
            }
            _ => Err(PayerError::Unintelligible),
        }
    }
}

fn false_hold(signed: &Signed<Hold>, fault: HoldFault) -> PayerError {
    let hold = signed.body.id();
    PayerError::FalseHold { hold, fault }
}

/// A hold of a larger cap lets the payee take more than its payer has agreed to.
fn check_cap(signed: &Signed<Hold>, asked: Amount) -> Result<(), PayerError> {
    let given = signed.body.cap;
    if given == asked {
        return Ok(());
    }
    Err(false_hold(signed, HoldFault::Cap { asked, given }))
}

/// The same hold with another end.
const fn hold_until(hold: HoldRequest, expires_at: Timestamp, redeem_window_ms: u64) -> HoldRequest {
    HoldRequest {
        expires_at,
        redeem_by: expires_at.plus_ms(redeem_window_ms),
        ..hold
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payer::store::tests::hold;
    use tombola_core::message::HoldState;

    fn page(serials: std::ops::Range<u64>) -> Vec<HoldStatus> {
        let status = |serial| HoldStatus {
            hold: hold(serial, 0),
            paid: Amount(0),
            state: HoldState::Open,
        };
        serials.map(status).collect()
    }

    #[test]
    fn an_escrow_whose_pages_never_end_is_not_followed() {
        let mut holds = Vec::new();
        assert!(add_page(&mut holds, &page(1..101), true));
        assert!(!add_page(&mut holds, &page(1..101), true), "it led back");
        assert!(!add_page(&mut holds, &[], true), "it led nowhere");
        assert!(add_page(&mut holds, &page(51..151), true));
        assert!(!add_page(&mut holds, &page(151..201), false), "that was all");
        let serials: Vec<u64> = holds.iter().map(serial_of).collect();
        assert_eq!(serials, (1..201).collect::<Vec<_>>());
        let pages = (1..).take_while(|n| add_page(&mut holds, &page(n * 200 + 1..n * 200 + 201), true));
        assert_eq!(pages.take(100).count(), 3, "there are no more than 1,000 holds");
    }
}
