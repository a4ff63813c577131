//! Verify and draw, per ticket of a 4,096-ticket book, on one core: opening, both signatures, and every draw.

use super::{Better, Figure, RUNS};
use sha2::block_api::compress256;
use std::hint::black_box;
use std::time::Instant;
use tombola_core::amount::{Amount, Asset, DAY_MS, Timestamp};
use tombola_core::book::Ticket;
use tombola_core::chain::Preimage;
use tombola_core::hold::{Fee, Hold, HoldTerms};
use tombola_core::key::{QuoteId, SecretKey, Signed};
use tombola_core::limits::BOOK_LENGTH_DEFAULT;
use tombola_core::message::OpenBook;
use tombola_core::payee::{Payee, PayeeTerms};
use tombola_core::payer::{PayerBook, Window};
use tombola_core::quote::{EpochSecret, Escrows, Service};

const NOW: Timestamp = Timestamp(20_000 * DAY_MS);
const PRICE: Amount = Amount(100_000);
const FACE: Amount = Amount(100_000_000);
/// Books of one run: 0.4 s of work, so that a run is long against what disturbs it.
const BOOKS: u32 = 800;

pub(super) fn run() -> Result<Vec<Figure>, String> {
    let (mut values, mut floors) = (Vec::new(), Vec::new());
    for run in 0..RUNS {
        floors.push(floor());
        values.push(ticket_nanoseconds(run).map_err(|reject| reject.to_string())?);
    }
    let note = "floor: two one-block SHA-256 compressions of sha2, inputs and outputs through memory";
    Ok(vec![
        Figure::new("ticket-verify", "ns/ticket", Better::Less, values, floors).with_note(note),
    ])
}

/// What a ticket must cost: one compression for the chain, one for the draw.
fn floor() -> f64 {
    const TICKETS: u32 = 2_000_000;
    let mut state = [7u32; 8];
    let mut block = [3u8; 64];
    let start = Instant::now();
    for index in 0..TICKETS {
        block[32..36].copy_from_slice(&index.to_le_bytes());
        for _ in 0..2 {
            let mut out = black_box([9u32; 8]);
            compress256(&mut out, &[block]);
            state = black_box(out);
        }
    }
    black_box(state);
    start.elapsed().as_nanos() as f64 / f64::from(TICKETS)
}

fn ticket_nanoseconds(run: usize) -> Result<f64, tombola_core::reject::Reject> {
    let (escrow, payer, payee) = (key(1), key(2), key(3));
    let mut rules = payee_rules(&escrow, &payee)?;
    let hold = hold(&escrow, &payer, &payee);
    let mut spent = 0u128;
    for number in 0..BOOKS {
        let mut id = [0u8; 16];
        id[..4].copy_from_slice(&number.to_le_bytes());
        id[4] = u8::try_from(run).unwrap_or(0);
        let quote = rules.quote(&Service::new("/bench")?, PRICE, QuoteId(id), NOW)?;
        let mut secret = [5u8; 32];
        secret[..16].copy_from_slice(&id);
        let mut book = PayerBook::new(&hold.body, &quote, FACE, BOOK_LENGTH_DEFAULT, Preimage(secret), &payer)?;
        let mut records = Vec::new();
        let mut window = Window::new(Amount(u64::MAX));
        while book.issue(BOOK_LENGTH_DEFAULT, &mut window, &mut records) > 0 {
            book.acknowledge(book.sent(), &mut window);
        }
        let open = OpenBook {
            hold,
            quote,
            book: *book.signed(),
        };
        let start = Instant::now();
        let mut opened = rules.open_book(open, NOW)?.book;
        for record in records.chunks_exact(36) {
            if let Ok(record) = record.try_into() {
                opened.take(&Ticket::from_bytes(record), &mut rules, NOW)?;
            }
        }
        spent += start.elapsed().as_nanos();
        assert!(opened.is_complete(), "every ticket is drawn");
        let closing = opened.close(tombola_core::reject::Reject::of(
            tombola_core::reject::Code::BookComplete,
        ));
        rules.closed(&closing, NOW);
    }
    Ok(spent as f64 / f64::from(BOOKS) / f64::from(BOOK_LENGTH_DEFAULT))
}

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

fn payee_rules(escrow: &SecretKey, payee: &SecretKey) -> Result<Payee, tombola_core::reject::Reject> {
    let terms = PayeeTerms {
        payee: payee.account(),
        asset: Asset::USD,
        escrows: Escrows::new(vec![escrow.account()])?,
        fee_max: Fee::default(),
        face_value_min: PRICE,
        face_value_max: FACE,
        book_length_max: BOOK_LENGTH_DEFAULT,
        jump_max: BOOK_LENGTH_DEFAULT,
        credit_units: 0,
        redeem_at_value: Amount(u64::MAX),
        redeem_window_min_ms: DAY_MS,
        opens_per_second_max: u32::MAX,
        store_since: Timestamp(0),
    };
    Payee::new(terms, EpochSecret::new([9; 32]), vec![], vec![], NOW)
}

fn hold(escrow: &SecretKey, payer: &SecretKey, payee: &SecretKey) -> Signed<Hold> {
    let terms = HoldTerms {
        escrow: escrow.account(),
        asset: Asset::USD,
        payer: payer.account(),
        signer: payer.account(),
        payee: payee.account(),
        serial: 1,
        fee: Fee::default(),
        face_value_min: PRICE,
        face_value_max: FACE,
        book_length_max: BOOK_LENGTH_DEFAULT,
        opened_at: NOW,
        expires_at: NOW.plus_ms(DAY_MS),
        redeem_by: NOW.plus_ms(8 * DAY_MS),
    };
    Signed::new(
        Hold {
            terms,
            revision: 0,
            cap: Amount(u64::MAX / 2),
        },
        escrow,
    )
}
