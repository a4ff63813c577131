//! Holds that nobody uses: asked about, released, and forgotten.

use super::*;
use crate::hold::Release;
use crate::limits::HOLD_IDLE_MS;

const IDLE: Timestamp = NOW.plus_ms(HOLD_IDLE_MS);

fn release(hold: &Signed<Hold>, paid: u64) -> Signed<Release> {
    let body = Release {
        hold: hold.body.id(),
        paid: Amount(paid),
    };
    Signed::new(body, &SecretKey::from_seed(&[3; 32]))
}

/// Many holds that this payee has released, and no answer to any of it.
fn released(w: &World, count: u64) -> Vec<HoldRow> {
    let row = |serial| {
        let hold = w.hold(10 * FACE.0, |terms| terms.serial = 100 + serial);
        HoldRow {
            hold,
            paid: Amount::ZERO,
            checked_at: Timestamp(0),
            release: Some(release(&hold, 0)),
        }
    };
    (0..count).map(row).collect()
}

/// Spec: B-15.
#[test]
fn a_claim_waits_behind_no_long_row_of_releases() {
    let mut w = World::new();
    let hold = w.hold(10 * FACE.0, |_| ());
    let (tickets, mut book) = w.open(&hold, FACE.0, 1);
    book.take(&tickets[0], &mut w.payee, NOW).unwrap();
    let winner = book.begin_write().unwrap();
    let (mut rows, used) = (released(&w, 100), *w.payee.hold(&hold.body.id()).unwrap());
    rows.push(used);
    w.restart_with(rows, vec![winner]);
    let mut answered = 0;
    for _ in 0..4 {
        let tasks = w.payee.tick(NOW);
        assert_eq!(
            tasks[0],
            Task::Claim(vec![winner.claim]),
            "claims come first, each time"
        );
        assert!((2..=33).contains(&tasks.len()), "{} tasks at once", tasks.len());
        for task in &tasks[1..] {
            let Task::SendRelease(sent) = task else {
                panic!("{task:?}")
            };
            assert!(w.payee.release_known(&sent.body.hold).is_some());
            answered += 1;
        }
    }
    assert_eq!(answered, 100, "each is sent once");
    assert_eq!(w.payee.tick(NOW.plus_ms(5_000)).len(), 1);
}

/// Spec: B-15, H-07.
#[test]
fn a_release_that_was_answered_is_not_sent_again_after_a_restart() {
    let mut w = World::new();
    let rows = released(&w, 1);
    w.restart_with(rows.clone(), vec![]);
    let again = Task::SendRelease(rows[0].release.unwrap());
    assert_eq!(w.payee.tick(NOW), std::slice::from_ref(&again));
    w.restart_with(rows.clone(), vec![]);
    assert_eq!(w.payee.tick(NOW), [again], "nobody has answered it");
    let answered = w.payee.release_known(&rows[0].hold.body.id()).unwrap();
    w.restart_with(vec![answered], vec![]);
    assert_eq!(w.payee.tick(NOW), []);
    let (_, open) = w.issue(&rows[0].hold, 10, 5);
    assert_eq!(w.code(open), Code::HoldReleased);
}

/// Spec: B-15.
#[test]
fn a_release_that_could_not_be_taken_is_sent_again_after_growing_pauses() {
    let mut w = World::new();
    let rows = released(&w, 1);
    w.restart_with(rows.clone(), vec![]);
    let (mut sent, mut at) = (Vec::new(), NOW);
    for second in 0..20 {
        at = NOW.plus_ms(1_000 * second);
        if !w.payee.tick(at).is_empty() {
            sent.push(second);
            w.payee.postpone_release(&rows[0].hold.body.id(), at);
        }
    }
    assert_eq!(sent, [0, 1, 3, 7, 15]);
    assert_eq!(w.payee.tick(at.plus_ms(HOUR_MS)).len(), 1);
}

/// Spec: B-06.
#[test]
fn a_question_that_was_not_answered_is_asked_again_after_a_pause_of_half_a_minute_at_most() {
    let mut w = World::with(|terms| terms.asks_before = NOW);
    let hold = w.hold(10 * FACE.0, |_| ());
    let (_, open) = w.issue(&hold, 10, 5);
    assert_eq!(w.code(open.clone()), Code::HoldUnchecked);
    let mut at = NOW;
    for _ in 0..20 {
        assert_eq!(w.payee.tick(at), [Task::Check(Box::new(hold))]);
        w.payee.postpone_check(&hold.body.id(), at);
        if at == NOW {
            assert_eq!(w.code(open.clone()), Code::HoldUnchecked);
        }
        assert_eq!(w.payee.tick(at), [], "not at once, whoever presents it");
        at = at.plus_ms(30_000);
    }
}

