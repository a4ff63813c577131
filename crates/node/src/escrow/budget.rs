//! What requests cost an escrow, so that no key causes more work than its share, and how large their answers may be.

use crate::meter::{Meter, Overdrawn};
use std::time::Instant;
use tombola_core::codec::MESSAGE_BYTES_MAX;
use tombola_core::key::AccountKey;
use tombola_core::limits::{HASHES_PER_PAYEE_PER_SECOND, OPEN_HOLDS_PER_ACCOUNT_MAX, PAGE_ITEMS_MAX};
use tombola_core::message::{EscrowCommand, EscrowRequest};
use tombola_core::reject::{Code, Reject};
use tombola_ledger::request::pieces_of;

/// Hashes for one ticket of a claim: a step of the chain and a draw.
const HASHES_PER_TICKET: u64 = 2;
/// A request's signatures, its reads and its share of a commit take as long as this many hashes, or less.
const HASHES_PER_REQUEST: u64 = 1_000;
/// And each claim of a batch or piece of evidence besides: whatever it proves, it is read for and checked.
const HASHES_PER_PIECE: u64 = 700;
/// What stays in the log for good and may have cost its sender nothing: one key adds 400 such events a second at most.
/// A claim moves what was won, and is charged for what verifying it takes.
const HASHES_PER_FREE_EVENT: u64 = 20_000;
/// Reading one object for an answer that has many, and signing it.
const HASHES_PER_OBJECT: u64 = 300;
/// Most answers are one signed object with what belongs to it.
const SMALL_ANSWER_BYTES: usize = 2_048;
/// Of the answer to one claim: a receipt, or a refusal, with its envelope.
const CLAIM_ANSWER_BYTES: usize = 448;

/// What each key has caused and not yet worked off.
#[derive(Debug)]
pub(super) struct Budgets(Meter<AccountKey>);

impl Default for Budgets {
    fn default() -> Self {
        Self(Meter::new(HASHES_PER_PAYEE_PER_SECOND))
    }
}

impl Budgets {
    /// Takes what a request can cost from the budget of a key, before any of it is spent.
    ///
    /// # Errors
    /// `busy` (hashes a second, outstanding).
    pub(super) fn take(&mut self, key: AccountKey, request: &EscrowRequest, now: Instant) -> Result<(), Reject> {
        let busy = |Overdrawn { limit, owed }| Reject::compared(Code::Busy, limit, owed);
        self.0.check(&key, now).map_err(busy)?;
        let pieces = u64::try_from(pieces_of(request).len()).unwrap_or(u64::MAX);
        let hashes = hashes_of(tickets_max(request))
            .saturating_add(HASHES_PER_PIECE.saturating_mul(pieces))
            .saturating_add(hashes_of_rows(rows_max(&key, request)))
            .saturating_add(hashes_of_command(&request.command))
            .saturating_add(HASHES_PER_REQUEST);
        self.0.charge(key, hashes, now);
        Ok(())
    }

    /// Makes a key owe so many seconds' worth.
    #[cfg(test)]
    pub(super) fn owe(&mut self, key: AccountKey, seconds: u64) {
        self.0
            .charge(key, seconds * HASHES_PER_PAYEE_PER_SECOND, Instant::now());
    }

    #[cfg(test)]
    pub(super) fn charged(&self, key: &AccountKey) -> u64 {
        self.0.charged(key)
    }

    /// Gives back what a request was charged beyond the tickets that were walked for it, as most bad claims are refused
    /// before their walk.
    pub(super) fn settle(&mut self, key: &AccountKey, max: u64, walked: u64) {
        self.0.give_back(key, hashes_of(max.saturating_sub(walked)));
    }
}

impl Budgets {
    /// Gives back what a request was charged beyond the rows that were read for it, shown or not.
    pub(super) fn settle_rows(&mut self, key: &AccountKey, request: &EscrowRequest, read: usize) {
        let unread = rows_max(key, request).saturating_sub(read);
        self.0.give_back(key, hashes_of_rows(unread));
    }
}

/// Hashes for walking so many tickets.
const fn hashes_of(tickets: u64) -> u64 {
    tickets.saturating_mul(HASHES_PER_TICKET)
}

