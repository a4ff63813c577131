//! An escrow with as many accounts and open holds as asked for, and the claims that its payees will send.

use std::time::Instant;
use tombola_core::amount::{Amount, Asset, DAY_MS, Timestamp};
use tombola_core::book::{Anchor, Book};
use tombola_core::chain::{Chain, Preimage};
use tombola_core::claim::Claim;
use tombola_core::draw::{Draw, Reveal};
use tombola_core::escrow::EscrowConfig;
use tombola_core::hold::{Fee, Hold};
use tombola_core::key::{AccountKey, RequestId, SecretKey, Signed};
use tombola_core::message::{EscrowAnswer, EscrowCommand, EscrowRequest, HoldRequest, Reference, RequestHeader};
use tombola_core::odds::Threshold;
use tombola_ledger::keys::CheckedKeys;
use tombola_ledger::ledger::{Command, Ledger, Outcome};
use tombola_ledger::request::{KnownHolds, VerifiedRequest};
use tombola_ledger::store::Store;
use tombola_store::block_on::block_on;

/// Payees that claim side by side.
pub(super) const PAYEES: u64 = 16;
/// Tickets that the escrow walks and draws again for each claim.
pub(super) const TICKETS: u32 = 1_000;
/// Of each winner: one in a thousand tickets.
const FACE: Amount = Amount(1_000_000);
const PRICE: Amount = Amount(1_000);
/// Enough for what a hold's claims can win here.
const CAP: Amount = Amount(1_000 * FACE.0);
/// Accounts and holds opened in one commit.
const BATCH: u64 = 4_096;

pub(super) fn escrow_key() -> SecretKey {
    key(0, u64::MAX)
}

pub(super) fn payee_key(number: u64) -> SecretKey {
    key(1, number % PAYEES)
}

/// The payer of a hold; signs its books as well.
fn payer_key(number: u64) -> SecretKey {
    key(2, number)
}

fn key(role: u8, number: u64) -> SecretKey {
    let mut seed = [role; 32];
    for (slot, byte) in seed.iter_mut().zip(number.to_le_bytes()) {
        *slot = byte;
    }
    SecretKey::from_seed(&seed)
}

pub(super) fn config(name: &str, writer: u32) -> Result<EscrowConfig, String> {
    Ok(EscrowConfig {
        escrow: escrow_key().account(),
        asset: Asset::USD,
        name: Reference::new(name).map_err(|error| error.to_string())?,
        fee: Fee::default(),
        face_value_min: Amount(1),
        cap_min: Amount(1),
        writer,
        payout_fee: Amount::ZERO,
        payout_min: Amount::ZERO,
        epoch: 0,
    })
}

pub(super) fn header(id: u64, now: Timestamp) -> RequestHeader {
    let mut bytes = [0x5a; 16];
    for (slot, byte) in bytes.iter_mut().zip(id.to_le_bytes()) {
        *slot = byte;
    }
    RequestHeader {
        id: RequestId(bytes),
        issued_at: now,
    }
}

pub(super) fn hold_request(payer: AccountKey, payee: AccountKey, now: Timestamp) -> HoldRequest {
    HoldRequest {
        signer: payer,
        payee,
        face_value_min: FACE,
        face_value_max: FACE,
        book_length_max: 4_096,
        expires_at: now.plus_ms(DAY_MS),
        redeem_by: now.plus_ms(3 * DAY_MS),
        cap: CAP,
        fee_max: Fee::default(),
    }
}

