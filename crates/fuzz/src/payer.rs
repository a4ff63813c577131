//! A payer's books and its window with bytes as what happens: issuing, acknowledgements true and false, losses, finds,
//! deliveries, and what an earlier process wrote down.
//!
//! Beside them a naive count is kept of what is out, in units and in money, and of what the payee has taken without serving.
//! It takes two windows and one ticket at most, whatever it does. Spec: B-16.

mod missing;

use crate::input::Input;
use crate::party::{self, hold_terms};
use missing::{Kind, Missing};
use std::sync::OnceLock;
use tombola_core::amount::{Amount, Asset, Timestamp};
use tombola_core::book::{TICKET_BYTES, Ticket};
use tombola_core::chain::{Preimage, walk};
use tombola_core::draw::Reveal;
use tombola_core::hold::{Hold, HoldTerms};
use tombola_core::key::QuoteId;
use tombola_core::payer::{HoldLimits, PayerBook, Terms, Window, plan};
use tombola_core::quote::{Escrows, Quote, QuoteTerms, Service};
use tombola_core::reject::{Code, Reject};

const ACTIONS_MAX: usize = 200;
const BOOKS_MAX: usize = 6;
const FACE: Amount = Amount(10_000);

/// A book and where its payer thinks it is.
struct Open {
    book: PayerBook,
    price: u64,
    is_lost: bool,
    /// Tickets out when it was lost.
    lost: u32,
}

struct Wallet {
    window: Window,
    books: Vec<Open>,
    /// Value that any book was acknowledged, for the journal.
    acknowledged: u128,
    missing: Missing,
}

/// See the module.
pub fn payer_actions(data: &[u8]) {
    let mut input = Input::new(data);
    check_plan(&mut input);
    let mut wallet = Wallet {
        window: Window::new(Amount(u64::from(input.short()))),
        books: Vec::new(),
        acknowledged: 0,
        missing: Missing::of(input.pick(&[Kind::Payments, Kind::Download])),
    };
    for _ in 0..ACTIONS_MAX {
        if input.is_empty() {
            break;
        }
        match input.byte() % 12 {
            0 => wallet.open(&mut input),
            1..=3 => wallet.issue(&mut input),
            4 | 5 => wallet.acknowledge(&mut input),
            6 => wallet.close(&mut input),
            7 | 8 => match wallet.missing.kind {
                Kind::Payments => wallet.lose_or_find(&mut input),
                Kind::Download => wallet.reconnect(&mut input),
            },
            9 | 10 => wallet.deliver(&mut input),
            _ => wallet.remember(&mut input),
        }
        wallet.check();
    }
}

impl Wallet {
    fn open(&mut self, input: &mut Input<'_>) {
        if self.books.len() >= BOOKS_MAX {
            return;
        }
        let price = input.pick(&[1, 10, 100, 10_000, 20_000]);
        let (length, jump_max) = (u32::from(input.byte()), u32::from(input.byte()));
        let secret = Preimage([input.byte(); 32]);
        let book = PayerBook::new(&hold(), &quote(price, jump_max), FACE, length, secret, party::payer());
        let is_good = price <= FACE.0 && length > 0;
        assert_eq!(book.is_ok(), is_good, "price {price}, length {length}");
        let Ok(book) = book else { return };
        self.books.push(Open {
            book,
            price,
            is_lost: false,
            lost: 0,
        });
    }

    fn issue(&mut self, input: &mut Input<'_>) {
        let Some(number) = self.choose(input) else { return };
        let open = &mut self.books[number];
        let (_, before) = self.window.in_flight();
        let (missing, sent) = (self.missing.value(), open.book.sent());
        let used = before + missing;
        let count = self.missing.payable(u32::from(input.byte()), &self.window, open.price);
        let mut records = Vec::new();
        let issued = open.book.issue(count, &mut self.window, &mut records);
        assert_eq!(records.len(), TICKET_BYTES * usize::try_from(issued).unwrap_or(0));
        assert!(
            issued == 0 || open.book.closed().is_none(),
            "a closed book issues nothing"
        );
        // The window, or one ticket where nothing is out and less than two windows are missing.
        let cap = u128::from(self.window.value_max().0);
        let is_probe = issued == 1 && before == 0 && missing < 2 * cap;
        assert!(issued == 0 || missing < 2 * cap, "{missing} of {cap} are missing");
        let out = used + u128::from(issued) * u128::from(open.price);
        assert!(issued == 0 || out <= cap || is_probe, "{out} of {cap} after {issued}");
        let anchor = Preimage(open.book.signed().body.anchor.0);
        for (record, index) in records.chunks_exact(TICKET_BYTES).zip(sent + 1..) {
            let ticket = Ticket::from_bytes(record.try_into().expect("chunks are exact"));
            assert_eq!(ticket.index, index, "tickets go out in order");
            assert_eq!(walk(&ticket.preimage, index, 0), anchor, "and lead to the anchor");
        }
    }

