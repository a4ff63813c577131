//! The escrow's rules: what a hold, a top-up, a claim, a release, an expiry, a transfer, a payout, a split, a delegated
//! signer and a recovery may do. Pure functions.
//!
//! Each takes the records as the ledger has them and says what must change or why not; none of them reads a clock, a
//! key or a store. Whoever keeps the records (the ledger) books what they answer in the same commit, or nothing.
//!
//! ```text
//! hold:  -open-> Open -release-> Released     Open pays claims and takes top-ups, whatever the clock says.
//!                Open -expire--> Expired      Both ends are final; a repeated claim still gets its last receipt.
//! ```

mod clock;
pub mod delegation;
mod expiry;
pub mod payout;
pub mod recovery;
pub mod split;

pub use clock::{ClockJump, ClockWatch, Clocks};
pub use expiry::{Served, expire};

use crate::amount::{Amount, Asset, Timestamp};
use crate::chain::Preimage;
use crate::claim::{Receipt, Winnings};
use crate::hold::{Fee, Hold, HoldTerms, Release};
use crate::key::AccountKey;
use crate::limits::{HOLD_LIFE_MAX_MS, OPEN_HOLDS_PER_ACCOUNT_MAX, REQUEST_AGE_MAX_MS, REQUEST_AHEAD_MAX_MS};
use crate::message::{HoldRequest, HoldState, Reference, RequestHeader};
use crate::reject::{Code, Reject};

/// What an escrow is and what it allows; the same for all its life, apart from fee and limits of new holds. Spec: R-04.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EscrowConfig {
    /// Its key, which is the network id.
    pub escrow: AccountKey,
    /// Its one asset.
    pub asset: Asset,
    /// A name for people.
    pub name: Reference,
    /// Fee of new holds.
    pub fee: Fee,
    /// Smallest face value of new holds.
    pub face_value_min: Amount,
    /// Smallest cap of new holds.
    pub cap_min: Amount,
    /// Which of the escrow's writers this is; 0 where there is only one.
    pub writer: u32,
    /// What it keeps of each payout.
    pub payout_fee: Amount,
    /// Smallest withdrawal.
    pub payout_min: Amount,
    /// How often it was rolled back; the upper part of serials of new holds.
    pub epoch: u32,
}

/// A hold as the ledger has it. Spec: H-05.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HoldRecord {
    /// The current revision.
    pub hold: Hold,
    /// What it has paid, gross.
    pub paid: Amount,
    /// Open, released or expired.
    pub state: HoldState,
}

impl HoldRecord {
    /// What the hold can still pay, or had left when it ended.
    #[must_use]
    pub const fn left(&self) -> Amount {
        self.hold.cap.saturating_sub(self.paid)
    }

    /// Whether it still pays and takes top-ups. Spec: H-05.
    ///
    /// # Errors
    /// `hold_released`, `hold_expired`.
    pub const fn check_open(&self) -> Result<(), Reject> {
        match self.state {
            HoldState::Open => Ok(()),
            HoldState::Released => Err(Reject::of(Code::HoldReleased)),
            HoldState::Expired => Err(Reject::of(Code::HoldExpired)),
        }
    }
}

/// A book of which something was paid, as the ledger has it. Spec: R-12.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BookRecord {
    /// `w[through]` of the last receipt.
    pub preimage: Preimage,
    /// The last receipt: through, winners, gross and fee so far.
    pub receipt: Receipt,
}

/// What to do about a claim that proves its winnings. Spec: R-12.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Pay the difference.
    Capture(Capture),
    /// All of it was paid before: answer with this receipt, byte for byte.
    Repeat(Receipt),
}

/// What a claim takes from its hold. Spec: R-12.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capture {
    /// From the hold.
    pub amount: Amount,
    /// Of that to the escrow.
    pub fee: Amount,
    /// Of that to the payee: amount less fee.
    pub credit: Amount,
    /// Winners that were not paid before.
    pub winners: u32,
    /// What the hold has paid in all, after this.
    pub hold_paid_after: Amount,
}

