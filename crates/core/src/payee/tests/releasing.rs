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

fn start(w: &mut World, rows: Vec<HoldRow>, winners: Vec<WinnerRow>) {
    let (terms, secret) = (w.payee.terms.clone(), EpochSecret::new([77; 32]));
    w.payee = Payee::new(terms, secret, rows, winners, NOW).unwrap();
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
    start(&mut w, rows, vec![winner]);
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
    start(&mut w, rows.clone(), vec![]);
    let again = Task::SendRelease(rows[0].release.unwrap());
    assert_eq!(w.payee.tick(NOW), std::slice::from_ref(&again));
    start(&mut w, rows.clone(), vec![]);
    assert_eq!(w.payee.tick(NOW), [again], "nobody has answered it");
    let answered = w.payee.release_known(&rows[0].hold.body.id()).unwrap();
    start(&mut w, vec![answered], vec![]);
    assert_eq!(w.payee.tick(NOW), []);
    let (_, open) = w.issue(&rows[0].hold, 10, 5);
    assert_eq!(w.code(open), Code::HoldReleased);
}

/// Spec: B-15.
#[test]
fn a_release_that_could_not_be_taken_is_sent_again_after_growing_pauses() {
    let mut w = World::new();
    let rows = released(&w, 1);
    start(&mut w, rows.clone(), vec![]);
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
    let mut w = World::with(|terms| terms.store_since = NOW);
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