/// What a command costs besides: keys that were never seen take as long to check as a signature, and an event that moves an atom takes as much room for ever as one that moves a fortune.
fn hashes_of_command(command: &EscrowCommand) -> u64 {
    match command {
        EscrowCommand::SetSplit { shares, .. } => {
            let shares = u64::try_from(shares.as_slice().len()).unwrap_or(u64::MAX);
            shares
                .saturating_mul(HASHES_PER_PIECE)
                .saturating_add(HASHES_PER_FREE_EVENT)
        }
        EscrowCommand::OpenHold { .. }
        | EscrowCommand::TopUpHold { .. }
        | EscrowCommand::Delegate { .. }
        | EscrowCommand::Transfer { .. }
        | EscrowCommand::Withdraw { .. }
        | EscrowCommand::SetPayout { .. } => HASHES_PER_FREE_EVENT,
        // Pages cost what is read for them, and a subscription takes page by page what a statement costs. What a hold pays and that it ends happens as often as
        // holds were opened and their money was won.
        EscrowCommand::Account { .. }
        | EscrowCommand::Statement { .. }
        | EscrowCommand::Subscribe { .. }
        | EscrowCommand::Info
        | EscrowCommand::HoldStatus { .. }
        | EscrowCommand::Release(_)
        | EscrowCommand::Claim { .. }
        | EscrowCommand::Resubmit { .. } => 0,
    }
}

/// Rows that an answer of many is made from at most: a signer is shown its own holds of all that are open.
fn rows_max(key: &AccountKey, request: &EscrowRequest) -> usize {
    match &request.command {
        EscrowCommand::Account { .. } if *key != request.account => {
            usize::try_from(OPEN_HOLDS_PER_ACCOUNT_MAX).unwrap_or(usize::MAX)
        }
        EscrowCommand::Account { .. } | EscrowCommand::Statement { .. } => PAGE_ITEMS_MAX,
        EscrowCommand::Subscribe { .. }
        | EscrowCommand::Info
        | EscrowCommand::OpenHold { .. }
        | EscrowCommand::TopUpHold { .. }
        | EscrowCommand::HoldStatus { .. }
        | EscrowCommand::Release(_)
        | EscrowCommand::Claim { .. }
        | EscrowCommand::Delegate { .. }
        | EscrowCommand::Transfer { .. }
        | EscrowCommand::Withdraw { .. }
        | EscrowCommand::SetPayout { .. }
        | EscrowCommand::SetSplit { .. }
        | EscrowCommand::Resubmit { .. } => 0,
    }
}

fn hashes_of_rows(rows: usize) -> u64 {
    HASHES_PER_OBJECT.saturating_mul(u64::try_from(rows).unwrap_or(u64::MAX))
}

/// Tickets that verifying a request can walk.
pub(super) fn tickets_max(request: &EscrowRequest) -> u64 {
    let claims = pieces_of(request).into_iter().flatten();
    claims.map(|claim| u64::from(claim.tickets_max())).sum()
}

