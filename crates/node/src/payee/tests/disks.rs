//! A payee's store on a disk that fails.

use super::{FACE, hold, receipt, refusal, winner};
use crate::disk::survive::{LOG, OnTestDisk, STORE, Workflow, fails, loses_power};
use crate::disk::{META, Place, Rows, StoreError};
use crate::payee::store::{Change, PayeeStore, Totals};
use std::sync::{Arc, OnceLock};
use tombola_core::amount::{Amount, Timestamp};
use tombola_core::claim::Refusal;
use tombola_core::codec::encode;
use tombola_core::hold::Release;
use tombola_core::key::Signed;
use tombola_core::payee::{HoldRow, Settled, WinnerRow};
use tombola_core::reject::Code;
use tombola_store::redb_file;
use tombola_tests::disk::{Fault, Image, TestDisk};
use tombola_tests::rot::Rot;

/// What a payee writes of one hold, from its first book to its end. Two of its steps also read, which puts what is in the
/// log into the file.
fn steps() -> &'static [Vec<Change>] {
    static STEPS: OnceLock<Vec<Vec<Change>>> = OnceLock::new();
    STEPS.get_or_init(|| {
        let hold = hold();
        let (first, second) = (winner(&hold, 1), winner(&hold, 2));
        let more = WinnerRow { winners: 4, ..first };
        let paid = HoldRow {
            paid: first.gross(),
            ..hold
        };
        let settled = Settled {
            hold: paid,
            book: first.claim.book.body.id(),
            winners: 4,
            net: Amount(4 * FACE.0),
        };
        let release = Release {
            hold: hold.hold.body.id(),
            paid: paid.paid,
        };
        let released = HoldRow {
            release: Some(Signed::new(release, &super::key(3))),
            ..paid
        };
        vec![
            vec![Change::Hold(Box::new(hold))],
            vec![Change::Winner(Box::new(first))],
            vec![Change::Winner(Box::new(more)), Change::Winner(Box::new(second))],
            vec![Change::Probe],
            vec![
                Change::Settle(Box::new(settled)),
                Change::Receipt(Box::new(receipt(&more))),
            ],
            vec![Change::Refusal(Box::new(refusal(&second, Code::HoldExpired)))],
            vec![Change::End(second.claim.book.body.id())],
            vec![Change::Hold(Box::new(released))],
            vec![Change::Forget(hold.hold.body.id())],
        ]
    })
}

/// All that the tables have, each row as its bytes.
#[derive(Debug, PartialEq)]
pub(crate) struct Kept {
    totals: Totals,
    rows: Vec<Vec<u8>>,
}

impl Workflow for PayeeStore {
    type State = Kept;

    const STEPS: usize = 9;

    fn open(place: Box<dyn Place>) -> Result<Self, StoreError> {
        Ok(Self::open_in(place, Timestamp(1))?.0)
    }

    fn step(&self, n: usize) -> Result<(), StoreError> {
        let written = self.enqueue(steps()[n].clone())?.blocking_recv();
        written.unwrap()?;
        if n == 2 || n == 6 {
            // What is durable is told, even where the file cannot take it.
            let _ = self.totals();
        }
        Ok(())
    }

    fn state(&self) -> Result<Kept, StoreError> {
        fn bytes<T: bincode::Encode>(rows: &[T]) -> Vec<Vec<u8>> {
            rows.iter().map(encode).collect()
        }
        let kept = self.contents()?;
        let refusals: &[Signed<Refusal>] = &kept.refusals;
        Ok(Kept {
            totals: kept.totals,
            rows: [
                bytes(&kept.holds),
                bytes(&kept.winners),
                bytes(&kept.ended),
                bytes(&kept.receipts),
                bytes(refusals),
            ]
            .concat(),
        })
    }
}

/// The same hold in a store of the first format, which has no log and lacks two tables: it is opened by this program and
/// its life goes on.
#[derive(Debug)]
struct Upgraded(PayeeStore);

/// Steps that the older program had taken.
const TAKEN: usize = 2;

impl Workflow for Upgraded {
    type State = Kept;

    const STEPS: usize = PayeeStore::STEPS - TAKEN;

