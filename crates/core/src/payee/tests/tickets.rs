//! Tickets: how they are drawn, what they may win, and what they pay for.

use super::*;

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
    let more = w.topped_up(&hold, 45 * FACE.0);
    w.payee.present_hold(&more, NOW).unwrap();
    assert_eq!(w.payee.take_granted(), [book.id()]);
    assert_eq!(book.resume(&mut w.payee), Taken::Drawn);
    assert_eq!((book.through(), book.winners()), (41, 41));
    assert_eq!(w.payee.exposure().liabilities, Amount(41 * FACE.0));
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

/// Spec: B-11.
#[test]
fn a_book_that_needs_little_does_not_overtake_one_that_waits_for_much() {
    let mut w = World::new();
    let hold = w.hold(5 * FACE.0 / 2, |_| ());
    let (a_tickets, mut a) = w.open(&hold, 1, 10);
    assert_eq!(a.take(&a_tickets[0], &mut w.payee, NOW), Ok(Taken::Drawn));
    let (mut payer, open) = w.issue_of(&hold, Amount(2 * FACE.0), 1, 10);
    let (b_tickets, mut b) = (all_tickets(&mut payer), w.payee.open_book(open, NOW).unwrap().book);
    let (c_tickets, mut c) = w.open(&hold, 1, 10);
    let exhausted = |need| Taken::Exhausted {
        need: Amount(need),
        has: Amount(3 * FACE.0 / 2),
    };
    assert_eq!(b.take(&b_tickets[0], &mut w.payee, NOW), Ok(exhausted(2 * FACE.0)));
    assert_eq!(c.take(&c_tickets[0], &mut w.payee, NOW), Ok(exhausted(FACE.0)));
    w.payee.closed(&a.close(Reject::of(Code::BookFinished)), NOW);
    assert_eq!(w.payee.take_granted(), [b.id()]);
    assert_eq!(b.resume(&mut w.payee), Taken::Drawn);
    assert!(matches!(c.resume(&mut w.payee), Taken::Exhausted { .. }));
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

/// Spec: B-13. A claim shows the reveal, so whoever has seen one knows which of the next tickets win.
#[test]
fn a_book_whose_claim_is_out_takes_no_ticket() {
    let mut w = World::new();
    let hold = w.hold(1_000_000, |_| ());
    let (tickets, mut book) = w.open(&hold, FACE.0, 5);
    book.take(&tickets[0], &mut w.payee, NOW).unwrap();
    assert_eq!(w.payee.tick(NOW), [], "nothing is claimed of an open book");
    let closing = book.close(Reject::of(Code::BookFinished));
    assert!(closing.winners.is_some());
    let refused = book.take(&tickets[1], &mut w.payee, NOW).unwrap_err();
    assert_eq!((refused.code, book.through()), (Code::BookFinished, 1));
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
