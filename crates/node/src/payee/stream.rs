//! The streams of a payee: one for each request, and one for each book.

use super::delivery::STEP_TIMEOUT;
use super::peer::Peer;
use super::shared::{Drawn, OpenedBook, Shared, lock};
use super::store::Change;
use crate::clock;
use futures_util::FutureExt;
use std::sync::Arc;
use std::time::Duration;
use tombola_core::book::{TICKET_BYTES, Ticket};
use tombola_core::codec::{List, MESSAGE_BYTES_MAX, decode, encode};
use tombola_core::hold::Hold;
use tombola_core::key::Signed;
use tombola_core::message::{BookFrame, OpenBook, PayeeAnswer, PayeeRequest};
use tombola_core::payee::Taken;
use tombola_core::quote::{Quote, Service};
use tombola_core::reject::{Code, Reject};
use tombola_net::{Connection, NetError, RecvHalf, SendHalf};

/// Bytes read from a book's stream before they are acknowledged: 1,820 records, 0.2 ms of hashing.
const READ_BYTES_MAX: usize = 65_536;
/// A request must arrive whole within this.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// An answer must have been taken by the transport within this.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// A close frame must be taken within this, or the stream is given up.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(5);
/// A ticket that came in a request is acknowledged this much later, together with what follows it: its units tell the
/// payer as much, and a packet for each such ticket would cost a quarter of the request. Spec: P-05.
const RIDING_ACK_DELAY: Duration = Duration::from_millis(1);
/// How often an open book looks at the clock: for idleness, and for a store that works again.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// Serves one connection until it ends: each stream in a task of its own.
pub(crate) async fn serve_connection(shared: Arc<Shared>, connection: Connection, number: u64) {
    let peer = Arc::new(Peer::new(connection, number));
    while let Ok((send, recv)) = peer.connection.accept().await {
        peer.pace().await;
        let (shared, peer) = (Arc::clone(&shared), Arc::clone(&peer));
        tokio::spawn(async move {
            if let Err(error) = serve_stream(&shared, send, recv, peer).await {
                tracing::debug!(%error, "a stream ended early");
            }
        });
    }
}

async fn serve_stream(
    shared: &Arc<Shared>,
    mut send: SendHalf,
    mut recv: RecvHalf,
    peer: Arc<Peer>,
) -> Result<(), NetError> {
    let frame = tokio::time::timeout(REQUEST_TIMEOUT, recv.recv_frame(MESSAGE_BYTES_MAX)).await;
    let request = match frame.map_err(|_| NetError::TimedOut)? {
        Ok(Some(frame)) => decode::<PayeeRequest>(&frame).map_err(Reject::from),
        Ok(None) | Err(NetError::FrameCut) => Err(Reject::of(Code::Malformed)),
        Err(NetError::FrameTooLarge { limit, given }) => {
            let size = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
            Err(Reject::compared(Code::TooLarge, size(limit), size(given)))
        }
        Err(error) => return Err(error),
    };
    let answer = match request {
        Err(reject) => Err(reject),
        Ok(PayeeRequest::OpenBook(open)) => return open_book(shared, *open, send, recv, &peer).await,
        Ok(PayeeRequest::Request {
            service,
            from_unit,
            book,
            ticket,
        }) => {
            let wanted = super::delivery::Wanted {
                service,
                from_unit,
                book,
                ticket,
                peer,
            };
            return super::delivery::deliver(shared, wanted, send).await;
        }
        Ok(PayeeRequest::Services { after }) => {
            // A page is large: a peer that asks and does not read gets no more of them.
            let room = tokio::time::timeout(ANSWER_TIMEOUT, peer.connection.set_aside(MESSAGE_BYTES_MAX)).await;
            let _room = room.map_err(|_| NetError::TimedOut)?;
            return say(&mut send, services(shared, after).await).await;
        }
        Ok(PayeeRequest::Quote { service, price }) => shared.quote(&service, price).await.map(PayeeAnswer::Quote),
        Ok(PayeeRequest::PresentHold { hold }) => present_hold(shared, &hold).await,
    };
    say(&mut send, answer).await
}

