//! What becomes of refused winners, and what a backup brings back.

mod disks;
mod forgetting;
mod selling;

use super::errands::{judge, judge_check, judge_release};
use super::shared::Shared;
use super::store::{Change, KeptReceipt, PayeeStore};
use super::{MemoryCatalog, Payee, PayeeError, open};
use crate::config::PayeeConfig;
use crate::disk::StoreError;
use crate::home::Existing;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tombola_core::amount::{Amount, Asset, DAY_MS, Timestamp};
use tombola_core::book::{Anchor, Book};
use tombola_core::chain::Preimage;
use tombola_core::claim::{Claim, Head, Receipt, Refusal};
use tombola_core::draw::{Commitment, Reveal};
use tombola_core::hold::{Fee, Hold, HoldTerms, Release};
use tombola_core::key::{QuoteId, SecretKey, Signed};
use tombola_core::message::{Evidence, OpenBook, Phase};
use tombola_core::odds::Threshold;
use tombola_core::payee::{Health, HoldRow, WinnerRow};
use tombola_core::quote::Service;
use tombola_core::reject::Code;
use tombola_net::Address;

const FACE: Amount = Amount(1_000);

fn key(n: u8) -> SecretKey {
    SecretKey::from_seed(&[n; 32])
}

fn hold() -> HoldRow {
    let now = crate::clock::now();
    let terms = HoldTerms {
        escrow: key(1).account(),
        asset: Asset::USD,
        payer: key(2).account(),
        signer: key(2).account(),
        payee: key(3).account(),
        serial: 1,
        fee: Fee::default(),
        face_value_min: Amount(10),
        face_value_max: Amount(100_000),
        book_length_max: 4_096,
        opened_at: now,
        expires_at: now.plus_ms(DAY_MS),
        redeem_by: now.plus_ms(8 * DAY_MS),
    };
    let hold = Hold {
        terms,
        revision: 0,
        cap: Amount(100 * FACE.0),
    };
    HoldRow {
        hold: Signed::new(hold, &key(1)),
        paid: Amount(0),
        // Since the store was made, a moment later.
        checked_at: now.plus_ms(DAY_MS),
        release: None,
    }
}

fn winner(hold: &HoldRow, n: u8) -> WinnerRow {
    let book = Book {
        hold: hold.hold.body.id(),
        commitment: Commitment([n; 32]),
        anchor: Anchor([n; 32]),
        length: 10,
        face_value: FACE,
        threshold: Threshold::ALWAYS,
    };
    let claim = Claim {
        book: Signed::new(book, &key(2)),
        reveal: Reveal([n; 32]),
        through: 3,
        preimage: Preimage([n; 32]),
    };
    WinnerRow { claim, winners: 3 }
}

fn refusal(row: &WinnerRow, code: Code) -> Signed<Refusal> {
    let body = Refusal {
        escrow: key(1).account(),
        writer: 0,
        book: row.claim.book.body.id(),
        claim_hash: row.claim.hash(),
        code,
        revision: 0,
        cap: Amount(0),
        paid: Amount(0),
        at: crate::clock::now(),
    };
    Signed::new(body, &key(1))
}

fn receipt(row: &WinnerRow) -> KeptReceipt {
    let body = Receipt {
        escrow: key(1).account(),
        writer: 0,
        book: row.claim.book.body.id(),
        through: row.claim.through,
        winners: row.winners,
        gross: row.gross(),
        fee: Amount(0),
        hold_paid_after: row.gross(),
        at: crate::clock::now(),
        height: 1,
        head: Head([0; 32]),
    };
    KeptReceipt {
        claim: row.claim,
        receipt: Signed::new(body, &key(1)),
    }
}

fn start(path: &Path) -> Result<Arc<Shared>, PayeeError> {
    let escrow = Address::new(key(1).account(), "127.0.0.1", 7_400);
    let terms = PayeeConfig::default().terms().unwrap();
    open(&key(3), &escrow, &terms, path, Arc::new(MemoryCatalog::default()))
}

fn write(shared: &Shared, changes: Vec<Change>) {
    shared.store.enqueue(changes).unwrap().blocking_recv().unwrap().unwrap();
}

fn store_with(rows: Vec<Change>) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("payee.redb");
    write(&start(&path).unwrap(), rows);
    (directory, path)
}

fn unclaimed(shared: &Shared) -> (u64, Amount) {
    let exposure = shared.rules().exposure();
    (exposure.unclaimed_books, exposure.liabilities)
}

