//! The payee's rules, one claim a test.

mod opening;
mod redeeming;
mod releasing;
mod runs;
mod tickets;

use super::*;
use crate::amount::{DAY_MS, HOUR_MS, MINUTE_MS};
use crate::book::Ticket;
use crate::chain::Preimage;
use crate::claim::Receipt;
use crate::hold::HoldTerms;
use crate::key::SecretKey;
use crate::message::{HoldStatus, OpenBook};
use crate::payer::PayerBook;

const NOW: Timestamp = Timestamp(1_000 * DAY_MS);
const FACE: Amount = Amount(1_000);

struct World {
    escrow: SecretKey,
    payer: SecretKey,
    payee: Payee,
    quotes: u8,
}

impl World {
    fn new() -> Self {
        Self::with(|_| ())
    }

    fn with(change: impl FnOnce(&mut PayeeTerms)) -> Self {
        let escrow = SecretKey::from_seed(&[1; 32]);
        let mut terms = PayeeTerms {
            payee: SecretKey::from_seed(&[3; 32]).account(),
            asset: Asset::USD,
            escrows: Escrows::new(vec![escrow.account()]).unwrap(),
            fee_max: Fee {
                flat: Amount(10),
                ppm: 20_000,
            },
            face_value_min: Amount(10),
            face_value_max: Amount(100_000),
            book_length_max: 4_096,
            jump_max: 100,
            credit_units: 0,
            redeem_at_value: Amount(100 * FACE.0),
            redeem_window_min_ms: DAY_MS,
            hold_life_max_ms: 90 * DAY_MS,
            opens_per_second_max: 1_000,
            asks_before: NOW.minus_ms(30 * DAY_MS),
        };
        change(&mut terms);
        let payee = Payee::new(terms, EpochSecret::new([9; 32]), vec![], vec![], NOW).unwrap();
        Self {
            escrow,
            payer: SecretKey::from_seed(&[2; 32]),
            payee,
            quotes: 0,
        }
    }

    fn hold(&self, cap: u64, change: impl FnOnce(&mut HoldTerms)) -> Signed<Hold> {
        let mut terms = HoldTerms {
            escrow: self.escrow.account(),
            asset: Asset::USD,
            payer: self.payer.account(),
            signer: self.payer.account(),
            payee: self.payee.terms.payee,
            serial: 1,
            fee: Fee::default(),
            face_value_min: Amount(10),
            face_value_max: Amount(100_000),
            book_length_max: 4_096,
            opened_at: NOW.minus_ms(HOUR_MS),
            expires_at: NOW.plus_ms(DAY_MS),
            redeem_by: NOW.plus_ms(8 * DAY_MS),
        };
        change(&mut terms);
        Signed::new(
            Hold {
                terms,
                revision: 0,
                cap: Amount(cap),
            },
            &self.escrow,
        )
    }

    /// A hold with another cap, in its next revision.
    fn topped_up(&self, hold: &Signed<Hold>, cap: u64) -> Signed<Hold> {
        let (revision, cap) = (hold.body.revision + 1, Amount(cap));
        Signed::new(
            Hold {
                revision,
                cap,
                ..hold.body
            },
            &self.escrow,
        )
    }

    fn quote(&mut self, price: u64) -> Quote {
        self.quotes += 1;
        let service = Service::new("/file").unwrap();
        self.payee
            .quote(&service, Amount(price), QuoteId([self.quotes; 16]), NOW)
            .unwrap()
    }

    fn issue(&mut self, hold: &Signed<Hold>, price: u64, length: u32) -> (PayerBook, OpenBook) {
        self.issue_of(hold, FACE, price, length)
    }

    fn issue_of(&mut self, hold: &Signed<Hold>, face: Amount, price: u64, length: u32) -> (PayerBook, OpenBook) {
        let quote = self.quote(price);
        let secret = Preimage([self.quotes; 32]);
        let book = PayerBook::new(&hold.body, &quote, face, length, secret, &self.payer).unwrap();
        let open = OpenBook {
            hold: *hold,
            quote,
            book: *book.signed(),
        };
        (book, open)
    }

    fn open(&mut self, hold: &Signed<Hold>, price: u64, length: u32) -> (Vec<Ticket>, PayeeBook) {
        let (mut book, open) = self.issue(hold, price, length);
        let opened = self.payee.open_book(open, NOW).unwrap().book;
        (all_tickets(&mut book), opened)
    }

    /// Starts again from its holds as they are, as if their rows had just been written.
    fn restart(&mut self) {
        let rows = self.payee.holds.values().map(|account| account.row).collect();
        self.restart_with(rows, vec![]);
    }

    /// Starts again from these rows.
    fn restart_with(&mut self, holds: Vec<HoldRow>, winners: Vec<WinnerRow>) {
        let mut terms = self.payee.terms.clone();
        terms.asks_before = self.payee.asks_before();
        self.payee = Payee::new(terms, EpochSecret::new([77; 32]), holds, winners, NOW).unwrap();
    }

    fn code(&mut self, open: OpenBook) -> Code {
        self.payee.open_book(open, NOW).unwrap_err().code
    }
}

fn all_tickets(book: &mut PayerBook) -> Vec<Ticket> {
    let mut window = crate::payer::Window::new(Amount(u64::MAX));
    let mut records = Vec::new();
    while book.issue(u32::MAX, &mut window, &mut records) > 0 {
        book.acknowledge(book.sent(), &mut window);
    }
    records
        .chunks(36)
        .map(|record| Ticket::from_bytes(record.try_into().unwrap()))
        .collect()
}
