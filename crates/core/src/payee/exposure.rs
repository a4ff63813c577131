//! What a payee's holds can still pay: paid, owed and reserved face values, and who waits for room.

use super::releasing::Pause;
use crate::amount::{Amount, Timestamp};
use crate::hold::{Hold, HoldTerms, Release};
use crate::key::{AccountKey, BookId, PublicKey, Signed};
use crate::reject::{Code, Reject};
use std::collections::VecDeque;

/// A hold as the payee's store keeps it. Spec: B-10.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct HoldRow {
    /// The highest revision seen.
    pub hold: Signed<Hold>,
    /// The most that any receipt or status said it has paid, gross.
    pub paid: Amount,
    /// When the escrow was last asked about it, by the payee's clock; 0 if never; [`HoldRow::MUST_ASK`] while it takes no
    /// book before the escrow has said that it is open, [`HoldRow::RELEASED`] once its release was answered. Spec: B-06.
    pub checked_at: Timestamp,
    /// The payee's signed last word, once given.
    pub release: Option<Signed<Release>>,
}

impl HoldRow {
    /// In place of a time: the hold has ended at the escrow, or has paid what this payee does not know of. It is kept, so
    /// a restart opens nothing on it again.
    pub const MUST_ASK: Timestamp = Timestamp(u64::MAX);
    /// In place of a time, beside a release: the escrow has answered it, so it is not sent again.
    pub const RELEASED: Timestamp = Timestamp(u64::MAX - 1);

    /// Whether the escrow has answered the release.
    #[must_use]
    pub const fn is_release_answered(&self) -> bool {
        self.release.is_some() && self.checked_at.0 == Self::RELEASED.0
    }
}

/// One hold at its payee: `cap - paid - liabilities - reservations >= 0`, always. Spec: B-10.
#[derive(Debug)]
pub(crate) struct HoldAccount {
    pub(crate) row: HoldRow,
    pub(crate) signer: PublicKey,
    liabilities: Amount,
    reservations: Amount,
    books: Books,
    waiting: VecDeque<BookId>,
    pub(crate) idle_since: Timestamp,
    /// The release is durable, so it may be sent.
    pub(crate) is_release_kept: bool,
    /// Before the release is sent again, or the escrow asked again.
    pub(crate) pause: Pause,
    /// How it ended at the escrow, once known: `hold_released` or `hold_expired`.
    pub(crate) ended: Option<Code>,
}

#[derive(Debug, Clone, Copy)]
struct BookAccount {
    face_value: Amount,
    is_reserved: bool,
    is_open: bool,
    liability: Amount,
}

/// The books of one hold by their ids: few, so an ordered list takes less than a tree.
#[derive(Debug)]
struct Books(Vec<(BookId, BookAccount)>);

/// Places that are added to a full list of books: doubling it would leave half of it empty.
const BOOK_PLACES: usize = 8;

impl Books {
    fn place(&self, id: &BookId) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| known.cmp(id))
    }

    fn get(&self, id: &BookId) -> Option<&BookAccount> {
        let place = self.place(id).ok()?;
        self.0.get(place).map(|(_, book)| book)
    }

    fn get_mut(&mut self, id: &BookId) -> Option<&mut BookAccount> {
        let place = self.place(id).ok()?;
        self.0.get_mut(place).map(|(_, book)| book)
    }

    fn insert(&mut self, id: BookId, book: BookAccount) {
        self.remove(&id);
        if self.0.len() == self.0.capacity() {
            self.0.reserve_exact(BOOK_PLACES);
        }
        let place = self.place(&id).unwrap_or_else(|place| place);
        self.0.insert(place, (id, book));
    }

    fn remove(&mut self, id: &BookId) -> Option<BookAccount> {
        let place = self.place(id).ok()?;
        Some(self.0.remove(place).1)
    }

    fn values(&self) -> impl Iterator<Item = &BookAccount> {
        self.0.iter().map(|(_, book)| book)
    }
}

impl HoldAccount {
    pub(crate) const fn new(row: HoldRow, signer: PublicKey, now: Timestamp) -> Self {
        Self {
            row,
            signer,
            liabilities: Amount::ZERO,
            reservations: Amount::ZERO,
            books: Books(Vec::new()),
            waiting: VecDeque::new(),
            idle_since: now,
            // A row that was read from the store is durable; a fresh one has no release.
            is_release_kept: row.release.is_some(),
            pause: Pause::NONE,
            ended: if row.is_release_answered() {
                Some(Code::HoldReleased)
            } else {
                None
            },
        }
    }

    /// Whether the escrow must be asked before another book is opened.
    pub(crate) fn is_unchecked(&self) -> bool {
        self.row.checked_at == HoldRow::MUST_ASK
    }

    pub(crate) fn terms(&self) -> &HoldTerms {
        &self.row.hold.body.terms
    }

    pub(crate) fn payer(&self) -> AccountKey {
        self.terms().payer
    }