fn asks_first(shared: &Shared, hold: &HoldRow) -> bool {
    let rules = shared.rules();
    let row = rules.hold(&hold.hold.body.id()).unwrap();
    row.checked_at == HoldRow::MUST_ASK
}

/// Spec: B-15.
#[test]
fn a_winner_that_was_refused_for_good_is_evidence_and_is_claimed_no_more_after_any_restart() {
    let hold = hold();
    let row = winner(&hold, 1);
    let (_directory, path) = store_with(vec![Change::Hold(Box::new(hold)), Change::Winner(Box::new(row))]);
    let shared = start(&path).unwrap();
    assert_eq!(unclaimed(&shared), (1, row.gross()));
    let refused = refusal(&row, Code::HoldExpired);
    let changes = judge(&mut shared.rules(), &refused, Some(Phase::Open));
    write(&shared, changes);
    drop(shared);

    let shared = start(&path).unwrap();
    assert_eq!(unclaimed(&shared), (0, Amount(0)));
    assert!(asks_first(&shared, &hold), "and its hold opens no book");
    write(&shared, vec![Change::Forget(hold.hold.body.id())]);
    drop(shared);

    let shared = start(&path).unwrap();
    assert_eq!(shared.store.ended(), Ok(vec![row]));
    assert_eq!(shared.store.refusals(), Ok(vec![refused]));
}

/// Spec: B-06.
#[test]
fn a_refusal_for_the_cap_is_asked_about_after_a_restart() {
    let hold = hold();
    let row = winner(&hold, 1);
    let (_directory, path) = store_with(vec![Change::Hold(Box::new(hold)), Change::Winner(Box::new(row))]);
    let shared = start(&path).unwrap();
    assert!(!asks_first(&shared, &hold));
    let refused = refusal(&row, Code::ClaimOverCap);
    let changes = judge(&mut shared.rules(), &refused, Some(Phase::Open));
    write(&shared, changes);
    drop(shared);

    let shared = start(&path).unwrap();
    assert_eq!(unclaimed(&shared), (1, row.gross()));
    assert!(asks_first(&shared, &hold));
}

#[test]
fn a_winner_whose_hold_was_forgotten_by_an_older_program_is_no_reason_not_to_start() {
    let hold = hold();
    let (row, other) = (winner(&hold, 1), winner(&hold, 2));
    let (_directory, path) = store_with(vec![Change::Winner(Box::new(row)), Change::Winner(Box::new(other))]);
    for _ in 0..2 {
        let shared = start(&path).unwrap();
        assert_eq!(unclaimed(&shared), (0, Amount(0)));
        assert_eq!(shared.store.ended().unwrap().len(), 2);
    }
}

/// Refusals that pass, with what the escrow says that it does.
const PASSING: [(Code, Option<Phase>); 7] = [
    (Code::Busy, None),
    (Code::Draining, None),
    (Code::Recovering, None),
    (Code::HoldUnknown, Some(Phase::Recovering)),
    (Code::HoldUnknown, Some(Phase::Draining)),
    (Code::HoldUnknown, None),
    (Code::Unauthorized, Some(Phase::Recovering)),
];

/// Spec: B-06.
#[test]
fn only_an_open_escrow_that_does_not_know_a_hold_ends_the_question_about_it() {
    let row = HoldRow {
        checked_at: HoldRow::MUST_ASK,
        ..hold()
    };
    let (_directory, path) = store_with(vec![Change::Hold(Box::new(row))]);
    let shared = start(&path).unwrap();
    let (id, now) = (row.hold.body.id(), crate::clock::now());
    let asks_at = |at: Timestamp| shared.rules().tick(at).len() == 1;
    let mut at = now;
    assert!(asks_at(at));
    for (code, phase) in PASSING {
        judge_check(&mut shared.rules(), &id, code, phase, at);
        assert!(!asks_at(at), "{code}, {phase:?}: not at once");
        at = at.plus_ms(60_000);
        assert!(asks_at(at), "{code}, {phase:?}: it stays due");
    }
    judge_check(&mut shared.rules(), &id, Code::HoldUnknown, Some(Phase::Open), at);
    assert!(!asks_at(at.plus_ms(60_000)));
    assert!(
        asks_first(&shared, &row),
        "and who presents it makes the payee ask again"
    );
}

