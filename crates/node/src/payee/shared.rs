//! What all tasks of a payee share: the rules, the open books, the store, and what is for sale.

use super::catalog::{Catalog, Content, Source};
use super::closed::Finished;
use super::peer::{BROKEN_HASHES_PER_PAYER_PER_SECOND, hashes_of_jump};
use super::store::{Change, PayeeStore, Queued};
use super::stream::off_thread;
use crate::clock;
use crate::disk::StoreError;
use crate::meter::{Meter, Overdrawn};
use crate::metrics::LuckTally;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};
use tombola_core::amount::Amount;
use tombola_core::key::{AccountKey, BookId, HoldId, QuoteId};
use tombola_core::message::ContentHash;
use tombola_core::payee::{Payee, PayeeBook, Room, TIP_SERVICE};
use tombola_core::quote::{EpochSecret, Quote, Service};
use tombola_core::reject::{Code, Reject};

/// An append that takes longer is a late one: the payee takes no ticket until a probe write is durable.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a failed winner waits before it is written again.
const WRITE_RETRY: Duration = Duration::from_secs(1);

/// Shared by all streams of a payee.
pub(crate) struct Shared {
    rules: Mutex<Payee>,
    books: Mutex<HashMap<BookId, Arc<OpenedBook>>>,
    /// Of the closed ones, those that owe nothing.
    pub(super) finished: Mutex<Finished>,
    pub(crate) store: PayeeStore,
    pub(crate) catalog: Arc<dyn Catalog>,
    /// Wakes the redeemer: a book was closed, or a hold is to be checked.
    pub(crate) work: Notify,
    /// Turns true when the payee is shutting down.
    pub(crate) drain: watch::Sender<bool>,
    pub(crate) counters: Counters,
    /// Hashes that payers have caused by books that proved to be broken.
    broken: Mutex<Meter<AccountKey>>,
}

/// What has happened since the start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Ticket records whose index was drawn.
    pub(crate) records: AtomicU64,
    /// Indices drawn.
    pub(crate) tickets: AtomicU64,
    /// Of these, winners.
    pub(crate) winners: AtomicU64,
    /// Expected value of what was drawn, in atomic units.
    pub(crate) expected: AtomicU64,
    /// Claims sent, repeats included.
    pub(crate) claims: AtomicU64,
    /// Claims that were paid.
    pub(crate) receipts: AtomicU64,
    /// Claims that were refused.
    pub(crate) refusals: AtomicU64,
    /// Books opened.
    pub(crate) books: AtomicU64,
    /// Units delivered.
    pub(crate) units: AtomicU64,
    /// Books closed for a broken chain.
    pub(crate) broken_books: AtomicU64,
    /// Books not opened because their payer had too many of those.
    pub(crate) turned_away: AtomicU64,
    /// Worth of what was drawn, and of its winners.
    pub(crate) luck: Mutex<LuckTally>,
}

/// How far a book was drawn at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Drawn {
    tickets: u32,
    records: u32,
    winners: u32,
}

impl Drawn {
    pub(crate) fn of(book: &PayeeBook) -> Self {
        Self {
            tickets: book.through(),
            records: book.records(),
            winners: book.winners(),
        }
    }
}

/// The units that a book has paid for and that were sent, whether they arrived or not.
#[derive(Debug)]
pub(crate) struct SentUnits {
    pub(crate) content_hash: ContentHash,
    pub(crate) units: std::ops::Range<u64>,
}

impl SentUnits {
    /// Only one run of units is remembered, the latest.
    pub(crate) fn add(&mut self, unit: u64) {
        if unit == self.units.end {
            self.units.end += 1;
        } else if !self.units.contains(&unit) {
            self.units = unit..unit + 1;
        }
    }
}

