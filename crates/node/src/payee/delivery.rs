//! Delivering units of a service as tickets pay for them.

use super::catalog::{Content, Source};
use super::peer::{Peer, hashes_of_jump};
use super::shared::{Drawn, OpenedBook, SentUnits, Shared, lock};
use super::stream::off_thread;
use crate::clock;
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

/// How often a waiting delivery looks whether its book is still open.
const HEARTBEAT: Duration = Duration::from_millis(500);

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
        Err(reject) => {
            send.send_frame(&encode(&PayeeAnswer::Rejected(reject))).await?;
            return send.finish();
        }
    };
    let through = book.as_ref().map_or(0, |book| lock(&book.machine).through());
    let header = ResponseHeader {
        size: content.size,
        units: content.units(),
        unit_bytes: content.unit_bytes,
        content_hash: content.hash,
        through,
    };
    send.send_frame(&encode(&PayeeAnswer::Response(header))).await?;
    if let Some(book) = book {
        let sent = send_units(shared, &book, content, wanted.from_unit, &mut send).await;
        book.rode.notify_one();
        sent?;
    }
    send.finish()
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
    if book.connection != wanted.peer.number && !is_bearer() {
        // Looking for it took up to a hash for each ticket of the book.
        wanted.peer.charge(hashes_of_jump(machine.book().length));
        return Err(Reject::of(Code::Unauthorized));
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

/// Sends units while they are paid for, or lent; waits for tickets while the book is open.
async fn send_units(
    shared: &Arc<Shared>,
    book: &Arc<OpenedBook>,
    content: Content,
    from_unit: u64,
    send: &mut SendHalf,
) -> Result<(), NetError> {
    // In the order of their arrival: tokio's mutex is fair.
    let mut last = match book.delivery.try_lock() {
        Ok(last) => last,
        Err(_) => {
            // The ticket of this request may be what the delivery before it waits for.
            book.changed.notify_one();
            book.paid.notify_one();
            book.delivery.lock().await
        }
    };
    let content = Arc::new(content);
    let is_same = last.as_ref().is_some_and(|sent| sent.content_hash == content.hash);
    if !is_same {
        *last = None;
    }
    let sent = last.get_or_insert(SentUnits {
        content_hash: content.hash,
        units: from_unit..from_unit,
    });
    for unit in from_unit..content.units() {
        // What this book paid for and was sent once may not have arrived: it is sent again, within bounds.
        let is_again = sent.units.contains(&unit) && lock(&book.machine).resend();
        if !is_again && !wait_for_unit(shared, book).await {
            return Ok(());
        }
        match read_unit(&content, unit).await {
            Ok(bytes) => {
                if unit == sent.units.end {
                    sent.units.end += 1;
                } else if !sent.units.contains(&unit) {
                    // Another part of the content: only one run of units is remembered, the latest.
                    sent.units = unit..unit + 1;
                }
                send.write(&bytes).await?;
            }
            Err(reject) => {
                if !is_again {
                    lock(&book.machine).unserve();
                }
                send.reset(u32::from(reject.code.number()));
                return Ok(());
            }
        }
        shared.counters.units.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// The bytes of one unit; a file is read away from the threads that read sockets.
async fn read_unit(content: &Arc<Content>, unit: u64) -> Result<Vec<u8>, Reject> {
    match content.source {
        Source::Bytes(_) => content.read_unit(unit),
        Source::File(_) => {
            let content = Arc::clone(content);
            off_thread(move || content.read_unit(unit)).await
        }
    }
}

/// Takes one unit from the book's pool, or from the payer's credit; false when the book is closed and its pool empty.
async fn wait_for_unit(shared: &Arc<Shared>, book: &Arc<OpenedBook>) -> bool {
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
        let _ = tokio::time::timeout(HEARTBEAT, book.paid.notified()).await;
    }
}

/// Lends whoever pays from a hold one unit, if its credit allows.
fn lend(rules: &mut Payee, hold: &HoldId) -> bool {
    rules.payer(hold).is_some_and(|payer| rules.lend(&payer))
}