/// The only frame of an answer.
pub(crate) async fn say(send: &mut SendHalf, answer: Result<PayeeAnswer, Reject>) -> Result<(), NetError> {
    put(send, &encode(&answer.unwrap_or_else(PayeeAnswer::Rejected))).await?;
    send.finish()
}

/// Sends one frame; whoever does not take it in time is given up. Spec: N-10.
pub(crate) async fn put(send: &mut SendHalf, frame: &[u8]) -> Result<(), NetError> {
    let sent = tokio::time::timeout(ANSWER_TIMEOUT, send.send_frame(frame)).await;
    sent.unwrap_or(Err(NetError::TimedOut))
}

async fn services(shared: &Arc<Shared>, after: Option<Service>) -> Result<PayeeAnswer, Reject> {
    let asset = shared.rules().terms().asset;
    let catalog = Arc::clone(&shared.catalog);
    off_thread(move || {
        let (services, more) = catalog.list(asset, after.as_ref());
        let services = List::new(services).map_err(|_| Reject::of(Code::TooLarge))?;
        Ok(PayeeAnswer::Services { services, more })
    })
    .await
}

/// Runs what may block on a disk away from the threads that read sockets.
pub(crate) async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Reject> + Send + 'static,
) -> Result<T, Reject> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or(Err(Reject::of(Code::Unavailable)))
}

async fn present_hold(shared: &Arc<Shared>, hold: &Signed<Hold>) -> Result<PayeeAnswer, Reject> {
    let check = shared.rules().begin_present(hold, clock::now())?;
    // Outside of the lock, which every winner of every book needs.
    let ready = check.verify()?;
    let (row, room, queued) = {
        let mut rules = shared.rules();
        let before = rules.hold(&hold.body.id()).copied();
        let (row, room) = rules.finish_present(ready, clock::now())?;
        // What is known already need not be written again.
        let is_news = before != Some(row);
        (
            row,
            room,
            is_news.then(|| shared.store.enqueue(vec![Change::Hold(Box::new(row))])),
        )
    };
    if let Some(queued) = queued {
        // The cap backs winners, so the revision is durable before anyone counts on it.
        shared
            .durable(queued)
            .await
            .map_err(|_| Reject::of(Code::Unavailable))?;
    }
    shared.wake_granted();
    Ok(PayeeAnswer::HoldState {
        revision: row.hold.body.revision,
        room,
    })
}

/// Opens a book and runs its stream to the end.
async fn open_book(
    shared: &Arc<Shared>,
    open: OpenBook,
    mut send: SendHalf,
    recv: RecvHalf,
    peer: &Peer,
) -> Result<(), NetError> {
    let quote = open.quote.clone();
    let book = match register(shared, open, peer.number) {
        Ok(book) => book,
        Err(reject) => {
            shared.work.notify_one();
            let frame = BookFrame::Closed {
                through: 0,
                reject,
                next_quote: None,
            };
            put(&mut send, &encode(&frame)).await?;
            return send.finish();
        }
    };
    // It has shown a hold, so it may have more on its way.
    peer.connection.become_fast();
    let mut stream = BookStream {
        shared: Arc::clone(shared),
        book,
        quote,
        send,
        acked: 0,
        next_quote_sent: false,
    };
    let end = stream.run(recv).await;
    stream.say_closed(end).await
}

fn register(shared: &Arc<Shared>, open: OpenBook, connection: u64) -> Result<Arc<OpenedBook>, Reject> {
    if *shared.drain.borrow() {
        return Err(Reject::of(Code::Draining));
    }
    shared.check_broken(&open.hold.body.terms.payer)?;
    let service = open.quote.terms.service.clone();
    let check = shared.rules().begin_open(&open, clock::now())?;
    let ready = check.verify(open)?;
    let (opened, queued) = {
        let mut rules = shared.rules();
        let opened = rules.finish_open(ready, clock::now())?;
        let queued = opened
            .hold_row
            .map(|row| shared.store.enqueue(vec![Change::Hold(Box::new(row))]));
        (opened, queued)
    };
    let hold = opened.book.hold();
    let book = Arc::new(OpenedBook {
        machine: std::sync::Mutex::new(opened.book),
        number: shared.next_number(),
        connection,
        service,
        changed: tokio::sync::Notify::new(),
        rode: tokio::sync::Notify::new(),
        handed_over: std::sync::atomic::AtomicBool::new(false),
        handover: tokio::sync::Notify::new(),
        paid: tokio::sync::Notify::new(),
        delivery: tokio::sync::Mutex::new(None),
    });
    shared.add_book(Arc::clone(&book));
    if let Some(queued) = queued {
        // Nobody waits for this row: it is ahead of the first winner in the queue, and nothing else depends on it. If it
        // did not get into the queue, the book must not win.
        if queued.is_err() {
            shared.close(&book, Reject::of(Code::Unavailable));
        }
        let shared = Arc::clone(shared);
        tokio::spawn(async move { shared.keep_hold(queued, &hold).await });
    }
    Ok(book)
}

