//! Nobody gains by cleverness: what a payer sees tells it nothing about the draws to come.

use crate::pair::{Dice, Options, World};
use std::collections::VecDeque;
use tombola_core::amount::{Amount, Asset, DAY_MS, HOUR_MS, MINUTE_MS, Timestamp};
use tombola_core::book::{Anchor, Book, Ticket};
use tombola_core::chain::{Preimage, step};
use tombola_core::claim::{Head, Receipt};
use tombola_core::draw::{Draw, Reveal};
use tombola_core::hold::{Fee, Hold, HoldTerms};
use tombola_core::key::{HoldId, QuoteId, SecretKey, Signed};
use tombola_core::limits::BOOK_LENGTH_MAX;
use tombola_core::message::OpenBook;
use tombola_core::odds::Threshold;
use tombola_core::payee::{Payee, PayeeBook, PayeeTerms, Taken, WinnerRow};
use tombola_core::payer::PayerBook;
use tombola_core::quote::{EpochSecret, Escrows, Service};
use tombola_core::reject::{Code, Reject};

const NOW: Timestamp = Timestamp(1_800_000_000_000);
const PRICE: Amount = Amount(10);
/// One unit in so many wins, and how many units a strategy buys, if it can do so with few signatures. An honest payer's
/// advantage would be seen from 2 %, 6 % and 40 % on.
const ODDS: [(u64, u64); 3] = [(2, 100_000), (100, 500_000), (10_000, 1_000_000)];
/// Books, top-ups and receipts at most: each is one or two signatures, which take as long as hundreds of tickets.
const SIGNED_MAX: u64 = 1_500;

/// What a payer tries.
#[derive(Debug, Clone, Copy)]
enum Strategy {
    /// Pays on.
    Honest,
    /// Leaves a book as soon as an acknowledgement is late: a winner is being written.
    AbortOnLateAck,
    /// Leaves a book that has had no late acknowledgement for nearly as long as a winner takes: it must be due.
    AbortWhenDue,
    /// Shows nothing while an acknowledgement is late, then jumps over many indices at once.
    WithholdAndJump,
    /// A new anchor every few tickets, long before a winner is due.
    Reopen,
    /// Leaves a book some tickets after each winner, sees the claim and its receipt, and goes on with a new book on the
    /// same hold.
    ReconnectAfterRedeem,
    /// Presents old and wrong tickets between the good ones, to have the same index drawn again.
    Replay,
    /// Stays at the edge of an exhausted hold and closes the book if more room is slow to come.
    Exhaust,
}

const STRATEGIES: [Strategy; 8] = [
    Strategy::Honest,
    Strategy::AbortOnLateAck,
    Strategy::AbortWhenDue,
    Strategy::WithholdAndJump,
    Strategy::Reopen,
    Strategy::ReconnectAfterRedeem,
    Strategy::Replay,
    Strategy::Exhaust,
];

/// A payee and a payer that sees all that the payee says and when.
struct Game {
    dice: Dice,
    odds: u64,
    units: u64,
    face: Amount,
    escrow: SecretKey,
    payer: SecretKey,
    payee: Payee,
    hold: Signed<Hold>,
    /// What the escrow has paid from the hold, and in how many claims.
    paid: Amount,
    claims: u64,
    /// Units that the payee has drawn, and winners among them, of books that are over.
    drawn: u64,
    won: u64,
    /// Books, top-ups and receipts so far.
    signed: u64,
}

/// An open book on both sides.
struct Pair {
    payer: PayerBook,
    payee: PayeeBook,
    tickets: VecDeque<Ticket>,
    /// Tickets since an acknowledgement was late.
    quiet: u64,
}