    fn acknowledge(&mut self, input: &mut Input<'_>) {
        let Some(number) = self.choose(input) else { return };
        let open = &mut self.books[number];
        if open.is_lost {
            return;
        }
        let through = match input.byte() {
            255 => u32::MAX,
            some => open.book.acknowledged() + u32::from(some % 32),
        };
        let before = open.book.acknowledged();
        let news = open.book.acknowledge(through, &mut self.window);
        self.count(number, before, news);
    }

    fn close(&mut self, input: &mut Input<'_>) {
        let Some(number) = self.choose(input) else { return };
        let open = &mut self.books[number];
        if open.is_lost {
            return;
        }
        let before = open.book.acknowledged();
        let through = before + u32::from(input.byte() % 16);
        let news = open
            .book
            .closed_by_payee(through, Reject::of(Code::BookIdle), &mut self.window);
        assert_eq!(open.book.in_flight(), 0, "what a closed book did not draw is not out");
        self.count(number, before, news);
    }

    fn lose_or_find(&mut self, input: &mut Input<'_>) {
        let Some(number) = self.choose(input) else { return };
        let open = &mut self.books[number];
        if open.is_lost {
            let mut row = open.book.journal_row();
            let (before, sent) = (open.book.acknowledged(), open.book.sent());
            row.found(before + u32::from(input.byte() % 16));
            let found = row.acknowledged.expect("a line that is closed stays so");
            assert!((before..=sent).contains(&found), "{found} of {before} to {sent}");
            let lost = std::mem::take(&mut open.lost);
            self.window.found(lost, found - before, Amount(open.price));
            self.missing.found(lost, open.price);
        } else {
            self.lose(number);
        }
    }

    fn lose(&mut self, number: usize) {
        let open = &mut self.books[number];
        if open.is_lost || open.book.closed().is_some() {
            return;
        }
        open.lost = open.book.in_flight();
        open.book.lost(&mut self.window);
        open.is_lost = true;
        self.missing.lost(open.lost, open.price);
    }

    /// The connection of a download goes away. The next one finds some of its books, once, and first of all fetches what
    /// was paid for before, or a part of it.
    fn reconnect(&mut self, input: &mut Input<'_>) {
        let before: Vec<bool> = self.books.iter().map(|open| open.is_lost).collect();
        (0..self.books.len()).for_each(|number| self.lose(number));
        self.settle();
        for (open, was_lost) in self.books.iter_mut().zip(before) {
            let luck = u32::from(input.byte());
            if was_lost || !open.is_lost || luck % 2 == 0 {
                continue;
            }
            let (lost, drawn) = (open.lost, (luck / 2).min(open.lost));
            open.lost = 0;
            self.window.found(lost, drawn, Amount(open.price));
            self.missing.found(lost, open.price);
            self.missing.paid(drawn, open.price);
        }
        self.missing.collect(input.byte());
        self.settle();
    }

    fn settle(&mut self) {
        let (before, now) = self.missing.settle();
        self.window.settle(before, now);
    }

    /// Units come as they are paid, at the price of one of the books.
    fn deliver(&mut self, input: &mut Input<'_>) {
        let Some(number) = self.choose(input) else { return };
        let price = self.books[number].price;
        let units = self.missing.deliver(u64::from(input.byte()), price);
        self.window.delivered(units, Amount(price));
    }

    /// An earlier process has seen something of this payee.
    fn remember(&mut self, input: &mut Input<'_>) {
        let (lost, undelivered) = (u128::from(input.short()), u128::from(input.short()));
        self.window.remember(lost, undelivered);
        self.missing.remember(lost, undelivered, self.window.in_flight().1);
    }

    fn count(&mut self, number: usize, before: u32, news: u32) {
        let open = &self.books[number];
        assert_eq!(open.book.acknowledged(), before + news, "an acknowledgement stands");
        self.acknowledged += u128::from(news) * u128::from(open.price);
        self.missing.acknowledged(news, open.price);
    }

    fn choose(&self, input: &mut Input<'_>) -> Option<usize> {
        (!self.books.is_empty()).then(|| input.below(self.books.len()))
    }

    fn check(&self) {
        let out = self.books.iter().filter(|open| !open.is_lost);
        let mut expected = (0u64, 0u128);
        for open in out {
            let count = open.book.in_flight();
            expected = (
                expected.0 + u64::from(count),
                expected.1 + u128::from(count) * u128::from(open.price),
            );
        }
        assert_eq!(self.window.in_flight(), expected, "the window counts what is out");
        let dearest = self.books.iter().map(|open| open.price).max();
        self.missing.check(&self.window, dearest.unwrap_or(0));
        let journal = self.books.iter().map(|open| {
            let row = open.book.journal_row();
            assert_eq!((row.book, row.face_value), (open.book.id(), FACE));
            let closed = open.book.closed().map(|_| open.book.acknowledged());
            assert_eq!(row.acknowledged, closed, "the line is open while the book is");
            u128::from(open.book.acknowledged()) * u128::from(open.price)
        });
        assert_eq!(
            journal.sum::<u128>(),
            self.acknowledged,
            "the journal is what was acknowledged"
        );
        for open in &self.books {
            assert!(open.book.acknowledged() <= open.book.sent());
            assert!(open.book.sent() <= open.book.signed().body.length);
        }
    }
}

