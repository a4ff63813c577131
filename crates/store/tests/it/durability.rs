//! What is durable, what is refused at opening, and what an audit sees.

use crate::rules::audited;
use crate::world::{START, TestBook, World, config, in_log, key};
use redb::backends::FileBackend;
use redb::{DatabaseError, StorageBackend, TableDefinition};
use std::cell::Cell;
use std::fs::File;
use std::ops::Bound;
use tombola_core::amount::{Amount, Asset};
use tombola_core::escrow::EscrowConfig;
use tombola_core::message::HoldState;
use tombola_ledger::audit::Finding;
use tombola_ledger::key::{HoldKey, Key};
use tombola_ledger::ledger::{Ledger, LedgerFault};
use tombola_ledger::row::{AccountRow, FORMAT, LogPlace, Row, Table};
use tombola_ledger::store::{Change, Commit, Store, StoreFault, Stored};
use tombola_store::block_on::block_on;
use tombola_store::model::ModelStore;
use tombola_store::redb_file;
use tombola_store::redb_store::RedbStore;

fn open<S: Store>(store: S, config: EscrowConfig) -> Result<Ledger<S>, LedgerFault> {
    block_on(Ledger::open(store, config, START))
}

#[test]
fn a_ledger_that_is_opened_again_is_the_same() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("ledger.redb");
    let mut world = World::funded(RedbStore::open(&path).unwrap());
    let hold = world.open_hold(10_000);
    let mut book = TestBook::sure(&hold.body, 1, 8);
    let receipt = world.claim(book.claim(2)).unwrap();
    let totals = *world.ledger.totals();
    drop(world);
    let mut world = World::open(RedbStore::open(&path).unwrap()).unwrap();
    assert_eq!(*world.ledger.totals(), totals);
    assert_eq!(world.claim(book.claim(2)), Ok(receipt));
    assert_eq!(world.claim(book.claim(3)).unwrap().body.gross, Amount(3_000));
    assert_eq!(world.status(hold.body.id()).state, HoldState::Open);
    assert!(audited(&world).conserved);
}

#[test]
fn a_store_is_open_once() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("ledger.redb");
    let first = RedbStore::open(&path).unwrap();
    assert_eq!(RedbStore::open(&path).unwrap_err(), StoreFault::Locked);
    drop(first);
    assert!(RedbStore::open(&path).is_ok());
}

/// redb found it unfinished, and then another process began to make it.
#[test]
fn an_unfinished_file_that_another_process_makes_in_this_moment_is_left_alone() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("ledger.redb");
    let file = || File::options().read(true).write(true).open(&path).unwrap();
    File::create(&path).unwrap().set_len(1 << 20).unwrap();
    let (opened, another) = (Cell::new(0), FileBackend::new(file()).unwrap());
    let medium = || {
        if opened.replace(opened.get() + 1) == 1 {
            assert!(another.try_lock_range(Bound::Unbounded, Bound::Unbounded).unwrap());
        }
        FileBackend::new(file())
    };
    let refused = redb_file::open_on(medium).unwrap_err();
    assert!(matches!(refused, DatabaseError::DatabaseAlreadyOpen), "{refused}");
    assert_eq!(file().metadata().unwrap().len(), 1 << 20);
    drop(another);
    assert!(redb_file::open(&path).is_ok(), "it is made anew");
}

#[test]
fn foreign_files_are_refused_untouched() {
    let home = tempfile::tempdir().unwrap();
    let text = home.path().join("text");
    std::fs::write(&text, [b'x'; 8_192]).unwrap();
    assert_eq!(RedbStore::open(&text).unwrap_err(), StoreFault::Foreign);
    assert_eq!(std::fs::read(&text).unwrap(), [b'x'; 8_192]);
    let other = home.path().join("other.redb");
    let database = redb::Database::create(&other).unwrap();
    let transaction = database.begin_write().unwrap();
    let table: TableDefinition<'_, u64, u64> = TableDefinition::new("theirs");
    transaction.open_table(table).unwrap();
    transaction.commit().unwrap();
    drop(database);
    assert_eq!(RedbStore::open(&other).unwrap_err(), StoreFault::Foreign);
}

#[test]
fn another_escrows_store_and_a_newer_format_are_refused() {
    let store = ModelStore::default();
    open(store.clone(), config()).unwrap();
    let stranger = EscrowConfig {
        escrow: key(9),
        ..config()
    };
    let stored = key(1);
    assert_eq!(
        open(store.clone(), stranger).unwrap_err(),
        LedgerFault::AnotherEscrow { stored }
    );
    let euros = EscrowConfig {
        asset: Asset::new("EUR", 2).unwrap(),
        ..config()
    };
    let stored = Asset::USD;
    assert_eq!(
        open(store.clone(), euros).unwrap_err(),
        LedgerFault::AnotherAsset { stored }
    );
    tamper(&store, Key::header(), |bytes| bytes[8] += 1);
    assert_eq!(
        open(store.clone(), config()).unwrap_err(),
        LedgerFault::AnotherFormat { stored: FORMAT + 1 }
    );
    tamper(&store, Key::header(), |bytes| bytes[0] = b'X');
    assert_eq!(
        open(store, config()).unwrap_err(),
        LedgerFault::Store(StoreFault::Foreign)
    );
}

