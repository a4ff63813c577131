//! First packets of QUIC connections, from many addresses, that nobody goes on with.

use super::text;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tombola_core::key::SecretKey;
use tombola_net::{Address, Endpoint};

/// Different first packets; each is sent again when all were sent.
const PACKETS: usize = 2_048;
/// Addresses that they come from, each in a /24 of its own.
const SOURCES: u32 = 1_024;

/// Sends until it is stopped.
pub(super) struct Storm {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Storm {
    pub(super) fn start(port: u16, per_second: u32) -> Result<Self, String> {
        let packets = capture()?;
        let mut sockets = Vec::new();
        for source in 0..SOURCES {
            let from = Ipv4Addr::from_bits(0x7f01_0001 + (source << 8));
            let socket = UdpSocket::bind((from, 0)).map_err(text)?;
            socket.connect((Ipv4Addr::LOCALHOST, port)).map_err(text)?;
            socket.set_nonblocking(true).map_err(text)?;
            sockets.push(socket);
        }
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            give_way();
            send(&packets, &sockets, per_second, &over)
        });
        Ok(Self { is_over, thread })
    }

    /// How many packets were sent, those that the system did not take left out.
    pub(super) fn stop(self) -> u64 {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or(0)
    }
}

/// This thread runs when nobody else wants to.
pub(super) fn give_way() {
    // Where it may not, it is one of many, and the figures are a little worse.
    let _ = rustix::process::nice(10);
}

fn send(packets: &[Vec<u8>], sockets: &[UdpSocket], per_second: u32, is_over: &AtomicBool) -> u64 {
    let began = Instant::now();
    // What was due by now, whether it was sent or not: what was missed is not made up for later.
    let mut passed = 0_u64;
    let mut sent = 0_u64;
    let mut pairs = packets.iter().cycle().zip(sockets.iter().cycle());
    while !is_over.load(Ordering::Relaxed) {
        let due = began.elapsed().as_millis() * u128::from(per_second) / 1_000;
        let missing = u64::try_from(due).unwrap_or(u64::MAX).saturating_sub(passed);
        passed += missing;
        // What was missed for want of a core comes in bursts no longer than a tenth of a second.
        for (packet, socket) in pairs.by_ref().take(missing.min(u64::from(per_second) / 10) as usize) {
            // A full buffer or a refusal of an earlier packet is no reason to stop.
            sent += u64::from(socket.send(packet).is_ok());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    sent
}

/// First packets as our own client makes them, caught by a socket that does not answer.
fn capture() -> Result<Vec<Vec<u8>>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(text)?;
    runtime.block_on(async {
        let sink = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .map_err(text)?;
        let port = sink.local_addr().map_err(text)?.port();
        let nobody = Address::new(SecretKey::from_seed(&[1; 32]).account(), "127.0.0.1", port);
        let client = Endpoint::client(None).map_err(text)?;
        let mut packets: Vec<Vec<u8>> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        let mut buffer = [0; 2_048];
        while packets.len() < PACKETS {
            let (client, nobody) = (client.clone(), nobody.clone());
            let attempt = tokio::spawn(async move { client.connect(&nobody).await.map(drop) });
            let bytes = sink.recv(&mut buffer).await.map_err(text)?;
            attempt.abort();
            let packet = buffer.get(..bytes).unwrap_or_default();
            // A goodbye to an earlier one is no first packet: those are at least 1,200 bytes, each with an id of its own.
            let id = packet.get(5..14).unwrap_or_default().to_vec();
            if bytes >= 1_200 && seen.insert(id) {
                packets.push(packet.to_vec());
            }
        }
        Ok(packets)
    })
}