impl Game {
    fn new(seed: u64, (odds, units): (u64, u64), strategy: Strategy) -> Self {
        let face = Amount(PRICE.0 * odds);
        let cap = match strategy {
            Strategy::Exhaust => Amount(2 * face.0),
            _ => Amount(units * face.0),
        };
        let mut dice = Dice::new(seed);
        let [escrow, payer, payee] = [(); 3].map(|()| SecretKey::from_seed(&dice.bytes()));
        let terms = PayeeTerms {
            payee: payee.account(),
            asset: Asset::USD,
            escrows: Escrows::new(vec![escrow.account()]).unwrap(),
            fee_max: Fee::default(),
            face_value_min: PRICE,
            face_value_max: face,
            book_length_max: BOOK_LENGTH_MAX,
            jump_max: 4_096,
            credit_units: 0,
            redeem_at_value: Amount(20 * face.0),
            redeem_window_min_ms: DAY_MS,
            hold_life_max_ms: u64::MAX,
            opens_per_second_max: u32::MAX,
            asks_before: NOW.minus_ms(DAY_MS),
        };
        let hold = Hold {
            terms: HoldTerms {
                escrow: escrow.account(),
                asset: Asset::USD,
                payer: payer.account(),
                signer: payer.account(),
                payee: payee.account(),
                serial: 1,
                fee: Fee::default(),
                face_value_min: PRICE,
                face_value_max: face,
                book_length_max: BOOK_LENGTH_MAX,
                opened_at: NOW.minus_ms(HOUR_MS),
                expires_at: NOW.plus_ms(DAY_MS),
                redeem_by: NOW.plus_ms(3 * DAY_MS),
            },
            revision: 0,
            cap,
        };
        let secret = EpochSecret::new(dice.bytes());
        Self {
            payee: Payee::new(terms, secret, vec![], vec![], NOW).unwrap(),
            hold: Signed::new(hold, &escrow),
            dice,
            odds,
            units,
            face,
            escrow,
            payer,
            paid: Amount::ZERO,
            claims: 0,
            drawn: 0,
            won: 0,
            signed: 0,
        }
    }

    /// As long as a strategy may use, and not much longer: making a chain costs as much as drawing it.
    fn book_length(&self, strategy: Strategy) -> u32 {
        let length = match strategy {
            Strategy::Reopen => self.odds.div_ceil(33).max(1),
            Strategy::AbortWhenDue | Strategy::AbortOnLateAck | Strategy::ReconnectAfterRedeem => {
                (2 * self.odds).max(16)
            }
            Strategy::Honest | Strategy::WithholdAndJump | Strategy::Replay | Strategy::Exhaust => 50_000,
        };
        let left = self.units - self.drawn;
        u32::try_from(length.min(left)).unwrap().clamp(1, 50_000)
    }

    fn open(&mut self, length: u32) -> Pair {
        self.signed += 1;
        let service = Service::new("/units").unwrap();
        let id = QuoteId(self.dice.bytes());
        let quote = self.payee.quote(&service, PRICE, id, NOW).unwrap();
        let secret: [u8; 32] = self.dice.bytes();
        let payer = PayerBook::new(
            &self.hold.body,
            &quote,
            self.face,
            length,
            Preimage(secret),
            &self.payer,
        )
        .unwrap();
        let open = OpenBook {
            hold: self.hold,
            quote,
            book: *payer.signed(),
        };
        let payee = self.payee.open_book(open, NOW).unwrap().book;
        // All at once and from the end: no window limits this payer.
        let mut at = Preimage(secret);
        let mut tickets: Vec<Ticket> = Vec::new();
        for index in (1..=length).rev() {
            tickets.push(Ticket { index, preimage: at });
            at = step(&at, index);
        }
        Pair {
            payer,
            payee,
            tickets: tickets.into_iter().rev().collect(),
            quiet: 0,
        }
    }

    /// Whether the acknowledgement came at once; else a winner is being written, which an attentive payer sees.
    fn is_prompt(pair: &mut Pair) -> bool {
        pair.payee.begin_write();
        let is_prompt = pair.payee.ack_through() == pair.payee.through();
        pair.payee.written();
        is_prompt
    }

