//! The payer's rules, one claim a test.

use super::*;
use crate::amount::{Amount, Asset, DAY_MS, Timestamp};
use crate::book::{TICKET_BYTES, Ticket};
use crate::chain::{Preimage, step};
use crate::claim::{Claim, Head, Receipt};
use crate::draw::Draw;
use crate::hold::{Fee, Hold, HoldTerms};
use crate::key::{QuoteId, SecretKey, Signed};
use crate::message::Charge;
use crate::odds::Threshold;
use crate::quote::{EpochSecret, Escrows, Quote, QuoteTerms, Service};
use crate::reject::{Code, Reject};

const PRICE: Amount = Amount(10);
/// A power of two times the price, so that a ticket is worth its price exactly.
const FACE: Amount = Amount(1_280);
const EPOCH: [u8; 32] = [9; 32];

fn key(n: u8) -> SecretKey {
    SecretKey::from_seed(&[n; 32])
}

fn hold() -> Hold {
    let now = Timestamp(1_000 * DAY_MS);
    Hold {
        terms: HoldTerms {
            escrow: key(1).account(),
            asset: Asset::USD,
            payer: key(2).account(),
            signer: key(2).account(),
            payee: key(3).account(),
            serial: 1,
            fee: Fee::default(),
            face_value_min: Amount(10),
            face_value_max: FACE,
            book_length_max: 200,
            opened_at: now,
            expires_at: now.plus_ms(DAY_MS),
            redeem_by: now.plus_ms(3 * DAY_MS),
        },
        revision: 0,
        cap: Amount(100_000),
    }
}

fn quote_terms() -> QuoteTerms {
    QuoteTerms {
        payee: key(3).account(),
        quote_id: QuoteId([5; 16]),
        service: Service::new("/file").unwrap(),
        asset: Asset::USD,
        ticket_price: PRICE,
        face_value_min: Amount(10),
        face_value_max: FACE,
        book_length_max: 500,
        jump_max: 8,
        expires_at: Timestamp(u64::MAX),
        escrows: Escrows::new(vec![key(1).account()]).unwrap(),
    }
}

fn quote() -> Quote {
    EpochSecret::new(EPOCH).quote(quote_terms())
}

fn book(length: u32) -> PayerBook {
    PayerBook::new(&hold(), &quote(), FACE, length, Preimage([4; 32]), &key(2)).unwrap()
}

fn issue(book: &mut PayerBook, window: &mut Window) -> u32 {
    book.issue(u32::MAX, window, &mut Vec::new())
}

/// Spec: B-16.
#[test]
fn a_window_starts_at_one_and_doubles_up_to_the_jump() {
    let mut window = Window::new(Amount(1_000_000));
    let mut book = book(200);
    for expected in [1, 2, 4, 8, 8, 8] {
        assert_eq!(issue(&mut book, &mut window), expected);
        assert_eq!(issue(&mut book, &mut window), 0);
        book.acknowledge(book.sent(), &mut window);
    }
    assert_eq!(window.in_flight(), (0, 0));
}

/// Spec: B-16.
#[test]
fn a_window_is_capped_in_money() {
    let mut window = Window::new(Amount(35));
    for _ in 0..5 {
        let allowed = window.allowance(PRICE, 8);
        window.sent(allowed, PRICE);
        window.acknowledged(allowed, PRICE, 8);
    }
    assert_eq!(window.allowance(PRICE, 8), 3);
    window.allow(Amount(20));
    assert_eq!((window.value_max(), window.allowance(PRICE, 8)), (Amount(35), 3));
    window.allow(Amount(60));
    assert_eq!(window.allowance(PRICE, 8), 6);
}

/// Spec: B-16.
#[test]
fn the_default_window_is_one_face_value_or_64_prices() {
    assert_eq!(Window::value_default(Amount(10), Amount(1_000)), Amount(1_000));
    assert_eq!(Window::value_default(Amount(10), Amount(100)), Amount(640));
}

#[test]
fn an_acknowledgement_of_nothing_changes_nothing() {
    let mut window = Window::new(Amount(1_000));
    window.sent(1, PRICE);
    window.acknowledged(0, PRICE, 8);
    assert_eq!((window.allowance(PRICE, 8), window.in_flight()), (0, (1, 10)));
}