struct BookStream {
    shared: Arc<Shared>,
    book: Arc<OpenedBook>,
    quote: Quote,
    send: SendHalf,
    acked: u32,
    next_quote_sent: bool,
}

/// What became of the tickets of one read.
#[derive(Default)]
struct Batch {
    last: Option<Taken>,
    /// A repeat is answered with where the book stands, once a read.
    has_repeat: bool,
}

impl Batch {
    fn note(&mut self, taken: Taken) {
        self.has_repeat |= taken == Taken::Repeat;
        self.last = Some(taken);
    }
}

/// What a read of the stream brought.
enum Read {
    Bytes,
    Finished,
    Lost,
}

impl BookStream {
    /// Takes tickets until the book is closed, by whomever; says why.
    async fn run(&mut self, mut recv: RecvHalf) -> Reject {
        let mut drain = self.shared.drain.subscribe();
        let mut buffer: Vec<u8> = Vec::new();
        let mut exhausted_at = None;
        let mut has_ridden = false;
        if self
            .send(&BookFrame::Ack {
                through: 0,
                next_quote: None,
            })
            .await
            .is_err()
        {
            return Reject::of(Code::StreamLost);
        }
        loop {
            let is_paused = buffer.len() >= TICKET_BYTES;
            let patience = if has_ridden { RIDING_ACK_DELAY } else { HEARTBEAT };
            tokio::select! {
                read = read_all(&mut recv, &mut buffer), if !is_paused => match read {
                    Read::Bytes => {}
                    Read::Finished => return self.last_tickets(&mut buffer),
                    Read::Lost => return Reject::of(Code::StreamLost),
                },
                () = self.book.changed.notified() => {}
                _ = drain.wait_for(|draining| *draining) => return Reject::of(Code::Draining),
                () = self.book.rode.notified(), if !has_ridden => {
                    has_ridden = true;
                    continue;
                }
                () = tokio::time::sleep(patience) => {}
            }
            has_ridden = false;
            if let Some(closed) = lock(&self.book.machine).closed() {
                return closed;
            }
            let taken = match self.take(&mut buffer) {
                Ok(taken) => taken,
                Err(reject) => return reject,
            };
            self.shared.write_winners(&self.book);
            if self.tell(taken, &mut exhausted_at).await.is_err() {
                return Reject::of(Code::StreamLost);
            }
            let machine = lock(&self.book.machine);
            if machine.is_complete() && machine.is_durable() {
                return Reject::of(Code::BookComplete);
            }
            if machine.is_idle(clock::now()) {
                return Reject::of(Code::BookIdle);
            }
        }
    }

    /// The payer has finished: what it sent before that still counts.
    fn last_tickets(&mut self, buffer: &mut Vec<u8>) -> Reject {
        match self.take(buffer) {
            Ok(_) => Reject::of(Code::BookFinished),
            Err(reject) => reject,
        }
    }

