//! Delivering units of a service as tickets pay for them.

use super::catalog::{Content, Source};
use super::peer::{Peer, hashes_of_jump};
use super::shared::{Drawn, OpenedBook, SentUnits, Shared, lock};
use super::stream::{off_thread, put, say};
use crate::clock;
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tombola_core::book::Ticket;
use tombola_core::codec::encode;
use tombola_core::key::{BookId, HoldId};
use tombola_core::message::{PayeeAnswer, ResponseHeader};
use tombola_core::payee::{PaidBy, Payee};
use tombola_core::quote::Service;
use tombola_core::reject::{Code, Reject};
use tombola_net::{NetError, SendHalf};

/// How often a waiting delivery looks whether its book is still open, and how long it keeps a file open meanwhile.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// What is read and sent at a time, so that a unit of any length costs no more memory: two of them fit what a connection
/// may have waiting.
const PART_BYTES_MAX: u64 = 64 * 1_024;
const _: () = assert!(2 * PART_BYTES_MAX <= tombola_net::limits::ANSWERS_BYTES_MAX as u64);
/// What is written of a part at a time.
const STEP_BYTES: usize = 4 * 1_024;
/// A step must have been taken by the transport within this: whoever pauses for as long as a book may be idle asks anew,
/// and a slow path shared by several downloads does not.
pub(crate) const STEP_TIMEOUT: Duration = Duration::from_secs(60);

/// What a request asks for.
pub(crate) struct Wanted {
    pub(crate) service: Service,
    pub(crate) from_unit: u64,
    pub(crate) book: Option<BookId>,
    pub(crate) ticket: Option<Ticket>,
    pub(crate) peer: Arc<Peer>,
}

/// Answers a request: the header, and then as many units as are paid for while the book lives.
pub(crate) async fn deliver(shared: &Arc<Shared>, wanted: Wanted, mut send: SendHalf) -> Result<(), NetError> {
    let prepared = prepare(shared, &wanted).await;
    let (content, book) = match prepared {
        Ok(prepared) => prepared,
        Err(reject) => return say(&mut send, Err(reject)).await,
    };
    let through = book.as_ref().map_or(0, |book| lock(&book.machine).through());
    let header = ResponseHeader {
        size: content.size,
        units: content.units(),
        unit_bytes: content.unit_bytes,
        content_hash: content.hash,
        through,
    };
    let goods = Goods {
        service: wanted.service,
        header,
        open: book.as_ref().map(|_| Arc::new(content)),
    };
    put(&mut send, &encode(&PayeeAnswer::Response(header))).await?;
    let Some(book) = book else { return send.finish() };
    let delivery = Delivery {
        shared: Arc::clone(shared),
        book: Arc::clone(&book),
        goods,
        peer: wanted.peer,
        send,
    };
    let sent = delivery.send_units(wanted.from_unit).await;
    book.rode.notify_one();
    sent
}

async fn prepare(shared: &Arc<Shared>, wanted: &Wanted) -> Result<(Content, Option<Arc<OpenedBook>>), Reject> {
    let content = shared.find(&wanted.service).await?;
    if wanted.from_unit > content.units() {
        return Err(Reject::compared(
            Code::UnitOutOfRange,
            content.units(),
            wanted.from_unit,
        ));
    }
    let Some(id) = wanted.book else {
        return Ok((content, None));
    };
    let book = shared.book(&id).ok_or(Reject::of(Code::BookUnknown))?;
    let price = lock(&book.machine).price();
    let is_open = lock(&book.machine).closed().is_none();
    // What a closed book has paid for was paid at the price of its day.
    if book.service != wanted.service || (is_open && price < content.price) {
        return Err(Reject::compared(Code::PriceMismatch, content.price.0, price.0));
    }
    admit(shared, &book, wanted)?;
    Ok((content, Some(book)))
}

/// Whose request is it? One on the book's own connection, or one that shows a ticket of the book. Spec: D-04.
fn admit(shared: &Arc<Shared>, book: &Arc<OpenedBook>, wanted: &Wanted) -> Result<(), Reject> {
    let mut room = shared.room();
    let mut machine = lock(&book.machine);
    // A repeat is not checked by taking it, so a stranger's ticket must be checked here.
    let is_bearer = || wanted.ticket.is_some_and(|ticket| machine.is_bearer(&ticket));
    if book.connection != wanted.peer.number {
        // Looking for it takes a hash for each ticket between, whatever comes of it.
        let steps = wanted
            .ticket
            .map_or(0, |ticket| ticket.index.abs_diff(machine.through()));
        wanted.peer.charge(hashes_of_jump(steps.min(machine.length())));
        if !is_bearer() {
            return Err(Reject::of(Code::Unauthorized));
        }
    }
    let is_closed = machine.closed().is_some();
    let Some(ticket) = wanted.ticket.filter(|_| !is_closed) else {
        return Ok(());
    };
    let before = Drawn::of(&machine);
    let taken = machine.take(&ticket, &mut room, clock::now());
    shared.count_drawn(&machine, &before);
    drop(machine);
    shared.write_winners(book);
    match taken {
        Ok(_) => Ok(()),
        // A bad ticket costs hashes, so the book takes no second one; a pause of the payee's own is no fault of it.
        Err(reject) if reject.code == Code::NotSelling => Err(reject),
        Err(reject) => Err(shared.close(book, reject)),
    }
}

/// What is delivered. Whoever waits, for money or for a peer that reads slowly, has no file open: others need them.
struct Goods {
    service: Service,
    header: ResponseHeader,
    open: Option<Arc<Content>>,
}