/// Spec: B-16.
#[test]
fn what_was_lost_stays_counted_and_past_two_windows_nothing_goes() {
    let mut window = Window::new(Amount(40));
    window.sent(4, PRICE);
    window.lost(4, PRICE);
    assert_eq!((window.lost_value(), window.in_flight()), (40, (0, 0)));
    // Without room one ticket at a time is tried.
    for lost in [50, 60, 70, 80] {
        assert_eq!(window.allowance(PRICE, 8), 1);
        window.sent(1, PRICE);
        assert_eq!(window.allowance(PRICE, 8), 0);
        window.lost(1, PRICE);
        assert_eq!(window.lost_value(), lost);
    }
    assert_eq!(window.allowance(PRICE, 8), 0);
}

/// Spec: B-16.
#[test]
fn what_was_lost_is_forgiven_at_a_sixteenth() {
    let mut window = Window::new(Amount(40));
    window.sent(4, PRICE);
    window.lost(4, PRICE);
    window.sent(1, Amount(32));
    window.acknowledged(1, Amount(32), 8);
    assert_eq!(window.lost_value(), 38);
}

/// The check: `Window::settle`, counted by `allowance`, `ahead` and `shortfall`.
/// Spec: B-16.
#[test]
fn what_was_paid_and_not_delivered_stays_counted_and_past_two_windows_nothing_goes() {
    let mut window = Window::new(Amount(40));
    assert_eq!((window.ahead(PRICE), window.shortfall()), (4, None));
    window.sent(1, PRICE);
    window.acknowledged(1, PRICE, 8);
    window.settle(0, 30);
    assert_eq!((window.ahead(PRICE), window.allowance(PRICE, 8)), (1, 1));
    window.sent(1, PRICE);
    window.lost(1, PRICE);
    // Together they fill the window: one at a time from now on.
    assert_eq!((window.ahead(PRICE), window.allowance(PRICE, 8)), (1, 1));
    window.settle(30, 69);
    assert_eq!((window.shortfall(), window.allowance(PRICE, 8)), (None, 1));
    window.settle(69, 70);
    let short = Shortfall { missing: 80, limit: 80 };
    assert_eq!((window.shortfall(), window.allowance(PRICE, 8)), (Some(short), 0));
    // It came late.
    window.settle(70, 0);
    assert_eq!((window.undelivered_value(), window.ahead(PRICE)), (0, 3));
}

/// Spec: B-16.
#[test]
fn what_was_not_delivered_is_forgiven_at_a_sixteenth_of_what_is() {
    let mut window = Window::new(Amount(1_000));
    window.settle(0, 100);
    window.delivered(16, PRICE);
    assert_eq!(window.undelivered_value(), 90);
    // Another process of the same payer has seen more, or less.
    window.remember(0, 80);
    assert_eq!((window.lost_value(), window.undelivered_value()), (0, 90));
    window.remember(30, 200);
    assert_eq!((window.lost_value(), window.undelivered_value()), (30, 200));
    window.delivered(1_000, PRICE);
    assert_eq!(window.undelivered_value(), 0);
}

#[test]
fn a_lost_book_that_is_found_counts_no_longer() {
    let mut window = Window::new(Amount(1_000));
    let mut book = book(200);
    issue(&mut book, &mut window);
    book.acknowledge(1, &mut window);
    assert_eq!(issue(&mut book, &mut window), 2);
    book.lost(&mut window);
    book.lost(&mut window);
    assert_eq!(window.lost_value(), 20);
    assert_eq!(issue(&mut book, &mut window), 0);
    window.found(2, 1, PRICE);
    assert_eq!((window.lost_value(), window.undrawn_value()), (0, 10));
}

#[test]
fn a_book_keeps_to_hold_and_quote() {
    assert_eq!(book(1_000).signed().body.length, 200);
    let make = |face, length| PayerBook::new(&hold(), &quote(), face, length, Preimage([4; 32]), &key(2));
    assert_eq!(make(FACE, 0).unwrap_err().code, Code::BookTooLong);
    assert_eq!(make(Amount(9), 5).unwrap_err().code, Code::BadTerms);
    assert_eq!(make(Amount(1_281), 5).unwrap_err().code, Code::FaceOutOfRange);
    let signed = *book(5).signed();
    assert!(signed.verify(&key(2).account().check().unwrap()).is_ok());
    assert!(signed.body.threshold.covers(PRICE, FACE));
}