/// Judges a claim whose winnings were verified before. Spec: R-12.
///
/// It sees hold, book and claim and no clock: a claim is paid until the expiry of its hold is ordered. Claims of a book
/// are cumulative, so a larger `through` pays the difference and any other one repeats the last receipt, also after
/// the hold has ended. A claim over what is left is refused whole.
///
/// # Errors
/// `wrong_payee`, `hold_released`, `hold_expired`, `chain_broken`, `claim_over_cap` (need, has).
pub fn judge(
    winnings: &Winnings,
    claimant: &AccountKey,
    book: Option<&BookRecord>,
    hold: &HoldRecord,
) -> Result<Verdict, Reject> {
    if *claimant != hold.hold.terms.payee {
        return Err(Reject::of(Code::WrongPayee));
    }
    let before = book.map(|book| &book.receipt);
    if let Some(receipt) = before
        && winnings.through <= receipt.through
    {
        return Ok(Verdict::Repeat(*receipt));
    }
    hold.check_open()?;
    let (winners, gross, fee) = before.map_or((0, Amount::ZERO, Amount::ZERO), |r| (r.winners, r.gross, r.fee));
    // One anchor has one chain, so what was paid before is a part of what is claimed now.
    let broken = Reject::of(Code::ChainBroken);
    let amount = winnings.gross.checked_sub(gross).ok_or(broken)?;
    let fee = winnings.fee.checked_sub(fee).ok_or(broken)?;
    let credit = amount.checked_sub(fee).ok_or(broken)?;
    let winners = winnings.winners.checked_sub(winners).ok_or(broken)?;
    let over = Reject::compared(Code::ClaimOverCap, amount.0, hold.left().0);
    let hold_paid_after = hold.paid.checked_add(amount).ok_or(over)?;
    if hold_paid_after > hold.hold.cap {
        return Err(over);
    }
    Ok(Verdict::Capture(Capture {
        amount,
        fee,
        credit,
        winners,
        hold_paid_after,
    }))
}

/// The payer's account when a hold is asked for. Spec: H-06.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PayerRecord {
    /// Whose.
    pub account: AccountKey,
    /// What it can spend.
    pub balance: Amount,
    /// How many of its holds are open.
    pub open_holds: u32,
    /// The serial of its next hold in this epoch; one of an epoch before counts as the first of this one.
    pub serial: u64,
}

/// Decides on a new hold; its cap is to be moved from balance to hold. Spec: H-06.
///
/// # Errors
/// `self_hold`, `face_out_of_range`, `book_too_long`, `time_out_of_range`, `redeem_window_short`, `cap_out_of_range`,
/// `fee_too_high`, `busy` (open holds), `insufficient_funds`.
pub fn open(request: &HoldRequest, payer: &PayerRecord, config: &EscrowConfig, now: Timestamp) -> Result<Hold, Reject> {
    let hold = Hold {
        terms: HoldTerms {
            escrow: config.escrow,
            asset: config.asset,
            payer: payer.account,
            signer: request.signer,
            payee: request.payee,
            serial: recovery::next_serial(payer.serial, config.epoch),
            fee: config.fee,
            face_value_min: request.face_value_min,
            face_value_max: request.face_value_max,
            book_length_max: request.book_length_max,
            opened_at: now,
            expires_at: request.expires_at,
            redeem_by: request.redeem_by,
        },
        revision: 0,
        cap: request.cap,
    };
    hold.check_shape()?;
    check_terms(&hold, &request.fee_max, config)?;
    if payer.open_holds >= OPEN_HOLDS_PER_ACCOUNT_MAX {
        let (limit, now) = (u64::from(OPEN_HOLDS_PER_ACCOUNT_MAX), u64::from(payer.open_holds));
        return Err(Reject::compared(Code::Busy, limit, now));
    }
    check_funds(request.cap, payer.balance)?;
    Ok(hold)
}

/// The escrow's own limits on a well-shaped new hold, and the payer's on the fee.
fn check_terms(hold: &Hold, fee_max: &Fee, config: &EscrowConfig) -> Result<(), Reject> {
    let terms = &hold.terms;
    if terms.face_value_min < config.face_value_min {
        let (limit, given) = (config.face_value_min.0, terms.face_value_min.0);
        return Err(Reject::compared(Code::FaceOutOfRange, limit, given));
    }
    let latest = terms.opened_at.plus_ms(HOLD_LIFE_MAX_MS);
    if terms.redeem_by > latest {
        return Err(Reject::compared(Code::TimeOutOfRange, latest.0, terms.redeem_by.0));
    }
    if hold.cap < config.cap_min || hold.cap.is_zero() {
        return Err(Reject::compared(
            Code::CapOutOfRange,
            config.cap_min.0.max(1),
            hold.cap.0,
        ));
    }
    if terms.fee.flat > fee_max.flat {
        return Err(Reject::compared(Code::FeeTooHigh, fee_max.flat.0, terms.fee.flat.0));
    }
    if terms.fee.ppm > fee_max.ppm {
        let (limit, fee) = (u64::from(fee_max.ppm), u64::from(terms.fee.ppm));
        return Err(Reject::compared(Code::FeeTooHigh, limit, fee));
    }
    Ok(())
}

