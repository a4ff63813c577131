//! The payer's journal and holds on a disk that fails.

use super::*;
use crate::disk::survive::{Workflow, fails, loses_power};
use tombola_core::amount::{Amount, Asset, DAY_MS};
use tombola_core::hold::{Fee, HoldTerms};
use tombola_core::key::SecretKey;
use tombola_core::odds::Threshold;
use tombola_tests::disk::Fault;

const NOW: Timestamp = Timestamp(1_800_000_000_000);

fn line(book: u8, acknowledged: Option<u32>) -> JournalRow {
    JournalRow {
        book: BookId([book; 32]),
        face_value: Amount(1_000),
        threshold: Threshold::ALWAYS,
        acknowledged,
        in_flight: 0,
    }
}

pub(crate) fn hold(serial: u64, revision: u32) -> Signed<Hold> {
    let key = |n: u8| SecretKey::from_seed(&[n; 32]);
    let opened_at = NOW.plus_ms(serial * 10 * DAY_MS);
    let terms = HoldTerms {
        escrow: key(1).account(),
        asset: Asset::USD,
        payer: key(2).account(),
        signer: key(2).account(),
        payee: key(3).account(),
        serial,
        fee: Fee::default(),
        face_value_min: Amount(10),
        face_value_max: Amount(1_000),
        book_length_max: 4_096,
        opened_at,
        expires_at: opened_at.plus_ms(DAY_MS),
        redeem_by: opened_at.plus_ms(2 * DAY_MS),
    };
    let cap = Amount(10_000);
    Signed::new(Hold { terms, revision, cap }, &key(1))
}

/// What the payer of three books keeps: holds, one of them in a second revision, and a line when a book is opened, when it
/// is closed or lost, and when it is found. The last hold comes when the first one has been over for long.
impl Workflow for PayerStore {
    type State = (BTreeMap<BookId, JournalRow>, Vec<Signed<Hold>>);

    const STEPS: usize = 9;

    fn open(place: Box<dyn Place>) -> Result<Self, StoreError> {
        Self::open_in(place, Duration::ZERO, NOW)
    }

    fn step(&self, n: usize) -> Result<(), StoreError> {
        match n {
            0 => self.keep(&hold(1, 0), NOW),
            1 => self.note(line(1, None)),
            2 => self.note(line(2, None)),
            3 => self.keep(&hold(1, 1), NOW),
            4 => self.note(line(1, Some(7))),
            5 => self.note(JournalRow {
                in_flight: 4,
                ..line(3, Some(2))
            }),
            6 => self.found(BookId([3; 32]), 5),
            7 => self.keep(&hold(2, 0), NOW.plus_ms(15 * DAY_MS)),
            _ => self.note(line(2, Some(0))),
        }
        tombola_store::block_on::block_on(self.flush())
    }

    fn state(&self) -> Result<Self::State, StoreError> {
        Ok((self.journal()?, self.holds()?))
    }
}

/// Spec: S-01.
#[test]
fn a_journal_line_that_was_flushed_outlives_any_power_cut() {
    loses_power::<PayerStore>();
}

/// Spec: S-01.
#[test]
fn a_journal_keeps_what_it_flushed_whatever_the_disk_refuses() {
    fails::<PayerStore>(Fault::Error);
    fails::<PayerStore>(Fault::Full);
}

/// A store of version 2 had lines without what was in flight, and none of lost books.
#[test]
fn a_line_of_an_older_format_is_read_and_can_be_amended() {
    let old = |book: u8, acknowledged| OldRow {
        book: BookId([book; 32]),
        face_value: Amount(1_000),
        threshold: Threshold::ALWAYS,
        acknowledged,
    };
    for row in [old(1, None), old(2, Some(3))] {
        assert_eq!(read_row(&encode(&row)).unwrap(), JournalRow::from(row));
    }
    assert_eq!(read_row(&encode(&line(3, Some(1)))).unwrap(), line(3, Some(1)));
    assert_eq!(read_row(&[1; 20]), Err(StoreError::Corrupted { what: "journal" }));
}