/// Spec: B-15, H-07.
#[test]
fn only_a_verdict_ends_a_release_or_takes_it_back() {
    let open = hold();
    let id = open.hold.body.id();
    let release = Release {
        hold: id,
        paid: Amount(0),
    };
    let row = HoldRow {
        release: Some(Signed::new(release, &key(3))),
        ..open
    };
    let ended = [
        (None, None),
        (Some(Code::HoldExpired), None),
        (Some(Code::HoldUnknown), Some(Phase::Open)),
        (Some(Code::Unauthorized), Some(Phase::Open)),
    ];
    for (code, phase) in ended {
        let (_directory, path) = store_with(vec![Change::Hold(Box::new(row))]);
        let shared = start(&path).unwrap();
        let mut at = crate::clock::now();
        let sent_at = |at: Timestamp| shared.rules().tick(at).len();
        assert_eq!(sent_at(at), 1);
        for (code, phase) in PASSING
            .into_iter()
            .chain([(Code::ReleaseMismatch, Some(Phase::Recovering))])
        {
            let kept = judge_release(&mut shared.rules(), &id, Some(code), phase, at);
            assert_eq!((kept, sent_at(at)), (None, 0), "{code}, {phase:?}");
            at = at.plus_ms(3_600_000);
            assert_eq!(sent_at(at), 1, "{code}, {phase:?}: it stays due");
        }
        let kept = judge_release(&mut shared.rules(), &id, code, phase, at).unwrap();
        assert!(kept.is_release_answered(), "{code:?}, {phase:?}");
        write(&shared, vec![Change::Hold(Box::new(kept))]);
        drop(shared);
        let shared = start(&path).unwrap();
        assert_eq!(shared.rules().tick(at), [], "{code:?}, {phase:?}: not sent again");
    }
    let (_directory, path) = store_with(vec![Change::Hold(Box::new(row))]);
    let shared = start(&path).unwrap();
    let (code, phase) = (Some(Code::ReleaseMismatch), Some(Phase::Open));
    let kept = judge_release(&mut shared.rules(), &id, code, phase, crate::clock::now()).unwrap();
    assert_eq!((kept.release, kept.checked_at), (None, HoldRow::MUST_ASK));
}

/// Spec: B-15.
#[test]
fn a_refusal_by_an_escrow_that_is_not_known_to_be_open_is_kept_and_ends_nothing() {
    for phase in [Some(Phase::Recovering), None] {
        let hold = hold();
        let row = winner(&hold, 1);
        let (_directory, path) = store_with(vec![Change::Hold(Box::new(hold)), Change::Winner(Box::new(row))]);
        let shared = start(&path).unwrap();
        let refused = refusal(&row, Code::HoldUnknown);
        let changes = judge(&mut shared.rules(), &refused, phase);
        write(&shared, changes);
        assert_eq!(unclaimed(&shared), (1, row.gross()));
        assert_eq!(shared.store.refusals(), Ok(vec![refused]));
        assert_eq!(shared.store.ended(), Ok(vec![]));

        let mut forged = refused;
        forged.signature.0[0] ^= 1;
        assert!(judge(&mut shared.rules(), &forged, phase).is_empty());
    }
}

/// Spec: R-25.
#[test]
fn a_backup_brings_back_receipts_and_ended_winners() {
    let hold = hold();
    let (paid, refused) = (winner(&hold, 1), winner(&hold, 2));
    let kept = receipt(&paid);
    let (directory, path) = store_with(vec![
        Change::Hold(Box::new(hold)),
        Change::Winner(Box::new(refused)),
        Change::Receipt(Box::new(kept)),
        Change::End(refused.claim.book.body.id()),
    ]);
    let backup = directory.path().join("backup");
    let shared = start(&path).unwrap();
    super::backup::write_backup(&shared.store, &backup).unwrap();
    drop(shared);

    let restored = Payee::restore(&backup, &path, Existing::Replace).unwrap();
    assert!(restored.replaced.unwrap().exists());
    let shared = start(&path).unwrap();
    let evidence = shared.store.evidence().unwrap();
    let expected = Evidence::Receipt {
        claim: kept.claim,
        receipt: kept.receipt,
    };
    assert!(evidence.contains(&expected), "{evidence:?}");
    assert_eq!(shared.store.ended(), Ok(vec![refused]));
}