    fn before() -> Image {
        let disk = TestDisk::default();
        let database = redb_file::open_on(|| Ok(disk.file(STORE))).unwrap();
        let write = database.begin_write().unwrap();
        for (name, value) in [("version", 1), ("since", 1)] {
            write.open_table(META).unwrap().insert(name, value).unwrap();
        }
        for change in steps()[..TAKEN].concat() {
            let (name, key, row) = match change {
                Change::Hold(row) => ("hold", row.hold.body.id().0, encode(row.as_ref())),
                Change::Winner(row) => ("winner", row.claim.book.body.id().0, encode(row.as_ref())),
                other => panic!("{other:?}"),
            };
            let mut table = write.open_table(Rows::new(name)).unwrap();
            table.insert(&key[..], row.as_slice()).unwrap();
        }
        write.open_table(Rows::new("refusal")).unwrap();
        write.commit().unwrap();
        drop(database);
        disk.restarted()
    }

    fn open(place: Box<dyn Place>) -> Result<Self, StoreError> {
        <PayeeStore as Workflow>::open(place).map(Self)
    }

    fn step(&self, n: usize) -> Result<(), StoreError> {
        self.0.step(n + TAKEN)
    }

    fn state(&self) -> Result<Kept, StoreError> {
        self.0.state()
    }
}

/// Spec: B-12.
#[test]
fn a_store_of_the_first_format_is_taken_over_whole_whatever_the_disk_does() {
    loses_power::<Upgraded>();
    fails::<Upgraded>(Fault::Error);
}

/// Spec: B-12.
#[test]
fn winners_that_were_answered_outlive_any_power_cut() {
    loses_power::<PayeeStore>();
}

/// Spec: B-12, B-14.
#[test]
fn after_any_error_of_the_disk_a_payees_store_has_what_it_answered_and_takes_nothing_more() {
    fails::<PayeeStore>(Fault::Error);
}

/// Spec: B-12, B-14.
#[test]
fn on_a_full_disk_a_payees_store_has_what_it_answered_and_takes_nothing_more() {
    fails::<PayeeStore>(Fault::Full);
}

const SEED: u64 = 1;

/// A store that crashes while it is open, after so many steps: what came since the last reading one is in its log only.
fn crashed_after(done: usize) -> Image {
    let disk = OnTestDisk::default();
    let store = <PayeeStore as Workflow>::open(disk.place()).unwrap();
    (0..done).for_each(|n| store.step(n).unwrap());
    disk.0.restarted()
}

fn state_of(image: &Image) -> Result<Kept, StoreError> {
    let disk = OnTestDisk::holding(image);
    <PayeeStore as Workflow>::open(disk.place())?.state()
}

/// Only what the log has of its last entry cannot be told from an entry that was never finished.
///
/// Spec: B-12.
#[test]
fn a_payees_files_that_have_changed_on_the_disk_are_refused_or_have_all_that_was_answered() {
    const DONE: usize = 6;
    let image = crashed_after(DONE);
    let [whole, without_last] = [DONE, DONE - 1].map(|done| state_of(&crashed_after(done)).unwrap());
    for (file, bits, sectors) in [(STORE, 500, 120), (LOG, 400, 60)] {
        let (mut refused, mut unharmed, mut shorter) = (0, 0, 0);
        for rot in Rot::sample(&image[file], bits, sectors, SEED) {
            let mut bytes = image[file].to_vec();
            rot.befall(&mut bytes);
            let mut rotten = image.clone();
            rotten.insert(file.to_owned(), Arc::new(bytes));
            match state_of(&rotten) {
                Ok(state) if state == whole => unharmed += 1,
                Ok(state) => {
                    assert!(
                        file == LOG && state == without_last,
                        "seed {SEED}, {file}, {rot:?}: {state:?}"
                    );
                    shorter += 1;
                }
                Err(StoreError::Corrupted { .. } | StoreError::Foreign | StoreError::Version { .. }) => refused += 1,
                Err(StoreError::Io(disk)) if disk.kind() == std::io::ErrorKind::UnexpectedEof => refused += 1,
                Err(error) => panic!("seed {SEED}, {file}, {rot:?}: {error}"),
            }
        }
        println!("{file}: {refused} refused, {unharmed} without harm, {shorter} without the last entry");
        assert!(refused > 0);
    }
}
