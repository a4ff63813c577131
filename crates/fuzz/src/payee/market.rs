//! A payee, its disk, a payer that owns every preimage, and an escrow that pays what it must.

use super::disk::Disk;
use crate::input::Input;
use crate::party::{START, bank, hold_terms, payee, payer};
use std::collections::BTreeMap;
use tombola_core::amount::{Amount, Asset, DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, Timestamp};
use tombola_core::book::{Anchor, Book, Ticket};
use tombola_core::chain::{Chain, Preimage};
use tombola_core::claim::{Claim, Head, Receipt, Refusal};
use tombola_core::draw::{Draw, Reveal};
use tombola_core::hold::{Fee, Hold, HoldTerms};
use tombola_core::key::{BookId, HoldId, QuoteId, Signed};
use tombola_core::message::{HoldState, HoldStatus, OpenBook};
use tombola_core::odds::Threshold;
use tombola_core::payee::{Closing, PaidBy, Payee, PayeeBook, PayeeTerms, Refused, Taken, Task};
use tombola_core::quote::{EpochSecret, Escrows, Quote, Service};
use tombola_core::reject::{Code, Reject};

const FACE: Amount = Amount(1_000);
const HOLDS: usize = 3;
const LENGTH_MAX: u32 = 40;
const JUMP_MAX: u32 = 12;

/// A hold as its payer and its escrow know it.
struct Promise {
    hold: Signed<Hold>,
    paid: u64,
    state: HoldState,
}

/// A book as its payer knows it, with the payee's half of its draws.
struct Sold {
    hold: usize,
    wins: Vec<bool>,
    chain: Chain,
    machine: Option<PayeeBook>,
    /// The most that was ever acknowledged.
    acknowledged: u32,
    served: u32,
    /// Up to where the escrow has paid it.
    receipt: Option<Receipt>,
}

impl Sold {
    fn winners_through(&self, through: u32) -> u32 {
        let drawn = usize::try_from(through).unwrap_or(usize::MAX);
        let wins = self.wins.iter().take(drawn).filter(|wins| **wins);
        u32::try_from(wins.count()).unwrap_or(u32::MAX)
    }
}

pub(super) struct Market {
    payee: Payee,
    disk: Disk,
    now: Timestamp,
    epochs: u8,
    quotes: u8,
    promises: Vec<Promise>,
    sold: BTreeMap<BookId, Sold>,
    order: Vec<BookId>,
}

impl Market {
    pub(super) fn new(input: &mut Input<'_>) -> Self {
        let cap = input.pick(&[20, 5, 2, 1, 0]) * FACE.0;
        let promises = (0..HOLDS).map(|n| Promise {
            hold: sign(hold_body(n, cap)),
            paid: 0,
            state: HoldState::Open,
        });
        Self {
            payee: start(0, &Disk::default(), START),
            disk: Disk::default(),
            now: START,
            epochs: 0,
            quotes: 0,
            promises: promises.collect(),
            sold: BTreeMap::new(),
            order: Vec::new(),
        }
    }

    fn book_id(&self, input: &mut Input<'_>) -> Option<BookId> {
        // The last ones are the ones that are open.
        self.order
            .iter()
            .rev()
            .nth(input.below(self.order.len().min(8)))
            .copied()
    }