#[test]
fn a_backup_that_cannot_be_read_or_is_newer_replaces_nothing() {
    let (directory, path) = store_with(vec![Change::Hold(Box::new(hold()))]);
    let backup = directory.path().join("backup");
    super::backup::write_backup(&start(&path).unwrap().store, &backup).unwrap();
    set_number(&backup, "version", 99);
    let error = Payee::restore(&backup, &path, Existing::Replace).unwrap_err();
    assert!(
        matches!(error, PayeeError::Store(StoreError::Version { found: 99, .. })),
        "{error:?}"
    );
    assert_eq!(start(&path).unwrap().rules().exposure().holds, 1);
}

/// Opens a book on a hold.
fn open_book(shared: &Shared, hold: &HoldRow) -> Result<(), Code> {
    let (now, mut rules) = (crate::clock::now(), shared.rules());
    let face = rules.terms().face_value_min;
    let service = Service::new("/song").unwrap();
    let quote = rules.quote(&service, face, QuoteId([1; 16]), now).unwrap();
    let book = Book {
        hold: hold.hold.body.id(),
        commitment: quote.commitment,
        anchor: Anchor([1; 32]),
        length: 10,
        face_value: face,
        threshold: Threshold::ALWAYS,
    };
    let (hold, book) = (hold.hold, Signed::new(book, &key(2)));
    let opened = rules.open_book(OpenBook { hold, quote, book }, now);
    opened.map(drop).map_err(|reject| reject.code)
}

/// The store was restored a moment ago, from a backup of yesterday: of a hold that was opened in between it knows nothing.
/// Spec: B-06.
#[test]
fn a_restored_payee_asks_about_every_hold_that_is_older_than_its_restoring() {
    let mut hold = hold();
    hold.hold.body.terms.face_value_max = Amount(1_000_000_000);
    hold.hold.body.cap = Amount(1_000_000_000);
    hold.hold = Signed::new(hold.hold.body, &key(1));
    let (directory, path) = store_with(Vec::new());
    let backup = directory.path().join("backup");
    super::backup::write_backup(&start(&path).unwrap().store, &backup).unwrap();
    let yesterday = crate::clock::now().minus_ms(DAY_MS);
    set_number(&backup, "backup", yesterday.0);
    let restored = Payee::restore(&backup, &path, Existing::Replace).unwrap();
    assert_eq!(restored.at, yesterday);
    assert_eq!(open_book(&start(&path).unwrap(), &hold), Err(Code::HoldUnchecked));
    // A store of yesterday that lost nothing sells on it at once.
    set_number(&path, "asks_before", yesterday.0);
    assert_eq!(open_book(&start(&path).unwrap(), &hold), Ok(()));
}

/// Writes a number of a store behind its back.
fn set_number(path: &Path, name: &str, value: u64) {
    let database = redb::Database::open(path).unwrap();
    let write = database.begin_write().unwrap();
    write
        .open_table(crate::disk::META)
        .unwrap()
        .insert(name, value)
        .unwrap();
    write.commit().unwrap();
}

#[test]
fn a_log_that_lost_its_store_is_moved_out_of_the_way_of_a_restored_one() {
    let (directory, path) = store_with(vec![Change::Hold(Box::new(hold()))]);
    let backup = directory.path().join("backup");
    super::backup::write_backup(&start(&path).unwrap().store, &backup).unwrap();
    std::fs::remove_file(&path).unwrap();
    let log = path.with_extension("log");
    let orphan = std::fs::read(&log).unwrap();
    let restored = Payee::restore(&backup, &path, Existing::Keep).unwrap();
    assert_eq!(restored.replaced, None);
    let is_aside = |path: &PathBuf| path.to_string_lossy().contains("payee.log.replaced-");
    let mut files = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|file| file.unwrap().path());
    let aside = files.find(is_aside).unwrap();
    assert!(std::fs::read(aside).unwrap() == orphan);
    assert!(PayeeStore::open(&path, Timestamp(0)).is_ok());
}

#[tokio::test]
async fn a_new_hold_whose_row_found_no_room_in_the_queue_is_written_later() {
    let hold = hold();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("payee.redb");
    let rows = vec![Change::Hold(Box::new(hold))];
    start(&path).unwrap().store.write(rows).await.unwrap();
    let shared = start(&path).unwrap();
    let id = hold.hold.body.id();
    // The rules know it and the disk does not, as when the queue was full.
    shared.store.write(vec![Change::Forget(id)]).await.unwrap();
    shared.keep_hold(Err(StoreError::Busy), &id).await;
    assert_eq!(shared.rules().health(), Health::StoreFailed);
    drop(shared);
    assert_eq!(start(&path).unwrap().rules().exposure().holds, 1);
}