impl Goods {
    fn put_away(&mut self) {
        self.open = None;
    }

    /// Where the bytes of a unit are.
    fn range_of(&self, unit: u64) -> Range<u64> {
        let unit_bytes = u64::from(self.header.unit_bytes);
        let start = unit.saturating_mul(unit_bytes);
        start..start.saturating_add(unit_bytes).min(self.header.size)
    }

    /// These bytes of what was asked for; `unavailable` if there is another version by now. A file is read away from the
    /// threads that read sockets.
    async fn read(&mut self, shared: &Shared, part: Range<u64>) -> Result<Vec<u8>, Reject> {
        let content = match &self.open {
            Some(content) => Arc::clone(content),
            None => {
                let content = shared.find(&self.service).await?;
                if content.hash != self.header.content_hash {
                    return Err(Reject::of(Code::Unavailable));
                }
                Arc::clone(self.open.insert(Arc::new(content)))
            }
        };
        match content.source {
            Source::Bytes(_) => content.read(&part),
            Source::File(_) => off_thread(move || content.read(&part)).await,
        }
    }
}

/// The units that one request is sent.
struct Delivery {
    shared: Arc<Shared>,
    book: Arc<OpenedBook>,
    goods: Goods,
    peer: Arc<Peer>,
    send: SendHalf,
}

impl Delivery {
    /// Sends units while they are paid for, or lent; waits for tickets while the book is open.
    async fn send_units(mut self, from_unit: u64) -> Result<(), NetError> {
        let book = Arc::clone(&self.book);
        // In the order of their arrival: tokio's mutex is fair.
        let mut last = match book.delivery.try_lock() {
            Ok(last) => last,
            Err(_) => {
                // The ticket of this request may be what the delivery before it waits for.
                book.changed.notify_one();
                book.paid.notify_one();
                self.goods.put_away();
                book.delivery.lock().await
            }
        };
        let is_same = last
            .as_ref()
            .is_some_and(|sent| sent.content_hash == self.goods.header.content_hash);
        if !is_same {
            *last = None;
        }
        let sent = last.get_or_insert(SentUnits {
            content_hash: self.goods.header.content_hash,
            units: from_unit..from_unit,
        });
        for unit in from_unit..self.goods.header.units {
            // What this book paid for and was sent once may not have arrived: it is sent again, within bounds.
            let is_again = sent.units.contains(&unit) && lock(&book.machine).resend();
            if !is_again && !wait_for_unit(&self.shared, &book, &mut self.goods).await {
                break;
            }
            match self.send_unit(unit, sent).await {
                Ok(Ok(())) => {}
                Ok(Err(reject)) => {
                    if !is_again {
                        lock(&book.machine).unserve();
                    }
                    self.send.reset(u32::from(reject.code.number()));
                    return Ok(());
                }
                // What was paid for it stays spent, or all but the end of each unit would be free.
                Err(error) => {
                    self.send.reset(u32::from(Code::Busy.number()));
                    return Err(error);
                }
            }
            self.shared.counters.units.fetch_add(1, Ordering::Relaxed);
        }
        self.send.finish()
    }

    /// Sends one unit part by part. A reject is why it could not be read to its end.
    async fn send_unit(&mut self, unit: u64, sent: &mut SentUnits) -> Result<Result<(), Reject>, NetError> {
        let Range { mut start, end } = self.goods.range_of(unit);
        while start < end {
            let part = start..end.min(start.saturating_add(PART_BYTES_MAX));
            start = part.end;
            let length = usize::try_from(part.end - part.start).unwrap_or(usize::MAX);
            // Others of the connection are before it, each of which goes on or is given up.
            let _room = self.peer.connection.set_aside(length).await;
            let bytes = match self.goods.read(&self.shared, part).await {
                Ok(bytes) => bytes,
                Err(reject) => return Ok(Err(reject)),
            };
            sent.add(unit);
            for step in bytes.chunks(STEP_BYTES) {
                self.write(step).await?;
            }
        }
        Ok(Ok(()))
    }

    /// Writes one step, with no file open meanwhile if it takes long.
    async fn write(&mut self, step: &[u8]) -> Result<(), NetError> {
        let mut writing = pin!(self.send.write(step));
        if let Ok(written) = tokio::time::timeout(HEARTBEAT, writing.as_mut()).await {
            return written;
        }
        self.goods.put_away();
        let written = tokio::time::timeout(STEP_TIMEOUT, writing).await;
        written.unwrap_or(Err(NetError::TimedOut))
    }
}

/// Takes one unit from the book's pool, or from the payer's credit; false when the book is closed and its pool empty.
async fn wait_for_unit(shared: &Arc<Shared>, book: &Arc<OpenedBook>, goods: &mut Goods) -> bool {
    loop {
        shared.acknowledge(book);
        let is_open = {
            let mut machine = lock(&book.machine);
            if machine.serve(PaidBy::Tickets) {
                return true;
            }
            let is_open = machine.closed().is_none();
            if is_open && lend(&mut shared.rules(), &machine.hold()) {
                return machine.serve(PaidBy::Credit);
            }
            is_open || machine.ack_through() < machine.through()
        };
        if !is_open {
            return false;
        }
        book.changed.notify_one();
        // A book that closed while this waits is seen at the latest at the next beat.
        if tokio::time::timeout(HEARTBEAT, book.paid.notified()).await.is_err() {
            goods.put_away();
        }
    }
}

/// Lends whoever pays from a hold one unit, if its credit allows.
fn lend(rules: &mut Payee, hold: &HoldId) -> bool {
    rules.payer(hold).is_some_and(|payer| rules.lend(&payer))
}
