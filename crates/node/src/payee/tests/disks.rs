//! A payee's store on a disk that fails.

use super::{FACE, hold, receipt, refusal, winner};
use crate::disk::survive::{Workflow, fails, loses_power};
use crate::disk::{Place, StoreError};
use crate::payee::store::{Change, PayeeStore, Totals};
use std::sync::OnceLock;
use tombola_core::amount::{Amount, Timestamp};
use tombola_core::claim::Refusal;
use tombola_core::codec::encode;
use tombola_core::hold::Release;
use tombola_core::key::Signed;
use tombola_core::payee::{HoldRow, Settled, WinnerRow};
use tombola_core::reject::Code;
use tombola_tests::disk::Fault;

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