#[test]
fn tickets_are_consecutive_and_lead_to_the_anchor() {
    let mut window = Window::new(Amount(u64::MAX));
    let mut book = book(20);
    let mut records = Vec::new();
    while book.issue(u32::MAX, &mut window, &mut records) > 0 {
        book.acknowledge(book.sent(), &mut window);
    }
    let mut before = Preimage(book.signed().body.anchor.0);
    let tickets = records
        .chunks(TICKET_BYTES)
        .map(|r| Ticket::from_bytes(r.try_into().unwrap()));
    for (ticket, index) in tickets.zip(1..) {
        assert_eq!(ticket.index, index);
        assert_eq!(step(&ticket.preimage, index), before);
        before = ticket.preimage;
    }
    assert_eq!((records.len(), book.remaining()), (20 * TICKET_BYTES, 0));
    assert_eq!(book.bearer().unwrap().index, 1);
}

/// Spec: B-13, B-16.
#[test]
fn closing_frees_what_was_not_drawn() {
    let mut window = Window::new(Amount(1_000));
    let mut book = book(200);
    for _ in 0..3 {
        issue(&mut book, &mut window);
        book.acknowledge(book.sent(), &mut window);
    }
    assert_eq!((issue(&mut book, &mut window), book.in_flight()), (8, 8));
    let reject = Reject::of(Code::BookRedeemed);
    assert_eq!(book.closed_by_payee(10, reject, &mut window), 3);
    assert_eq!((book.sent(), book.acknowledged(), window.in_flight()), (10, 10, (0, 0)));
    assert_eq!(book.closed(), Some(reject));
    assert_eq!(issue(&mut book, &mut window), 0);
}

#[test]
fn an_acknowledgement_of_tickets_never_sent_is_cut() {
    let mut window = Window::new(Amount(1_000));
    let mut book = book(200);
    issue(&mut book, &mut window);
    assert_eq!(book.acknowledge(u32::MAX, &mut window), 1);
    assert_eq!(book.acknowledge(u32::MAX, &mut window), 0);
    assert_eq!((book.acknowledged(), window.in_flight()), (1, (0, 0)));
}

const TERMS: Terms = Terms {
    price: Amount(100),
    face_value_min: Amount(1_000),
    face_value_max: Amount(1_000_000),
};
const LIMITS: HoldLimits = HoldLimits {
    face_value_min: Amount(10),
    cap_min: Amount(500),
};

/// Spec: B-17.
#[test]
fn the_face_value_is_a_twentieth_of_the_ceiling() {
    let purchase = plan(1_000, &TERMS, &LIMITS, Amount(200_000)).unwrap();
    assert_eq!((purchase.face_value, purchase.cap), (Amount(10_000), Amount(200_000)));
    assert_eq!((purchase.expected(), purchase.worst), (100_000, Amount(200_000)));
    assert!(!purchase.is_exact());
}

/// Spec: B-17.
#[test]
fn the_cap_is_20_faces_within_the_ceiling() {
    let low = Terms {
        face_value_max: Amount(2_000),
        ..TERMS
    };
    let purchase = plan(1_000, &low, &LIMITS, Amount(200_000)).unwrap();
    assert_eq!((purchase.face_value, purchase.cap), (Amount(2_000), Amount(40_000)));
    let purchase = plan(1_000, &TERMS, &LIMITS, Amount(15_000)).unwrap();
    assert_eq!((purchase.face_value, purchase.cap), (Amount(1_000), Amount(15_000)));
}

/// Spec: B-17.
#[test]
fn less_than_one_face_takes_the_smallest_and_p_1_is_exact() {
    let purchase = plan(99, &TERMS, &LIMITS, Amount(200_000)).unwrap();
    assert_eq!((purchase.face_value, purchase.worst), (Amount(1_000), Amount(99_000)));
    let exact = Terms {
        face_value_min: Amount(1),
        ..TERMS
    };
    let purchase = plan(99, &exact, &LIMITS, Amount(200_000)).unwrap();
    assert_eq!((purchase.face_value, purchase.is_exact()), (Amount(100), true));
    assert_eq!((purchase.expected(), purchase.worst), (9_900, Amount(9_900)));
}

