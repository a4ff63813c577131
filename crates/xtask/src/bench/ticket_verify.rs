//! Verify and draw, per ticket of a 4,096-ticket book, on one core: opening, both signatures, and every draw.
//!
//! Tickets are taken as a node takes them, all records of a read at once, and one by one as well.

use super::{Better, Figure, RUNS};
use std::hint::black_box;
use std::time::Instant;
use tombola_core::amount::{Amount, Asset, DAY_MS, Timestamp};
use tombola_core::book::{TICKET_BYTES, Ticket};
use tombola_core::chain::Preimage;
use tombola_core::hold::{Fee, Hold, HoldTerms};
use tombola_core::key::{QuoteId, SecretKey, Signed};
use tombola_core::limits::BOOK_LENGTH_DEFAULT;
use tombola_core::message::OpenBook;
use tombola_core::payee::{Payee, PayeeTerms, Taken};
use tombola_core::payer::{PayerBook, Window};
use tombola_core::quote::{EpochSecret, Escrows, Service};
use tombola_lanes::compress_each;

const NOW: Timestamp = Timestamp(20_000 * DAY_MS);
const PRICE: Amount = Amount(100_000);
const FACE: Amount = Amount(100_000_000);
/// Books of one run: 0.4 s of work, so that a run is long against what disturbs it.
const BOOKS: u32 = 800;
/// Records of one full read of a node.
const READ_TICKETS: usize = 1_820;
/// Tickets whose compressions the floor does at once; more would only measure memory.
const FLOOR_TICKETS: usize = 16;

pub(super) fn run() -> Result<Vec<Figure>, String> {
    let mut figures = Vec::new();
    for (name, tickets, note) in [
        (
            "ticket-verify",
            READ_TICKETS,
            "all 1,820 records of a read at once, as a node takes them: hashed 16 by 16, judged one by one",
        ),
        ("ticket-verify-single", 1, "each record taken alone"),
    ] {
        let (mut values, mut floors) = (Vec::new(), Vec::new());
        for run in 0..RUNS {
            floors.push(floor(tickets.min(FLOOR_TICKETS)));
            values.push(ticket_nanoseconds(run, tickets).map_err(|reject| reject.to_string())?);
        }
        let note = format!("{note}; floor: two SHA-256 compressions a ticket, as many side by side, through memory");
        figures.push(Figure::new(name, "ns/ticket", Better::Less, values, floors).with_note(note));
    }
    Ok(figures)
}

/// What tickets must cost: one compression for the chain, one for the draw, all of `tickets` side by side.
fn floor(tickets: usize) -> f64 {
    const TICKETS: usize = 2_000_000;
    let mut states = vec![[9u32; 8]; 2 * tickets];
    let blocks = vec![[3u8; 64]; 2 * tickets];
    let start = Instant::now();
    for _ in 0..TICKETS / tickets {
        compress_each(black_box(&mut states), black_box(&blocks));
    }
    start.elapsed().as_nanos() as f64 / TICKETS as f64
}

fn ticket_nanoseconds(run: usize, read: usize) -> Result<f64, tombola_core::reject::Reject> {
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
        let (records, _) = records.as_chunks::<TICKET_BYTES>();
        let mut tickets = Vec::with_capacity(read);
        let start = Instant::now();
        let mut opened = rules.open_book(open, NOW)?.book;
        for records in records.chunks(read) {
            tickets.clear();
            tickets.extend(records.iter().map(Ticket::from_bytes));
            opened.take_all(&tickets, &mut rules, NOW, |taken| assert_eq!(taken, Taken::Drawn))?;
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
        hold_life_max_ms: u64::MAX,
        opens_per_second_max: u32::MAX,
        asks_before: Timestamp(0),
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
