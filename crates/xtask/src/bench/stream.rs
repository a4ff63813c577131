//! Payments over QUIC: payer and payee share this machine's cores, winners are durable, top-ups are made on the way.

use super::bare::Bare;
use super::buyer::text;
use super::watched::{Log, Watch};
use super::{Better, Figure, RUNS};
use std::sync::Arc;
use std::time::Instant;
use tombola_core::amount::Amount;
use tombola_core::book::TICKET_BYTES;
use tombola_core::quote::Service;
use tombola_net::Connection;
use tombola_node::config::{Money, PayeeConfig, PayerConfig};
use tombola_node::loopback::{Loopback, LoopbackOptions};
use tombola_node::payee::{Content, MemoryCatalog, Payee};
use tombola_node::payer::Payer;

/// Payments of one run: a second or so.
const PAYMENTS: u64 = 2_000_000;
const PRICE: &str = "0.0001";
const FACE: &str = "0.10";
const DECIMALS: u8 = 9;
/// What the payer trusts the payee with, unacknowledged: four face values, 4,000 tickets in expectation.
const WINDOW: &str = "0.40";

pub(super) fn run() -> Result<Vec<Figure>, String> {
    super::on_two_cores(measure())
}

async fn measure() -> Result<Vec<Figure>, String> {
    let directory = tempfile::tempdir().map_err(text)?;
    let price = Amount::parse(PRICE, DECIMALS).map_err(text)?;
    let content = Content::from_bytes(price, 1, Vec::new());
    let service = Service::new("/stream").map_err(text)?;
    let catalog = MemoryCatalog::default().with(service, content);
    let nodes = Loopback::start(directory.path(), &options()?, catalog)
        .await
        .map_err(text)?;
    let Loopback { escrow, payee, payer } = nodes;
    let (payee, log) = (Arc::new(payee), Log::begin()?);
    let (mut rates, mut watched, mut bytes, mut floors) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    pay(&payer, &payee, PAYMENTS / 10).await?;
    for _ in 0..RUNS {
        floors.push(floor(PAYMENTS).await?);
        let (rate, per_payment) = pay(&payer, &payee, PAYMENTS).await?;
        rates.push(rate);
        bytes.push(per_payment);
        let watch = Watch::begin(&payee, &log).await?;
        watched.push(pay(&payer, &payee, PAYMENTS).await?.0);
        watch.end().await?;
    }
    payer.shutdown().await;
    // The metrics port lets go of it as its task ends.
    let mut watched_payee = payee;
    let payee = loop {
        match Arc::try_unwrap(watched_payee) {
            Ok(payee) => break payee,
            Err(shared) => watched_payee = shared,
        }
        tokio::task::yield_now().await;
    };
    payee.shutdown().await;
    escrow.shutdown().await;
    let note = "metrics read ten times a second and a log at info; floor: neither, in turns with it";
    let watched = Figure::new("stream-watched", "payments/s", Better::More, watched, rates.clone()).with_note(note);
    let note =
        format!("window {WINDOW} = 4,000 tickets; floor: the same bytes over one stream, counted and not looked at");
    let rate = Figure::new("stream", "payments/s", Better::More, rates, floors).with_note(note);
    let least = vec![TICKET_BYTES as f64; RUNS];
    let note = "all UDP payload both ways; floor: the bare record";
    let bytes = Figure::new("stream-bytes", "B/payment", Better::Less, bytes, least).with_note(note);
    Ok(vec![rate, watched, bytes])
}

fn options() -> Result<LoopbackOptions, String> {
    let money = |decimal: &str| decimal.parse::<Money>().map_err(text);
    let defaults = LoopbackOptions::default();
    let payee = PayeeConfig {
        price: money(PRICE)?,
        face_value_min: money(FACE)?,
        face_value_max: money(FACE)?,
        ..defaults.payee
    };
    let payer = PayerConfig {
        window_value: Some(money(WINDOW)?),
        ..defaults.payer
    };
    Ok(LoopbackOptions {
        deposit: Amount(1_000_000_000_000_000),
        payee,
        payer,
        ..defaults
    })
}

/// Pays; returns payments per second and bytes per payment.
async fn pay(payer: &Payer, payee: &Payee, payments: u64) -> Result<(f64, f64), String> {
    let address = payee.address().clone().with_path("stream");
    let ceiling = Amount::parse("1000000", DECIMALS).map_err(text)?;
    let order = payer.plan_payments(&address, payments, Some(ceiling));
    let order = order.await.map_err(text)?;
    let before = payee.status().map_err(text)?;
    let (sent, received) = payer.udp_bytes(&address).await;
    let start = Instant::now();
    payer.send(&order, &|_| ()).await.map_err(text)?;
    let seconds = start.elapsed().as_secs_f64();
    let (sent_after, received_after) = payer.udp_bytes(&address).await;
    let after = payee.status().map_err(text)?;
    let records = after.records - before.records;
    if records != payments || after.tickets - before.tickets != payments {
        return Err(format!(
            "{payments} payments, {records} records: a figure that does not add up is none"
        ));
    }
    let bytes = (sent_after - sent) + (received_after - received);
    Ok((payments as f64 / seconds, bytes as f64 / payments as f64))
}

/// Records of the same size per second over one bare stream of the same transport, written in large pieces.
pub(super) async fn floor(records: u64) -> Result<f64, String> {
    let bare = Bare::start(count).await?;
    let (mut send, mut recv) = bare.connection.open().await.map_err(text)?;
    let piece = vec![7u8; 65_536 - 65_536 % TICKET_BYTES];
    let start = Instant::now();
    let mut left = records * 36;
    while left > 0 {
        let size = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        send.write(&piece[..size]).await.map_err(text)?;
        left -= u64::try_from(size).unwrap_or(left);
    }
    send.finish().map_err(text)?;
    recv.recv_frame(64).await.map_err(text)?;
    let seconds = start.elapsed().as_secs_f64();
    bare.stop().await?;
    Ok(records as f64 / seconds)
}

/// Reads a stream to its end, says how long it was, and waits until that was read.
async fn count(connection: Connection) -> Result<(), String> {
    let (mut send, mut recv) = connection.accept().await.map_err(text)?;
    let mut count = 0u64;
    while let Some(bytes) = recv.read_chunk(65_536).await.map_err(text)? {
        count += u64::try_from(bytes.len()).unwrap_or(0);
    }
    send.send_frame(&count.to_le_bytes()).await.map_err(text)?;
    send.finish().map_err(text)?;
    connection.closed().await;
    Ok(())
}
