//! Peers that get in and then misbehave: too slowly, without reading, and with broken books.

use super::shopper::{Shopper, closed};
use super::storm::give_way;
use super::{Market, text};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::runtime::Runtime;
use tombola_core::book::Ticket;
use tombola_core::chain::Preimage;
use tombola_core::codec::{MESSAGE_BYTES_MAX, encode};
use tombola_core::message::PayeeRequest;
use tombola_core::reject::Code;
use tombola_net::limits::STREAMS_MAX;
use tombola_net::{Address, Endpoint, NetError};

/// At the default of `jump_max`, every hash of which is in vain.
const JUMP: u32 = 4_096;

/// All of them, on a thread that gives way.
pub(super) struct Peers {
    runtime: Runtime,
    broken: Arc<AtomicU64>,
}

impl Peers {
    pub(super) fn start(market: &Market<'_>, slow: usize, breakers: u64) -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .on_thread_start(give_way)
            .enable_all()
            .build()
            .map_err(text)?;
        for _ in 0..slow {
            runtime.spawn(drip(market.payee.clone()));
            runtime.spawn(ask_and_not_read(market.payee.clone()));
        }
        let broken = Arc::new(AtomicU64::new(0));
        for number in 1..=breakers {
            let shopper = runtime.block_on(Shopper::new(market, number))?;
            runtime.spawn(break_books(shopper, Arc::clone(&broken)));
        }
        Ok(Self { runtime, broken })
    }

    /// How many books were broken.
    pub(super) fn stop(self) -> u64 {
        self.runtime.shutdown_background();
        self.broken.load(Ordering::Relaxed)
    }
}

/// On every stream the announcement of a long message, and a byte of it a second.
async fn drip(payee: Address) -> Result<(), NetError> {
    let endpoint = Endpoint::client(None)?;
    let connection = endpoint.connect(&payee).await?;
    let mut streams = Vec::new();
    loop {
        while streams.len() < STREAMS_MAX as usize {
            let (mut send, recv) = connection.open().await?;
            send.write(&65_536_u32.to_le_bytes()).await?;
            streams.push((send, recv));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut kept = Vec::new();
        for (mut send, recv) in streams {
            // Streams that the payee gave up are opened again.
            if send.write(&[0]).await.is_ok() {
                kept.push((send, recv));
            }
        }
        streams = kept;
    }
}

/// One question after another, and no answer is read.
async fn ask_and_not_read(payee: Address) -> Result<(), NetError> {
    let endpoint = Endpoint::client(None)?;
    let connection = endpoint.connect(&payee).await?;
    let question = encode(&PayeeRequest::Services { after: None });
    let mut unread = Vec::new();
    loop {
        let (mut send, recv) = connection.open().await?;
        send.send_frame(&question).await?;
        unread.push((send, recv));
    }
}

/// Books whose first record is the longest jump there is, to a preimage of another chain.
async fn break_books(mut shopper: Shopper, broken: Arc<AtomicU64>) -> Result<(), String> {
    loop {
        let (book, quote) = shopper.book(JUMP).await?;
        let bogus = Ticket {
            index: JUMP,
            preimage: Preimage([7; 32]),
        };
        let (_send, mut recv) = shopper.open(&book, quote, Some(bogus)).await?;
        if closed(&mut recv).await? == Code::ChainBroken {
            broken.fetch_add(1, Ordering::Relaxed);
        }
    }
}

const _: () = assert!(MESSAGE_BYTES_MAX == 65_536);
