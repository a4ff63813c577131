//! Paying: books one after another on one hold, tickets as the window allows, top-ups within the ceiling.

#[cfg(test)]
mod tests;

use super::holds::Lease;
use super::link::{Incoming, Link};
use super::progress::Progress;
use super::{Inner, PayerError, PayerEvent};
use crate::clock;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinHandle};
use tombola_core::amount::Amount;
use tombola_core::book::Ticket;
use tombola_core::chain::Preimage;
use tombola_core::hold::Hold;
use tombola_core::key::{BookId, Signed};
use tombola_core::message::{BookFrame, OpenBook};
use tombola_core::payer::{PayerBook, Window};
use tombola_core::quote::{Quote, Service};
use tombola_core::reject::{Code, Reject};
use tombola_net::{NetError, SendHalf};

/// Tickets written at once: more would only wait in the socket.
const RECORDS_PER_WRITE: u32 = 1_820;
/// A payee may ask to try again this often before it counts as away, this long apart.
const RETRIES_MAX: u32 = 50;
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// A payee may ask for room this often before it acknowledges a ticket; with two books open, each asks once or twice.
const EXHAUSTED_MAX: u32 = 16;
/// A closing word must come within this; without it the journal line stays open.
const GOODBYE_MAX: Duration = Duration::from_secs(5);
/// A top-up raises the cap by so many face values, if the ceiling allows.
const FACES_PER_TOP_UP: u64 = 20;

/// The hold that a purchase pays from.
#[derive(Debug, Clone)]
pub(crate) struct HoldInUse {
    pub(crate) hold: Signed<Hold>,
    /// No top-up goes beyond this: what had been paid before, plus the ceiling.
    pub(crate) cap_max: Amount,
    /// What was left in it when it was chosen.
    pub(crate) room: Amount,
    /// What it had paid before this purchase.
    pub(crate) paid: Amount,
    /// Keeps other purchases off it.
    pub(crate) _lease: Lease,
}

/// A hold with more room, and how much it has.
type Raised = Result<(Signed<Hold>, Amount), PayerError>;

/// What is being paid for.
#[derive(Debug, Clone)]
pub(crate) struct Bill {
    pub(crate) service: Service,
    pub(crate) price: Amount,
    pub(crate) face_value: Amount,
    /// Tickets to pay in all.
    pub(crate) tickets: u64,
}

/// How paying ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Paid {
    /// Every ticket is acknowledged.
    InFull,
    /// The hold has run dry, and the ceiling allows no more.
    Ceiling { need: Amount, has: Amount },
    /// Whoever takes the deliveries wants no more.
    Stopped,
}

/// A book that the payee has opened: what its deliveries are asked with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opened {
    pub(crate) book: BookId,
    pub(crate) bearer: Ticket,
}

/// A book that nothing more is sent on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    pub(crate) book: BookId,
    /// Highest index that the payee acknowledged.
    pub(crate) acknowledged: u32,
    /// Tickets above it that were sent and may have been drawn, as the stream was lost.
    pub(crate) in_flight: u32,
}

/// Pays one bill.
pub(crate) struct Spender {
    inner: Arc<Inner>,
    link: Arc<Link>,
    bill: Bill,
    pub(crate) hold: HoldInUse,
    books: BTreeMap<BookId, Issuing>,
    current: Option<BookId>,
    next: Option<BookId>,
    preparing: Option<JoinHandle<Result<(PayerBook, Quote), Reject>>>,
    retries: u32,
    /// How often the payee has asked for room since it acknowledged a ticket.
    exhausted: u32,
    acknowledged: u64,
    progress: Arc<Progress>,
    /// A top-up on its way, made before the hold runs dry.
    raising: Option<JoinHandle<Raised>>,
    /// Room that the hold had when this many tickets were acknowledged.
    room_seen: (Amount, u64),
    /// Every book that has ended: what those with a lost stream still hold is asked for on the next connection.
    pub(crate) ended: Vec<Ended>,
    frames: mpsc::Receiver<(BookId, Incoming)>,
    frames_in: mpsc::Sender<(BookId, Incoming)>,
    opened: Option<mpsc::UnboundedSender<Opened>>,
}

struct Issuing {
    book: PayerBook,
    send: SendHalf,
    is_open: bool,
}