    /// Opens a book, in which something may be wrong.
    pub(super) fn open(&mut self, input: &mut Input<'_>) {
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
        match bad {
            1 => signed.signature.0[40] ^= 1,
            2 => quote.terms.ticket_price = Amount(price - 1),
            3 => {
                signed = Signed::new(
                    Book {
                        threshold: Threshold(0),
                        ..book
                    },
                    payer(),
                )
            }
            4 => {
                signed = Signed::new(
                    Book {
                        face_value: Amount(1 << 40),
                        ..book
                    },
                    payer(),
                )
            }
            5 => signed = Signed::new(Book { length: 0, ..book }, payer()),
            6 => {
                signed = Signed::new(
                    Book {
                        commitment: Reveal([0; 32]).commitment(),
                        ..book
                    },
                    payer(),
                )
            }
            _ => {}
        }
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
    pub(super) fn present_tickets(&mut self, input: &mut Input<'_>) {
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

    pub(super) fn begin_write(&mut self, input: &mut Input<'_>) {
        let Some(id) = self.book_id(input) else { return };
        let machine = self.sold.get_mut(&id).and_then(|sold| sold.machine.as_mut());
        if let Some(row) = machine.and_then(PayeeBook::begin_write) {
            self.disk.begin(row);
        }
    }

    pub(super) fn finish_write(&mut self, input: &mut Input<'_>) {
        let Some(id) = self.book_id(input) else { return };
        self.finish_write_of(&id);
    }

    fn finish_write_of(&mut self, id: &BookId) {
        let machine = self.sold.get_mut(id).and_then(|sold| sold.machine.as_mut());
        if let (true, Some(book)) = (self.disk.finish(id), machine) {
            book.written();
        }
    }

    /// The escrow raises a hold, and the payer shows it.
    pub(super) fn top_up(&mut self, input: &mut Input<'_>) {
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

    fn resume_granted(&mut self) {
        // A book that goes on may free nothing, but one that closes does.
        for id in self.payee.take_granted() {
            let machine = self.sold.get_mut(&id).and_then(|sold| sold.machine.as_mut());
            if let Some(book) = machine {
                book.resume(&mut self.payee);
            }
        }
    }

    pub(super) fn close(&mut self, input: &mut Input<'_>) {
        if let Some(id) = self.book_id(input) {
            self.close_with(id, Reject::of(Code::BookFinished));
        }
    }

    /// The driver's part: every winner is durable before the book is closed for the rules.
    fn close_with(&mut self, id: BookId, reject: Reject) {
        self.finish_write_of(&id);
        let Some(mut book) = self.sold.get_mut(&id).and_then(|sold| sold.machine.take()) else {
            return;
        };
        let closing: Closing = book.close(reject);
        if let Some(row) = book.begin_write() {
            self.disk.begin(row);
            self.disk.finish(&id);
            book.written();
        }
        self.check_acknowledged(id, &book);
        self.payee.closed(&closing, self.now);
        assert_eq!(closing.winners.is_some(), book.winners() > 0);
        self.resume_granted();
    }

    /// What is due now, done or failed.
    pub(super) fn tick(&mut self, input: &mut Input<'_>) {
        for task in self.payee.tick(self.now) {
            let luck = input.byte();
            match task {
                Task::Close(id) => self.close_with(id, Reject::of(Code::BookRedeemed)),
                Task::Claim(claims) => claims.iter().for_each(|claim| self.claim(claim, luck)),
                Task::Check(hold) => self.answer_check(&hold.body.id(), luck),
                Task::Release(release) => {
                    let Ok(row) = self.payee.released(Signed::new(release, payee())) else {
                        continue;
                    };
                    if luck == 1 {
                        self.payee
                            .release_failed(&release.hold)
                            .into_iter()
                            .for_each(|row| self.disk.keep_hold(row));
                    } else {
                        self.disk.keep_hold(row);
                        self.payee.release_kept(&release.hold);
                    }
                }
                Task::SendRelease(release) => {
                    let hold = &release.body.hold;
                    let Some(promise) = self.promises.iter_mut().find(|p| p.hold.body.id() == *hold) else {
                        continue;
                    };
                    assert_eq!(release.body.paid.0, promise.paid, "a release counts what was paid");
                    if luck != 1 {
                        promise.state = HoldState::Released;
                        self.payee.release_known(hold);
                    }
                }
                Task::Forget(hold) => {
                    self.payee.forget(&hold);
                    self.disk.holds.remove(&hold);
                }
            }
        }
        self.resume_granted();
    }

    /// The escrow pays a claim, once; its receipt arrives, is lost, or a refusal comes instead.
    fn claim(&mut self, claim: &Claim, luck: u8) {
        let id = claim.book.body.id();
        let Some(sold) = self.sold.get_mut(&id) else {
            panic!("a claim is for a book that was sold")
        };
        assert!(sold.machine.is_none(), "no claim leaves before its book is closed");
        let promise = &mut self.promises[sold.hold];
        let won = claim
            .verify(&promise.hold.body)
            .expect("a payee claims what it can prove");
        assert_eq!(
            won.winners,
            sold.winners_through(claim.through),
            "each index is drawn once"
        );
        assert!(self.disk.winners_through(&id) >= claim.through, "a claim is durable");
        if luck == 1 {
            self.payee.postpone(&id, self.now);
            return;
        }
        if luck == 2 {
            self.refuse(claim, Code::ClaimOverCap);
            return;
        }
        assert_eq!(promise.state, HoldState::Open, "a released hold owes nothing");
        let before = sold.receipt.map_or(0, |receipt| receipt.gross.0);
        promise.paid += won.gross.0 - before;
        assert!(
            promise.paid <= promise.hold.body.cap.0,
            "every winner that was served is paid"
        );
        let receipt = Receipt {
            escrow: bank().account(),
            writer: 0,
            book: id,
            through: won.through,
            winners: won.winners,
            gross: won.gross,
            fee: won.fee,
            hold_paid_after: Amount(promise.paid),
            at: self.now,
            height: 1,
            head: Head([0; 32]),
        };
        sold.receipt = Some(receipt);
        if luck == 3 {
            // It is lost on its way, and asked for again.
            self.payee.postpone(&id, self.now);
            return;
        }
        let settled = self
            .payee
            .receive(&Signed::new(receipt, bank()), self.now)
            .expect("it pays what was drawn");
        assert_eq!(settled.winners, won.winners);
        self.disk.keep_hold(settled.hold);
        self.disk.winners.remove(&id);
    }

    fn refuse(&mut self, claim: &Claim, code: Code) {
        let body = Refusal {
            escrow: bank().account(),
            writer: 0,
            book: claim.book.body.id(),
            claim_hash: claim.hash(),
            code,
            revision: 0,
            cap: Amount(0),
            paid: Amount(0),
            at: self.now,
        };
        match self.payee.refused(&Signed::new(body, bank()), self.now) {
            Ok(Refused::Unchecked(row) | Refused::Ended(row)) => self.disk.keep_hold(*row),
            Ok(Refused::Postponed) => {}
            Err(reject) => panic!("the refusal is for a claim: {reject}"),
        }
    }

    fn answer_check(&mut self, hold: &HoldId, luck: u8) {
        let promise = self.promises.iter().find(|promise| promise.hold.body.id() == *hold);
        let Some(promise) = promise.filter(|_| luck != 1) else {
            return;
        };
        let status = HoldStatus {
            hold: promise.hold,
            paid: Amount(promise.paid),
            state: promise.state,
        };
        if let Some(row) = self.payee.checked(&status, self.now) {
            self.disk.keep_hold(row);
        }
    }

    /// The process dies: books and reveals are gone, rows stay.
    pub(super) fn restart(&mut self, input: &mut Input<'_>) {
        let luck = input.byte();
        self.disk.crash(|book| (book.0[0] ^ luck) & 1 == 0);
        for sold in self.sold.values_mut() {
            sold.machine = None;
        }
        self.epochs = self.epochs.wrapping_add(1);
        self.payee = start(self.epochs, &self.disk, self.now);
        let unclaimed = self.payee.unclaimed().count();
        assert_eq!(
            unclaimed,
            self.disk.winners.len(),
            "every durable winner waits to be claimed"
        );
    }

    pub(super) fn pass(&mut self, input: &mut Input<'_>) {
        let steps = [0, 1, SECOND_MS, 61 * SECOND_MS, 11 * MINUTE_MS, HOUR_MS, DAY_MS];
        self.now = self.now.plus_ms(input.pick(&steps));
        let idle = self
            .sold
            .iter()
            .filter(|(_, sold)| sold.machine.as_ref().is_some_and(|book| book.is_idle(self.now)));
        let idle: Vec<BookId> = idle.map(|(id, _)| *id).collect();
        for id in idle {
            self.close_with(id, Reject::of(Code::BookIdle));
        }
        // A clock that steps back changes nothing.
        self.payee.advance(Timestamp(0));
    }

    pub(super) fn fail_or_recover(&mut self, input: &mut Input<'_>) {
        match input.byte() & 1 {
            0 => self.payee.store_failed(),
            _ => self.payee.store_recovered(),
        }
        self.resume_granted();
    }

    pub(super) fn serve(&mut self, input: &mut Input<'_>) {
        let Some(id) = self.book_id(input) else { return };
        let Some(sold) = self.sold.get_mut(&id) else { return };
        let Some(book) = &mut sold.machine else { return };
        if book.serve(PaidBy::Tickets) {
            sold.served += 1;
        }
        assert!(sold.served <= book.ack_through(), "a unit is sent for a ticket");
        assert_eq!(book.pool(), book.ack_through() - sold.served);
    }

    /// What must hold after whatever happened.
    pub(super) fn check(&mut self) {
        let ids: Vec<BookId> = self.sold.keys().copied().collect();
        for id in ids {
            let Some(book) = self.sold.get_mut(&id).and_then(|sold| sold.machine.take()) else {
                continue;
            };
            self.check_acknowledged(id, &book);
            if let Some(sold) = self.sold.get_mut(&id) {
                assert_eq!(
                    book.winners(),
                    sold.winners_through(book.through()),
                    "each index is drawn once"
                );
                sold.machine = Some(book);
            }
        }
        self.check_exposure();
    }

    /// No acknowledgement passes a winner that is not durable, and none is taken back.
    fn check_acknowledged(&mut self, id: BookId, book: &PayeeBook) {
        let durable = self.disk.winners_through(&id);
        let Some(sold) = self.sold.get_mut(&id) else { return };
        let acknowledged = book.ack_through();
        assert!(acknowledged >= sold.acknowledged, "an acknowledgement stands");
        assert!(acknowledged <= book.through());
        sold.acknowledged = acknowledged;
        let last_win = (1..=acknowledged).zip(&sold.wins).filter(|(_, wins)| **wins).last();
        assert!(
            last_win.is_none_or(|(index, _)| index <= durable),
            "no acknowledgement past an undurable winner"
        );
    }

    /// Per hold, by this harness's own count: what was paid and what is owed is covered.
    fn check_exposure(&self) {
        let mut owed = [0u64; HOLDS];
        for (id, sold) in &self.sold {
            let durable = self.disk.winners_through(id);
            let drawn = sold.machine.as_ref().map_or(durable, PayeeBook::through);
            let won = u64::from(sold.winners_through(drawn)) * FACE.0;
            let paid = sold.receipt.map_or(0, |receipt| receipt.gross.0);
            owed[sold.hold] += won.saturating_sub(paid);
        }
        for (promise, owed) in self.promises.iter().zip(owed) {
            assert!(
                promise.paid + owed <= promise.hold.body.cap.0,
                "cap - paid - liabilities >= 0"
            );
        }
        let exposure = self.payee.exposure();
        let known = self.disk.holds.values();
        let left: u64 = known.map(|row| row.hold.body.cap.0 - row.paid.0).sum();
        let taken = exposure.liabilities.0 + exposure.reservations.0;
        assert!(taken <= left, "cap - paid - liabilities - reservations >= 0");
    }

    /// In the end everything is closed and claimed, and every durable winner is paid.
    pub(super) fn settle_everything(&mut self) {
        for id in self.order.clone() {
            self.close_with(id, Reject::of(Code::Draining));
        }
        self.check();
        for _ in 0..40 {
            self.now = self.now.plus_ms(2 * HOUR_MS);
            self.tick(&mut Input::new(&[]));
            self.check_exposure();
        }
        assert!(self.disk.winners.is_empty(), "every durable winner is paid");
        assert_eq!(self.payee.exposure().liabilities, Amount::ZERO);
    }
}

fn start(epochs: u8, disk: &Disk, now: Timestamp) -> Payee {
    let terms = PayeeTerms {
        payee: payee().account(),
        asset: Asset::USD,
        escrows: Escrows::new(vec![bank().account()]).expect("one"),
        fee_max: Fee {
            flat: Amount(10),
            ppm: 20_000,
        },
        face_value_min: Amount(10),
        face_value_max: Amount(100_000),
        book_length_max: LENGTH_MAX,
        jump_max: JUMP_MAX,
        credit_units: 0,
        redeem_at_value: Amount(4 * FACE.0),
        redeem_window_min_ms: DAY_MS,
        opens_per_second_max: 1_000,
        store_since: START.minus_ms(30 * DAY_MS),
    };
    let (holds, winners) = (disk.holds.values().copied(), disk.winners.values().copied());
    Payee::new(terms, epoch(epochs), holds.collect(), winners.collect(), now).expect("rows that were written are read")
}

const fn epoch(number: u8) -> EpochSecret {
    EpochSecret::new([number; 32])
}

fn hold_body(number: usize, cap: u64) -> Hold {
    Hold {
        terms: HoldTerms {
            serial: u64::try_from(number).unwrap_or(0) + 1,
            face_value_min: Amount(10),
            face_value_max: Amount(100_000),
            opened_at: START.minus_ms(HOUR_MS),
            expires_at: START.plus_ms(60 * DAY_MS),
            redeem_by: START.plus_ms(160 * DAY_MS),
            ..hold_terms()
        },
        revision: 0,
        cap: Amount(cap),
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

fn sign(hold: Hold) -> Signed<Hold> {
    Signed::new(hold, bank())
}
