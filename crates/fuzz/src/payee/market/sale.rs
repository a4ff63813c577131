//! Books that are opened, paid, served and given more room, now and then wrongly.

use super::{FACE, HOLDS, JUMP_MAX, LENGTH_MAX, Market, Sold, epoch, sign};
use crate::input::Input;
use crate::party::payer;
use tombola_core::amount::Amount;
use tombola_core::book::{Anchor, Book, Ticket};
use tombola_core::chain::{Chain, Preimage};
use tombola_core::draw::{Draw, Reveal};
use tombola_core::hold::Hold;
use tombola_core::key::{QuoteId, Signed};
use tombola_core::message::{HoldState, OpenBook};
use tombola_core::odds::Threshold;
use tombola_core::payee::{PaidBy, Taken};
use tombola_core::quote::{Quote, Service};
use tombola_core::reject::Code;

impl Market {
    /// Opens a book, in which something may be wrong.
    pub(in crate::payee) fn open(&mut self, input: &mut Input<'_>) {
        let (hold, price, bad) = (input.below(HOLDS), input.pick(&[1_000, 500, 300, 100, 3]), input.byte());
        let length = LENGTH_MAX - u32::from(input.byte()) % LENGTH_MAX;
        self.quotes = self.quotes.wrapping_add(1);
        let service = Service::new("/f").expect("short");
        let id = QuoteId([self.quotes; 16]);
        let Ok(mut quote) = self.payee.quote(&service, Amount(price), id, self.now) else {
            return;
        };
        let reveal = epoch(self.epochs).reveal(&quote.terms);
        let hold_signed = self.promises[hold].hold;
        let (mut chain, book) = make_book(&hold_signed.body, &quote, length, self.quotes);
        let mut signed = Signed::new(book, payer());
        spoil(bad, &mut quote, &mut signed);
        let open = OpenBook {
            hold: hold_signed,
            quote,
            book: signed,
        };
        let opened = self.payee.open_book(open.clone(), self.now);
        assert!(!matches!(bad, 1..=6) || opened.is_err(), "a bad book is refused: {bad}");
        let Ok(opened) = opened else { return };
        if let Some(row) = opened.hold_row {
            self.disk.keep_hold(row);
        }
        let again = self
            .payee
            .open_book(open, self.now)
            .map(|_| ())
            .map_err(|reject| reject.code);
        assert_eq!(again, Err(Code::CommitmentReused), "one commitment serves one book");
        let draw = Draw::new(&opened.book.id(), &reveal, book.threshold);
        let wins = (1..=length).map(|index| {
            let preimage = chain.preimage(index).expect("in the book");
            draw.wins(index, &preimage)
        });
        let wins = wins.collect();
        self.order.push(opened.book.id());
        let machine = Some(opened.book);
        let id = self.order[self.order.len() - 1];
        self.sold.insert(
            id,
            Sold {
                hold,
                wins,
                chain,
                machine,
                acknowledged: 0,
                served: 0,
                receipt: None,
            },
        );
    }

    /// One ticket or a run of them, the last of which may be bad.
    pub(in crate::payee) fn present_tickets(&mut self, input: &mut Input<'_>) {
        let Some(id) = self.book_id(input) else { return };
        let (ahead, bad, run) = (u32::from(input.byte()), input.byte(), input.byte());
        let Self { payee, sold, now, .. } = &mut *self;
        let Some(Sold {
            chain,
            machine: Some(book),
            ..
        }) = sold.get_mut(&id)
        else {
            return;
        };
        let before = book.through();
        // The next one, or one further on; now and then one that was before, or none.
        let index = match bad {
            2 => 0,
            3 => before,
            _ => before.saturating_add(1 + ahead % (JUMP_MAX + 2)),
        };
        let last = index.saturating_add(u32::from(run % 20));
        let ticket = |index| Ticket {
            index,
            preimage: chain.preimage(index).unwrap_or(Preimage([0; 32])),
        };
        let mut tickets: Vec<Ticket> = (index..=last).map(ticket).collect();
        if let Some(ticket) = tickets.last_mut().filter(|_| bad == 1) {
            ticket.preimage.0[0] ^= 1;
        }
        let mut told = Vec::new();
        let taken = book.take_all(&tickets, payee, *now, |taken| told.push(taken));
        assert!(book.through() >= before, "a draw stands");
        assert!(told.len() <= tickets.len());
        match taken {
            Ok(()) => assert_eq!(told.len(), tickets.len(), "each ticket is answered"),
            // A pause; the ticket may be presented again.
            Err(reject) if reject.code == Code::NotSelling => {}
            Err(reject) => {
                let is_drawn_of_bad =
                    bad == 1 && book.through() == last && !told.contains(&Taken::Repeat) && last > before;
                assert!(!is_drawn_of_bad || told.len() < tickets.len());
                self.close_with(id, reject);
            }
        }
    }

    pub(in crate::payee) fn serve(&mut self, input: &mut Input<'_>) {
        let Some(id) = self.book_id(input) else { return };
        let Some(sold) = self.sold.get_mut(&id) else { return };
        let Some(book) = &mut sold.machine else { return };
        if book.serve(PaidBy::Tickets) {
            sold.served += 1;
        }
        assert!(sold.served <= book.ack_through(), "a unit is sent for a ticket");
        assert_eq!(book.pool(), book.ack_through() - sold.served);
    }

    /// The escrow raises a hold, and the payer shows it.
    pub(in crate::payee) fn top_up(&mut self, input: &mut Input<'_>) {
        let promise = &mut self.promises[input.below(HOLDS)];
        let more = u64::from(input.byte()) * 50;
        let mut body = promise.hold.body;
        (body.revision, body.cap) = (body.revision + 1, Amount(body.cap.0 + more));
        let presented = sign(body);
        if promise.state == HoldState::Open {
            promise.hold = presented;
            if let Ok((row, room)) = self.payee.present_hold(&presented, self.now) {
                assert!(room <= row.hold.body.cap);
                self.disk.keep_hold(row);
            }
        }
        self.resume_granted();
    }
}

fn make_book(hold: &Hold, quote: &Quote, length: u32, secret: u8) -> (Chain, Book) {
    let chain = Chain::new(Preimage([secret; 32]), length);
    let threshold = Threshold::for_price(quote.terms.ticket_price, FACE);
    let book = Book {
        hold: hold.id(),
        commitment: quote.commitment,
        anchor: Anchor(chain.anchor().0),
        length,
        face_value: FACE,
        threshold: threshold.unwrap_or(Threshold::ALWAYS),
    };
    (chain, book)
}

/// Makes something wrong with a quote or with its payer's book.
fn spoil(bad: u8, quote: &mut Quote, signed: &mut Signed<Book>) {
    let book = signed.body;
    let wrong = match bad {
        1 => {
            signed.signature.0[40] ^= 1;
            return;
        }
        2 => {
            quote.terms.ticket_price.0 -= 1;
            return;
        }
        3 => Book {
            threshold: Threshold(0),
            ..book
        },
        4 => Book {
            face_value: Amount(1 << 40),
            ..book
        },
        5 => Book { length: 0, ..book },
        6 => Book {
            commitment: Reveal([0; 32]).commitment(),
            ..book
        },
        _ => return,
    };
    *signed = Signed::new(wrong, payer());
}
