//! Delivering units of a service as tickets pay for them.

use super::catalog::Content;
use super::shared::{Drawn, OpenedBook, SentUnits, Shared, lock};
use super::stream::off_thread;
use crate::clock;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tombola_core::book::Ticket;
use tombola_core::codec::encode;
use tombola_core::key::BookId;
use tombola_core::message::{PayeeAnswer, ResponseHeader};
use tombola_core::payee::PaidBy;
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
    pub(crate) connection: u64,
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
        send_units(shared, &book, content, wanted.from_unit, &mut send).await?;
    }
    send.finish()
}

async fn prepare(shared: &Arc<Shared>, wanted: &Wanted) -> Result<(Content, Option<Arc<OpenedBook>>), Reject> {
    let (catalog, service) = (Arc::clone(shared), wanted.service.clone());
    let content = off_thread(move || catalog.find(&service)).await?;
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
    if book.service != wanted.service || price < content.price {
        return Err(Reject::compared(Code::PriceMismatch, content.price.0, price.0));
    }
    admit(shared, &book, wanted)?;
    Ok((content, Some(book)))
}

/// Whose request is it? One on the book's own connection, or one that shows a ticket of the book.
fn admit(shared: &Arc<Shared>, book: &Arc<OpenedBook>, wanted: &Wanted) -> Result<(), Reject> {
    let is_own = book.connection == wanted.connection;
    let Some(ticket) = wanted.ticket else {
        return if is_own {
            Ok(())
        } else {
            Err(Reject::of(Code::Unauthorized))
        };
    };
    let mut room = shared.room();
    let mut machine = lock(&book.machine);
    // A repeat is not checked by taking it, so a stranger's ticket must be checked here.
    if !is_own && !machine.is_bearer(&ticket) {
        return Err(Reject::of(Code::Unauthorized));
    }
    if machine.closed().is_some() {
        return Ok(());
    }
    let before = Drawn::of(&machine);
    let taken = machine.take(&ticket, &mut room, clock::now());
    shared.count_drawn(&machine, &before);
    drop(machine);
    shared.write_winners(book);
    book.changed.notify_one();
    taken.map(|_| ())
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
    let mut last = book.delivery.lock().await;
    if let Some(cut) = last.take().filter(|sent| sent.content_hash == content.hash) {
        // Whoever begins again inside of what was sent has not got the rest of it.
        let lost = if cut.units.contains(&from_unit) { cut.units.end - from_unit } else { 0 };
        lock(&book.machine).give_back(u32::try_from(lost).unwrap_or(u32::MAX));
    }
    let content = Arc::new(content);
    let sent = last.insert(SentUnits { content_hash: content.hash, units: from_unit..from_unit });
    for unit in from_unit..content.units() {
        if !wait_for_unit(shared, book).await {
            return Ok(());
        }
        let source = Arc::clone(&content);
        match off_thread(move || source.read_unit(unit)).await {
            Ok(bytes) => {
                sent.units.end = unit + 1;
                send.write(&bytes).await?;
            }
            Err(reject) => {
                lock(&book.machine).give_back(1);
                send.reset(u32::from(reject.code.number()));
                return Ok(());
            }
        }
        shared.counters.units.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
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
            if is_open && shared.rules().lend(&machine.payer()) {
                return machine.serve(PaidBy::Credit);
            }
            is_open || machine.ack_through() < machine.through()
        };
        if !is_open {
            return false;
        }
        // A book that closed while this waits is seen at the latest at the next beat.
        let _ = tokio::time::timeout(HEARTBEAT, book.paid.notified()).await;
    }
}
