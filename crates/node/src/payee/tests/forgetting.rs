//! What a payee forgets, of holds and of closed books, and what its store says about that afterwards.

use super::*;
use crate::loopback::{Loopback, LoopbackOptions};
use crate::payee::PayeeOptions;
use crate::payee::closed::FINISHED_KEPT;
use std::time::{Duration, Instant};
use tombola_core::key::HoldId;
use tombola_core::payee::Task;

const RELEASES: u64 = 200;

/// Another hold, by its number.
fn hold_of(serial: u64) -> HoldRow {
    let row = hold();
    let terms = HoldTerms {
        serial,
        ..row.hold.body.terms
    };
    let body = Hold { terms, ..row.hold.body };
    HoldRow {
        hold: Signed::new(body, &key(1)),
        ..row
    }
}

fn id(row: &HoldRow) -> HoldId {
    row.hold.body.id()
}

/// The number that a store has under a name, whoever wrote it.
fn set_number(path: &Path, name: &str, value: u64) {
    let database = redb::Database::open(path).unwrap();
    let write = database.begin_write().unwrap();
    let before = write
        .open_table(crate::disk::META)
        .unwrap()
        .insert(name, value)
        .unwrap()
        .map(|row| row.value());
    assert_ne!(before, Some(value));
    write.commit().unwrap();
}

/// Spec: B-06. The row was checked in the future, by the clock of then.
#[test]
fn a_restored_store_asks_about_each_hold_whatever_its_clock_said() {
    let checked = HoldRow {
        checked_at: crate::clock::now().plus_ms(365 * DAY_MS),
        ..hold()
    };
    let (directory, path) = store_with(vec![Change::Hold(Box::new(checked)), Change::AsksBefore(Timestamp(7))]);
    let backup = directory.path().join("backup");
    let shared = start(&path).unwrap();
    assert!(!asks_first(&shared, &checked) && shared.rules().is_dated());
    super::super::backup::write_backup(&shared.store, &backup).unwrap();
    drop(shared);
    Payee::restore(&backup, &path, Existing::Replace).unwrap();
    let shared = start(&path).unwrap();
    assert!(asks_first(&shared, &checked));
    assert!(!shared.rules().is_dated(), "and about each that it does not know");
}

/// Spec: B-06.
#[test]
fn what_may_have_been_forgotten_is_known_after_a_restart() {
    let row = hold();
    let asks_before = row.hold.body.terms.opened_at.plus_ms(1);
    let (_directory, path) = store_with(vec![Change::Hold(Box::new(row))]);
    let shared = start(&path).unwrap();
    assert!(!shared.rules().is_dated());
    write(&shared, vec![Change::Forget(id(&row)), Change::AsksBefore(asks_before)]);
    drop(shared);
    let shared = start(&path).unwrap();
    assert_eq!(shared.rules().exposure().holds, 0);
    assert_eq!(shared.rules().asks_before(), asks_before);
}

/// A store of format 5 had no `asks_before`, and was restored without a word about its holds.
#[test]
fn an_older_store_opens_and_asks_about_what_it_cannot_know() {
    let old = HoldRow {
        checked_at: Timestamp(1),
        ..hold()
    };
    let released = HoldRow {
        checked_at: Timestamp(1),
        release: Some(Signed::new(
            Release {
                hold: id(&hold_of(2)),
                paid: Amount(0),
            },
            &key(3),
        )),
        ..hold_of(2)
    };
    let rows = [old, released].map(|row| Change::Hold(Box::new(row)));
    let (_directory, path) = store_with(rows.to_vec());
    set_number(&path, "version", 5);
    set_number(&path, "since", crate::clock::now().plus_ms(1_000).0);
    let shared = start(&path).unwrap();
    assert!(!shared.rules().is_dated());
    assert!(asks_first(&shared, &old));
    assert!(!asks_first(&shared, &released), "it is sent again");
}

/// Spec: B-06, B-15. Against an escrow that has long forgotten them; without an end to it each start would send all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn releases_of_an_earlier_process_are_sent_once_and_the_store_is_dated() {
    let directory = tempfile::tempdir().unwrap();
    let options = LoopbackOptions::default();
    let nodes = Loopback::start(directory.path(), &options, MemoryCatalog::default())
        .await
        .unwrap();
    let path = directory.path().join("payee.redb");
    let rows = (1..=RELEASES).map(|serial| {
        let row = hold_of(serial);
        let release = Release {
            hold: id(&row),
            paid: Amount(0),
        };
        HoldRow {
            release: Some(Signed::new(release, &key(3))),
            ..row
        }
    });
    let changes = rows.map(|row| Change::Hold(Box::new(row))).collect();
    let (store, _) = PayeeStore::open(&path, crate::clock::now()).unwrap();
    store.write(changes).await.unwrap();
    drop(store);
    let payee = || PayeeOptions {
        key: key(3),
        listen: options.payee.listen,
        escrow: nodes.escrow.address().clone(),
        terms: options.payee.terms().unwrap(),
        store: path.clone(),
    };
    let running = Payee::serve(payee(), MemoryCatalog::default()).await.unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    while !running.shared.rules().is_dated() {
        assert!(Instant::now() < until, "the escrow is there, and tells its time");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    running.shutdown().await;
    Payee::redeem_offline(payee()).await.unwrap();
    let (store, loaded) = PayeeStore::open(&path, crate::clock::now()).unwrap();
    let answered = loaded.holds.iter().filter(|row| row.is_release_answered()).count();
    assert_eq!(u64::try_from(answered).unwrap(), RELEASES);
    let (now, at) = (crate::clock::now(), loaded.asks_before);
    assert!(at < now.plus_ms(660_000) && at > now, "{at:?}");
    drop(store);
    let shared = start(&path).unwrap();
    let tasks = shared.rules().tick(now);
    assert!(
        !tasks.iter().any(|task| matches!(task, Task::SendRelease(_))),
        "{tasks:?}"
    );
    drop(shared);
    nodes.stop().await;
}

/// Spec: D-04. Tips have no units, so a closed one owes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closed_books_that_owe_nothing_are_kept_for_a_while_and_not_in_any_number() {
    let directory = tempfile::tempdir().unwrap();
    let options = LoopbackOptions::default();
    let nodes = Loopback::start(directory.path(), &options, MemoryCatalog::default())
        .await
        .unwrap();
    let (shared, tip) = (&nodes.payee.shared, Amount(10_000_000));
    for _ in 0..5 {
        let order = nodes
            .payer
            .plan_tip(nodes.payee.address(), tip, Some(options.deposit))
            .await
            .unwrap();
        nodes.payer.send(&order, &|_| ()).await.unwrap();
    }
    let until = Instant::now() + Duration::from_secs(60);
    while !shared.open_books().is_empty() || !shared.winning_books().is_empty() {
        assert!(Instant::now() < until, "books close, and their winners are handed over");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (now, kept) = (Instant::now(), || shared.all_books().len());
    shared.prune_books_at(now, 100);
    assert_eq!(kept(), 5);
    assert!(shared.owing().is_empty());
    shared.prune_books_at(now, 3);
    assert_eq!(kept(), 3);
    shared.prune_books_at(now + FINISHED_KEPT - Duration::from_secs(60), 100);
    assert_eq!(kept(), 3);
    shared.prune_books_at(now + FINISHED_KEPT, 100);
    assert_eq!(kept(), 0);
    nodes.stop().await;
}