    /// Closes a book; the claim of its winners, if there are any, is what its payer sees of them.
    fn close(&mut self, mut pair: Pair, code: Code) -> Option<WinnerRow> {
        let closing = pair.payee.close(Reject::of(code));
        self.payee.closed(&closing, NOW);
        self.drawn += u64::from(pair.payee.through());
        self.won += u64::from(pair.payee.winners());
        // The claim shows the payer the reveal, so it must say what was drawn.
        let row = closing.winners?;
        let proved = row.claim.verify(&self.hold.body).unwrap();
        assert_eq!((proved.winners, proved.book), (row.winners, pair.payer.id()));
        Some(row)
    }

    /// The escrow pays a claim, and the payee has its receipt.
    fn redeem(&mut self, row: &WinnerRow) {
        self.signed += 1;
        self.paid = Amount(self.paid.0 + row.gross().0);
        self.claims += 1;
        let receipt = Receipt {
            escrow: self.escrow.account(),
            writer: 0,
            book: row.claim.book.body.id(),
            through: row.claim.through,
            winners: row.winners,
            gross: row.gross(),
            fee: Amount::ZERO,
            hold_paid_after: self.paid,
            at: NOW,
            height: self.claims,
            head: Head(self.dice.bytes()),
        };
        let receipt = Signed::new(receipt, &self.escrow);
        assert_eq!(self.payee.receive(&receipt, NOW).unwrap().winners, row.winners);
        assert_eq!(self.payee.hold(&self.hold.body.id()).unwrap().paid, self.paid);
    }

    fn top_up(&mut self) {
        self.signed += 1;
        let hold = Hold {
            revision: self.hold.body.revision + 1,
            cap: Amount(self.hold.body.cap.0 + self.face.0),
            ..self.hold.body
        };
        self.hold = Signed::new(hold, &self.escrow);
        self.payee.present_hold(&self.hold, NOW).unwrap();
        self.payee.take_granted();
    }

    /// One move of a strategy; says whether the payer leaves the book.
    fn play(&mut self, strategy: Strategy, pair: &mut Pair) -> bool {
        let jump = match strategy {
            Strategy::WithholdAndJump => 1 + self.dice.below(60),
            Strategy::Exhaust => 1 + self.dice.below(5),
            _ => 1,
        };
        let mut ticket = pair.tickets.pop_front();
        for _ in 1..jump {
            ticket = pair.tickets.pop_front().or(ticket);
        }
        let Some(ticket) = ticket else { return true };
        if matches!(strategy, Strategy::Replay) {
            let forged = Ticket {
                preimage: Preimage(self.dice.bytes()),
                ..ticket
            };
            // The first bogus ticket ends a book at a node; here the payer may go on trying.
            assert!(pair.payee.take(&forged, &mut self.payee, NOW).is_err());
        }
        let mut taken = pair.payee.take(&ticket, &mut self.payee, NOW).unwrap();
        if matches!(strategy, Strategy::Replay) {
            assert_eq!(pair.payee.take(&ticket, &mut self.payee, NOW), Ok(Taken::Repeat));
        }
        let mut leaves = false;
        while matches!(taken, Taken::Exhausted { .. }) {
            leaves = matches!(strategy, Strategy::Exhaust) && self.dice.chance(500);
            self.top_up();
            if leaves {
                break;
            }
            taken = pair.payee.resume(&mut self.payee);
        }
        let is_prompt = Self::is_prompt(pair);
        pair.quiet = if is_prompt { pair.quiet + 1 } else { 0 };
        leaves
            || match strategy {
                Strategy::AbortOnLateAck => !is_prompt,
                Strategy::ReconnectAfterRedeem => pair.payee.winners() > 0 && pair.quiet >= 3,
                Strategy::AbortWhenDue => pair.quiet >= (self.odds * 4 / 5).max(1),
                Strategy::Reopen
                | Strategy::Honest
                | Strategy::WithholdAndJump
                | Strategy::Replay
                | Strategy::Exhaust => false,
            }
    }