/// Spec: D-05.
#[test]
fn a_tip_is_exact_from_the_smallest_face_value_up_and_drawn_below_it() {
    let tip = |amount| {
        let terms = Terms {
            price: Amount(amount),
            ..TERMS
        };
        plan(1, &terms, &LIMITS, Amount(200_000)).unwrap()
    };
    for amount in [1_000, 9_999] {
        assert_eq!((tip(amount).face_value, tip(amount).is_exact()), (Amount(amount), true));
    }
    assert_eq!((tip(999).face_value, tip(999).is_exact()), (Amount(1_000), false));
    assert_eq!(
        tip(999).threshold,
        Threshold::for_price(Amount(999), Amount(1_000)).unwrap()
    );
}

/// Spec: S-01.
#[test]
fn a_journal_line_tells_open_closed_lost_and_found_books_apart() {
    let mut window = Window::new(Amount(1_000));
    let standing = |book: &PayerBook| {
        let row = book.journal_row();
        assert_eq!(row.book, book.id());
        (row.acknowledged, row.in_flight)
    };
    let mut closed = book(200);
    assert_eq!(standing(&closed), (None, 0));
    issue(&mut closed, &mut window);
    closed.acknowledge(1, &mut window);
    issue(&mut closed, &mut window);
    assert_eq!(standing(&closed), (None, 0));
    closed.closed_by_payee(2, Reject::of(Code::BookRedeemed), &mut window);
    assert_eq!(standing(&closed), (Some(2), 0));
    let mut lost = book(200);
    issue(&mut lost, &mut window);
    lost.acknowledge(1, &mut window);
    issue(&mut lost, &mut window);
    lost.lost(&mut window);
    let in_flight = lost.sent() - 1;
    assert!(in_flight > 2);
    assert_eq!(standing(&lost), (Some(1), in_flight));
}

/// The check: `JournalRow::found`.
/// Spec: S-01, D-04.
#[test]
fn a_payees_statement_takes_nothing_back_and_adds_nothing_that_was_not_sent() {
    for (acknowledged, in_flight, stated, found) in [
        (None, 0, 7, 7),
        (Some(3), 4, 5, 5),
        (Some(3), 4, 0, 3),
        (Some(3), 4, u32::MAX, 7),
        (Some(3), 0, 5, 3),
    ] {
        let mut row = JournalRow {
            acknowledged,
            in_flight,
            ..book(5).journal_row()
        };
        row.found(stated);
        assert_eq!((row.acknowledged, row.in_flight), (Some(found), 0));
    }
}

#[test]
fn what_cannot_be_bought_is_not_planned() {
    assert_eq!(plan(0, &TERMS, &LIMITS, Amount(200_000)), Err(PlanError::Nothing));
    let low = plan(1, &TERMS, &LIMITS, Amount(999));
    let (need, ceiling) = (Amount(1_000), Amount(999));
    assert_eq!(low, Err(PlanError::CeilingTooLow { need, ceiling }));
    let dear = HoldLimits {
        face_value_min: Amount(1_000_001),
        ..LIMITS
    };
    let (need, limit) = (Amount(1_000_001), Amount(1_000_000));
    let none = plan(1, &TERMS, &dear, Amount(u64::MAX));
    assert_eq!(none, Err(PlanError::NoCommonFace { need, limit }));
}

/// A charge for a book of 200 tickets, as an honest escrow states it.
fn charge() -> Charge {
    let reveal = EpochSecret::new(EPOCH).reveal(&quote_terms());
    let book = book(200);
    let mut chain = crate::chain::Chain::new(Preimage([4; 32]), 200);
    let draw = Draw::new(&book.id(), &reveal, book.signed().body.threshold);
    let wins = |index: &u32, chain: &mut crate::chain::Chain| draw.wins(*index, &chain.preimage(*index).unwrap());
    let winners: Vec<u32> = (1..=200).filter(|index| wins(index, &mut chain)).collect();
    let through = *winners.last().unwrap();
    let claim = Claim {
        book: *book.signed(),
        reveal,
        through,
        preimage: chain.preimage(through).unwrap(),
    };
    let won = claim.verify(&hold()).unwrap();
    let receipt = Receipt {
        escrow: key(1).account(),
        writer: 0,
        book: won.book,
        through,
        winners: won.winners,
        gross: won.gross,
        fee: won.fee,
        hold_paid_after: won.gross,
        at: Timestamp(7),
        height: 1,
        head: Head([0; 32]),
    };
    Charge {
        hold: Signed::new(hold(), &key(1)),
        claim,
        receipt: Signed::new(receipt, &key(1)),
        amount: won.gross,
    }
}