impl Spender {
    pub(crate) fn new(
        inner: Arc<Inner>,
        link: Arc<Link>,
        bill: Bill,
        hold: HoldInUse,
        opened: mpsc::UnboundedSender<Opened>,
        progress: Arc<Progress>,
    ) -> Self {
        let value_max = inner.terms.window_value(bill.face_value, bill.price);
        lock_window(&link).allow(value_max);
        let (frames_in, frames) = mpsc::channel(1_024);
        let room = hold.room;
        Self {
            inner,
            link,
            bill,
            hold,
            books: BTreeMap::new(),
            current: None,
            next: None,
            preparing: None,
            retries: 0,
            exhausted: 0,
            acknowledged: 0,
            progress,
            raising: None,
            room_seen: (room, 0),
            ended: Vec::new(),
            frames,
            frames_in,
            opened: Some(opened),
        }
    }

    /// Tickets acknowledged so far.
    pub(crate) const fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Pays the bill, never more than `allowed` tickets in all; closes its books and writes the journal however it ends.
    /// A payee that neither acknowledges nor delivers for too long is away.
    pub(crate) async fn pay(
        &mut self,
        mut allowed: watch::Receiver<u64>,
        on_event: &(dyn Fn(PayerEvent) + Send + Sync),
    ) -> Result<Paid, PayerError> {
        let progress = Arc::clone(&self.progress);
        progress.made();
        let result = progress.within(self.pay_all(&mut allowed, on_event)).await;
        self.finish().await;
        // Deliveries end when nothing more will be opened.
        self.opened = None;
        result
    }

    async fn pay_all(
        &mut self,
        allowed: &mut watch::Receiver<u64>,
        on_event: &(dyn Fn(PayerEvent) + Send + Sync),
    ) -> Result<Paid, PayerError> {
        while self.acknowledged < self.bill.tickets {
            self.have_book().await?;
            let limit = *allowed.borrow_and_update();
            self.issue(limit).await?;
            self.check_trust()?;
            let before = self.acknowledged;
            tokio::select! {
                frame = self.frames.recv() => {
                    let mut next = frame;
                    while let Some((id, incoming)) = next {
                        if let Some(ceiling) = self.take(id, incoming, on_event).await? {
                            return Ok(ceiling);
                        }
                        next = self.frames.try_recv().ok();
                    }
                }
                prepared = wait_for(&mut self.preparing) => {
                    self.preparing = None;
                    let (book, quote) = prepared.unwrap_or(Err(Reject::of(Code::Unavailable)))?;
                    self.next = Some(self.open(book, quote).await?);
                }
                raised = wait_for(&mut self.raising) => {
                    self.raising = None;
                    self.raised(raised, on_event);
                }
                changed = allowed.changed() => if changed.is_err() {
                    return Ok(Paid::Stopped);
                },
            }
            if self.acknowledged > before {
                self.progress.made();
                self.retries = 0;
                self.exhausted = 0;
                self.raise_ahead();
                on_event(PayerEvent::Acknowledged {
                    tickets: self.acknowledged,
                });
            }
        }
        Ok(Paid::InFull)
    }

    /// A payee to which nothing more will ever be sent is not waited for.
    fn check_trust(&self) -> Result<(), PayerError> {
        if self.in_flight() > 0 {
            return Ok(());
        }
        let window = lock_window(&self.link);
        if let Some(undrawn) = window.distrust() {
            return Err(PayerError::Undrawn { undrawn });
        }
        window.shortfall().map_or(Ok(()), |short| Err(short.into()))
    }

    /// Makes sure that there is a book to issue from, if there is anything left to issue.
    async fn have_book(&mut self) -> Result<(), PayerError> {
        if self.current.is_none() {
            self.current = self.next.take();
        }
        let is_all_issued = self.acknowledged + self.in_flight() >= self.bill.tickets;
        if self.current.is_some() || self.preparing.is_some() || is_all_issued {
            return Ok(());
        }
        let quote = self.fresh_quote().await?;
        let (book, quote) = self
            .prepare(quote)
            .await
            .unwrap_or(Err(Reject::of(Code::Unavailable)))?;
        self.current = Some(self.open(book, quote).await?);
        Ok(())
    }

    async fn fresh_quote(&mut self) -> Result<Quote, PayerError> {
        loop {
            match self.link.quote(&self.bill.service, Some(self.bill.price)).await {
                Err(PayerError::PayeeRejected(reject)) if reject.code.is_retryable() => self.pause(reject).await?,
                quote => return quote,
            }
        }
    }

