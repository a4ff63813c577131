//! A QUIC peer that sends arbitrary bytes on its streams to a real payee and a real escrow, which go on answering.
//!
//! The nodes run on loopback in this process, with their stores on a disk; one runtime serves all inputs.

use crate::input::Input;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::time::timeout;
use tombola_core::amount::Amount;
use tombola_core::codec::{MESSAGE_BYTES_MAX, decode, encode};
use tombola_core::key::SecretKey;
use tombola_core::message::{EscrowAnswer, EscrowCommand, EscrowRequest, PayeeAnswer, PayeeRequest};
use tombola_core::quote::Service;
use tombola_net::{Address, Connection, Endpoint, RecvHalf, SendHalf};
use tombola_node::loopback::{Loopback, LoopbackOptions};
use tombola_node::payee::{Content, MemoryCatalog};

/// Streams of one input.
const STREAMS_MAX: usize = 6;
/// How long a node may take for an answer that it owes, on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a peer listens to what it is not owed.
const LISTEN: Duration = Duration::from_millis(1);

struct World {
    runtime: Runtime,
    payee: Address,
    escrow: Address,
    /// Misuses the nodes; one connection to each, made anew when it was closed.
    attacker: Peer,
    /// Asks what anyone may ask, on connections that no node has a reason to close.
    honest: Peer,
    _nodes: Loopback,
    _home: TempDir,
}

/// A key with its connections, one to each node.
struct Peer {
    key: SecretKey,
    endpoint: Endpoint,
    connections: Mutex<[Option<Connection>; 2]>,
}

/// Streams with what is written to each; the node must answer another peer's good request afterwards.
pub fn quic_peer(data: &[u8]) {
    static WORLD: OnceLock<World> = OnceLock::new();
    let world = WORLD.get_or_init(|| World::start().expect("the nodes start"));
    world.runtime.block_on(world.attack(&mut Input::new(data)));
}

impl World {
    fn start() -> Result<Self, Box<dyn std::error::Error>> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let home = tempfile::tempdir()?;
        let service = Service::new("/f").map_err(|_| "a short name")?;
        let catalog = MemoryCatalog::default().with(service, Content::from_bytes(Amount(100_000), 4, [7; 40]));
        let directory: PathBuf = home.path().to_owned();
        let (nodes, attacker, honest) = runtime.block_on(async {
            let nodes = Loopback::start(&directory, &LoopbackOptions::default(), catalog).await?;
            Ok::<_, Box<dyn std::error::Error>>((nodes, Peer::new(99)?, Peer::new(98)?))
        })?;
        Ok(Self {
            payee: nodes.payee.address().clone(),
            escrow: nodes.escrow.address().clone(),
            runtime,
            attacker,
            honest,
            _nodes: nodes,
            _home: home,
        })
    }

    async fn attack(&self, input: &mut Input<'_>) {
        let node = input.below(2);
        let address = [&self.payee, &self.escrow][node];
        let connection = self.attacker.connection(node, address).await;
        for _ in 0..STREAMS_MAX {
            if input.is_empty() {
                break;
            }
            // A node that has enough of this peer closes its connection.
            let Ok(Ok((mut send, mut recv))) = timeout(PATIENCE, connection.open()).await else {
                break;
            };
            write(&mut send, input).await;
            // Kept open while it listens: the node must not wait for its end.
            let _ = timeout(LISTEN, recv.recv_frame(MESSAGE_BYTES_MAX)).await;
            if input.byte() & 1 == 1 {
                recv.stop(u32::from(input.byte()));
            }
        }
        let connection = self.honest.connection(node, address).await;
        let answered = timeout(PATIENCE, ask(node, &self.honest.key, &connection)).await;
        assert_eq!(answered, Ok(Some(())), "the node answers a good request afterwards");
    }
}

impl Peer {
    fn new(seed: u8) -> Result<Self, tombola_net::NetError> {
        let key = SecretKey::from_seed(&[seed; 32]);
        Ok(Self {
            endpoint: Endpoint::client(Some(&key))?,
            key,
            connections: Mutex::default(),
        })
    }

    async fn connection(&self, node: usize, address: &Address) -> Connection {
        let kept = self.connections.lock().unwrap_or_else(PoisonError::into_inner)[node].take();
        let connection = match kept.filter(|connection| connection.close_reason().is_none()) {
            Some(connection) => connection,
            None => {
                let connected = timeout(PATIENCE, self.endpoint.connect(address)).await;
                connected.expect("in time").expect("the node accepts connections")
            }
        };
        let keep = connection.clone();
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)[node] = Some(keep);
        connection
    }
}

/// One stream's bytes: bare, in frames, in frames that lie about their length, cut by FIN or reset.
async fn write(send: &mut SendHalf, input: &mut Input<'_>) {
    loop {
        let (action, count) = (input.byte(), usize::from(input.short()) % 2_048);
        let written = match action % 8 {
            0 | 1 => send.send_frame(input.bytes(count)).await,
            2 => send.write(input.bytes(count)).await,
            3 => send.write(&u32::MAX.to_le_bytes()).await,
            4 => send.write(&[input.bytes(4), input.bytes(count)].concat()).await,
            5 => {
                send.reset(u32::from(action));
                return;
            }
            6 => {
                let _ = send.finish();
                return;
            }
            // Left open.
            _ => return,
        };
        if written.is_err() || input.is_empty() {
            return;
        }
    }
}

/// Asks what anyone may ask.
async fn ask(node: usize, key: &SecretKey, connection: &Connection) -> Option<()> {
    let (mut send, mut recv) = connection.open().await.ok()?;
    let request = match node {
        0 => encode(&PayeeRequest::Services { after: None }),
        _ => encode(&EscrowRequest {
            account: key.account(),
            command: EscrowCommand::Info,
        }),
    };
    send.send_frame(&request).await.ok()?;
    send.finish().ok()?;
    let answer = read(&mut recv).await?;
    match node {
        0 => matches!(decode(&answer), Ok(PayeeAnswer::Services { .. })).then_some(()),
        _ => matches!(decode(&answer), Ok(EscrowAnswer::Info(_))).then_some(()),
    }
}

async fn read(recv: &mut RecvHalf) -> Option<Vec<u8>> {
    recv.recv_frame(MESSAGE_BYTES_MAX).await.ok()?
}

/// A frame of each message of the vectors, to each node, whole and cut.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (kind, bytes) in crate::seed::vectors() {
        let node = match kind.as_str() {
            "PayeeRequest" => 0,
            "EscrowRequest" => 1,
            _ => continue,
        };
        let Some(count) = u16::try_from(bytes.len()).ok().filter(|count| *count < 2_048) else {
            continue;
        };
        let frame = |action: u8| [&[node, action][..], &count.to_le_bytes(), &bytes, &[6, 0, 0, 0]].concat();
        seeds.extend([frame(0), frame(2)]);
    }
    seeds
}
