//! A request that carries its ticket, against the same request to a service that is free: how long until the last byte.

use super::bare::{Bare, answer_each};
use super::buyer::{Buyer, frame, nodes, service, text};
use super::{Better, Figure, RUNS};
use std::sync::Arc;
use std::time::Instant;
use tombola_core::amount::Amount;
use tombola_core::book::{TICKET_BYTES, Ticket};
use tombola_core::codec::{MESSAGE_BYTES_MAX, decode, encode};
use tombola_core::message::{BookFrame, PayeeAnswer, PayeeRequest, ResponseHeader};
use tombola_core::payer::{PayerBook, Window};
use tombola_net::{Connection, RecvHalf, SendHalf};
use tombola_node::payee::{Catalog, Content, MemoryCatalog};

/// Requests of one run, one after another.
const REQUESTS: u32 = 4_000;
/// A small page.
const PAGE_BYTES: u32 = 4_096;

pub(super) fn run() -> Result<Vec<Figure>, String> {
    super::on_two_cores(measure())
}

async fn measure() -> Result<Vec<Figure>, String> {
    let directory = tempfile::tempdir().map_err(text)?;
    let nodes = nodes(directory.path(), PAGE_BYTES).await?;
    let buyer = Buyer::new(&nodes).await?;
    let free = free().await?;
    let (mut paid_us, mut free_us) = (Vec::new(), Vec::new());
    for _ in 0..=RUNS {
        free_us.push(free_p50(&free).await?);
        paid_us.push(paid_p50(&buyer).await?);
    }
    // The first run warmed both up.
    paid_us.remove(0);
    free_us.remove(0);
    free.stop().await?;
    nodes.stop().await;
    let note = format!(
        "p50, one ticket in the request, {PAGE_BYTES} bytes back, one at a time on a warm connection; \
         floor: a server that answers the same request with the same bytes and asks for nothing"
    );
    let figure = Figure::new("paid-request", "us", Better::Less, paid_us, free_us);
    Ok(vec![figure.with_note(note)])
}

/// Half of the paid requests took no longer, in microseconds.
async fn paid_p50(buyer: &Buyer) -> Result<f64, String> {
    let quote = buyer.quote().await?;
    let mut book = buyer.book(&quote, REQUESTS)?;
    let (mut send, mut frames) = buyer.open(&mut book, quote, 0).await?;
    let BookFrame::Ack { through: 0, .. } = decode(&frame(&mut frames).await?).map_err(text)? else {
        return Err("the book was not opened".to_owned());
    };
    // Acknowledgements are read as they come; the deliveries say what was taken.
    let reading = tokio::spawn(async move {
        loop {
            if let BookFrame::Closed { through, .. } = decode(&frame(&mut frames).await?).map_err(text)? {
                return Ok::<u32, String>(through);
            }
        }
    });
    let mut window = Window::new(Amount(u64::MAX));
    let mut times = Vec::new();
    for _ in 0..REQUESTS {
        let start = Instant::now();
        let ticket = ticket(&mut book, &mut window)?;
        request(&buyer.connection, Some((&book, ticket))).await?;
        times.push(start.elapsed().as_secs_f64() * 1e6);
        book.acknowledge(ticket.index, &mut window);
    }
    send.finish().map_err(text)?;
    let through = reading.await.map_err(text)??;
    if through != REQUESTS {
        return Err(format!(
            "{REQUESTS} requests, {through} draws: a figure that does not add up is none"
        ));
    }
    Ok(super::median(&times))
}

fn ticket(book: &mut PayerBook, window: &mut Window) -> Result<Ticket, String> {
    let mut record = Vec::with_capacity(TICKET_BYTES);
    book.issue(1, window, &mut record);
    let record = record.first_chunk().ok_or("the window is closed")?;
    Ok(Ticket::from_bytes(record))
}

/// Asks for the page and reads it to its end.
async fn request(connection: &Connection, pay: Option<(&PayerBook, Ticket)>) -> Result<(), String> {
    let request = PayeeRequest::Request {
        service: service()?,
        from_unit: 0,
        book: pay.map(|(book, _)| book.id()),
        ticket: pay.map(|(_, ticket)| ticket),
    };
    let (mut send, mut recv) = connection.open().await.map_err(text)?;
    send.send_frame(&encode(&request)).await.map_err(text)?;
    send.finish().map_err(text)?;
    let PayeeAnswer::Response(header) = decode(&frame(&mut recv).await?).map_err(text)? else {
        return Err("the request was refused".to_owned());
    };
    let bytes = read_to_end(&mut recv).await?;
    if header.size != bytes || bytes != u64::from(PAGE_BYTES) {
        return Err(format!("a page of {} bytes came as {bytes}", header.size));
    }
    Ok(())
}

async fn read_to_end(recv: &mut RecvHalf) -> Result<u64, String> {
    let mut bytes = 0;
    while let Some(chunk) = recv.read_chunk(MESSAGE_BYTES_MAX).await.map_err(text)? {
        bytes += u64::try_from(chunk.len()).map_err(text)?;
    }
    Ok(bytes)
}

/// A server of the same page over the same transport, without anything to pay.
async fn free() -> Result<Bare, String> {
    let page = vec![0x5a; usize::try_from(PAGE_BYTES).map_err(text)?];
    let content = Content::from_bytes(Amount(1), PAGE_BYTES, page);
    let catalog = Arc::new(MemoryCatalog::default().with(service()?, content));
    Bare::start(|connection| answer_each(connection, move |send, recv| give(Arc::clone(&catalog), send, recv))).await
}

async fn give(catalog: Arc<MemoryCatalog>, mut send: SendHalf, mut recv: RecvHalf) -> Result<(), String> {
    let request = decode(&frame(&mut recv).await?).map_err(text)?;
    let PayeeRequest::Request { service, from_unit, .. } = request else {
        return Err("another request".to_owned());
    };
    let content = catalog.find(&service).map_err(text)?;
    let header = ResponseHeader {
        size: content.size,
        units: content.units(),
        unit_bytes: content.unit_bytes,
        content_hash: content.hash,
        through: 0,
    };
    let answer = encode(&PayeeAnswer::Response(header));
    send.send_frame(&answer).await.map_err(text)?;
    let unit_bytes = u64::from(content.unit_bytes);
    let start = from_unit.saturating_mul(unit_bytes);
    let unit = content
        .read(&(start..start.saturating_add(unit_bytes).min(content.size)))
        .map_err(text)?;
    send.write(&unit).await.map_err(text)?;
    send.finish().map_err(text)
}

/// Half of the requests to it took no longer, in microseconds.
async fn free_p50(bare: &Bare) -> Result<f64, String> {
    let mut times = Vec::new();
    for _ in 0..REQUESTS {
        let start = Instant::now();
        request(&bare.connection, None).await?;
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    Ok(super::median(&times))
}