/// Spec: B-15, H-07. Tasks are done some time after they were named.
#[test]
fn a_hold_that_came_into_use_again_is_not_released() {
    let mut w = World::new();
    let hold = w.hold(10 * FACE.0, |_| ());
    let (_, mut book) = w.open(&hold, 10, 5);
    w.payee.closed(&book.close(Reject::of(Code::BookFinished)), NOW);
    let named = release(&hold, 0);
    assert_eq!(w.payee.tick(IDLE), [Task::Release(named.body)]);
    w.payee.put_off(&hold.body.id());
    let busy = |w: &mut World, release| w.payee.released(release).unwrap_err().code;
    assert_eq!(busy(&mut w, named), Code::Busy);
    assert_eq!(w.payee.tick(IDLE.plus_ms(HOLD_IDLE_MS - 1)), []);
    let later = IDLE.plus_ms(HOLD_IDLE_MS);
    assert_eq!(w.payee.tick(later.plus_ms(1_000)), [Task::Release(named.body)]);
    assert_eq!(busy(&mut w, release(&hold, 1)), Code::Busy, "it names another sum");
    assert!(w.payee.released(named).is_ok());
}

/// A hold that was used and paid nothing, 10 min later: released, and the release answered.
fn ended(w: &mut World, hold: &Signed<Hold>) -> HoldRow {
    let (_, mut book) = w.open(hold, 10, 5);
    w.payee.closed(&book.close(Reject::of(Code::BookFinished)), NOW);
    let idle = w.payee.now.plus_ms(HOLD_IDLE_MS);
    w.payee.advance(idle);
    w.payee.released(release(hold, 0)).unwrap();
    w.payee.release_kept(&hold.body.id());
    w.payee.release_known(&hold.body.id()).unwrap()
}

/// Spec: B-05, B-18, P-06. Whoever opens holds and uses them for nothing fills no places with them.
#[test]
fn a_released_hold_takes_no_place_and_is_refused_for_as_long_as_it_could_be_presented() {
    let mut w = World::new();
    let hold = w.hold(10 * FACE.0, |terms| terms.expires_at = NOW.plus_ms(HOUR_MS));
    let row = ended(&mut w, &hold);
    let (id, expires_at) = (hold.body.id(), hold.body.terms.expires_at);
    for _ in 0..2 {
        assert_eq!((w.payee.holds.len(), w.payee.ended.len()), (0, 1));
        let (_, open) = w.issue(&hold, 10, 5);
        assert_eq!(w.code(open), Code::HoldReleased);
        assert_eq!(w.payee.present_hold(&hold, NOW).unwrap_err().code, Code::HoldReleased);
        w.restart_with(vec![row], vec![]);
    }
    assert_eq!(w.payee.tick(expires_at), []);
    assert_eq!(w.payee.tick(expires_at.plus_ms(MINUTE_MS)), [Task::Forget(id)]);
    assert_eq!(w.payee.ended.len(), 0);
    assert_eq!(w.payee.tick(expires_at.plus_ms(HOUR_MS)), []);
}

/// Spec: B-18, R-25.
#[test]
fn what_a_released_hold_has_paid_is_evidence_until_its_escrow_has_expired_it() {
    let mut w = World::new();
    let hold = w.hold(10 * FACE.0, |_| ());
    let row = HoldRow {
        paid: FACE,
        release: Some(release(&hold, FACE.0)),
        checked_at: HoldRow::RELEASED,
        hold,
    };
    w.restart_with(vec![row], vec![]);
    let gone_at = hold.body.terms.redeem_by.plus_ms(65 * MINUTE_MS);
    assert_eq!(w.payee.tick(gone_at), []);
    assert_eq!(w.payee.tick(gone_at.plus_ms(MINUTE_MS)), [Task::Forget(hold.body.id())]);
}

/// A backup reads its winners before its holds, and a hold may be settled and released in between.
#[test]
fn a_winner_of_a_released_hold_is_still_claimed() {
    let mut w = World::new();
    let hold = w.hold(10 * FACE.0, |_| ());
    let (tickets, mut book) = w.open(&hold, FACE.0, 1);
    book.take(&tickets[0], &mut w.payee, NOW).unwrap();
    let winner = book.begin_write().unwrap();
    let row = HoldRow {
        paid: FACE,
        release: Some(release(&hold, FACE.0)),
        checked_at: HoldRow::RELEASED,
        hold,
    };
    w.restart_with(vec![row], vec![winner]);
    assert_eq!(w.payee.tick(NOW), [Task::Claim(vec![winner.claim])]);
}

/// Spec: B-06, B-18. There is an end to what is remembered, and then the escrow knows.
#[test]
fn of_too_many_ended_holds_the_oldest_is_forgotten_and_asked_about() {
    let mut w = World::new();
    w.payee.ended.places = 2;
    let hold = |w: &World, serial| {
        w.hold(10 * FACE.0, |terms| {
            terms.serial = serial;
            terms.opened_at = NOW.minus_ms(HOUR_MS).plus_ms(serial);
        })
    };
    let holds = [1, 2, 3].map(|serial| hold(&w, serial));
    for hold in &holds {
        ended(&mut w, hold);
    }
    let code = |w: &mut World, hold| {
        let (_, open) = w.issue(hold, 10, 5);
        w.payee.open_book(open, IDLE).err().map(|reject| reject.code)
    };
    assert_eq!(code(&mut w, &holds[2]), Some(Code::HoldReleased));
    assert_eq!(code(&mut w, &holds[1]), Some(Code::HoldReleased));
    assert_eq!(code(&mut w, &holds[0]), Some(Code::HoldUnchecked));
    let due = [Task::Check(Box::new(holds[0])), Task::Forget(holds[0].body.id())];
    assert_eq!(w.payee.tick(IDLE), due);
    let young = hold(&w, 4);
    assert_eq!(code(&mut w, &young), None, "a younger one was surely not forgotten");
    let status = HoldStatus {
        hold: holds[0],
        paid: Amount(0),
        state: HoldState::Released,
    };
    let row = w.payee.checked(&holds[0].body.id(), &status, IDLE).unwrap();
    assert_eq!(row, None, "nothing is written for it");
    let forgotten = w.payee.tick(IDLE);
    assert_eq!(forgotten, [], "{:?}", w.payee.ended);
}