    /// Takes all whole records of the buffer. A pause leaves the highest there, which stands for all of them. Streams
    /// are many, so between reads they keep no memory for records.
    fn take(&mut self, buffer: &mut Vec<u8>) -> Result<Batch, Reject> {
        let now = clock::now();
        let mut room = self.shared.room();
        let mut machine = lock(&self.book.machine);
        let before = Drawn::of(&machine);
        let mut batch = Batch::default();
        if machine.is_exhausted() {
            batch.note(machine.resume(&mut room));
        }
        let (records, begun) = buffer.as_chunks::<TICKET_BYTES>();
        let tickets: Vec<Ticket> = records.iter().map(Ticket::from_bytes).collect();
        let mut taken = 0;
        let result = machine.take_all(&tickets, &mut room, now, |one| {
            batch.note(one);
            taken += 1;
        });
        let fault = result.err().filter(|reject| reject.code != Code::NotSelling);
        self.shared.count_drawn(&machine, &before);
        let has_advanced = Drawn::of(&machine) != before;
        drop(machine);
        let left = tickets.get(taken..).unwrap_or_default();
        let highest = left.iter().max_by_key(|ticket| ticket.index).map(Ticket::to_bytes);
        *buffer = [highest.as_ref().map_or(&[][..], |ticket| ticket), begun].concat();
        if has_advanced {
            self.book.paid.notify_one();
        }
        fault.map_or(Ok(batch), Err)
    }

    /// Acknowledges what is drawn and durable, and says once for each index that the hold has run dry there: a top-up
    /// may not reach to the kept ticket.
    async fn tell(&mut self, batch: Batch, exhausted_at: &mut Option<u32>) -> Result<(), NetError> {
        let through = self.shared.acknowledge(&self.book);
        if through > self.acked || batch.has_repeat {
            let next_quote = self.next_quote(through).await;
            self.acked = through;
            self.send(&BookFrame::Ack { through, next_quote }).await?;
        }
        if let Some(Taken::Exhausted { need, has }) = batch.last {
            let drawn = lock(&self.book.machine).through();
            if exhausted_at.replace(drawn) != Some(drawn) {
                self.send(&BookFrame::Exhausted { through, need, has }).await?;
            }
        }
        Ok(())
    }

    /// A quote for the book after this one, once, when half of this one is drawn.
    async fn next_quote(&mut self, through: u32) -> Option<Quote> {
        let half = lock(&self.book.machine).length() / 2;
        if self.next_quote_sent || through < half || through <= 1 {
            return None;
        }
        self.next_quote_sent = true;
        self.fresh_quote().await
    }

    async fn fresh_quote(&self) -> Option<Quote> {
        let terms = &self.quote.terms;
        self.shared.quote(&terms.service, Some(terms.ticket_price)).await.ok()
    }

    /// Closes the book, waits until its winners are durable, and tells the payer where it ended.
    async fn say_closed(mut self, reject: Reject) -> Result<(), NetError> {
        let reject = self.shared.close(&self.book, reject);
        // If the disk hangs, the payer is told of what is durable; the rest is not acknowledged.
        let _ = tokio::time::timeout(GOODBYE_TIMEOUT, self.shared.handed_over(&self.book)).await;
        let through = lock(&self.book.machine).ack_through();
        let wants_more = matches!(reject.code, Code::BookComplete | Code::BookRedeemed);
        let next_quote = if wants_more && !self.next_quote_sent {
            self.fresh_quote().await
        } else {
            None
        };
        let frame = BookFrame::Closed {
            through,
            reject,
            next_quote,
        };
        self.send(&frame).await?;
        self.send.finish()
    }

    async fn send(&mut self, frame: &BookFrame) -> Result<(), NetError> {
        // It shares its connection with deliveries, so it may wait as long as these.
        let sent = tokio::time::timeout(STEP_TIMEOUT, self.send.send_frame(&encode(frame))).await;
        sent.unwrap_or(Err(NetError::TimedOut))
    }
}

/// Waits for bytes, then takes all that is there already: one acknowledgement for one read.
async fn read_all(recv: &mut RecvHalf, buffer: &mut Vec<u8>) -> Read {
    let first = match recv.read_chunk(READ_BYTES_MAX).await {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Read::Finished,
        Err(_) => return Read::Lost,
    };
    buffer.extend_from_slice(&first);
    while buffer.len() < READ_BYTES_MAX {
        match recv.read_chunk(READ_BYTES_MAX - buffer.len()).now_or_never() {
            Some(Ok(Some(bytes))) => buffer.extend_from_slice(&bytes),
            // The end or an error comes again on the next read, after these bytes are taken.
            Some(Ok(None) | Err(_)) | None => break,
        }
    }
    Read::Bytes
}
