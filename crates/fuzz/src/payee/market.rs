//! A payee, its disk, a payer that owns every preimage, and an escrow that pays what it must.

mod check;
mod redemption;
mod sale;

use super::disk::Disk;
use crate::input::Input;
use crate::party::{START, bank, hold_terms, payee};
use std::collections::BTreeMap;
use tombola_core::amount::{Amount, Asset, DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, Timestamp};
use tombola_core::chain::Chain;
use tombola_core::claim::Receipt;
use tombola_core::hold::{Fee, Hold, HoldTerms};
use tombola_core::key::{BookId, Signed};
use tombola_core::message::HoldState;
use tombola_core::payee::{Closing, Payee, PayeeBook, PayeeTerms};
use tombola_core::quote::{EpochSecret, Escrows};
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
        hold_life_max_ms: 400 * DAY_MS,
        opens_per_second_max: 1_000,
        asks_before: disk.asks_before,
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

fn sign(hold: Hold) -> Signed<Hold> {
    Signed::new(hold, bank())
}