    async fn pause(&mut self, reject: Reject) -> Result<(), PayerError> {
        self.retries += 1;
        if self.retries > RETRIES_MAX {
            return Err(PayerError::PayeeRejected(reject));
        }
        tokio::time::sleep(RETRY_PAUSE).await;
        Ok(())
    }

    /// Builds a book away from this task: its chain takes a hash for each ticket.
    fn prepare(&self, quote: Quote) -> JoinHandle<Result<(PayerBook, Quote), Reject>> {
        let (inner, hold, face_value) = (Arc::clone(&self.inner), self.hold.hold.body, self.bill.face_value);
        let left = self
            .bill
            .tickets
            .saturating_sub(self.acknowledged + self.in_flight() + self.unissued());
        let length = u32::try_from(left).unwrap_or(u32::MAX).max(1);
        let (asset, price) = (hold.terms.asset, self.bill.price);
        tokio::task::spawn_blocking(move || {
            // A quote that comes with an acknowledgement must not raise the price that was agreed to.
            let asked = quote.terms.ticket_price;
            if asked > price {
                return Err(Reject::compared(Code::PriceMismatch, price.0, asked.0));
            }
            if quote.terms.asset != asset {
                return Err(Reject::of(Code::WrongAsset));
            }
            let secret = Preimage(clock::random());
            PayerBook::new(&hold, &quote, face_value, length, secret, &inner.key).map(|book| (book, quote))
        })
    }

    async fn open(&mut self, book: PayerBook, quote: Quote) -> Result<BookId, PayerError> {
        let id = book.id();
        let open = OpenBook {
            hold: self.hold.hold,
            quote,
            book: *book.signed(),
        };
        // Before the first ticket leaves: whatever becomes of this process, the audit knows that the book is ours.
        self.inner.store.note(book.journal_row());
        let send = self.link.open_book(open, self.frames_in.clone()).await?;
        self.books.insert(
            id,
            Issuing {
                book,
                send,
                is_open: false,
            },
        );
        Ok(id)
    }

    fn in_flight(&self) -> u64 {
        self.books
            .values()
            .map(|issuing| u64::from(issuing.book.in_flight()))
            .sum()
    }

    fn unissued(&self) -> u64 {
        self.books
            .values()
            .map(|issuing| u64::from(issuing.book.remaining()))
            .sum()
    }