/// Whether there is as much as is needed.
///
/// # Errors
/// `insufficient_funds` (need, has).
pub fn check_funds(need: Amount, has: Amount) -> Result<(), Reject> {
    if need > has {
        return Err(Reject::compared(Code::InsufficientFunds, need.0, has.0));
    }
    Ok(())
}

/// A raised hold, and what is to be moved into it. Spec: H-08.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopUp {
    /// The next revision.
    pub hold: Hold,
    /// By how much its cap rose.
    pub amount: Amount,
}

/// Decides on a top-up. A stale revision is answered with the current hold, by whoever calls this. Spec: H-08.
///
/// # Errors
/// `hold_released`, `hold_expired`, `revision_stale` (current, given), `cap_out_of_range` (current, given),
/// `insufficient_funds`.
pub fn top_up(hold: &HoldRecord, revision: u32, cap: Amount, balance: Amount) -> Result<TopUp, Reject> {
    hold.check_open()?;
    let current = &hold.hold;
    if revision != current.revision {
        let (current, given) = (u64::from(current.revision), u64::from(revision));
        return Err(Reject::compared(Code::RevisionStale, current, given));
    }
    let out_of_range = Reject::compared(Code::CapOutOfRange, current.cap.0, cap.0);
    let amount = cap.checked_sub(current.cap).ok_or(out_of_range)?;
    let revision = current.revision.checked_add(1).ok_or(out_of_range)?;
    if amount.is_zero() {
        return Err(out_of_range);
    }
    check_funds(amount, balance)?;
    let hold = Hold {
        terms: current.terms,
        revision,
        cap,
    };
    Ok(TopUp { hold, amount })
}

/// What comes of a release that its payee signed. Spec: H-07.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReleaseVerdict {
    /// The hold ends and this goes back to the payer.
    Return(Amount),
    /// It was released before: the same answer again.
    Repeat,
}

/// Decides on a release; the signature was verified before. Spec: H-07.
///
/// # Errors
/// `release_mismatch` (ledger, given), `hold_expired`.
pub fn release(release: &Release, hold: &HoldRecord) -> Result<ReleaseVerdict, Reject> {
    if release.paid != hold.paid {
        return Err(Reject::compared(Code::ReleaseMismatch, hold.paid.0, release.paid.0));
    }
    match hold.state {
        HoldState::Open => Ok(ReleaseVerdict::Return(hold.left())),
        HoldState::Released => Ok(ReleaseVerdict::Repeat),
        HoldState::Expired => hold.check_open().map(|()| ReleaseVerdict::Repeat),
    }
}

/// Decides on a transfer. Spec: R-15.
///
/// # Errors
/// `amount_zero`, `bad_terms` to oneself, `insufficient_funds`.
pub fn transfer(from: &AccountKey, to: &AccountKey, amount: Amount, balance: Amount) -> Result<(), Reject> {
    if amount.is_zero() {
        return Err(Reject::of(Code::AmountZero));
    }
    if from == to {
        return Err(Reject::of(Code::BadTerms));
    }
    check_funds(amount, balance)
}

/// Decides on a deposit: all money inside of a ledger fits in one amount, so no account can overflow. Spec: R-17.
///
/// What is inside is what came in less what was paid out: balances, open holds, fees and pending withdrawals.
///
/// # Errors
/// `amount_zero`, `supply_exceeded` (room, amount).
pub fn deposit(amount: Amount, inside: Amount) -> Result<(), Reject> {
    if amount.is_zero() {
        return Err(Reject::of(Code::AmountZero));
    }
    let room = u64::MAX.saturating_sub(inside.0);
    if amount.0 > room {
        return Err(Reject::compared(Code::SupplyExceeded, room, amount.0));
    }
    Ok(())
}

/// Whether a request was issued lately. Asked only after looking for a kept answer. Spec: R-02.
///
/// # Errors
/// `request_expired` (oldest, issued_at), `request_in_future` (latest, issued_at).
pub fn check_issued(request: &RequestHeader, now: Timestamp) -> Result<(), Reject> {
    let oldest = now.minus_ms(REQUEST_AGE_MAX_MS);
    if request.issued_at < oldest {
        return Err(Reject::compared(Code::RequestExpired, oldest.0, request.issued_at.0));
    }
    let latest = now.plus_ms(REQUEST_AHEAD_MAX_MS);
    if request.issued_at > latest {
        return Err(Reject::compared(Code::RequestInFuture, latest.0, request.issued_at.0));
    }
    Ok(())
}

/// The time of the next event: never before the last one, whatever the clock does. Spec: C-02.
#[must_use]
pub fn ledger_time(last: Timestamp, clock: Timestamp) -> Timestamp {
    last.max(clock)
}

#[cfg(test)]
mod tests;
