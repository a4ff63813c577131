//! Bytes of the heap that a payee's rules take for each open book. A program of its own: its allocator counts, which
//! would slow every other measurement.

use tombola_core::amount::{Amount, Asset, DAY_MS, HOUR_MS, Timestamp};
use tombola_core::book::Ticket;
use tombola_core::chain::Preimage;
use tombola_core::claim::Claim;
use tombola_core::codec::encode;
use tombola_core::draw::Reveal;
use tombola_core::hold::{Fee, Hold, HoldTerms};
use tombola_core::key::{AccountKey, QuoteId, SecretKey, Signed};
use tombola_core::limits::OPEN_BOOKS_PER_HOLD_MAX;
use tombola_core::message::OpenBook;
use tombola_core::payee::{Payee, PayeeBook, PayeeTerms};
use tombola_core::payer::PayerBook;
use tombola_core::quote::{EpochSecret, Escrows, Service};

#[global_allocator]
static COUNTING: dhat::Alloc = dhat::Alloc;

/// Books that are open at the end.
const BOOKS: u32 = 16_384;
const NOW: Timestamp = Timestamp(1_000 * DAY_MS);
const FACE: Amount = Amount(1_000_000);
const PRICE: Amount = Amount(1_000);
const LENGTH: u32 = 4_096;

type Failed = Box<dyn std::error::Error>;

fn main() -> Result<(), Failed> {
    let profiler = dhat::Profiler::builder().testing().build();
    let escrow = SecretKey::from_seed(&[1; 32]);
    let payer = SecretKey::from_seed(&[2; 32]);
    let payee = SecretKey::from_seed(&[3; 32]).account();
    let mut rules = Payee::new(terms(&escrow, payee)?, EpochSecret::new([9; 32]), vec![], vec![], NOW)?;
    let per_hold = u32::try_from(OPEN_BOOKS_PER_HOLD_MAX)?;
    let holds: Vec<Signed<Hold>> = (0..BOOKS.div_ceil(per_hold))
        .map(|serial| Signed::new(hold(u64::from(serial), (&escrow, &payer, payee)), &escrow))
        .collect();
    let mut opens: Vec<(OpenBook, Ticket)> = Vec::new();
    for number in 0..BOOKS {
        let hold = holds[usize::try_from(number / per_hold)?];
        opens.push(open_book(&mut rules, hold, number, &payer)?);
    }
    let mut books: Vec<PayeeBook> = Vec::with_capacity(opens.len());
    // What the messages take is not the payee's; the places of the books in their vector are.
    let places = books.capacity() * size_of::<PayeeBook>();
    let before = dhat::HeapStats::get().curr_bytes;
    for (open, ticket) in &opens {
        let ready = rules.begin_open(open, NOW)?.verify(open.clone())?;
        let mut book = rules.finish_open(ready, NOW)?.book;
        book.take(ticket, &mut rules, NOW)?;
        books.push(book);
    }
    let heap = dhat::HeapStats::get().curr_bytes - before + places;
    let (open, ticket) = opens.first().ok_or("there are books")?;
    let claim = Claim {
        book: open.book,
        reveal: Reveal([0; 32]),
        through: ticket.index,
        preimage: ticket.preimage,
    };
    let report = serde_json::json!({
        "claim_bytes": encode(&claim).len(),
        "bytes_per_book": heap as f64 / f64::from(BOOKS),
        "book_bytes": size_of::<PayeeBook>(),
        "books": books.len(),
        "books_per_hold": per_hold,
    });
    println!("{report}");
    drop((books, opens, holds, rules, profiler));
    Ok(())
}

fn terms(escrow: &SecretKey, payee: AccountKey) -> Result<PayeeTerms, Failed> {
    Ok(PayeeTerms {
        payee,
        asset: Asset::USD,
        escrows: Escrows::new(vec![escrow.account()])?,
        fee_max: Fee::default(),
        face_value_min: FACE,
        face_value_max: FACE,
        book_length_max: LENGTH,
        jump_max: LENGTH,
        credit_units: 0,
        redeem_at_value: Amount(u64::MAX),
        redeem_window_min_ms: DAY_MS,
        hold_life_max_ms: u64::MAX,
        opens_per_second_max: u32::MAX,
        asks_before: NOW.minus_ms(30 * DAY_MS),
    })
}

fn hold(serial: u64, (escrow, payer, payee): (&SecretKey, &SecretKey, AccountKey)) -> Hold {
    let terms = HoldTerms {
        escrow: escrow.account(),
        asset: Asset::USD,
        payer: payer.account(),
        signer: payer.account(),
        payee,
        serial,
        fee: Fee::default(),
        face_value_min: FACE,
        face_value_max: FACE,
        book_length_max: LENGTH,
        opened_at: NOW.minus_ms(HOUR_MS),
        expires_at: NOW.plus_ms(DAY_MS),
        redeem_by: NOW.plus_ms(8 * DAY_MS),
    };
    let (revision, cap) = (0, Amount(1_000 * FACE.0));
    Hold { terms, revision, cap }
}

/// What opens a book, and its first ticket.
fn open_book(
    rules: &mut Payee,
    hold: Signed<Hold>,
    number: u32,
    payer: &SecretKey,
) -> Result<(OpenBook, Ticket), Failed> {
    let mut id = [0; 16];
    id[..4].copy_from_slice(&number.to_le_bytes());
    let quote = rules.quote(&Service::new("/page")?, PRICE, QuoteId(id), NOW)?;
    let mut secret = [5; 32];
    secret[..4].copy_from_slice(&number.to_le_bytes());
    let mut paying = PayerBook::new(&hold.body, &quote, FACE, LENGTH, Preimage(secret), payer)?;
    let book = *paying.signed();
    let ticket = paying.bearer().ok_or("a book has a first ticket")?;
    Ok((OpenBook { hold, quote, book }, ticket))
}
