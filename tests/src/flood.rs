//! A payee under a flood, and a client that goes on paying: attempts to connect from many addresses that are never
//! finished, streams that bring a byte a second, peers that ask and do not read, and books that prove to be broken.
//!
//! All nodes are the real program; the flood comes from addresses in 127.0.0.0/8, so it needs no privilege. Its threads
//! give way to everything else: a flood from elsewhere would not use this machine's cores either.

mod peers;
mod shopper;
mod storm;

use crate::process::{Node, Offer, Town, ok};
use serde_json::{Value, json};
use shopper::Shopper;
use std::time::{Duration, Instant};
use storm::Storm;
use tombola_net::Address;
use tombola_net::limits::{CONNECTION_BYTES_MAX, FAST_BYTES_MAX};

/// What is sold: one small page.
pub const SERVICE: &str = "/page";
const PAGE_BYTES: usize = 4_096;
/// Connections whose streams bring a byte a second, and as many that do not read.
const SLOW_CONNECTIONS: usize = 32;
/// Payers that open one broken book after another.
const BREAKERS: u64 = 2;
/// What a payee may hold in a flood besides its connections, in bytes: 256 handshakes with the state of a connection each
/// (16 MiB), attempts that wait (4 MiB), books and holds, and what an allocator does not give back.
const MARGIN_BYTES: u64 = 32 * 1_024 * 1_024;

/// How much of it.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How long the client pays without the flood, and then with it.
    pub each: Duration,
    /// Attempts to connect, per second.
    pub per_second: u32,
}

/// What was seen.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Report {
    /// Paid requests while nothing else went on: how many, and how long half and 99 of 100 took at most, in microseconds.
    pub idle: Times,
    /// The same in the flood.
    pub flooded: Times,
    /// `flooded.p99_us / idle.p99_us`.
    pub ratio: f64,
    /// Attempts that were sent per second.
    pub attempts_per_second: f64,
    /// Books that were opened and broken.
    pub broken_books: u64,
    /// Resident memory of the payee in KiB: before, and at most.
    pub resident_kib: (u64, u64),
    /// What that may be at most: what it was before, what the limits let each connection of the flood take, and a margin.
    pub resident_kib_max: u64,
    /// What the payee says of whom it did not let in.
    pub turned_away: Value,
    /// Load average of the machine at the end, over a minute.
    pub load: String,
}

/// Of some paid requests.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct Times {
    /// How many.
    pub count: usize,
    /// Half took no longer, in microseconds.
    pub p50_us: f64,
    /// 99 of 100 took no longer.
    pub p99_us: f64,
}

impl Times {
    fn of(mut taken: Vec<Duration>) -> Self {
        taken.sort_unstable();
        let at = |per_cent: usize| taken.get(taken.len() * per_cent / 100).copied().unwrap_or_default();
        Self {
            count: taken.len(),
            p50_us: at(50).as_secs_f64() * 1e6,
            p99_us: at(99).as_secs_f64() * 1e6,
        }
    }
}

/// Pays a while in peace, and then in a flood.
///
/// # Errors
/// In words, if a payment fails or a node does not start.
pub fn run(options: Options) -> Result<Report, String> {
    let town = Town::new();
    let escrow = town.escrow();
    town.file("page", PAGE_BYTES, 7);
    let offer = Offer {
        price: "0.0001",
        per: "4KiB",
        face_value_max: "0.10",
        redeem_at_value: "1000",
    };
    let payee = town.payee("payee", &escrow, offer);
    let honest = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(text)?;
    let place = Market {
        town: &town,
        escrow: address(&escrow)?,
        payee: address(&payee)?,
    };
    let mut shopper = honest.block_on(Shopper::new(&place, 0))?;
    honest.block_on(shopper.pay_for(options.each / 4))?;
    let idle = Times::of(honest.block_on(shopper.pay_for(options.each))?);
    let before = resident_kib(&payee);
    let storm = Storm::start(place.payee.port, options.per_second)?;
    let peers = peers::Peers::start(&place, SLOW_CONNECTIONS, BREAKERS)?;
    let watching = Watch::start(payee.pid());
    let began = Instant::now();
    let flooded = Times::of(honest.block_on(shopper.pay_for(options.each))?);
    let sent = storm.stop();
    let attempts_per_second = sent as f64 / began.elapsed().as_secs_f64();
    let most = watching.stop();
    let broken_books = peers.stop();
    let turned_away = ok(&["payee", "status", "--home", &town.arg("payee")]);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    Ok(Report {
        ratio: flooded.p99_us / idle.p99_us,
        idle,
        flooded,
        attempts_per_second,
        broken_books,
        resident_kib: (before, most),
        resident_kib_max: before + (flood_bytes() + MARGIN_BYTES) / 1_024,
        turned_away: turned_away
            .get("connections_turned_away")
            .cloned()
            .unwrap_or(json!(null)),
        load: load.split_whitespace().next().unwrap_or_default().to_owned(),
    })
}

/// What the limits let all connections of the flood take, of which those that break books are fast, and the client's own.
const fn flood_bytes() -> u64 {
    let fast = BREAKERS + 1;
    let connections = 2 * SLOW_CONNECTIONS as u64 + fast;
    connections * CONNECTION_BYTES_MAX + fast * FAST_BYTES_MAX
}

/// Where everything is.
struct Market<'a> {
    town: &'a Town,
    escrow: Address,
    payee: Address,
}

/// Looks at a process's memory ten times a second.
struct Watch {
    end: std::sync::mpsc::Sender<()>,
    thread: std::thread::JoinHandle<u64>,
}

impl Watch {
    fn start(pid: u32) -> Self {
        let (end, ended) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut most = 0;
            while ended.recv_timeout(Duration::from_millis(100)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                most = most.max(resident_of(pid));
            }
            most.max(resident_of(pid))
        });
        Self { end, thread }
    }

    fn stop(self) -> u64 {
        drop(self.end);
        self.thread.join().unwrap_or(0)
    }
}

fn resident_kib(node: &Node) -> u64 {
    resident_of(node.pid())
}

/// `VmRSS` of a process.
fn resident_of(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn address(node: &Node) -> Result<Address, String> {
    node.address().parse().map_err(text)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
