//! Claims, receipts, refusals, and releases.

use super::*;

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
    let more = w.topped_up(&hold, 200 * FACE.0);
    assert_eq!(w.payee.present_hold(&more, idle).unwrap_err().code, Code::HoldReleased);
    w.payee.release_known(&hold.body.id());
    assert_eq!(w.payee.tick(later.plus_ms(1_000)), []);
}

/// Spec: H-07.
#[test]
fn a_hold_is_not_released_while_a_winner_has_no_receipt() {
    let mut w = World::new();
    let hold = w.hold(100 * FACE.0, |_| ());
    let (tickets, mut book) = w.open(&hold, FACE.0, 1);
    book.take(&tickets[0], &mut w.payee, NOW).unwrap();
    w.payee.closed(&book.close(Reject::of(Code::BookComplete)), NOW);
    let idle = NOW.plus_ms(crate::limits::HOLD_IDLE_MS);
    let tasks = w.payee.tick(idle);
    assert!(!tasks.iter().any(|task| matches!(task, Task::Release(_))), "{tasks:?}");
    let release = crate::hold::Release {
        hold: hold.body.id(),
        paid: Amount(0),
    };
    let signed = Signed::new(release, &SecretKey::from_seed(&[3; 32]));
    assert_eq!(w.payee.released(signed).unwrap_err().code, Code::Busy);
}

/// Spec: P-06, B-10.
#[test]
fn a_top_up_leaves_what_was_paid() {
    let mut w = World::new();
    let hold = w.hold(10 * FACE.0, |_| ());
    let (tickets, mut book) = w.open(&hold, FACE.0, 1);
    book.take(&tickets[0], &mut w.payee, NOW).unwrap();
    let closing = book.close(Reject::of(Code::BookComplete));
    w.payee.closed(&closing, NOW);
    let paid = receipt(&w, &closing.winners.unwrap(), FACE.0);
    w.payee.receive(&paid, NOW).unwrap();
    let more = w.topped_up(&hold, 20 * FACE.0);
    let (row, room) = w.payee.present_hold(&more, NOW).unwrap();
    assert_eq!((row.paid, room), (FACE, Amount(19 * FACE.0)));
}

/// Spec: B-10, P-06. No honest escrow ends a hold before its time; one that was rolled back may not know it any more.
#[test]
fn a_hold_that_ended_under_an_open_book_draws_on_nothing_and_takes_no_top_up() {
    let mut w = World::new();
    let hold = w.hold(10 * FACE.0, |_| ());
    let (tickets, mut book) = w.open(&hold, FACE.0, 5);
    assert_eq!(book.take(&tickets[0], &mut w.payee, NOW), Ok(Taken::Drawn));
    let status = HoldStatus {
        hold,
        paid: Amount(0),
        state: HoldState::Expired,
    };
    w.payee.checked(&hold.body.id(), &status, NOW).unwrap();
    let full = Taken::Exhausted {
        need: FACE,
        has: Amount::ZERO,
    };
    assert_eq!(book.take(&tickets[1], &mut w.payee, NOW), Ok(full));
    let more = w.topped_up(&hold, 20 * FACE.0);
    assert_eq!(w.payee.present_hold(&more, NOW).unwrap_err().code, Code::HoldExpired);
    assert_eq!(book.through(), 1);
}

/// Spec: B-13. A book that has its reservation would go on to its next winner, which is many units away, and nobody pays it.
#[test]
fn a_hold_that_ended_closes_its_open_books_with_how_it_ended() {
    let mut w = World::new();
    let hold = w.hold(100 * FACE.0, |_| ());
    let other = w.hold(100 * FACE.0, |terms| terms.serial = 2);
    let unpaid = closed_winner(&mut w, &hold);
    let (tickets, mut book) = w.open(&hold, 1, 100);
    let (_, kept) = w.open(&other, 1, 100);
    assert_eq!(book.take(&tickets[0], &mut w.payee, NOW), Ok(Taken::Drawn));
    assert_eq!((book.winners(), w.payee.exposure().reservations), (0, FACE));
    let status = HoldStatus {
        hold,
        paid: Amount(0),
        state: HoldState::Released,
    };
    w.payee.checked(&hold.body.id(), &status, NOW).unwrap();
    let closings = |w: &mut World| {
        let tasks = w.payee.tick(NOW);
        tasks
            .into_iter()
            .filter(|task| matches!(task, Task::Close(..)))
            .collect::<Vec<_>>()
    };
    assert_eq!(closings(&mut w), [Task::Close(book.id(), Code::HoldReleased)]);
    w.payee.closed(&book.close(Reject::of(Code::HoldReleased)), NOW);
    assert_eq!((closings(&mut w), w.payee.exposure().reservations), (vec![], Amount(0)));

    let final_word = closed_winner(&mut w, &other);
    w.payee.refused(&refusal(&w, &unpaid, Code::HoldReleased), NOW).unwrap();
    assert_eq!(closings(&mut w), []);
    w.payee
        .refused(&refusal(&w, &final_word, Code::HoldExpired), NOW)
        .unwrap();
    assert_eq!(closings(&mut w), [Task::Close(kept.id(), Code::HoldExpired)]);
    // An escrow that was rolled back has the hold again.
    let status = HoldStatus {
        hold: other,
        paid: Amount(0),
        state: HoldState::Open,
    };
    w.payee.checked(&other.body.id(), &status, NOW).unwrap();
    assert_eq!(closings(&mut w), []);
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
    assert_eq!(w.payee.tick(NOW), [Task::Close(book.id(), Code::BookRedeemed)]);
}