    /// Buys units until the payee has drawn enough of them, or enough was signed. When to stop does not depend on draws to
    /// come, so it can favour nobody.
    fn run(&mut self, strategy: Strategy) {
        while self.drawn < self.units && self.signed < SIGNED_MAX {
            let mut pair = self.open(self.book_length(strategy));
            let mut is_over = false;
            while !is_over && !pair.payee.is_complete() {
                is_over = self.play(strategy, &mut pair) || self.signed >= 2 * SIGNED_MAX;
            }
            if matches!(strategy, Strategy::ReconnectAfterRedeem) {
                if let Some(row) = self.close(pair, Code::BookRedeemed) {
                    self.redeem(&row);
                }
            } else {
                self.close(pair, Code::BookFinished);
            }
        }
    }
}

/// z of a number of winners among so many draws at p = 1/odds, in thousandths: integers suffice to compare with 4 sigma.
fn z_thousandths(won: u64, draws: u64, odds: u64) -> i64 {
    let (won, draws, odds) = (i128::from(won), i128::from(draws), i128::from(odds));
    // (won - draws/odds) / sqrt(draws (odds-1)) * odds
    let off = won * odds - draws;
    let sigma = u128::try_from(draws * (odds - 1)).unwrap().isqrt();
    i64::try_from(off * 1_000 / i128::try_from(sigma).unwrap()).unwrap()
}

/// Fails, for one, if a closed book's draws did not count, or if `core/payee/book.rs::take` drew an index again.
/// Spec: B-09, O-04, T-05.
#[test]
fn a_payer_that_adapts_to_all_it_sees_pays_its_expectation() {
    let each = ODDS
        .iter()
        .flat_map(|odds| STRATEGIES.map(|strategy| (*odds, strategy)));
    for (((odds, units), strategy), seed) in each.zip(1..) {
        let mut game = Game::new(seed, (odds, units), strategy);
        game.run(strategy);
        let (won, drawn) = (game.won, game.drawn);
        let z = z_thousandths(won, drawn, odds);
        println!("seed {seed}: {strategy:?} at 1/{odds}: {won} of {drawn} won, z {z}/1000");
        // Fewer than these would show only large advantages.
        assert!(drawn >= units || game.signed >= SIGNED_MAX);
        assert!(drawn / odds >= 40, "seed {seed}: too few to tell");
        if matches!(strategy, Strategy::ReconnectAfterRedeem) {
            assert!(game.claims >= 40, "{} books were redeemed and followed", game.claims);
            assert_eq!(game.paid.0, won * game.face.0);
        }
        assert!(
            z.abs() <= 4_000,
            "seed {seed}: {strategy:?} at 1/{odds}: {won} of {drawn} won, z {z}/1000"
        );
    }
}

/// Fails without `core/payee/exposure.rs::reserve`: on a real ledger, the ones too many would be refused.
/// Spec: B-10.
#[test]
fn sixty_four_books_racing_on_one_hold_win_nothing_that_is_not_paid() {
    for seed in 0..5 {
        let options = Options {
            price: Amount(500),
            cap: Amount(10_500),
            spend_max: Amount(10_500),
            books: 64,
            delay_ms: 40,
            window: Amount(1_000_000),
            jump_max: 16,
            ..Options::default()
        };
        let mut world = World::funded(seed, options);
        world.pay(1_000);
        world.live(30_000);
        assert!(world.net.opened.len() >= 64);
        world.check();
        world.finish();
        world.live(MINUTE_MS);
        world.end_holds();
        world.check_settled();
        let winners = world.audit().winners;
        assert!(
            (8..=10).contains(&winners),
            "the hold pays ten, and nearly as many were drawn: {winners}"
        );
    }
}

fn book(anchor: Anchor, reveal: &Reveal) -> Book {
    Book {
        hold: HoldId([1; 32]),
        commitment: reveal.commitment(),
        anchor,
        length: 1,
        face_value: Amount(1_000),
        threshold: Threshold(u64::MAX / 100),
    }
}

