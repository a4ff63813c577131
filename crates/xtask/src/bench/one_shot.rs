//! Books of one ticket: opened, paid, acknowledged and closed over one warm connection; both ends on this machine's cores.

use super::bare::{Bare, answer_each};
use super::buyer::{Buyer, closed, nodes, text};
use super::{Better, Figure, RUNS};
use std::sync::Arc;
use std::time::Instant;
use tokio::task::JoinSet;
use tombola_core::reject::Code;
use tombola_net::{Connection, RecvHalf, SendHalf};

/// Books of one run: about two seconds.
const BOOKS: u32 = 32_768;
/// Books on their way at once, of two payers: a payee opens 20,000 a second of one at most.
const LANES: u32 = 32;
/// What the payer writes for a book: its frame and a ticket. What it reads: an acknowledgement, and the last frame with
/// the next quote.
const SENT_BYTES: usize = 960;
const ANSWER_BYTES: usize = 420;

pub(super) fn run() -> Result<Vec<Figure>, String> {
    super::on_two_cores(measure())
}

async fn measure() -> Result<Vec<Figure>, String> {
    let directory = tempfile::tempdir().map_err(text)?;
    let nodes = nodes(directory.path(), 1).await?;
    let first = Buyer::new(&nodes).await?;
    let second = first.beside(&nodes).await?;
    let buyers = [Arc::new(first), Arc::new(second)];
    let (mut rates, mut floors) = (Vec::new(), Vec::new());
    buy(&buyers, BOOKS / 8).await?;
    for _ in 0..RUNS {
        floors.push(floor().await?);
        let before = nodes.payee.status().map_err(text)?.tickets;
        rates.push(buy(&buyers, BOOKS).await?);
        let drawn = nodes.payee.status().map_err(text)?.tickets - before;
        if drawn != u64::from(BOOKS) {
            return Err(format!(
                "{BOOKS} books, {drawn} draws: a figure that does not add up is none"
            ));
        }
    }
    nodes.stop().await;
    let note = format!(
        "quote, sign, open, pay, acknowledge, close; {LANES} at once of two payers on one connection; floor: bare streams with as many bytes"
    );
    let figure = Figure::new("one-shot", "books/s", Better::More, rates, floors);
    Ok(vec![figure.with_note(note)])
}

/// Buys with books of one ticket; returns books per second.
async fn buy(buyers: &[Arc<Buyer>], books: u32) -> Result<f64, String> {
    let mut lanes = JoinSet::new();
    let start = Instant::now();
    for buyer in buyers.iter().cycle().take(LANES as usize) {
        let buyer = Arc::clone(buyer);
        lanes.spawn(async move {
            let mut quote = buyer.quote().await?;
            for _ in 0..books / LANES {
                let mut book = buyer.book(&quote, 1)?;
                let (mut send, mut recv) = buyer.open(&mut book, quote, 1).await?;
                quote = match closed(&mut recv).await? {
                    (1, Code::BookComplete, Some(next)) => next,
                    other => return Err(format!("a book of one ticket ended with {other:?}")),
                };
                send.finish().map_err(text)?;
            }
            Ok(())
        });
    }
    finish(lanes).await?;
    Ok(f64::from(books) / start.elapsed().as_secs_f64())
}

/// Streams of the same sizes per second, answered without being looked at.
async fn floor() -> Result<f64, String> {
    let bare = Bare::start(|connection| answer_each(connection, answer)).await?;
    let mut lanes = JoinSet::new();
    let start = Instant::now();
    for _ in 0..LANES {
        lanes.spawn(exchange(bare.connection.clone()));
    }
    finish(lanes).await?;
    let seconds = start.elapsed().as_secs_f64();
    bare.stop().await?;
    Ok(f64::from(BOOKS) / seconds)
}

async fn answer(mut send: SendHalf, mut recv: RecvHalf) -> Result<(), String> {
    recv.recv_frame(SENT_BYTES).await.map_err(text)?;
    send.send_frame(&[7; ANSWER_BYTES]).await.map_err(text)?;
    send.finish().map_err(text)
}

async fn exchange(connection: Connection) -> Result<(), String> {
    for _ in 0..BOOKS / LANES {
        let (mut send, mut recv) = connection.open().await.map_err(text)?;
        send.send_frame(&[7; SENT_BYTES]).await.map_err(text)?;
        send.finish().map_err(text)?;
        recv.recv_frame(ANSWER_BYTES).await.map_err(text)?;
    }
    Ok(())
}

async fn finish(mut lanes: JoinSet<Result<(), String>>) -> Result<(), String> {
    while let Some(done) = lanes.join_next().await {
        done.map_err(text)??;
    }
    Ok(())
}