/// A plan never costs more than its ceiling, and its face value is one that both sides take. Spec: B-17.
fn check_plan(input: &mut Input<'_>) {
    let mut any = || {
        let number = input.long();
        Amount(number >> (number & 63))
    };
    let (units, spend_max) = (any().0, any());
    let terms = Terms {
        price: any(),
        face_value_min: any(),
        face_value_max: any(),
    };
    let limits = HoldLimits {
        face_value_min: any(),
        cap_min: any(),
    };
    let Ok(purchase) = plan(units, &terms, &limits, spend_max) else {
        return;
    };
    assert!(purchase.cap <= spend_max && purchase.worst <= spend_max);
    assert!(purchase.cap >= limits.cap_min && purchase.cap >= purchase.face_value);
    assert!(purchase.face_value >= terms.face_value_min.max(limits.face_value_min));
    assert!(purchase.face_value <= terms.face_value_max);
    assert!(
        purchase.threshold.covers(terms.price, purchase.face_value),
        "the odds cover the price"
    );
}

fn hold() -> Hold {
    static HOLD: OnceLock<Hold> = OnceLock::new();
    *HOLD.get_or_init(|| Hold {
        terms: HoldTerms {
            face_value_max: FACE,
            book_length_max: 200,
            ..hold_terms()
        },
        revision: 0,
        cap: Amount(1_000_000),
    })
}

fn quote(price: u64, jump_max: u32) -> Quote {
    let terms = QuoteTerms {
        payee: hold().terms.payee,
        quote_id: QuoteId([5; 16]),
        service: Service::new("/f").expect("short"),
        asset: Asset::USD,
        ticket_price: Amount(price),
        face_value_min: Amount(1),
        face_value_max: FACE,
        book_length_max: 500,
        jump_max,
        expires_at: Timestamp(u64::MAX),
        escrows: Escrows::default(),
    };
    let commitment = Reveal([9; 32]).commitment();
    Quote { terms, commitment }
}

/// A plan that works, then a book that is paid, closed, or lost and found, and downloads that are cut and gone on with.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let number = |n: u64| (n << 8).to_le_bytes();
    let small = [
        number(100),
        number(100_000),
        number(10),
        number(1_000),
        number(10_000),
        number(10),
        number(100),
    ]
    .concat();
    // Shifts by the low bits: eight.
    let small: Vec<u8> = small.chunks(8).flat_map(|n| [&[8][..], &n[1..]].concat()).collect();
    let open = [0, 1, 100, 64, 7];
    let cut = [&open[..], &[1, 0, 200, 4, 0, 1, 1, 0, 200, 7, 0, 0, 0, 0, 0, 0]].concat();
    let pay = [1, 0, 200, 4, 0, 31, 1, 0, 200, 4, 0, 31];
    vec![
        [
            &small[..],
            &[255, 255, 0],
            &open,
            &pay,
            &[7, 0],
            &[7, 0, 1],
            &open,
            &[1, 1, 200, 6, 1, 0],
        ]
        .concat(),
        [
            &small[..],
            &[40, 0, 0],
            &open,
            &open,
            &pay,
            &[1, 1, 200, 7, 1, 1, 0, 9, 7, 0, 1, 0, 9],
        ]
        .concat(),
        // Paid, delivered in part, cut, found, fetched in part, delivered on.
        [
            &small[..],
            &[255, 0, 1],
            &open,
            &pay,
            &[9, 0, 3, 1, 0, 9, 7, 7, 4],
            &open,
            &[1, 1, 200, 4, 1, 31, 9, 1, 200, 1, 1, 200, 7, 0, 0, 9],
        ]
        .concat(),
        // Cut again and again without a unit, until nothing more goes.
        [&small[..], &[40, 0, 1], &cut.repeat(6)].concat(),
        // What an earlier process wrote down is past two windows; one that is not is worked off by what comes.
        [&small[..], &[40, 0, 1], &open, &[11, 200, 0, 200, 0, 1, 0, 200]].concat(),
        [
            &small[..],
            &[255, 0, 1],
            &open,
            &[11, 40, 0, 40, 0],
            &pay,
            &[9, 0, 200, 1, 0, 200, 4, 0, 31, 9, 0, 200],
        ]
        .concat(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spec: X-06.
    #[test]
    fn a_lost_stream_closes_its_book() {
        let mut book = PayerBook::new(&hold(), &quote(10, 8), FACE, 20, Preimage([1; 32]), party::payer()).unwrap();
        let mut window = Window::new(Amount(100));
        assert_eq!(book.issue(1, &mut window, &mut Vec::new()), 1);
        book.lost(&mut window);
        assert_eq!(book.closed().map(|reject| reject.code), Some(Code::StreamLost));
        assert_eq!((book.in_flight(), window.lost_value()), (1, 10));
    }
}