/// Chi-square over 256 buckets has mean 255 and sigma 22.6; 4 sigma off is 345. Fails if the reveal were not in the
/// draw, or only weakly: the anchors are as regular as a payer can make them.
/// Spec: T-05.
#[test]
fn chosen_anchors_meet_fresh_reveals_at_random() {
    let mut dice = Dice::new(64);
    let anchors: Vec<(Preimage, Anchor)> = (0..1_000u64)
        .map(|n| {
            let mut preimage = [0; 32];
            preimage[..8].copy_from_slice(&n.to_le_bytes());
            let preimage = Preimage(preimage);
            (preimage, Anchor(step(&preimage, 1).0))
        })
        .collect();
    let mut buckets = [0u64; 256];
    for _ in 0..1_000 {
        let reveal = Reveal(dice.bytes());
        let mut body = book(anchors[0].1, &reveal);
        for (preimage, anchor) in &anchors {
            body.anchor = *anchor;
            let number = Draw::new(&body.id(), &reveal, body.threshold).number(1, preimage);
            buckets[usize::from(number.to_be_bytes()[0])] += 1;
        }
    }
    let draws: u64 = buckets.iter().sum();
    let squares: u64 = buckets.iter().map(|n| n * n).sum();
    let chi_square = squares * 256 / draws - draws;
    assert!((165..=345).contains(&chi_square), "chi-square {chi_square}");
}

/// Fails if index and preimage were left out of the draw: then all tickets of a book would win or lose together.
/// Spec: O-01.
#[test]
fn ten_million_draws_win_as_often_as_they_should() {
    const LENGTH: u32 = 50_000;
    const BOOKS: u64 = 200;
    const SEED: u64 = 1_000;
    let mut dice = Dice::new(SEED);
    // One number is judged by each of these.
    let odds = [2, 100, 1_000, 10_000];
    let thresholds = odds.map(|odds| Threshold::for_price(Amount(1), Amount(odds)).unwrap());
    let mut won = [0u64; 4];
    for _ in 0..BOOKS {
        let reveal = Reveal(dice.bytes());
        let draw = Draw::new(&book(Anchor(dice.bytes()), &reveal).id(), &reveal, thresholds[0]);
        let mut at = Preimage(dice.bytes());
        for index in (1..=LENGTH).rev() {
            let number = draw.number(index, &at);
            for (won, threshold) in won.iter_mut().zip(thresholds) {
                *won += u64::from(number <= threshold.0);
            }
            at = step(&at, index);
        }
    }
    for (won, odds) in won.into_iter().zip(odds) {
        let z = z_thousandths(won, BOOKS * u64::from(LENGTH), odds);
        println!("seed {SEED}: {won} won at 1/{odds}, z {z}/1000");
        assert!(z.abs() <= 4_000, "seed {SEED}: {won} won at 1/{odds}, z {z}/1000");
    }
}

/// Fails if the index, the preimage, the reveal or the book were left out of the draw.
/// Spec: T-03, T-05.
#[test]
fn everything_that_is_in_a_draw_changes_it() {
    let mut dice = Dice::new(5);
    for _ in 0..1_000 {
        let (reveal, other) = (Reveal(dice.bytes()), Reveal(dice.bytes()));
        let (id, preimage) = (book(Anchor(dice.bytes()), &reveal).id(), Preimage(dice.bytes()));
        let threshold = Threshold::ALWAYS;
        let draw = Draw::new(&id, &reveal, threshold);
        let number = draw.number(1, &preimage);
        let next_book = book(Anchor(dice.bytes()), &reveal).id();
        assert_ne!(number, draw.number(2, &preimage));
        assert_ne!(number, draw.number(1, &Preimage(dice.bytes())));
        assert_ne!(number, Draw::new(&id, &other, threshold).number(1, &preimage));
        assert_ne!(number, Draw::new(&next_book, &reveal, threshold).number(1, &preimage));
    }
}