/// Deposits to accounts and opens a hold of each, in large commits; returns the hold of every `keep`-th account.
pub(super) fn fill<S: Store>(
    ledger: &mut Ledger<S>,
    accounts: u64,
    keep: u64,
    now: Timestamp,
) -> Result<Vec<(u64, Hold)>, String> {
    let mut kept = Vec::new();
    let keys = CheckedKeys::default();
    let start = Instant::now();
    let mut first = 0;
    while first < accounts {
        let numbers: Vec<u64> = (first..accounts.min(first + BATCH)).collect();
        let (left, right) = numbers.split_at(numbers.len() / 2);
        let mut batch = std::thread::scope(|scope| {
            let left = scope.spawn(|| commands(left, &keys, now));
            let right = commands(right, &keys, now)?;
            let left = left.join().map_err(|_| "a thread ended early".to_owned())?;
            left.map(|left| left.into_iter().chain(right).collect::<Vec<_>>())
        })?;
        let outcomes = block_on(ledger.execute(std::mem::take(&mut batch), now)).map_err(|fault| fault.to_string())?;
        let holds = outcomes.iter().filter_map(|outcome| match outcome {
            Outcome::Answer(draft) => Some(draft.unsigned()),
            _ => None,
        });
        for (number, answer) in numbers.iter().zip(holds) {
            let EscrowAnswer::Hold(hold) = answer else {
                return Err(format!("hold {number} was not opened: {answer:?}"));
            };
            if number.is_multiple_of(keep) {
                kept.push((*number, hold.body));
            }
        }
        first += BATCH;
        if first.is_multiple_of(BATCH * 16) {
            eprintln!(
                "  {} of {accounts} holds, {:.0} s",
                first.min(accounts),
                start.elapsed().as_secs_f64()
            );
        }
    }
    Ok(kept)
}

fn commands(numbers: &[u64], keys: &CheckedKeys, now: Timestamp) -> Result<Vec<Command>, String> {
    let escrow = escrow_key().account();
    let mut batch = Vec::with_capacity(numbers.len() * 2);
    for number in numbers {
        let payer = payer_key(*number);
        let account = payer.account();
        batch.push(Command::Deposit {
            account: account.check().map_err(|error| error.to_string())?,
            amount: Amount(CAP.0 * 2),
            reference: Reference::new(number.to_string()).map_err(|error| error.to_string())?,
        });
        let command = EscrowCommand::OpenHold {
            request: header(*number, now),
            hold: hold_request(account, payee_key(*number).account(), now),
        };
        let request = EscrowRequest { account, command };
        let verified = VerifiedRequest::verify(account, request, &escrow, &KnownHolds::new(), keys);
        batch.push(Command::Request(verified));
    }
    Ok(batch)
}

/// One claim of 1,000 tickets whose last one wins. `number` makes its book unlike all others.
pub(super) fn claim(payer: u64, hold: &Hold, number: u64) -> Result<Claim, String> {
    let threshold = Threshold::for_price(PRICE, FACE).map_err(|error| error.to_string())?;
    let mut secret = [3; 32];
    for (slot, byte) in secret.iter_mut().zip(number.to_le_bytes()) {
        *slot = byte;
    }
    let mut chain = Chain::new(Preimage(secret), TICKETS);
    let preimage = chain.preimage(TICKETS).ok_or("a chain has its last value")?;
    let mut reveal = Reveal(secret);
    for attempt in 0u64.. {
        for (slot, byte) in reveal.0.iter_mut().rev().zip(attempt.to_le_bytes()) {
            *slot = byte;
        }
        let body = Book {
            hold: hold.id(),
            commitment: reveal.commitment(),
            anchor: Anchor(chain.anchor().0),
            length: TICKETS,
            face_value: FACE,
            threshold,
        };
        if Draw::new(&body.id(), &reveal, threshold).wins(TICKETS, &preimage) {
            return Ok(Claim {
                book: Signed::new(body, &payer_key(payer)),
                reveal,
                through: TICKETS,
                preimage,
            });
        }
    }
    Err("no reveal wins".to_owned())
}

/// Claims on these holds in turn, made on all cores.
pub(super) fn claims(holds: &[(u64, Hold)], count: u64, first: u64) -> Result<Vec<(u64, Hold, Claim)>, String> {
    let make = |from: u64, to: u64| -> Result<Vec<(u64, Hold, Claim)>, String> {
        let mut made = Vec::new();
        for (number, (payer, hold)) in (from..to).zip(holds.iter().cycle().skip(usize::try_from(from).unwrap_or(0))) {
            made.push((*payer, *hold, claim(*payer, hold, number)?));
        }
        Ok(made)
    };
    let half = first + count / 2;
    std::thread::scope(|scope| {
        let left = scope.spawn(|| make(first, half));
        let right = make(half, first + count)?;
        let left = left.join().map_err(|_| "a thread ended early".to_owned())?;
        left.map(|left| left.into_iter().chain(right).collect())
    })
}