/// Spec: B-06, C-02, W-08. A clock that was set forward for a while makes a payee forget what still lives.
#[test]
fn a_hold_that_was_forgotten_by_a_wrong_clock_does_not_count_as_new() {
    let mut w = World::new();
    let hold = w.hold(10 * FACE.0, |_| ());
    ended(&mut w, &hold);
    assert_eq!(w.payee.tick(NOW.plus_ms(60 * DAY_MS)), [Task::Forget(hold.body.id())]);
    w.restart();
    let (_, open) = w.issue(&hold, 10, 5);
    assert_eq!(w.code(open), Code::HoldUnchecked);
}

/// Spec: B-06, B-18, W-08.
#[test]
fn a_live_hold_is_not_forgotten_before_the_escrow_says_that_it_has_ended() {
    let mut w = World::new();
    let hold = w.hold(10 * FACE.0, |_| ());
    let (tickets, mut book) = w.open(&hold, FACE.0, 3);
    book.take(&tickets[0], &mut w.payee, NOW).unwrap();
    let row = *w.payee.hold(&hold.body.id()).unwrap();
    w.restart_with(vec![row], vec![]);
    let (id, after) = (hold.body.id(), NOW.plus_ms(60 * DAY_MS));
    let status = |state| HoldStatus {
        hold,
        paid: FACE,
        state,
    };
    let (mut asked, mut at) = (Vec::new(), after);
    for second in 0..20 {
        at = after.plus_ms(1_000 * second);
        for task in w.payee.tick(at) {
            assert_eq!(task, Task::Check(Box::new(hold)));
            asked.push(second);
            w.payee.checked(&id, &status(HoldState::Open), at).unwrap();
        }
        assert_eq!(w.payee.hold(&id).unwrap().paid, FACE);
    }
    assert_eq!(asked, [0, 1, 3, 7, 15], "not at every look");
    w.payee.checked(&id, &status(HoldState::Expired), at).unwrap();
    let tasks = [at, at.plus_ms(MINUTE_MS), at.plus_ms(2 * MINUTE_MS)].map(|at| w.payee.tick(at));
    assert_eq!(tasks.concat(), [Task::Forget(id)]);
}

/// Spec: B-06. The clock of the payee that made the store may be slow, by years.
#[test]
fn a_store_that_was_made_asks_about_every_hold_until_the_escrow_has_told_its_time() {
    let mut w = World::with(|terms| terms.asks_before = Timestamp::MAX);
    let (old, young) = (
        w.hold(10 * FACE.0, |_| ()),
        w.hold(10 * FACE.0, |terms| {
            terms.serial = 2;
            terms.opened_at = NOW.plus_ms(DAY_MS);
            terms.expires_at = NOW.plus_ms(2 * DAY_MS);
        }),
    );
    let code = |w: &mut World, hold| {
        let (_, open) = w.issue(hold, 10, 5);
        w.payee.open_book(open, NOW).err().map(|reject| reject.code)
    };
    assert!(!w.payee.is_dated());
    assert_eq!(code(&mut w, &young), Some(Code::HoldUnchecked));
    let dated = w.payee.date_store(NOW.plus_ms(HOUR_MS));
    assert_eq!(dated, NOW.plus_ms(HOUR_MS + 10 * MINUTE_MS));
    assert_eq!(w.payee.date_store(NOW), dated, "once");
    assert_eq!(code(&mut w, &old), Some(Code::HoldUnchecked));
    assert_eq!(code(&mut w, &young), None);
}

/// Whoever has opened a book and left leaves nothing behind.
#[test]
fn payers_are_forgotten_when_nothing_is_left_of_them() {
    let mut w = World::with(|terms| terms.credit_units = 1);
    let hold = w.hold(10 * FACE.0, |_| ());
    let payer = w.payer.account();
    w.open(&hold, 10, 5);
    assert!(w.payee.lend(&payer));
    for second in 1..4 {
        w.payee.tick(NOW.plus_ms(1_000 * second));
        assert_eq!(w.payee.payers.len(), 1, "it owes a unit");
    }
    w.payee.repay(&payer, 1);
    w.payee.tick(NOW.plus_ms(5_000));
    assert_eq!(w.payee.payers.len(), 0);
}