/// Spec: B-10.
#[test]
fn exposure_shows_what_open_holds_still_pay_and_what_waits_for_a_receipt() {
    let mut w = World::new();
    let (first, second) = (
        w.hold(5 * FACE.0, |_| ()),
        w.hold(7 * FACE.0, |terms| {
            terms.serial = 2;
            terms.expires_at = NOW.plus_ms(2 * DAY_MS);
            terms.redeem_by = NOW.plus_ms(9 * DAY_MS);
        }),
    );
    let row = closed_winner(&mut w, &first);
    let (tickets, mut book) = w.open(&second, FACE.0, 3);
    book.take(&tickets[0], &mut w.payee, NOW).unwrap();
    let shown = w.payee.exposure();
    assert_eq!(
        (shown.holds, shown.open_holds, shown.capacity),
        (2, 2, Amount(12 * FACE.0))
    );
    assert_eq!(
        shown.room,
        Amount(shown.capacity.0 - shown.liabilities.0 - shown.reservations.0)
    );
    assert_eq!(
        (shown.unclaimed_books, shown.unclaimed_winners),
        (1, u64::from(row.winners))
    );
    assert_eq!(shown.next_expiry, Some(NOW.plus_ms(DAY_MS).minus_ms(EXPIRY_MARGIN_MS)));
    w.payee.refused(&refusal(&w, &row, Code::HoldReleased), NOW).unwrap();
    let shown = w.payee.exposure();
    assert_eq!(
        (shown.holds, shown.open_holds, shown.capacity),
        (2, 1, Amount(7 * FACE.0))
    );
    assert_eq!(
        shown.next_expiry,
        Some(NOW.plus_ms(2 * DAY_MS).minus_ms(EXPIRY_MARGIN_MS))
    );
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
    let (other_tickets, mut other) = w.open(&hold, FACE.0, 3);
    let deadline = hold.body.claim_deadline();
    w.payee.tick(deadline.minus_ms(1));
    assert_eq!(w.payee.health(), Health::Selling);
    w.payee.tick(deadline);
    assert_eq!(w.payee.health(), Health::Overdue);
    let sold = other.take(&other_tickets[0], &mut w.payee, NOW);
    assert_eq!(sold.unwrap_err().code, Code::NotSelling);
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

/// Spec: B-10. Books of one hold are answered in any order.
#[test]
fn a_late_receipt_does_not_lower_what_its_hold_has_paid() {
    let mut w = World::new();
    let hold = w.hold(100 * FACE.0, |_| ());
    let (first, second) = (closed_winner(&mut w, &hold), closed_winner(&mut w, &hold));
    for (row, paid_after) in [(second, 9 * FACE.0), (first, 5 * FACE.0)] {
        let settled = w.payee.receive(&receipt(&w, &row, paid_after), NOW).unwrap();
        assert_eq!(settled.hold.paid, Amount(9 * FACE.0));
    }
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

/// Spec: B-06, B-15.
#[test]
fn after_a_refusal_by_the_hold_a_restart_asks_the_escrow_before_it_opens_a_book() {
    let codes = [
        Code::HoldUnknown,
        Code::HoldReleased,
        Code::HoldExpired,
        Code::ClaimOverCap,
    ];
    for code in codes {
        let mut w = World::new();
        let hold = w.hold(100 * FACE.0, |_| ());
        let row = closed_winner(&mut w, &hold);
        let kept = match w.payee.refused(&refusal(&w, &row, code), NOW).unwrap() {
            Refused::Ended(kept) | Refused::Unchecked(kept) => *kept,
            Refused::Postponed => panic!("{code} says something about the hold"),
        };
        assert_eq!(Some(&kept), w.payee.hold(&hold.body.id()));
        w.restart();
        let (_, open) = w.issue(&hold, 10, 5);
        assert_eq!(w.code(open), Code::HoldUnchecked);
        assert_eq!(w.payee.tick(NOW), [Task::Check(Box::new(hold))]);
    }
}

/// Spec: B-06, B-15.
#[test]
fn after_a_refusal_for_the_cap_the_escrow_is_asked_how_the_hold_stands() {
    let mut w = World::new();
    let hold = w.hold(100 * FACE.0, |_| ());
    let row = closed_winner(&mut w, &hold);
    w.payee.refused(&refusal(&w, &row, Code::ClaimOverCap), NOW).unwrap();
    assert_eq!(w.payee.tick(NOW), [Task::Check(Box::new(hold))], "whoever comes");
    let (_, open) = w.issue(&hold, 10, 5);
    assert_eq!(w.code(open), Code::HoldUnchecked);
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