    /// What is neither paid, owed nor reserved; nothing once the escrow has ended the hold, as it pays no more.
    pub(crate) fn room(&self) -> Amount {
        if self.ended.is_some() {
            return Amount::ZERO;
        }
        let taken = self.liabilities.0.saturating_add(self.reservations.0);
        Amount(
            self.row
                .hold
                .body
                .cap
                .0
                .saturating_sub(self.row.paid.0)
                .saturating_sub(taken),
        )
    }

    pub(crate) const fn liabilities(&self) -> Amount {
        self.liabilities
    }

    pub(crate) fn liability(&self, book: &BookId) -> Amount {
        self.books.get(book).map_or(Amount::ZERO, |book| book.liability)
    }

    pub(crate) const fn reservations(&self) -> Amount {
        self.reservations
    }

    pub(crate) fn open_books(&self) -> usize {
        self.books.values().filter(|book| book.is_open).count()
    }

    pub(crate) fn open_book_ids(&self) -> impl Iterator<Item = BookId> {
        self.books.0.iter().filter(|(_, book)| book.is_open).map(|(id, _)| *id)
    }

    /// Whether neither side has ended it, as far as is known here.
    pub(crate) const fn is_open(&self) -> bool {
        self.row.release.is_none() && self.ended.is_none()
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.open_books() == 0 && self.liabilities.is_zero()
    }

    pub(crate) fn add_book(&mut self, book: BookId, face_value: Amount) {
        let account = BookAccount {
            face_value,
            is_reserved: false,
            is_open: true,
            liability: Amount::ZERO,
        };
        self.books.insert(book, account);
    }

    /// A book of an earlier process: closed, with winners to be claimed.
    pub(crate) fn add_liability(&mut self, book: BookId, face_value: Amount, gross: Amount) {
        let account = BookAccount {
            face_value,
            is_reserved: false,
            is_open: false,
            liability: gross,
        };
        self.books.insert(book, account);
        self.liabilities = Amount(self.liabilities.0.saturating_add(gross.0));
    }

    pub(crate) fn reserve(&mut self, id: &BookId) -> Result<(), Reject> {
        let room = self.room();
        let is_first = self.waiting.front().is_none_or(|first| first == id);
        let Some(book) = self.books.get_mut(id).filter(|book| book.is_open) else {
            return Err(Reject::of(Code::BookUnknown));
        };
        if book.is_reserved {
            return Ok(());
        }
        if !is_first || room < book.face_value {
            let full = Reject::compared(Code::HoldExhausted, book.face_value.0, room.0);
            if !self.waiting.contains(id) {
                self.waiting.push_back(*id);
            }
            return Err(full);
        }
        book.is_reserved = true;
        self.reservations = Amount(self.reservations.0.saturating_add(book.face_value.0));
        self.waiting.retain(|waiting| waiting != id);
        let taken = crate::amount::sum([self.row.paid, self.liabilities, self.reservations]);
        assert!(
            taken <= u128::from(self.row.hold.body.cap.0),
            "a hold covers what is paid, owed and reserved"
        );
        Ok(())
    }

    pub(crate) fn win(&mut self, id: &BookId) {
        let Some(book) = self.books.get_mut(id) else { return };
        assert!(
            book.is_reserved,
            "a winner has a reservation: the book reserves before it draws"
        );
        book.is_reserved = false;
        book.liability = Amount(book.liability.0.saturating_add(book.face_value.0));
        self.reservations = self.reservations.saturating_sub(book.face_value);
        self.liabilities = Amount(self.liabilities.0.saturating_add(book.face_value.0));
    }

    /// Closing frees the reservation only; what was won stays owed.
    pub(crate) fn close_book(&mut self, id: &BookId, now: Timestamp) {
        self.waiting.retain(|waiting| waiting != id);
        let Some(book) = self.books.get_mut(id) else { return };
        if book.is_reserved {
            book.is_reserved = false;
            self.reservations = self.reservations.saturating_sub(book.face_value);
        }
        book.is_open = false;
        if book.liability.is_zero() {
            self.books.remove(id);
        }
        self.idle_since = self.idle_since.max(now);
    }

    /// A receipt: what the hold has paid goes up and the book's debt goes, in one step.
    pub(crate) fn settle(&mut self, id: &BookId, hold_paid_after: Amount, now: Timestamp) {
        if let Some(book) = self.books.remove(id) {
            self.liabilities = self.liabilities.saturating_sub(book.liability);
        }
        self.row.paid = self.row.paid.max(hold_paid_after);
        self.idle_since = self.idle_since.max(now);
    }

    /// Gives room to waiting books, in the order in which they asked. Returns those that can go on.
    pub(crate) fn grant(&mut self) -> Vec<BookId> {
        let mut granted = Vec::new();
        while let Some(first) = self.waiting.front().copied() {
            if self.reserve(&first).is_err() {
                break;
            }
            granted.push(first);
        }
        granted
    }
}
