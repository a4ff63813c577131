//! The payee's rules, one claim a test.

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
            opens_per_second_max: 1_000,
            store_since: NOW.minus_ms(30 * DAY_MS),
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

    fn quote(&mut self, price: u64) -> Quote {
        self.quotes += 1;
        let service = Service::new("/file").unwrap();
        self.payee
            .quote(&service, Amount(price), QuoteId([self.quotes; 16]), NOW)
            .unwrap()
    }

    fn issue(&mut self, hold: &Signed<Hold>, price: u64, length: u32) -> (PayerBook, OpenBook) {
        let quote = self.quote(price);
        let secret = Preimage([self.quotes; 32]);
        let book = PayerBook::new(&hold.body, &quote, FACE, length, secret, &self.payer).unwrap();
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

/// Spec: B-04, B-05, Q-05.
#[test]
fn a_quote_opens_one_book() {
    let mut w = World::new();
    let hold = w.hold(10_000, |_| ());
    let (_, open) = w.issue(&hold, 10, 5);
    assert!(w.payee.open_book(open.clone(), NOW).is_ok());
    assert_eq!(w.code(open), Code::CommitmentReused);
}

/// Spec: B-04, Q-03.
#[test]
fn an_altered_or_stale_or_foreign_quote_opens_nothing() {
    let mut w = World::new();
    let hold = w.hold(10_000, |_| ());
    let (_, mut cheaper) = w.issue(&hold, 10, 5);
    cheaper.quote.terms.ticket_price = Amount(1);
    assert_eq!(w.code(cheaper), Code::QuoteAltered);
    let (_, late) = w.issue(&hold, 10, 5);
    let after = NOW.plus_ms(QUOTE_LIFE_MS + 1);
    assert_eq!(w.payee.open_book(late, after).unwrap_err().code, Code::QuoteExpired);
}

/// Spec: D-05, P-03, Q-01.
#[test]
fn a_tip_is_quoted_at_its_amount_and_a_service_within_the_face_values() {
    let mut w = World::new();
    let mut tip = |amount| {
        w.payee
            .quote(&Service::new("tip").unwrap(), Amount(amount), QuoteId([7; 16]), NOW)
    };
    for (amount, face_value_min) in [(1, 10), (10, 10), (100_000, 100_000), (100_001, 100_001)] {
        let terms = tip(amount).unwrap().terms;
        assert_eq!((terms.ticket_price.0, terms.face_value_min.0), (amount, face_value_min));
        assert_eq!(terms.expires_at, NOW.plus_ms(QUOTE_LIFE_MS));
    }
    assert_eq!(tip(0).unwrap_err().code, Code::BadTerms);
    let (file, id) = (Service::new("/file").unwrap(), QuoteId([8; 16]));
    let over = Reject::compared(Code::BadTerms, 100_000, 100_001);
    assert_eq!(w.payee.quote(&file, Amount(100_001), id, NOW).unwrap_err(), over);
}

/// Spec: Q-04.
#[test]
fn a_quote_outlives_its_epoch_but_not_by_two() {
    let mut w = World::new();
    let hold = w.hold(10_000, |_| ());
    let (_, open) = w.issue(&hold, 10, 5);
    w.payee.begin_epoch(EpochSecret::new([10; 32]));
    assert!(w.payee.open_book(open, NOW).is_ok());
    let (_, open) = w.issue(&hold, 10, 5);
    w.payee.begin_epoch(EpochSecret::new([11; 32]));
    w.payee.begin_epoch(EpochSecret::new([12; 32]));
    assert_eq!(w.code(open), Code::QuoteAltered);
}

/// Spec: B-04, C-03.
#[test]
fn a_hold_must_be_for_me_from_my_escrow_in_time_and_cheap_enough() {
    type Change = fn(&mut HoldTerms);
    let cases: [(Change, Code); 8] = [
        (
            |t| t.payee = SecretKey::from_seed(&[8; 32]).account(),
            Code::HoldNotForMe,
        ),
        (
            |t| t.escrow = SecretKey::from_seed(&[8; 32]).account(),
            Code::WrongEscrow,
        ),
        (|t| t.asset.decimals = 2, Code::WrongAsset),
        (|t| t.expires_at = NOW.plus_ms(MINUTE_MS - 1), Code::HoldExpired),
        (
            |t| t.redeem_by = t.expires_at.plus_ms(DAY_MS - 1),
            Code::RedeemWindowShort,
        ),
        (|t| t.fee.flat = Amount(11), Code::FeeTooHigh),
        (|t| t.fee.ppm = 20_001, Code::FeeTooHigh),
        (|t| t.signer = t.payee, Code::SelfHold),
    ];
    for (change, code) in cases {
        let mut w = World::new();
        let good = w.hold(10_000, |_| ());
        let (_, mut open) = w.issue(&good, 10, 5);
        open.hold = w.hold(10_000, change);
        open.book.body.hold = open.hold.body.id();
        open.book = Signed::new(open.book.body, &w.payer);
        assert_eq!(w.code(open), code);
    }
}

/// Spec: B-03, B-04.
#[test]
fn a_book_must_keep_to_quote_and_hold() {
    type Change = fn(&mut crate::book::Book);
    let cases: [(Change, Code); 7] = [
        (|b| b.hold = HoldId([0; 32]), Code::HoldMismatch),
        (
            |b| b.commitment = crate::draw::Commitment([0; 32]),
            Code::CommitmentMismatch,
        ),
        (|b| b.length = 0, Code::BookTooLong),
        (|b| b.length = 4_097, Code::BookTooLong),
        (|b| b.face_value = Amount(9), Code::FaceOutOfRange),
        (|b| b.face_value = Amount(100_001), Code::FaceOutOfRange),
        (|b| b.threshold.0 -= 1, Code::OddsTooLow),
    ];
    for (change, code) in cases {
        let mut w = World::new();
        let hold = w.hold(10_000, |_| ());
        let (_, mut open) = w.issue(&hold, 10, 5);
        change(&mut open.book.body);
        open.book = Signed::new(open.book.body, &w.payer);
        assert_eq!(w.code(open), code);
    }
}

/// Spec: B-04.
#[test]
fn only_the_holds_signer_signs_books_and_only_the_escrow_holds() {
    let mut w = World::new();
    let hold = w.hold(10_000, |_| ());
    let (_, mut open) = w.issue(&hold, 10, 5);
    open.book = Signed::new(open.book.body, &w.escrow);
    assert_eq!(w.code(open), Code::BadSignature);
    let (_, mut open) = w.issue(&hold, 10, 5);
    open.hold = Signed::new(open.hold.body, &w.payer);
    assert_eq!(w.code(open), Code::BadSignature);
}

/// Spec: B-07, B-09.
#[test]
fn a_repeat_costs_nothing_and_changes_nothing() {
    let mut w = World::new();
    let hold = w.hold(1_000_000, |_| ());
    let (tickets, mut book) = w.open(&hold, 500, 50);
    for ticket in &tickets {
        assert_eq!(book.take(ticket, &mut w.payee, NOW), Ok(Taken::Drawn));
    }
    let winners = book.winners();
    for ticket in &tickets {
        assert_eq!(book.take(ticket, &mut w.payee, NOW), Ok(Taken::Repeat));
    }
    assert_eq!((book.winners(), book.through()), (winners, 50));
}

/// Spec: B-08.
#[test]
fn a_jump_draws_every_index_it_passes() {
    let mut one_by_one = World::new();
    let mut at_once = World::new();
    let hold = one_by_one.hold(1_000_000, |_| ());
    let (tickets, mut a) = one_by_one.open(&hold, 300, 90);
    let (_, mut b) = at_once.open(&hold, 300, 90);
    for ticket in &tickets {
        a.take(ticket, &mut one_by_one.payee, NOW).unwrap();
    }
    b.take(&tickets[89], &mut at_once.payee, NOW).unwrap();
    assert_eq!((a.winners(), a.through()), (b.winners(), b.through()));
    assert!(a.winners() > 0);
    assert_eq!(one_by_one.payee.exposure(), at_once.payee.exposure());
}

/// Spec: B-07, C-03.
#[test]
fn bad_tickets_are_refused_with_their_code() {
    let mut w = World::new();
    let hold = w.hold(1_000_000, |_| ());
    let (tickets, mut book) = w.open(&hold, 10, 300);
    let at = |index: u32, n: usize| Ticket {
        index,
        preimage: tickets[n].preimage,
    };
    for (ticket, code) in [
        (at(0, 0), Code::IndexZero),
        (at(301, 0), Code::IndexPastEnd),
        (at(101, 100), Code::JumpTooLong),
        (at(1, 1), Code::ChainBroken),
        (at(5, 5), Code::ChainBroken),
    ] {
        assert_eq!(book.take(&ticket, &mut w.payee, NOW).unwrap_err().code, code);
    }
    let late = hold.body.terms.expires_at.minus_ms(MINUTE_MS - 1);
    assert_eq!(
        book.take(&tickets[0], &mut w.payee, late).unwrap_err().code,
        Code::HoldExpired
    );
}

/// Spec: B-11, P-06.
#[test]
fn without_room_nothing_is_drawn_and_a_top_up_goes_on_by_itself() {
    let mut w = World::new();
    let hold = w.hold(2 * FACE.0, |_| ());
    let (tickets, mut book) = w.open(&hold, FACE.0, 50);
    let exhausted = Taken::Exhausted {
        need: FACE,
        has: Amount(0),
    };
    assert_eq!(book.take(&tickets[39], &mut w.payee, NOW), Ok(exhausted));
    assert_eq!((book.through(), book.winners()), (2, 2));
    assert_eq!(book.take(&tickets[40], &mut w.payee, NOW), Ok(exhausted));
    let more = Signed::new(
        Hold {
            revision: 1,
            cap: Amount(45 * FACE.0),
            ..hold.body
        },
        &w.escrow,
    );
    w.payee.present_hold(&more, NOW).unwrap();
    assert_eq!(w.payee.take_granted(), [book.id()]);
    assert_eq!(book.resume(&mut w.payee), Taken::Drawn);
    assert_eq!((book.through(), book.winners()), (41, 41));
    assert_eq!(w.payee.exposure().liabilities, Amount(41 * FACE.0));
}

/// Spec: P-06. Between the checks of a top-up anything may happen, as no lock is held while its signature is verified.
#[test]
fn a_hold_released_while_its_top_up_is_verified_is_not_raised() {
    let mut w = World::new();
    let hold = w.hold(10 * FACE.0, |_| ());
    let _ = w.open(&hold, FACE.0, 3).1.close(Reject::of(Code::BookFinished));
    let (raised, id) = (Amount(20 * FACE.0), hold.body.id());
    let raised = Hold {
        revision: 1,
        cap: raised,
        ..hold.body
    };
    let forged = w
        .payee
        .begin_present(&Signed::new(raised, &SecretKey::from_seed(&[9; 32])), NOW);
    assert_eq!(forged.unwrap().verify().unwrap_err().code, Code::BadSignature);
    let check = w.payee.begin_present(&Signed::new(raised, &w.escrow), NOW).unwrap();
    let ready = check.verify().unwrap();
    w.payee.holds.get_mut(&id).unwrap().row.release = Some(Signed::new(
        crate::hold::Release {
            hold: id,
            paid: Amount(0),
        },
        &SecretKey::from_seed(&[3; 32]),
    ));
    assert_eq!(w.payee.finish_present(ready, NOW).unwrap_err().code, Code::HoldReleased);
    assert_eq!(w.payee.hold(&id).unwrap().hold.body.revision, 0);
}

/// Spec: B-05, B-10.
#[test]
fn many_books_never_win_more_than_the_hold_has() {
    let mut w = World::new();
    let hold = w.hold(10 * FACE.0 + 999, |_| ());
    let mut books: Vec<_> = (0..OPEN_BOOKS).map(|_| w.open(&hold, FACE.0 / 2, 60)).collect();
    for index in 0..60 {
        for (tickets, book) in &mut books {
            book.take(&tickets[index], &mut w.payee, NOW).unwrap();
        }
    }
    let won: u32 = books.iter().map(|(_, book)| book.winners()).sum();
    assert_eq!(won, 10);
    assert_eq!(w.payee.exposure().liabilities, Amount(10 * FACE.0));
    let (_, one_too_many) = w.issue(&hold, 10, 5);
    assert_eq!(w.code(one_too_many), Code::Busy);
}

const OPEN_BOOKS: usize = crate::limits::OPEN_BOOKS_PER_HOLD_MAX;

/// Spec: B-10, B-11.
#[test]
fn closing_one_book_makes_room_for_the_next_in_line() {
    let mut w = World::new();
    let hold = w.hold(FACE.0, |_| ());
    let (a_tickets, mut a) = w.open(&hold, 1, 10);
    let (b_tickets, mut b) = w.open(&hold, 1, 10);
    assert_eq!(a.take(&a_tickets[0], &mut w.payee, NOW), Ok(Taken::Drawn));
    assert!(matches!(
        b.take(&b_tickets[0], &mut w.payee, NOW),
        Ok(Taken::Exhausted { .. })
    ));
    let closing = a.close(Reject::of(Code::BookFinished));
    w.payee.closed(&closing, NOW);
    assert_eq!(w.payee.take_granted(), [b.id()]);
    assert_eq!(b.resume(&mut w.payee), Taken::Drawn);
}

/// Spec: B-12.
#[test]
fn a_winner_is_acknowledged_only_when_it_is_durable() {
    let mut w = World::new();
    let hold = w.hold(1_000_000, |_| ());
    let (tickets, mut book) = w.open(&hold, FACE.0, 10);
    book.take(&tickets[0], &mut w.payee, NOW).unwrap();
    assert_eq!(book.ack_through(), 0);
    let row = book.begin_write().unwrap();
    assert_eq!((row.winners, row.claim.through), (1, 1));
    book.take(&tickets[1], &mut w.payee, NOW).unwrap();
    assert_eq!((book.ack_through(), book.begin_write()), (0, None));
    book.written();
    assert_eq!(book.ack_through(), 1);
    assert_eq!(book.begin_write().unwrap().winners, 2);
    assert_eq!(book.pool(), 1);
}

/// Spec: B-14.
#[test]
fn a_payee_whose_store_failed_takes_no_ticket() {
    let mut w = World::new();
    let hold = w.hold(1_000_000, |_| ());
    let (tickets, mut book) = w.open(&hold, 10, 10);
    w.payee.store_failed();
    assert_eq!(
        book.take(&tickets[0], &mut w.payee, NOW).unwrap_err().code,
        Code::NotSelling
    );
    let (service, id) = (Service::new("/file").unwrap(), QuoteId([99; 16]));
    assert_eq!(
        w.payee.quote(&service, Amount(10), id, NOW).unwrap_err().code,
        Code::NotSelling
    );
    w.payee.store_recovered();
    assert_eq!(book.take(&tickets[0], &mut w.payee, NOW), Ok(Taken::Drawn));
}

/// Spec: B-05, B-06.
#[test]
fn a_young_store_asks_the_escrow_about_old_holds_first() {
    let mut w = World::with(|terms| terms.store_since = NOW.minus_ms(MINUTE_MS));
    let hold = w.hold(1_000_000, |_| ());
    let (_, open) = w.issue(&hold, 10, 5);
    assert_eq!(w.code(open.clone()), Code::HoldUnchecked);
    assert_eq!(w.payee.tick(NOW), [Task::Check(Box::new(hold))]);
    let status = HoldStatus {
        hold,
        paid: Amount(5),
        state: HoldState::Open,
    };
    assert_eq!(w.payee.checked(&status, NOW).unwrap().paid, Amount(5));
    assert!(w.payee.open_book(open, NOW).is_ok());
}

/// Spec: B-05, B-06.
#[test]
fn a_hold_that_ended_at_the_escrow_opens_nothing() {
    let mut w = World::with(|terms| terms.store_since = NOW);
    let hold = w.hold(1_000_000, |_| ());
    let (_, open) = w.issue(&hold, 10, 5);
    assert_eq!(w.code(open.clone()), Code::HoldUnchecked);
    let status = HoldStatus {
        hold,
        paid: Amount(5),
        state: HoldState::Released,
    };
    w.payee.checked(&status, NOW);
    assert_eq!(w.code(open), Code::HoldReleased);
}

fn receipt(w: &World, row: &WinnerRow, paid_after: u64) -> Signed<Receipt> {
    let body = Receipt {
        escrow: w.escrow.account(),
        writer: 0,
        book: row.claim.book.body.id(),
        through: row.claim.through,
        winners: row.winners,
        gross: row.gross(),
        fee: Amount(0),
        hold_paid_after: Amount(paid_after),
        at: NOW,
        height: 1,
        head: crate::claim::Head([0; 32]),
    };
    Signed::new(body, &w.escrow)
}

/// Spec: B-15, H-07.
#[test]
fn winners_are_claimed_after_closing_settled_by_the_receipt_and_the_hold_released() {
    let mut w = World::new();
    let hold = w.hold(100 * FACE.0, |_| ());
    let (tickets, mut book) = w.open(&hold, FACE.0, 3);
    for ticket in &tickets {
        book.take(ticket, &mut w.payee, NOW).unwrap();
    }
    assert_eq!(w.payee.tick(NOW), []);
    let closing = book.close(Reject::of(Code::BookComplete));
    w.payee.closed(&closing, NOW);
    let row = closing.winners.unwrap();
    assert_eq!(w.payee.tick(NOW), [Task::Claim(vec![row.claim])]);
    assert_eq!(row.claim.verify(&hold.body).unwrap().winners, 3);

    let mut forged = receipt(&w, &row, 3 * FACE.0);
    forged.signature.0[0] ^= 1;
    assert_eq!(w.payee.receive(&forged, NOW).unwrap_err().code, Code::BadSignature);
    let short = receipt(&w, &WinnerRow { winners: 2, ..row }, 2 * FACE.0);
    assert_eq!(w.payee.receive(&short, NOW).unwrap_err().code, Code::BadTerms);
    let settled = w.payee.receive(&receipt(&w, &row, 3 * FACE.0), NOW).unwrap();
    assert_eq!(
        (settled.hold.paid, settled.net),
        (Amount(3 * FACE.0), Amount(3 * FACE.0))
    );
    assert_eq!(w.payee.tick(NOW), []);

    let idle = NOW.plus_ms(crate::limits::HOLD_IDLE_MS);
    let release = crate::hold::Release {
        hold: hold.body.id(),
        paid: Amount(3 * FACE.0),
    };
    assert_eq!(w.payee.tick(idle), [Task::Release(release)]);
    let signed = Signed::new(release, &SecretKey::from_seed(&[3; 32]));
    assert_eq!(w.payee.released(signed).unwrap().release, Some(signed));
    assert_eq!(w.payee.tick(idle.plus_ms(1_000)), [], "not sent before it is durable");
    w.payee.release_kept(&hold.body.id());
    let later = idle.plus_ms(2_000);
    assert_eq!(w.payee.tick(later), [Task::SendRelease(signed)]);
    let more = Signed::new(
        Hold {
            revision: 1,
            cap: Amount(200 * FACE.0),
            ..hold.body
        },
        &w.escrow,
    );
    assert_eq!(w.payee.present_hold(&more, idle).unwrap_err().code, Code::HoldReleased);
    w.payee.release_known(&hold.body.id());
    assert_eq!(w.payee.tick(later.plus_ms(1_000)), []);
}

/// Spec: B-15.
#[test]
fn unclaimed_winners_of_enough_value_close_their_book() {
    let mut w = World::with(|terms| terms.redeem_at_value = Amount(2 * FACE.0));
    let hold = w.hold(100 * FACE.0, |_| ());
    let (tickets, mut book) = w.open(&hold, FACE.0, 3);
    book.take(&tickets[0], &mut w.payee, NOW).unwrap();
    assert_eq!(w.payee.tick(NOW), []);
    book.take(&tickets[1], &mut w.payee, NOW).unwrap();
    assert_eq!(w.payee.tick(NOW), [Task::Close(book.id())]);
}

/// Spec: C-04.
#[test]
fn a_payee_that_cannot_redeem_in_time_stops_selling() {
    let mut w = World::new();
    let hold = w.hold(100 * FACE.0, |_| ());
    let (tickets, mut book) = w.open(&hold, FACE.0, 3);
    book.take(&tickets[0], &mut w.payee, NOW).unwrap();
    let closing = book.close(Reject::of(Code::StreamLost));
    w.payee.closed(&closing, NOW);
    let deadline = hold.body.claim_deadline();
    w.payee.tick(deadline.minus_ms(1));
    assert_eq!(w.payee.health(), Health::Selling);
    w.payee.tick(deadline);
    assert_eq!(w.payee.health(), Health::Overdue);
    w.payee
        .receive(&receipt(&w, &closing.winners.unwrap(), FACE.0), deadline)
        .unwrap();
    assert_eq!(w.payee.health(), Health::Selling);
}

/// Spec: B-15, R-12.
#[test]
fn a_restored_store_settles_by_a_receipt_from_after_its_backup() {
    let mut w = World::new();
    let hold = w.hold(100 * FACE.0, |_| ());
    let row = closed_winner(&mut w, &hold);
    let mut later = receipt(&w, &row, 5 * FACE.0).body;
    later.through += 2;
    later.winners += 2;
    assert_eq!(
        w.payee.receive(&Signed::new(later, &w.escrow), NOW).unwrap_err().code,
        Code::BadTerms,
        "two more winners for the same money"
    );
    later.gross = Amount(later.gross.0 + 2 * FACE.0);
    let settled = w.payee.receive(&Signed::new(later, &w.escrow), NOW).unwrap();
    assert_eq!(
        (settled.winners, settled.hold.paid),
        (later.winners, Amount(5 * FACE.0))
    );
    assert_eq!(w.payee.exposure().unclaimed_books, 0);
}

/// Spec: B-10, B-13.
#[test]
fn a_restart_claims_what_it_kept_and_still_owes_nothing_twice() {
    let mut w = World::new();
    let hold = w.hold(3 * FACE.0, |_| ());
    let (tickets, mut book) = w.open(&hold, FACE.0, 3);
    book.take(&tickets[1], &mut w.payee, NOW).unwrap();
    let row = book.begin_write().unwrap();
    let hold_row = *w.payee.hold(&hold.body.id()).unwrap();
    let terms = w.payee.terms.clone();
    w.payee = Payee::new(terms, EpochSecret::new([77; 32]), vec![hold_row], vec![row], NOW).unwrap();
    assert_eq!(w.payee.tick(NOW), [Task::Claim(vec![row.claim])]);
    let (tickets, mut book) = w.open(&hold, FACE.0, 3);
    assert!(matches!(
        book.take(&tickets[2], &mut w.payee, NOW),
        Ok(Taken::Exhausted { .. })
    ));
    assert_eq!(book.winners(), 1);
}

/// Spec: C-02.
#[test]
fn time_that_steps_back_opens_nothing_again() {
    let mut w = World::new();
    let hold = w.hold(10_000, |_| ());
    let (_, open) = w.issue(&hold, 10, 5);
    w.payee.advance(NOW.plus_ms(QUOTE_LIFE_MS + 1));
    assert_eq!(w.payee.open_book(open, NOW).unwrap_err().code, Code::QuoteExpired);
}

/// Spec: D-03.
#[test]
fn credit_is_counted_by_payer_over_all_its_books() {
    let mut w = World::with(|terms| terms.credit_units = 3);
    let payer = w.payer.account();
    assert!((0..3).all(|_| w.payee.lend(&payer)));
    assert!(!w.payee.lend(&payer));
    w.payee.repay(&payer, 1);
    assert!(w.payee.lend(&payer));
}

/// Spec: D-03.
#[test]
fn a_unit_is_served_for_each_ticket_and_no_more() {
    let mut w = World::new();
    let hold = w.hold(1_000_000, |_| ());
    let (tickets, mut book) = w.open(&hold, 10, 5);
    assert!(!book.serve(PaidBy::Tickets));
    let drawn = book.take(&tickets[1], &mut w.payee, NOW);
    assert_eq!((drawn, book.winners(), book.pool()), (Ok(Taken::Drawn), 0, 2));
    assert!(book.serve(PaidBy::Tickets) && book.serve(PaidBy::Tickets) && !book.serve(PaidBy::Tickets));
    assert!(book.serve(PaidBy::Credit) && book.serve(PaidBy::Credit));
    assert_eq!(book.settle_credit(), 0);
    book.take(&tickets[2], &mut w.payee, NOW).unwrap();
    assert_eq!((book.settle_credit(), book.pool()), (1, 0));
}

/// Spec: D-04.
#[test]
fn only_the_payer_can_name_a_closed_book() {
    let mut w = World::new();
    let hold = w.hold(1_000_000, |_| ());
    let (tickets, mut book) = w.open(&hold, 10, 5);
    book.take(&tickets[1], &mut w.payee, NOW).unwrap();
    assert!([0, 1, 3].into_iter().all(|n| book.is_bearer(&tickets[n])));
    for index in [0, 1, 2, 3, 6] {
        let preimage = Preimage([0; 32]);
        assert!(!book.is_bearer(&Ticket { index, preimage }));
    }
}

fn refusal(w: &World, row: &WinnerRow, code: Code) -> Signed<crate::claim::Refusal> {
    let body = crate::claim::Refusal {
        escrow: w.escrow.account(),
        writer: 0,
        book: row.claim.book.body.id(),
        claim_hash: row.claim.hash(),
        code,
        revision: 0,
        cap: Amount(0),
        paid: Amount(0),
        at: NOW,
    };
    Signed::new(body, &w.escrow)
}

fn closed_winner(w: &mut World, hold: &Signed<Hold>) -> WinnerRow {
    let (tickets, mut book) = w.open(hold, FACE.0, 1);
    book.take(&tickets[0], &mut w.payee, NOW).unwrap();
    let closing = book.close(Reject::of(Code::BookComplete));
    w.payee.closed(&closing, NOW);
    closing.winners.unwrap()
}

/// Spec: B-15.
#[test]
fn a_refused_claim_waits_longer_each_time_and_keeps_no_other_waiting() {
    let mut w = World::new();
    let hold = w.hold(100 * FACE.0, |_| ());
    let (bad, good) = (closed_winner(&mut w, &hold), closed_winner(&mut w, &hold));
    let refused = refusal(&w, &bad, Code::Busy);
    w.payee.refused(&refused, NOW).unwrap();
    assert_eq!(w.payee.tick(NOW), [Task::Claim(vec![good.claim])]);
    let claims = |w: &mut World, at: Timestamp| match w.payee.tick(at).first() {
        Some(Task::Claim(claims)) => claims.len(),
        _ => 0,
    };
    assert_eq!(
        (claims(&mut w, NOW.plus_ms(999)), claims(&mut w, NOW.plus_ms(1_000))),
        (1, 2)
    );
    w.payee.refused(&refused, NOW.plus_ms(1_000)).unwrap();
    assert_eq!(
        (claims(&mut w, NOW.plus_ms(2_999)), claims(&mut w, NOW.plus_ms(3_000))),
        (1, 2)
    );
}

/// Spec: B-15.
#[test]
fn a_refusal_by_a_hold_that_has_ended_is_final_and_selling_goes_on() {
    for code in [Code::HoldUnknown, Code::HoldReleased, Code::HoldExpired] {
        let mut w = World::new();
        let hold = w.hold(100 * FACE.0, |_| ());
        let row = closed_winner(&mut w, &hold);
        let mut forged = refusal(&w, &row, code);
        forged.signature.0[0] ^= 1;
        assert_eq!(w.payee.refused(&forged, NOW).unwrap_err().code, Code::BadSignature);
        let refused = refusal(&w, &row, code);
        w.payee.refused(&refused, NOW).unwrap();
        let (_, open) = w.issue(&hold, 10, 5);
        assert_eq!(w.code(open), code);
        assert_eq!(w.payee.tick(hold.body.claim_deadline()), []);
        assert_eq!(
            (w.payee.health(), w.payee.exposure().liabilities),
            (Health::Selling, Amount(0))
        );
    }
}

/// Spec: D-03.
#[test]
fn what_was_sent_once_is_sent_again_only_as_often_as_tickets_were_drawn() {
    let mut w = World::new();
    let hold = w.hold(1_000_000, |_| ());
    let (tickets, mut book) = w.open(&hold, 10, 5);
    assert!(!book.resend());
    book.take(&tickets[1], &mut w.payee, NOW).unwrap();
    assert!(book.resend() && book.resend() && !book.resend());
    assert!(book.serve(PaidBy::Tickets) && book.serve(PaidBy::Tickets) && !book.serve(PaidBy::Tickets));
    book.unserve();
    assert_eq!(book.pool(), 1);
}

/// Tickets as a bad or careless payer may send them: `next` means the one after the highest sent so far.
#[derive(Debug, Clone, Copy)]
enum Sent {
    Next,
    Jump(u32),
    Repeat(u32),
    Forged,
    PastEnd,
    Zero,
}

fn sent() -> impl proptest::strategy::Strategy<Value = Sent> {
    use proptest::prelude::*;
    prop_oneof![
        60 => Just(Sent::Next),
        2 => (2..110u32).prop_map(Sent::Jump),
        2 => (0..50u32).prop_map(Sent::Repeat),
        1 => Just(Sent::Forged),
        1 => Just(Sent::PastEnd),
        1 => Just(Sent::Zero),
    ]
}

/// The tickets that a list of such words stands for, of a book whose good tickets are given.
fn spell(words: &[Sent], good: &[Ticket]) -> Vec<Ticket> {
    let mut top = 0usize;
    let good_at = |index: usize| good[index.clamp(1, good.len()) - 1];
    let spell = |word: &Sent| match word {
        Sent::Next | Sent::Jump(_) => {
            top += if let Sent::Jump(by) = word {
                usize::try_from(*by).unwrap()
            } else {
                1
            };
            good_at(top)
        }
        Sent::Repeat(back) => good_at(top.saturating_sub(usize::try_from(*back).unwrap())),
        Sent::Forged => Ticket {
            preimage: Preimage([0; 32]),
            ..good_at(top + 1)
        },
        Sent::PastEnd => Ticket {
            index: u32::try_from(good.len()).unwrap() + 1,
            ..good_at(1)
        },
        Sent::Zero => Ticket { index: 0, ..good_at(1) },
    };
    words.iter().map(spell).collect()
}

/// Everything that can be seen of a book and of what it shares, after each of its answers.
fn everything(w: &World, book: &PayeeBook) -> String {
    format!("{book:?} {:?}", w.payee.exposure())
}

proptest::proptest! {
    #[test]
    fn however_tickets_are_split_into_runs_the_same_becomes_of_them(
        words in proptest::collection::vec(sent(), 1..200),
        sizes in proptest::collection::vec(1..70usize, 1..40),
        cap_faces in 1..30u64,
        price in 10..400u64,
        length in 100..300u32,
        top_up_after in proptest::option::of(0..20usize),
        late in proptest::option::weighted(0.1, 0..20usize),
    ) {
        let (mut one, mut many) = (World::new(), World::new());
        let hold = one.hold(cap_faces * FACE.0, |_| ());
        let more = Signed::new(Hold { revision: 1, cap: Amount(2 * cap_faces * FACE.0), ..hold.body }, &one.escrow);
        let (good, mut one_book) = one.open(&hold, price, length);
        let (_, mut many_book) = many.open(&hold, price, length);
        let tickets = spell(&words, &good);
        let mut left = tickets.as_slice();
        for (run_number, size) in sizes.into_iter().enumerate() {
            let (run, after) = left.split_at(size.min(left.len()));
            left = after;
            let now = if late.is_some_and(|at| at <= run_number) { hold.body.terms.expires_at } else { NOW };
            let mut singly = Vec::new();
            let one_by_one = run.iter().try_for_each(|ticket| {
                singly.push(one_book.take(ticket, &mut one.payee, now)?);
                Ok::<(), Reject>(())
            });
            let mut told = Vec::new();
            let at_once = many_book.take_all(run, &mut many.payee, now, |taken| told.push(taken));
            proptest::prop_assert_eq!((&told, at_once), (&singly, one_by_one));
            proptest::prop_assert_eq!(everything(&many, &many_book), everything(&one, &one_book));
            if let Err(reject) = at_once {
                // As the driver does: the book is closed, and what comes after is refused with the same words.
                one.payee.closed(&one_book.close(reject), now);
                many.payee.closed(&many_book.close(reject), now);
            }
            if top_up_after == Some(run_number) {
                one.payee.present_hold(&more, NOW).unwrap();
                many.payee.present_hold(&more, NOW).unwrap();
                proptest::prop_assert_eq!(one_book.resume(&mut one.payee), many_book.resume(&mut many.payee));
            }
        }
    }
}