    /// Writes as many tickets as window, delivery and bill allow.
    async fn issue(&mut self, allowed: u64) -> Result<(), PayerError> {
        let mut records = Vec::new();
        while let Some(id) = self.current {
            let wanted = self
                .bill
                .tickets
                .min(allowed)
                .saturating_sub(self.acknowledged + self.in_flight());
            let Some(issuing) = self.books.get_mut(&id) else {
                self.current = self.next.take();
                continue;
            };
            // A payee that has just refused is not sent tickets ahead: what it does not draw counts against it.
            if self.retries > 0 && !issuing.is_open {
                break;
            }
            records.clear();
            let count = u32::try_from(wanted).unwrap_or(u32::MAX).min(RECORDS_PER_WRITE);
            let issued = issuing.book.issue(count, &mut lock_window(&self.link), &mut records);
            let is_used_up = issuing.book.remaining() == 0;
            if issued > 0 {
                issuing.send.write(&records).await.or_else(|error| match error {
                    // The payee has closed the book; its last frame, on its way, says why.
                    NetError::StreamStopped { .. } => Ok(()),
                    error => Err(error),
                })?;
            }
            if is_used_up {
                self.current = self.next.take();
            } else if issued == 0 {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn take(
        &mut self,
        id: BookId,
        incoming: Incoming,
        on_event: &(dyn Fn(PayerEvent) + Send + Sync),
    ) -> Result<Option<Paid>, PayerError> {
        let frame = match incoming {
            Incoming::Frame(frame) => *frame,
            Incoming::Ended => return self.stream_lost(id),
        };
        match frame {
            BookFrame::Ack { through, next_quote } => {
                let Some(issuing) = self.books.get_mut(&id) else {
                    return Ok(None);
                };
                let news = issuing.book.acknowledge(through, &mut lock_window(&self.link));
                if !issuing.is_open {
                    issuing.is_open = true;
                    if let (Some(opened), Some(bearer)) = (&self.opened, issuing.book.bearer()) {
                        // A purchase without deliveries does not listen.
                        let _ = opened.send(Opened { book: id, bearer });
                    }
                }
                self.count(news);
                self.consider(next_quote);
                Ok(None)
            }
            BookFrame::Exhausted { need, has, .. } => {
                self.exhausted += 1;
                if self.exhausted > EXHAUSTED_MAX {
                    let reject = Reject::compared(Code::HoldExhausted, need.0, has.0);
                    return Err(PayerError::PayeeRejected(reject));
                }
                self.top_up(need, on_event).await
            }
            BookFrame::Closed {
                through,
                reject,
                next_quote,
            } => self.closed(id, through, reject, next_quote).await.map(|()| None),
        }
    }

    fn stream_lost(&mut self, id: BookId) -> Result<Option<Paid>, PayerError> {
        let Some(issuing) = self.books.remove(&id) else {
            return Ok(None);
        };
        self.lose(issuing.book);
        Err(PayerError::Net(NetError::Lost))
    }

    fn lose(&mut self, mut book: PayerBook) {
        book.lost(&mut lock_window(&self.link));
        self.end(&book);
    }

    /// Counts what a payee has acknowledged.
    fn count(&mut self, news: u32) {
        let news = u64::from(news);
        self.acknowledged += news;
        self.inner.pulse.count(news, self.bill.price);
    }

    /// Remembers how far a book was acknowledged that nothing more is sent on, and writes it down.
    fn end(&mut self, book: &PayerBook) {
        self.inner.store.note(book.journal_row());
        self.ended.push(Ended {
            book: book.id(),
            acknowledged: book.acknowledged(),
            in_flight: book.in_flight(),
        });
    }

    /// Begins the next book while this one is paid from.
    fn consider(&mut self, quote: Option<Quote>) {
        let Some(quote) = quote else { return };
        let covered = self.acknowledged + self.in_flight() + self.unissued();
        if self.next.is_none() && self.preparing.is_none() && covered < self.bill.tickets {
            self.preparing = Some(self.prepare(quote));
        }
    }

    async fn closed(
        &mut self,
        id: BookId,
        through: u32,
        reject: Reject,
        next_quote: Option<Quote>,
    ) -> Result<(), PayerError> {
        let Some(mut issuing) = self.books.remove(&id) else {
            return Ok(());
        };
        let news = issuing
            .book
            .closed_by_payee(through, reject, &mut lock_window(&self.link));
        self.count(news);
        self.end(&issuing.book);
        for slot in [&mut self.current, &mut self.next] {
            *slot = slot.filter(|book| *book != id);
        }
        match reject.code {
            // A payee that was started again since it made the quote no longer knows it: a fresh one does.
            Code::BookComplete
            | Code::BookFinished
            | Code::BookRedeemed
            | Code::BookIdle
            | Code::QuoteAltered
            | Code::QuoteExpired => {
                self.consider(next_quote);
                if issuing.book.acknowledged() == 0 {
                    // A book that comes to nothing is a try; too many in a row end the purchase.
                    return self.pause(reject).await;
                }
                Ok(())
            }
            code if code.is_retryable() => self.pause(reject).await,
            _ => Err(PayerError::PayeeRejected(reject)),
        }
    }

    /// Tops the hold up before it runs dry, so that nobody waits for it: when it is likely to be half used up.
    fn raise_ahead(&mut self) {
        let (room, seen_at) = self.room_seen;
        let price = u128::from(self.bill.price.0);
        let used = u128::from(self.acknowledged.saturating_sub(seen_at)) * price;
        let left = u128::from(room.0).saturating_sub(used);
        let to_pay = u128::from(self.bill.tickets.saturating_sub(self.acknowledged)) * price;
        let is_low = left < u128::from(self.bill.face_value.saturating_mul(FACES_PER_TOP_UP / 2).0);
        let cap = self.raised_cap();
        if self.raising.is_some() || !is_low || to_pay <= left || cap <= self.hold.hold.body.cap {
            return;
        }
        let (inner, link, hold) = (Arc::clone(&self.inner), Arc::clone(&self.link), self.hold.hold);
        self.raising = Some(tokio::spawn(async move { raise(&inner, &link, &hold, cap).await }));
    }

    /// The cap of the next top-up, within the ceiling.
    fn raised_cap(&self) -> Amount {
        let cap = self.hold.hold.body.cap;
        let wished = cap
            .0
            .saturating_add(self.bill.face_value.saturating_mul(FACES_PER_TOP_UP).0);
        Amount(wished).min(self.hold.cap_max)
    }

    fn raised(&mut self, raised: Result<Raised, JoinError>, on_event: &(dyn Fn(PayerEvent) + Send + Sync)) {
        match raised {
            Ok(Ok((hold, room))) => {
                self.hold.hold = hold;
                self.room_seen = (room, self.acknowledged);
                on_event(PayerEvent::ToppedUp { cap: hold.body.cap });
            }
            // Not yet needed: if it is, the payee says so, and what is wrong is told then.
            Ok(Err(error)) => {
                tracing::debug!(%error, "a top-up ahead of need was not made");
                self.room_seen = (Amount(u64::MAX), self.acknowledged);
            }
            Err(_) => {}
        }
    }

    /// Gives the hold room for another winner, within the ceiling.
    async fn top_up(
        &mut self,
        need: Amount,
        on_event: &(dyn Fn(PayerEvent) + Send + Sync),
    ) -> Result<Option<Paid>, PayerError> {
        let progress = Arc::clone(&self.progress);
        if let Some(raising) = self.raising.take() {
            let _escrow = progress.pause();
            let raised = raising.await;
            self.raised(raised, on_event);
        }
        // Another book of this hold may have been topped up for meanwhile: the payee knows its room best.
        let room = self.link.present(&self.hold.hold).await?;
        if room >= need {
            return Ok(None);
        }
        let cap = self.hold.hold.body.cap;
        let least = Amount(cap.0.saturating_add(need.0.saturating_sub(room.0)));
        if least > self.hold.cap_max {
            return Ok(Some(Paid::Ceiling { need, has: room }));
        }
        let (held, cap) = (&self.hold.hold, self.raised_cap());
        let escrow = progress.pause();
        let raised = self.inner.top_up_patiently(held, cap, on_event).await?;
        drop(escrow);
        let room = self.link.present(&raised).await?;
        self.raised(Ok(Ok((raised, room))), on_event);
        Ok(None)
    }

    /// Ends every book: what was sent before counts, and the payee says how far it got.
    async fn finish(&mut self) {
        if let Some(preparing) = self.preparing.take() {
            preparing.abort();
        }
        if let Some(raising) = self.raising.take() {
            // What the escrow has set aside meanwhile is in the hold, and the hold is found again.
            raising.abort();
        }
        for issuing in self.books.values_mut() {
            // A stream that is gone already needs no end.
            let _ = issuing.send.finish();
        }
        let goodbye = async {
            while !self.books.is_empty() {
                let Some((id, incoming)) = self.frames.recv().await else {
                    return;
                };
                self.last_word(id, incoming);
            }
        };
        let _ = tokio::time::timeout(GOODBYE_MAX, goodbye).await;
        for (_, issuing) in std::mem::take(&mut self.books) {
            self.lose(issuing.book);
        }
    }

    /// What a payee says of a book that is being ended.
    fn last_word(&mut self, id: BookId, incoming: Incoming) {
        let Some(mut issuing) = self.books.remove(&id) else {
            return;
        };
        let frame = match incoming {
            Incoming::Frame(frame) => *frame,
            Incoming::Ended => return self.lose(issuing.book),
        };
        let news = match frame {
            BookFrame::Ack { through, .. } => {
                let news = issuing.book.acknowledge(through, &mut lock_window(&self.link));
                self.books.insert(id, issuing);
                news
            }
            BookFrame::Exhausted { .. } => {
                self.books.insert(id, issuing);
                0
            }
            BookFrame::Closed { through, reject, .. } => {
                let news = issuing
                    .book
                    .closed_by_payee(through, reject, &mut lock_window(&self.link));
                self.end(&issuing.book);
                news
            }
        };
        self.count(news);
    }
}

impl Drop for Spender {
    /// A purchase that is dropped in the middle loses what it has sent like one whose connection went away.
    fn drop(&mut self) {
        for (_, issuing) in std::mem::take(&mut self.books) {
            self.lose(issuing.book);
        }
    }
}

/// Tops a hold up at the escrow and shows it to the payee.
async fn raise(inner: &Inner, link: &Link, hold: &Signed<Hold>, cap: Amount) -> Raised {
    let raised = inner.top_up(hold, cap).await?;
    let room = link.present(&raised).await?;
    Ok((raised, room))
}

pub(crate) fn lock_window(link: &Link) -> MutexGuard<'_, Window> {
    link.window.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for a task, or for ever if there is none.
async fn wait_for<T>(task: &mut Option<JoinHandle<T>>) -> Result<T, JoinError> {
    match task {
        Some(handle) => handle.await,
        None => std::future::pending().await,
    }
}
