//! A UDP proxy that does to packets what networks do: loses, delays, repeats, reorders, corrupts and cuts them, goes dark
//! in one direction or both, and gives a client another address. What happens is chosen by a seed, which is printed.

use crate::dice::Dice;
use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// Largest packet that passes.
const PACKET_BYTES_MAX: usize = 65_536;

/// How often what happens, in thousandths.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// Packets that are lost.
    pub loss: u16,
    /// Packets that come twice.
    pub duplicate: u16,
    /// Packets that come up to 20 ms late, and so out of order.
    pub delay: u16,
    /// Packets with one bit flipped.
    pub corrupt: u16,
    /// Packets of which only a part comes.
    pub truncate: u16,
}

/// Which way packets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From clients to the server.
    ToServer,
    /// From the server to clients.
    ToClient,
}

/// The proxy; it ends when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    listening: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    front: UdpSocket,
    faults: Mutex<Faults>,
    dice: Mutex<Dice>,
    dark: [AtomicBool; 2],
    swallowed: [AtomicU64; 2],
    clients: Mutex<HashMap<SocketAddr, Client>>,
}

/// A client's socket towards the server, and who reads it.
type Client = (Arc<UdpSocket>, JoinHandle<()>);

impl Proxy {
    /// Begins to pass packets on to a server on this machine.
    ///
    /// # Errors
    /// If no socket can be had.
    pub async fn start(server: SocketAddr, faults: Faults, seed: u64) -> io::Result<Self> {
        println!("chaos before {server}: {faults:?}");
        let front = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = front.local_addr()?;
        let shared = Arc::new(Shared {
            server,
            front,
            faults: Mutex::new(faults),
            dice: Mutex::new(Dice::new(seed)),
            dark: Default::default(),
            swallowed: Default::default(),
            clients: Mutex::default(),
        });
        let listening = tokio::spawn(listen(Arc::clone(&shared)));
        Ok(Self {
            shared,
            address,
            listening,
        })
    }

    /// Where clients send to.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what happens from now on.
    pub fn set(&self, faults: Faults) {
        *lock(&self.shared.faults) = faults;
    }

    /// Nothing passes one way.
    pub fn darken(&self, way: Way) {
        self.shared.dark[index(way)].store(true, Ordering::Relaxed);
    }

    /// Everything passes again, as far as the faults let it.
    pub fn heal(&self) {
        self.shared
            .dark
            .iter()
            .for_each(|dark| dark.store(false, Ordering::Relaxed));
    }

    /// Packets that the dark took.
    #[must_use]
    pub fn swallowed(&self, way: Way) -> u64 {
        self.shared.swallowed[index(way)].load(Ordering::Relaxed)
    }

    /// Every client comes from another address from now on, as behind a NAT that has forgotten it. Packets to the old
    /// addresses are lost.
    pub fn rebind(&self) {
        self.shared.forget();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listening.abort();
        self.shared.forget();
    }
}

impl Shared {
    fn forget(&self) {
        for (_, (_, task)) in lock(&self.clients).drain() {
            task.abort();
        }
    }

    /// 0 to 999, and as many bits to choose by.
    fn roll(&self) -> (u16, u64) {
        let bits = lock(&self.dice).draw();
        (u16::try_from(bits % 1_000).unwrap_or(0), bits / 1_000)
    }

    fn happens(&self, thousandths: u16) -> Option<u64> {
        let (roll, bits) = self.roll();
        (roll < thousandths).then_some(bits)
    }

    /// What becomes of a packet: each copy that comes, and how late.
    fn fate(&self, way: Way, mut packet: Vec<u8>) -> Vec<(Vec<u8>, Duration)> {
        if self.dark[index(way)].load(Ordering::Relaxed) {
            self.swallowed[index(way)].fetch_add(1, Ordering::Relaxed);
            return Vec::new();
        }
        let faults = *lock(&self.faults);
        if self.happens(faults.loss).is_some() {
            return Vec::new();
        }
        let place = |bits: u64, length: usize| usize::try_from(bits).unwrap_or(0) % length.max(1);
        if let Some(bits) = self.happens(faults.corrupt) {
            let at = place(bits, packet.len());
            if let Some(byte) = packet.get_mut(at) {
                *byte ^= 1 << (bits % 8);
            }
        }
        if let Some(bits) = self.happens(faults.truncate) {
            packet.truncate(place(bits, packet.len()));
        }
        let copies = if self.happens(faults.duplicate).is_some() { 2 } else { 1 };
        (0..copies)
            .map(|_| {
                let late = self.happens(faults.delay).map_or(0, |bits| bits % 20);
                (packet.clone(), Duration::from_millis(late))
            })
            .collect()
    }
}

async fn listen(shared: Arc<Shared>) {
    let mut buffer = vec![0; PACKET_BYTES_MAX];
    loop {
        // A packet that could not be delivered is told of here on some systems; the next one may come through.
        let Ok((bytes, client)) = shared.front.recv_from(&mut buffer).await else {
            continue;
        };
        let packet = buffer.get(..bytes).unwrap_or_default().to_vec();
        let known = lock(&shared.clients).get(&client).map(|(socket, _)| Arc::clone(socket));
        let socket = match known {
            Some(socket) => socket,
            None => {
                let Ok(socket) = back(&shared).await else { continue };
                let reading = tokio::spawn(answer(Arc::clone(&shared), Arc::clone(&socket), client));
                lock(&shared.clients).insert(client, (Arc::clone(&socket), reading));
                socket
            }
        };
        for (copy, late) in shared.fate(Way::ToServer, packet) {
            let socket = Arc::clone(&socket);
            deliver(late, async move { socket.send(&copy).await.map(drop) }).await;
        }
    }
}

async fn back(shared: &Shared) -> io::Result<Arc<UdpSocket>> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    socket.connect(shared.server).await?;
    Ok(Arc::new(socket))
}

async fn answer(shared: Arc<Shared>, socket: Arc<UdpSocket>, client: SocketAddr) {
    let mut buffer = vec![0; PACKET_BYTES_MAX];
    loop {
        let Ok(bytes) = socket.recv(&mut buffer).await else {
            // The server's port was closed a moment ago: it may be opened again.
            tokio::task::yield_now().await;
            continue;
        };
        let packet = buffer.get(..bytes).unwrap_or_default().to_vec();
        for (copy, late) in shared.fate(Way::ToClient, packet) {
            let shared = Arc::clone(&shared);
            deliver(late, async move { shared.front.send_to(&copy, client).await.map(drop) }).await;
        }
    }
}

/// Now, or later beside what comes after it.
async fn deliver(late: Duration, sending: impl Future<Output = io::Result<()>> + Send + 'static) {
    if late.is_zero() {
        // What a network does not take is lost.
        let _ = sending.await;
    } else {
        tokio::spawn(async move {
            tokio::time::sleep(late).await;
            sending.await
        });
    }
}

const fn index(way: Way) -> usize {
    match way {
        Way::ToServer => 0,
        Way::ToClient => 1,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