/// How many bytes the answer to a request may have; set aside before it is made.
pub(super) fn answer_bytes_of(request: &EscrowRequest) -> usize {
    match &request.command {
        EscrowCommand::Claim { batch, .. } => {
            let claims = batch.claims.as_slice().len();
            (claims * CLAIM_ANSWER_BYTES + SMALL_ANSWER_BYTES).min(MESSAGE_BYTES_MAX)
        }
        EscrowCommand::Account { .. }
        | EscrowCommand::Resubmit { .. }
        | EscrowCommand::SetSplit { .. }
        | EscrowCommand::Statement { .. }
        | EscrowCommand::Subscribe { .. } => MESSAGE_BYTES_MAX,
        EscrowCommand::Info
        | EscrowCommand::OpenHold { .. }
        | EscrowCommand::TopUpHold { .. }
        | EscrowCommand::HoldStatus { .. }
        | EscrowCommand::Release(_)
        | EscrowCommand::Delegate { .. }
        | EscrowCommand::Transfer { .. }
        | EscrowCommand::Withdraw { .. }
        | EscrowCommand::SetPayout { .. } => SMALL_ANSWER_BYTES,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tombola_core::amount::{Amount, Timestamp};
    use tombola_core::book::{Anchor, Book};
    use tombola_core::chain::Preimage;
    use tombola_core::claim::{Claim, ClaimBatch};
    use tombola_core::codec::List;
    use tombola_core::draw::Reveal;
    use tombola_core::key::{HoldId, RequestId, SecretKey, Signed};
    use tombola_core::limits::CLAIMS_PER_BATCH_MAX;
    use tombola_core::message::{RequestHeader, Share};
    use tombola_core::odds::Threshold;

    /// A claim as a peer may write it: no book is as long as its numbers say.
    fn impossible(key: AccountKey) -> EscrowRequest {
        claims(key, 1, u32::MAX)
    }

    /// Claims of books of so many tickets.
    fn claims(key: AccountKey, count: usize, tickets: u32) -> EscrowRequest {
        let reveal = Reveal([5; 32]);
        let book = Book {
            hold: HoldId([6; 32]),
            commitment: reveal.commitment(),
            anchor: Anchor([7; 32]),
            length: tickets,
            face_value: Amount(1),
            threshold: Threshold::ALWAYS,
        };
        let claim = Claim {
            book: Signed::new(book, &SecretKey::from_seed(&[8; 32])),
            reveal,
            through: tickets,
            preimage: Preimage([9; 32]),
        };
        let batch = ClaimBatch {
            escrow: key,
            payee: key,
            claims: List::new(vec![claim; count]).unwrap(),
        };
        EscrowRequest {
            account: key,
            command: EscrowCommand::Claim { batch, signature: None },
        }
    }

    /// Spec: B-03, N-11. The numbers in a claim are its sender's; a key was once busy for minutes after one of them.
    #[test]
    fn a_claim_is_charged_no_more_than_the_longest_book_and_what_was_not_walked_comes_back() {
        let mut budgets = Budgets::default();
        let (key, now) = (AccountKey([1; 32]), Instant::now());
        let request = impossible(key);
        let max = tickets_max(&request);
        assert_eq!(max, 65_536);
        let served = (0..1_000)
            .take_while(|_| budgets.take(key, &request, now).is_ok())
            .count();
        assert_eq!(served, 61, "of 132,772 hashes each");
        for _ in 0..served {
            budgets.settle(&key, max, 0);
        }
        let served = (0..100_000)
            .take_while(|_| {
                let taken = budgets.take(key, &request, now);
                budgets.settle(&key, max, 1);
                taken.is_ok()
            })
            .count();
        assert_eq!(served, 4_640, "of 1,702 hashes each, after 61 of 1,700");
    }

    /// Spec: N-11.
    #[test]
    fn a_request_costs_what_its_keys_and_its_answer_take() {
        let key = AccountKey([1; 32]);
        let charged = |command| {
            let (mut budgets, now) = (Budgets::default(), Instant::now());
            budgets
                .take(key, &EscrowRequest { account: key, command }, now)
                .unwrap();
            budgets.charged(&key)
        };
        let share = |n| Share {
            account: AccountKey([n; 32]),
            ppm: 1,
        };
        let split = |shares: u8| EscrowCommand::SetSplit {
            request: RequestHeader {
                id: RequestId([0; 16]),
                issued_at: Timestamp(0),
            },
            shares: List::new((0..shares).map(share).collect()).unwrap(),
        };
        assert_eq!(charged(EscrowCommand::Info), 1_000);
        assert_eq!((charged(split(0)), charged(split(32))), (21_000, 43_400));
        assert_eq!(charged(EscrowCommand::Statement { after: 0 }), 31_000);

        let (mut budgets, now) = (Budgets::default(), Instant::now());
        let statement = EscrowCommand::Statement { after: 0 };
        let request = EscrowRequest {
            account: key,
            command: statement,
        };
        budgets.take(key, &request, now).unwrap();
        budgets.settle_rows(&key, &request, 0);
        assert_eq!(budgets.charged(&key), 1_000, "nothing was read");
    }

    /// Spec: L-01, N-11.
    #[test]
    fn claims_of_a_thousand_tickets_come_as_often_as_the_table_of_limits_says() {
        let key = AccountKey([1; 32]);
        let a_second = |count: usize| {
            let mut budgets = Budgets::default();
            budgets.take(key, &claims(key, count, 1_000), Instant::now()).unwrap();
            HASHES_PER_PAYEE_PER_SECOND * u64::try_from(count).unwrap() / budgets.charged(&key)
        };
        assert_eq!((a_second(CLAIMS_PER_BATCH_MAX), a_second(1)), (2_954, 2_162));
    }

    /// Spec: R-10.
    #[test]
    fn requests_that_claim_nothing_cost_something_as_well() {
        let mut budgets = Budgets::default();
        let (key, other, now) = (AccountKey([1; 32]), AccountKey([2; 32]), Instant::now());
        let request = EscrowRequest {
            account: key,
            command: EscrowCommand::Info,
        };
        let served = (0..100_000)
            .take_while(|_| budgets.take(key, &request, now).is_ok())
            .count();
        assert_eq!(served, 8_000);
        let limit = HASHES_PER_PAYEE_PER_SECOND;
        let refused = Reject::compared(Code::Busy, limit, limit);
        assert_eq!(budgets.take(key, &request, now), Err(refused));
        assert_eq!(budgets.take(other, &request, now), Ok(()));
    }
}
