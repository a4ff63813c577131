//! Closed books: how long they are kept for what they still owe.

use super::shared::{OpenedBook, Shared, lock};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tombola_core::key::{BookId, HoldId};
use tombola_core::payee::TIP_SERVICE;

/// Closed books of one hold that are remembered for what they still owe; the oldest are forgotten first.
const OF_ONE_HOLD_MAX: usize = 64;
/// How long a closed book is kept once all that it paid for was sent: not all of it may have arrived.
pub(super) const FINISHED_KEPT: Duration = Duration::from_secs(600);
/// Such books that are kept, of all holds: 100 MB. The oldest are forgotten first.
const FINISHED_MAX: usize = 131_072;

/// When closed books were first seen to owe nothing.
pub(super) type Finished = HashMap<BookId, Instant>;

/// A closed book whose winners were handed over.
struct Closed {
    number: u64,
    id: BookId,
    hold: HoldId,
    /// Whether it has paid for units that are not sent, or are being sent.
    owes: bool,
    has_drawn: bool,
}

impl Closed {
    fn of(id: BookId, book: &OpenedBook) -> Option<Self> {
        let machine = lock(&book.machine);
        let is_done = machine.closed().is_some() && book.handed_over.load(Ordering::Acquire);
        is_done.then(|| Self {
            number: book.number,
            id,
            hold: machine.hold(),
            owes: owes(book, machine.pool()) || book.delivery.try_lock().is_err(),
            has_drawn: machine.through() > 0,
        })
    }
}

/// Whether units of a book's pool are to be delivered: a tip has none.
fn owes(book: &OpenedBook, pool: u32) -> bool {
    pool > 0 && book.service.as_str() != TIP_SERVICE
}

/// Which books that owe nothing are kept, since when, and which of all are forgotten; they come the newest first.
fn sort_out(
    closed: &[Closed],
    live: &HashSet<HoldId>,
    finished: &Finished,
    now: Instant,
    finished_max: usize,
) -> (Finished, Vec<BookId>) {
    let mut of_hold: HashMap<HoldId, usize> = HashMap::new();
    let mut kept = Finished::new();
    let mut forgotten = Vec::new();
    for book in closed {
        let mut is_kept = book.has_drawn && live.contains(&book.hold);
        if is_kept && book.owes {
            // Only these have places: whatever else a payer opens and closes pushes none of them out.
            let place = of_hold.entry(book.hold).or_default();
            *place += 1;
            is_kept = *place <= OF_ONE_HOLD_MAX;
        } else if is_kept {
            let since = finished.get(&book.id).copied().unwrap_or(now);
            is_kept = kept.len() < finished_max && now < since + FINISHED_KEPT;
            if is_kept {
                kept.insert(book.id, since);
            }
        }
        if !is_kept {
            forgotten.push(book.id);
        }
    }
    (kept, forgotten)
}

impl Shared {
    /// Forgets closed books that can owe nothing: of holds that have ended, or that drew nothing; and the oldest of those
    /// that a hold has too many of. What owes nothing any more is kept for ten minutes, and not in any number. Spec: D-04.
    pub(crate) fn prune_books(&self) {
        self.prune_books_at(Instant::now(), FINISHED_MAX);
    }

    pub(super) fn prune_books_at(&self, now: Instant, finished_max: usize) {
        let books = self.all_books().into_iter();
        let mut closed: Vec<Closed> = books.filter_map(|(id, book)| Closed::of(id, &book)).collect();
        // The newest first.
        closed.sort_unstable_by_key(|book| std::cmp::Reverse(book.number));
        let live = self.live_holds(&closed);
        let mut finished = lock(&self.finished);
        let (kept, forgotten) = sort_out(&closed, &live, &finished, now, finished_max);
        *finished = kept;
        self.forget_books(&forgotten);
    }

    /// Of the holds of some books, those that still take tickets or pay winners.
    fn live_holds(&self, closed: &[Closed]) -> HashSet<HoldId> {
        let rules = self.rules();
        let is_live = |hold: &HoldId| rules.hold(hold).is_some_and(|row| row.release.is_none());
        let holds: HashSet<HoldId> = closed.iter().map(|book| book.hold).collect();
        holds.into_iter().filter(is_live).collect()
    }

    /// Holds whose books have paid for units that were not delivered: these are not released.
    pub(crate) fn owing(&self) -> HashSet<HoldId> {
        let books = self.all_books().into_iter();
        let owing = books.filter_map(|(_, book): (BookId, Arc<OpenedBook>)| {
            let machine = lock(&book.machine);
            owes(&book, machine.pool()).then(|| machine.hold())
        });
        owing.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: HoldId = HoldId([1; 32]);

    fn book(number: u64, owes: bool, has_drawn: bool) -> Closed {
        Closed {
            number,
            id: id(number),
            hold: HOLD,
            owes,
            has_drawn,
        }
    }

    fn id(number: u64) -> BookId {
        let mut id = BookId([0; 32]);
        id.0[..8].copy_from_slice(&number.to_le_bytes());
        id
    }

    /// Spec: D-04.
    #[test]
    fn a_book_that_owes_is_pushed_out_by_no_book_that_does_not() {
        let others = (2..200).rev().map(|number| book(number, false, number % 2 == 0));
        let closed: Vec<Closed> = others.chain([book(1, true, true)]).collect();
        let live = HashSet::from([HOLD]);
        let (kept, forgotten) = sort_out(&closed, &live, &Finished::new(), Instant::now(), FINISHED_MAX);
        assert!(!forgotten.contains(&id(1)));
        assert_eq!((kept.len(), forgotten.len()), (99, 99), "those that drew nothing are");
    }

    /// Spec: D-04.
    #[test]
    fn of_the_books_of_a_hold_that_owe_the_last_64_are_kept() {
        let closed: Vec<Closed> = (1..=66).rev().map(|number| book(number, true, true)).collect();
        let live = HashSet::from([HOLD]);
        let (_, forgotten) = sort_out(&closed, &live, &Finished::new(), Instant::now(), FINISHED_MAX);
        assert_eq!(forgotten, [id(2), id(1)]);
    }
}
