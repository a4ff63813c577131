//! Tickets that all win: each is durable at the payee before it is acknowledged, in one row a book. Payer, payee and
//! escrow share this machine's cores; closed books are redeemed while the next ones are paid.

use super::buyer::{Buyer, Hold, PRICE, closed, nodes_for, text};
use super::stream;
use super::{Better, Figure, RUNS};
use std::time::Instant;
use tombola_core::amount::Amount;
use tombola_core::payer::Window;
use tombola_core::quote::Quote;
use tombola_core::reject::Code;
use tombola_net::SendHalf;

/// The longest that there are: how long they are changes little, as a row is written for a run of records.
const LENGTH: u32 = 65_536;
/// Books of one run, one after another: about a second.
const BOOKS: u32 = 32;
/// Paid before the first run, so that nothing is new.
const WARM_BOOKS: u32 = 1;
const CAP: Amount = Amount(PRICE.0 * 12_000_000);
/// With the price as face value every ticket wins. The hold pays all runs.
const HOLD: Hold = Hold {
    face_value: PRICE,
    book_length_max: LENGTH,
    cap: CAP,
    // No book is closed before its end; what has ended is redeemed at once.
    redeem_at_value: Some(CAP),
};

pub(super) fn run() -> Result<Vec<Figure>, String> {
    super::on_two_cores(measure())
}

async fn measure() -> Result<Vec<Figure>, String> {
    let directory = tempfile::tempdir().map_err(text)?;
    let nodes = nodes_for(directory.path(), 1, &HOLD).await?;
    let buyer = Buyer::with_hold(&nodes, HOLD).await?;
    let mut quote = buyer.quote().await?;
    let tickets = u64::from(BOOKS) * u64::from(LENGTH);
    let (mut rates, mut floors) = (Vec::new(), Vec::new());
    (_, quote) = pay(&buyer, quote, WARM_BOOKS).await?;
    for _ in 0..RUNS {
        floors.push(stream::floor(tickets).await?);
        let before = nodes.payee.status().map_err(text)?;
        let (seconds, next) = pay(&buyer, quote, BOOKS).await?;
        quote = next;
        rates.push(tickets as f64 / seconds);
        let after = nodes.payee.status().map_err(text)?;
        let (records, winners) = (after.records - before.records, after.winners - before.winners);
        if (records, winners) != (tickets, tickets) {
            return Err(format!(
                "{tickets} tickets, {records} records, {winners} winners: a figure that does not add up is none"
            ));
        }
    }
    // What was acknowledged is paid: the escrow draws every ticket again. The first book is the one of one ticket by
    // which the payee came to know the hold.
    let redeemed = nodes.payee.redeem().await.map_err(text)?;
    let paid = nodes.payee.status().map_err(text)?.winners_redeemed;
    let owed = (u64::from(WARM_BOOKS) + u64::try_from(RUNS).map_err(text)? * u64::from(BOOKS)) * u64::from(LENGTH) + 1;
    if (paid, redeemed.refusals, redeemed.unclaimed_books) != (owed, 0, 0) {
        return Err(format!("{owed} winners, {paid} paid; {redeemed:?}"));
    }
    nodes.stop().await;
    let note = format!(
        "every ticket wins, durable when acknowledged; books of {LENGTH}, redeemed meanwhile; floor: the same bytes over one stream, \
         counted and not looked at"
    );
    let figure = Figure::new("all-win", "tickets/s", Better::More, rates, floors);
    Ok(vec![figure.with_note(note)])
}

/// Pays so many books, each to its end; returns the seconds from the first ticket to the last acknowledgement, and the
/// quote for the next book.
async fn pay(buyer: &Buyer, mut quote: Quote, books: u32) -> Result<(f64, Quote), String> {
    let start = Instant::now();
    for _ in 0..books {
        let mut book = buyer.book(&quote, LENGTH)?;
        let (mut send, mut recv) = buyer.open(&mut book, quote, 0).await?;
        // What may be out is not what is measured here.
        let mut window = Window::new(Amount(u64::MAX));
        let mut records = Vec::new();
        while book.issue(u32::MAX, &mut window, &mut records) > 0 {
            book.acknowledge(book.sent(), &mut window);
        }
        let (sent, ended) = tokio::join!(write(&mut send, &records), closed(&mut recv));
        quote = match ended? {
            (LENGTH, Code::BookComplete, Some(next)) => next,
            other => return Err(format!("a book of {LENGTH} ended with {other:?}")),
        };
        sent?;
        send.finish().map_err(text)?;
    }
    Ok((start.elapsed().as_secs_f64(), quote))
}

async fn write(send: &mut SendHalf, records: &[u8]) -> Result<(), String> {
    send.write(records).await.map_err(text)
}