/// Changes a row behind the ledger's back.
fn tamper<S: Store>(store: &S, key: Key, change: impl FnOnce(&mut Vec<u8>)) {
    let stored = block_on(store.load(&[key])).unwrap().remove(0).unwrap();
    let before = stored.version;
    let mut bytes = stored.bytes;
    change(&mut bytes);
    let after = Some(Stored { version: before, bytes });
    let commit = Commit {
        changes: vec![Change { key, before, after }],
        reads: Vec::new(),
        mark: key,
    };
    block_on(store.commit(commit)).unwrap();
}

/// Spec: G-01, G-02, G-05.
#[test]
fn an_audit_catches_a_tampered_row_of_any_kind() {
    let world = || {
        let mut world = World::funded(ModelStore::default());
        let hold = world.open_hold(10_000);
        world.claim(TestBook::sure(&hold.body, 1, 8).claim(2)).unwrap();
        world
    };
    assert!(audited(&world()).conserved);
    let found = |key: Key, change: &dyn Fn(&mut Vec<u8>)| {
        let world = world();
        tamper(world.ledger.store(), key, change);
        let report = audited(&world);
        assert!(!report.conserved);
        report.findings
    };
    let richer = |bytes: &mut Vec<u8>| {
        let Ok(Row::Accounts(row)) = Row::decode(Table::Accounts, bytes) else {
            panic!()
        };
        let (balance, credits) = (Amount(row.balance.0 + 1), row.credits + 1);
        let richer = AccountRow {
            balance,
            credits,
            ..row
        };
        *bytes = Row::Accounts(richer).encode();
    };
    assert!(found(Key::account(1), &richer).contains(&Finding::row(Key::account(1))));
    let last = |bytes: &mut Vec<u8>| *bytes.last_mut().unwrap() ^= 1;
    let hold = HoldKey { payer: 0, serial: 1 };
    let paid = |bytes: &mut Vec<u8>| {
        let at = bytes.len() - 36;
        bytes[at] ^= 1;
    };
    assert!(found(Key::hold(hold), &paid).contains(&Finding::row(Key::hold(hold))));
    assert!(found(Key::totals(0), &last).contains(&Finding::Totals));
    let at = |bytes: &mut Vec<u8>| bytes[44] ^= 1;
    let findings = found(event(3), &at);
    assert!(findings.contains(&Finding::LogEnd(in_log(3))), "{findings:?}");
    let findings = found(event(2), &at);
    assert!(findings.contains(&Finding::LogBroken(in_log(3))), "{findings:?}");
}

fn event(height: u64) -> Key {
    Key::event(LogPlace { writer: 0, height })
}

/// Spec: G-03.
#[test]
fn an_audit_draws_every_claim_again() {
    let mut world = World::funded(ModelStore::default());
    let hold = world.open_hold(10_000);
    let claim = TestBook::sure(&hold.body, 1, 8).claim(2);
    world.claim(claim).unwrap();
    let key = event(3);
    tamper(world.ledger.store(), key, |bytes| {
        let preimage = claim.preimage.0;
        let at = bytes.windows(32).position(|window| window == preimage).unwrap();
        bytes[at] ^= 1;
    });
    assert!(audited(&world).findings.contains(&Finding::Claim(in_log(3))));
}

#[test]
fn a_second_writer_loses_its_commit_and_stops() {
    two_writers(ModelStore::default());
    let home = tempfile::tempdir().unwrap();
    two_writers(RedbStore::open(home.path().join("ledger.redb")).unwrap());
}

fn two_writers<S: Store>(store: S) {
    let mut first = World::funded(store.clone());
    let mut second = World::open(store).unwrap();
    first.deposit(2, 1, "a").unwrap();
    let totals = *first.ledger.totals();
    let batch = vec![World::<S>::deposit_command(2, 1, "b")];
    let lost = block_on(second.ledger.execute(batch.clone(), START)).unwrap_err();
    assert_eq!(lost, LedgerFault::Fenced { writer: 0 });
    assert_eq!(block_on(second.ledger.execute(batch, START)), Err(LedgerFault::Stopped));
    let report = audited(&first);
    assert!(report.conserved);
    assert_eq!(report.events, totals.height);
}