/// A book that this process opened; kept after it is closed, see [`super::closed`].
pub(crate) struct OpenedBook {
    pub(crate) machine: Mutex<PayeeBook>,
    /// In the order of opening.
    pub(crate) number: u64,
    /// The connection of its stream: requests on it need not show a ticket.
    pub(crate) connection: u64,
    pub(crate) service: Service,
    /// Wakes the book's stream: a winner is durable, there is room, or it was closed.
    pub(crate) changed: Notify,
    /// Tells the book's stream of a ticket that came in a request.
    pub(crate) rode: Notify,
    /// Whether its winners were handed over for claiming: once, when it is closed and all of them are durable.
    pub(crate) handed_over: AtomicBool,
    /// Wakes whoever waits for that.
    pub(crate) handover: Notify,
    /// Wakes the delivery that waits for paid units.
    pub(crate) paid: Notify,
    /// Deliveries of one book, in the order of their arrival.
    pub(crate) delivery: tokio::sync::Mutex<Option<SentUnits>>,
}

/// Locks a mutex whatever became of its last holder.
///
/// A panic under a lock is a broken invariant and ends the process (`panic = "abort"` in what is shipped), so a
/// poisoned lock is only ever seen by tests that caught the panic.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The shared rules as a book needs them, with the answer that each ticket asks for taken once a batch.
pub(crate) struct NodeRoom<'a> {
    rules: &'a Mutex<Payee>,
    selling: Result<(), Reject>,
}

impl Room for NodeRoom<'_> {
    fn check_selling(&mut self) -> Result<(), Reject> {
        self.selling
    }

    fn reserve(&mut self, hold: &HoldId, book: &BookId) -> Result<(), Reject> {
        lock(self.rules).reserve(hold, book)
    }

    fn win(&mut self, hold: &HoldId, book: &BookId) {
        lock(self.rules).win(hold, book);
    }
}

impl Shared {
    pub(crate) fn new(rules: Payee, store: PayeeStore, catalog: Arc<dyn Catalog>) -> Self {
        Self {
            rules: Mutex::new(rules),
            books: Mutex::new(HashMap::new()),
            finished: Mutex::new(Finished::new()),
            store,
            catalog,
            work: Notify::new(),
            drain: watch::Sender::new(false),
            counters: Counters::default(),
            broken: Mutex::new(Meter::new(BROKEN_HASHES_PER_PAYER_PER_SECOND)),
        }
    }

    /// Whether a payer may open another book, after those that it broke. Spec: B-05.
    pub(crate) fn check_broken(&self, payer: &AccountKey) -> Result<(), Reject> {
        let checked = lock(&self.broken).check(payer, Instant::now());
        checked.map_err(|Overdrawn { limit, owed }| {
            self.counters.turned_away.fetch_add(1, Ordering::Relaxed);
            Reject::compared(Code::Busy, limit, owed)
        })
    }

    /// A bad record made this payee hash up to `jump_max` times before it could be refused.
    fn charge_broken(&self, hold: &HoldId) {
        let (jump, payer) = {
            let rules = self.rules();
            (rules.terms().jump_max, rules.payer(hold))
        };
        if let Some(payer) = payer {
            lock(&self.broken).charge(payer, hashes_of_jump(jump), Instant::now());
        }
        self.counters.broken_books.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn rules(&self) -> MutexGuard<'_, Payee> {
        lock(&self.rules)
    }