fn audit(charge: &Charge, journal: Option<&JournalRow>) -> Result<Audited, ChargeFault> {
    audit_charge(charge, &key(1).account(), &key(2).account(), journal)
}

/// Spec: S-02.
#[test]
fn an_honest_charge_passes_and_says_how_far_it_went() {
    let charge = charge();
    let audited = audit(&charge, None).unwrap();
    assert_eq!((audited.gross, audited.beyond), (charge.amount, None));
    let through = audited.through;
    for (acknowledged, in_flight, beyond, lost) in [
        (Some(through), 0, Some(0), 0),
        (Some(200), 0, Some(0), 0),
        (Some(through - 1), 0, Some(1), 0),
        (Some(through - 3), 2, Some(1), 2),
        (Some(through - 3), 5, Some(0), 3),
        (None, 0, None, 0),
    ] {
        let row = JournalRow {
            acknowledged,
            in_flight,
            ..book(200).journal_row()
        };
        let audited = audit(&charge, Some(&row)).unwrap();
        assert_eq!((audited.beyond, audited.lost), (beyond, lost));
    }
}

/// Spec: S-02.
#[test]
fn the_audit_names_what_does_not_hold() {
    let honest = charge();
    let mut foreign = honest;
    foreign.hold = Signed::new(hold(), &key(2));
    assert!(matches!(audit(&foreign, None), Err(ChargeFault::Hold(_))));
    let mut claim = honest;
    claim.claim.through -= 1;
    assert!(matches!(audit(&claim, None), Err(ChargeFault::Claim(_))));
    let mut receipt = honest;
    receipt.receipt = Signed::new(honest.receipt.body, &key(3));
    assert!(matches!(audit(&receipt, None), Err(ChargeFault::Receipt(_))));
    let mut other = honest.receipt.body;
    other.through -= 1;
    receipt.receipt = Signed::new(other, &key(1));
    assert!(matches!(audit(&receipt, None), Err(ChargeFault::Receipt(_))));
    let mut more = honest.receipt.body;
    more.gross = Amount(more.gross.0 + FACE.0);
    receipt.receipt = Signed::new(more, &key(1));
    let (drawn, paid) = (honest.amount, more.gross);
    assert_eq!(audit(&receipt, None), Err(ChargeFault::Sum { drawn, paid }));
    let not_mine = audit_charge(&honest, &key(1).account(), &key(3).account(), None);
    assert_eq!(not_mine, Err(ChargeFault::Hold(Reject::of(Code::HoldMismatch))));
}

/// The check: `Window::distrust`.
/// Spec: B-16.
#[test]
fn a_payee_that_draws_nothing_of_what_it_is_given_soon_gets_nothing_more() {
    let price = Amount(10);
    let mut window = Window::new(Amount(1_000));
    for _ in 0..20 {
        let sent = window.allowance(price, 100);
        window.sent(sent, price);
        window.undrawn(sent, price);
        // One ticket acknowledged lets the window grow; what is undrawn is believed in proportion only.
        let one = window.allowance(price, 100).min(1);
        window.sent(one, price);
        window.acknowledged(one, price, 100);
    }
    assert!(window.distrust().is_some());
    assert_eq!(window.allowance(price, 100), 0);
    assert!(window.distrust().unwrap() <= 20 * 10 + 3 * 1_000);
}

#[test]
fn a_payee_that_draws_most_of_what_it_is_given_is_trusted_on() {
    let price = Amount(10);
    let mut window = Window::new(Amount(1_000));
    for _ in 0..200 {
        let sent = window.allowance(price, 100);
        assert!(sent > 0);
        window.sent(sent, price);
        let drawn = sent.div_ceil(2);
        window.acknowledged(drawn, price, 100);
        window.undrawn(sent - drawn, price);
    }
    assert_eq!(window.distrust(), None);
}