    pub(crate) fn room(&self) -> NodeRoom<'_> {
        let selling = self.rules().check_selling();
        NodeRoom {
            rules: &self.rules,
            selling,
        }
    }

    pub(crate) fn book(&self, id: &BookId) -> Option<Arc<OpenedBook>> {
        lock(&self.books).get(id).cloned()
    }

    pub(crate) fn add_book(&self, book: Arc<OpenedBook>) {
        let id = lock(&book.machine).id();
        lock(&self.books).insert(id, book);
    }

    /// A number for the next book.
    pub(crate) fn next_number(&self) -> u64 {
        self.counters.books.fetch_add(1, Ordering::Relaxed)
    }

    /// All books as they are now, for whoever looks at each: nobody waits for that.
    pub(super) fn all_books(&self) -> Vec<(BookId, Arc<OpenedBook>)> {
        let books = lock(&self.books);
        books.iter().map(|(id, book)| (*id, Arc::clone(book))).collect()
    }

    pub(super) fn forget_books(&self, forgotten: &[BookId]) {
        let mut books = lock(&self.books);
        for id in forgotten {
            books.remove(id);
        }
    }

    /// Books with winners that are not handed over for claiming.
    pub(crate) fn winning_books(&self) -> Vec<Arc<OpenedBook>> {
        let is_due =
            |book: &Arc<OpenedBook>| !book.handed_over.load(Ordering::Acquire) && lock(&book.machine).winners() > 0;
        lock(&self.books)
            .values()
            .filter(|book| is_due(book))
            .cloned()
            .collect()
    }

    pub(crate) fn open_books(&self) -> Vec<Arc<OpenedBook>> {
        let books = lock(&self.books);
        books
            .values()
            .filter(|book| lock(&book.machine).closed().is_none())
            .cloned()
            .collect()
    }

    /// A quote for a service at its price, or for a tip of an amount.
    pub(crate) async fn quote(&self, service: &Service, price: Option<Amount>) -> Result<Quote, Reject> {
        let price = match price {
            Some(tip) if service.as_str() == TIP_SERVICE => tip,
            Some(given) => {
                let price = self.find(service).await?.price;
                if given < price {
                    return Err(Reject::compared(Code::PriceMismatch, price.0, given.0));
                }
                price
            }
            None => self.find(service).await?.price,
        };
        let now = clock::now();
        let mut rules = self.rules();
        rules.advance(now);
        if rules.is_epoch_over() {
            rules.begin_epoch(EpochSecret::new(clock::random()));
        }
        rules.quote(service, price, QuoteId(clock::random()), now)
    }

    /// A service by its name; the disk is asked away from the threads that read sockets.
    pub(crate) async fn find(&self, service: &Service) -> Result<Content, Reject> {
        if service.as_str() == TIP_SERVICE {
            let source = Source::Bytes(Arc::from([]));
            return Ok(Content {
                price: Amount(0),
                unit_bytes: 0,
                size: 0,
                hash: ContentHash([0; 32]),
                source,
            });
        }
        if let Some(found) = self.catalog.find_in_memory(service) {
            return found;
        }
        let (catalog, service) = (Arc::clone(&self.catalog), service.clone());
        off_thread(move || catalog.find(&service)).await
    }

    /// Closes a book for good; the first reason stands. Its winners are claimed when they are durable.
    pub(crate) fn close(self: &Arc<Self>, book: &Arc<OpenedBook>, reject: Reject) -> Reject {
        let (closing, is_first, hold) = {
            let mut machine = lock(&book.machine);
            let is_first = machine.closed().is_none();
            (machine.close(reject), is_first, machine.hold())
        };
        if is_first && reject.code == Code::ChainBroken {
            self.charge_broken(&hold);
        }
        self.write_winners(book);
        self.hand_over(book);
        book.changed.notify_one();
        book.paid.notify_one();
        closing.reject
    }

    /// Hands a closed book to the rules for claiming, once every winner is durable: a claim that was paid for a winner
    /// the store does not have would leave the store with less paid than the escrow has, for good.
    fn hand_over(&self, book: &OpenedBook) {
        {
            let mut machine = lock(&book.machine);
            let Some(reject) = machine.closed().filter(|_| machine.is_durable()) else {
                return;
            };
            if book.handed_over.swap(true, Ordering::AcqRel) {
                return;
            }
            self.rules().closed(&machine.close(reject), clock::now());
        }
        self.wake_granted();
        self.work.notify_one();
        book.handover.notify_waiters();
    }

    /// Waits until a closed book's winners are handed over.
    pub(crate) async fn handed_over(&self, book: &OpenedBook) {
        let waiting = book.handover.notified();
        let mut waiting = std::pin::pin!(waiting);
        waiting.as_mut().enable();
        if !book.handed_over.load(Ordering::Acquire) {
            waiting.await;
        }
    }

    /// Books that were waiting for room and have it now go on.
    pub(crate) fn wake_granted(&self) {
        let granted = self.rules().take_granted();
        for id in granted {
            if let Some(book) = self.book(&id) {
                book.changed.notify_one();
            }
        }
    }

    /// Writes a book's winners if there are new ones, in the background, and says so when they are durable.
    pub(crate) fn write_winners(self: &Arc<Self>, book: &Arc<OpenedBook>) {
        let begin = |machine: &mut PayeeBook| {
            let change = Change::Winner(Box::new(machine.begin_write()?));
            Some((self.store.enqueue(vec![change.clone()]), change))
        };
        let Some((queued, change)) = begin(&mut lock(&book.machine)) else {
            return;
        };
        let (shared, book) = (Arc::clone(self), Arc::clone(book));
        tokio::spawn(async move {
            if shared.retry_until_durable(queued, change).await.is_err() {
                return;
            }
            lock(&book.machine).written();
            shared.hand_over(&book);
            book.changed.notify_one();
            book.paid.notify_one();
            // What was won meanwhile is one more row of the same book.
            shared.write_winners(&book);
        });
    }

    /// # Errors
    /// What befell the store, once only a restart helps: the winner is never acknowledged, and nobody claims it.
    pub(super) async fn retry_until_durable(&self, mut queued: Queued, change: Change) -> Result<(), StoreError> {
        while let Err(error) = self.durable(queued).await {
            if self.store.has_failed() {
                tracing::error!(event = error.event(), %error, "a winner cannot be kept: no ticket is taken until the payee is restarted");
                return Err(error);
            }
            tracing::error!(event = error.event(), %error, "a winner cannot be kept: no ticket is taken until the disk works again");
            tokio::time::sleep(WRITE_RETRY).await;
            queued = self.store.enqueue(vec![change.clone()]);
        }
        Ok(())
    }

    /// Waits until the row of a new hold is durable, and writes it again, as it is then, until it is: winners without
    /// their hold cannot be claimed after a restart.
    pub(crate) async fn keep_hold(&self, mut queued: Queued, hold: &HoldId) {
        while let Err(error) = self.durable(queued).await {
            tracing::error!(event = error.event(), %error, %hold, "a hold cannot be kept: no ticket is taken until the disk works again");
            if self.store.has_failed() {
                return;
            }
            tokio::time::sleep(WRITE_RETRY).await;
            let rules = self.rules();
            let Some(row) = rules.hold(hold).copied() else {
                return;
            };
            queued = self.store.enqueue(vec![Change::Hold(Box::new(row))]);
        }
    }

    /// Waits until queued changes are durable; a failed or late write stops the payee from taking tickets.
    ///
    /// Rows are snapshots, so whoever takes one under a lock queues it under that lock: then no older row can come after
    /// a newer one, and no winner before its hold.
    pub(crate) async fn durable(&self, queued: Queued) -> Result<(), StoreError> {
        let written = async { queued?.await.unwrap_or(Err(StoreError::Stopped)) };
        let result = tokio::time::timeout(WRITE_TIMEOUT, written).await;
        let result = result.unwrap_or(Err(StoreError::Busy));
        if result.is_err() {
            self.rules().store_failed();
        }
        result
    }

    /// Highest index that may be acknowledged; what it pays of the payer's credit can be lent again.
    pub(crate) fn acknowledge(&self, book: &OpenedBook) -> u32 {
        let mut machine = lock(&book.machine);
        let repaid = machine.settle_credit();
        if repaid > 0 {
            let mut rules = self.rules();
            if let Some(payer) = rules.payer(&machine.hold()) {
                rules.repay(&payer, repaid);
            }
        }
        machine.ack_through()
    }

    /// Counts what a book has drawn since.
    pub(crate) fn count_drawn(&self, book: &PayeeBook, before: &Drawn) {
        let now = Drawn::of(book);
        let tickets = u64::from(now.tickets - before.tickets);
        let expected = book.expected(tickets);
        let add = |counter: &AtomicU64, value: u64| counter.fetch_add(value, Ordering::Relaxed);
        add(&self.counters.tickets, tickets);
        add(&self.counters.records, u64::from(now.records - before.records));
        let winners = u64::from(now.winners - before.winners);
        add(&self.counters.winners, winners);
        let (face_value, threshold) = (book.book().face_value, book.book().threshold);
        let drawn = u128::from(face_value.0).saturating_mul(u128::from(winners));
        lock(&self.counters.luck).note(face_value, threshold, tickets, drawn);
        add(&self.counters.expected, u64::try_from(expected).unwrap_or(u64::MAX));
    }
}
