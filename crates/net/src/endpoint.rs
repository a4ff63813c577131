//! A UDP socket that connects, accepts, admits and drains.

use crate::address::Address;
use crate::admission::{Admission, Attempt, Place, Proof, TurnedAway, Verdict};
use crate::budget::{self, Budget};
use crate::connection::{self, Connection};
use crate::error::NetError;
use crate::limits::{
    ADDRESSES_MAX, CLIENT_SEND_BYTES_MAX, CRYPTO_BYTES_MAX, DOWNLOAD_CONNECTION_BYTES_MAX, DOWNLOAD_STREAM_BYTES_MAX,
    HANDSHAKE_TIMEOUT, IDLE_TIMEOUT, INCOMING_BYTES_MAX, INCOMING_BYTES_TOTAL_MAX, INCOMING_MAX, KEEP_ALIVE,
    NEXT_ADDRESS_DELAY, NEXT_HANDSHAKE_DELAY, REQUEST_CONNECTION_BYTES_MAX, REQUEST_STREAM_BYTES_MAX,
    REQUEST_STREAMS_MAX, SERVER_SEND_BYTES_MAX, STREAMS_MAX, TICKET_CONNECTION_BYTES_MAX, TICKET_STREAM_BYTES_MAX,
};
use crate::reset::{self, ResetSalt};
use crate::tls::{self, Identity};
use quinn::{EndpointConfig, IdleTimeout, TokioRuntime, TransportConfig, VarInt};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tombola_core::key::{AccountKey, SecretKey};

/// Whether a server demands that its clients prove a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientKey {
    /// A client without a key is refused: an escrow answers accounts only.
    Required,
    /// Clients are anonymous: at a payee, hold and book authorise a payment.
    NotAsked,
}

/// A node's place on the network; clones share it.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// One for each address family of a client, exactly one of a server.
    sockets: Vec<quinn::Endpoint>,
    identity: Option<Identity>,
    transport: Arc<TransportConfig>,
    gate: Option<Gate>,
    phase: Arc<watch::Sender<Phase>>,
}

/// What a server has and a client has not.
#[derive(Debug, Clone)]
struct Gate {
    client_key: ClientKey,
    admission: Arc<Admission>,
    fast_places: Arc<Semaphore>,
}

/// Why a server closes a connection at once: its key has too many. The number of `busy`. Spec: N-06, N-11.
const CLOSE_BUSY: u32 = 5;

/// Whether a server still takes clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    Draining,
}

impl Endpoint {
    /// Listens on an address; port 0 picks a free one. A server that is started again with the same salt tells its peers of
    /// before that their connections are gone. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`NetError::Bind`] if the address cannot be used.
    pub fn server(
        bind: SocketAddr,
        key: &SecretKey,
        client_key: ClientKey,
        salt: &ResetSalt,
    ) -> Result<Self, NetError> {
        let identity = tls::identity(key)?;
        let mut config = tls::server_config(&identity, client_key)?;
        config
            .transport_config(Arc::new(server_transport(client_key)))
            // A NAT that forgets a client gives it another address; its path is validated before anything more is sent there.
            .migration(true)
            .max_incoming(INCOMING_MAX)
            .incoming_buffer_size(INCOMING_BYTES_MAX)
            .incoming_buffer_size_total(INCOMING_BYTES_TOTAL_MAX);
        // Tokens for later connections are a kind of resumption, and would let a peer be recognised.
        config.validation_token.sent(0);
        Ok(Self {
            sockets: vec![server_socket(bind, config, (key, salt))?],
            identity: Some(identity),
            transport: Arc::new(client_transport()),
            gate: Some(Gate {
                client_key,
                admission: Arc::new(Admission::new(client_key, reset::table_key(key, salt), Instant::now())),
                fast_places: budget::fast_places(client_key),
            }),
            phase: Arc::new(watch::Sender::new(Phase::Open)),
        })
    }

    /// A place to connect from, with a key to show or without one. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`NetError::Bind`] if neither an IPv4 nor an IPv6 socket can be had.
    pub fn client(key: Option<&SecretKey>) -> Result<Self, NetError> {
        let identity = key.map(tls::identity).transpose()?;
        let v4 = client_socket((Ipv4Addr::UNSPECIFIED, 0).into());
        let v6 = client_socket((Ipv6Addr::UNSPECIFIED, 0).into());
        let sockets = match (v4, v6) {
            (Err(error), Err(_)) => return Err(error),
            (v4, v6) => v4.into_iter().chain(v6).collect(),
        };
        Ok(Self {
            sockets,
            identity,
            transport: Arc::new(client_transport()),
            gate: None,
            phase: Arc::new(watch::Sender::new(Phase::Draining)),
        })
    }

    /// Waits for the next client that is admitted, or `None` once the endpoint drains or is closed, and at an endpoint
    /// made for connecting. It never waits for a handshake, so call [`Incoming::establish`] in a task of its own.
    /// Cancel-safe.
    pub async fn accept(&self) -> Option<Incoming> {
        let (socket, gate) = (self.sockets.first()?, self.gate.as_ref()?);
        let mut phase = self.phase.subscribe();
        loop {
            let attempt = tokio::select! {
                biased;
                _ = phase.wait_for(|phase| *phase == Phase::Draining) => return None,
                attempt = socket.accept() => attempt?,
            };
            let validated = attempt.remote_address_validated();
            let verdict = gate.admission.judge(Attempt {
                from: attempt.remote_address().ip(),
                // Who was sent a Retry is never sent another.
                proof: if validated { Proof::Given } else { Proof::Missing },
                // This one is not yet among them.
                open: socket.open_connections(),
                now: Instant::now(),
            });
            match verdict {
                Verdict::Admit(place) => {
                    let gate = gate.clone();
                    return Some(Incoming { attempt, place, gate });
                }
                Verdict::Ignore => attempt.ignore(),
                Verdict::Refuse => attempt.refuse(),
                Verdict::Retry => {
                    if attempt.retry().is_err() {
                        tracing::debug!("an attempt could not be retried");
                    }
                }
            }
        }
    }

    /// Attempts that were not let in since the start; none at an endpoint made for connecting.
    #[must_use]
    pub fn turned_away(&self) -> TurnedAway {
        let gate = self.gate.as_ref();
        gate.map(|gate| gate.admission.turned_away()).unwrap_or_default()
    }

    /// Connects to the node at an address: resolves the host and tries its addresses in turn, each a moment after the
    /// one before, until the right key answers. Where there is no answer for a while, a second handshake begins beside the
    /// first.
    ///
    /// # Errors
    /// [`NetError::Resolve`], [`NetError::WrongKey`] if somebody else answers, [`NetError::TimedOut`] if nobody does.
    /// A client key that is missing is noticed by the server, so [`NetError::KeyRequired`] may come from the first use.
    pub async fn connect(&self, address: &Address) -> Result<Connection, NetError> {
        let resolved = tokio::net::lookup_host((address.host.as_str(), address.port)).await;
        let resolved = resolved.map_err(|error| NetError::Resolve {
            host: address.host.clone(),
            kind: error.kind(),
        })?;
        let mut attempts = JoinSet::new();
        for (place, remote) in (0u32..).zip(resolved.take(ADDRESSES_MAX)) {
            let endpoint = self.clone();
            let key = address.key;
            attempts.spawn(async move {
                sleep(NEXT_ADDRESS_DELAY.saturating_mul(place)).await;
                endpoint.connect_in_two(remote, key).await
            });
        }
        let mut failure = NetError::Resolve {
            host: address.host.clone(),
            kind: std::io::ErrorKind::NotFound,
        };
        while let Some(outcome) = attempts.join_next().await {
            match outcome {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => failure = more_telling(failure, error),
                Err(_) => failure = more_telling(failure, NetError::ClosedHere),
            }
        }
        Err(failure)
    }

    /// One handshake, and another beside it where there is no answer for a while: whichever succeeds first.
    async fn connect_in_two(&self, remote: SocketAddr, key: AccountKey) -> Result<Connection, NetError> {
        let mut first = pin!(self.connect_to(remote, key));
        if let Ok(outcome) = timeout(NEXT_HANDSHAKE_DELAY, first.as_mut()).await {
            return outcome;
        }
        let mut second = pin!(self.connect_to(remote, key));
        tokio::select! {
            outcome = first.as_mut() => match outcome {
                // The first has had all the time there is.
                Ok(_) | Err(NetError::TimedOut | NetError::WrongKey { .. }) => outcome,
                Err(error) => second.await.map_err(|other| more_telling(error, other)),
            },
            outcome = second.as_mut() => match outcome {
                Ok(_) | Err(NetError::WrongKey { .. }) => outcome,
                // Refused, perhaps because the first has the last place.
                Err(error) => first.await.map_err(|other| more_telling(error, other)),
            },
        }
    }

    async fn connect_to(&self, remote: SocketAddr, key: AccountKey) -> Result<Connection, NetError> {
        let socket = self
            .sockets
            .iter()
            .find(|socket| {
                socket
                    .local_addr()
                    .is_ok_and(|local| local.is_ipv4() == remote.is_ipv4())
            })
            .ok_or(NetError::Bind {
                at: remote,
                kind: std::io::ErrorKind::AddrNotAvailable,
            })?;
        let (mut config, stranger) = tls::client_config(key, self.identity.as_ref())?;
        config.transport_config(Arc::clone(&self.transport));
        let handshake = socket
            .connect_with(config, remote, tls::SERVER_NAME)
            .map_err(|error| match error {
                quinn::ConnectError::EndpointStopping => NetError::ClosedHere,
                _ => NetError::Bind {
                    at: remote,
                    kind: std::io::ErrorKind::AddrNotAvailable,
                },
            })?;
        match timeout(HANDSHAKE_TIMEOUT, handshake).await {
            Ok(Ok(quic)) => Ok(Connection::new(quic, Budget::of_client())),
            Ok(Err(error)) => Err(match stranger.get() {
                Some(given) => NetError::WrongKey {
                    expected: key,
                    given: *given,
                },
                None => error.into(),
            }),
            Err(_) => Err(NetError::TimedOut),
        }
    }

    /// Refuses new clients from now on, and ends [`Endpoint::accept`]; connections that stand are served on. The first
    /// step of a drain. Needs a tokio runtime.
    pub fn refuse_new(&self) {
        if self.phase.send_replace(Phase::Draining) == Phase::Draining {
            return;
        }
        for socket in self.sockets.clone() {
            // Ends when the endpoint is closed. A spoken refusal saves the client its timeout.
            tokio::spawn(async move {
                while let Some(attempt) = socket.accept().await {
                    attempt.refuse();
                }
            });
        }
    }

    /// Closes every connection at once with a code, and the endpoint with them.
    pub fn close(&self, code: u32, reason: &str) {
        for socket in &self.sockets {
            socket.close(VarInt::from_u32(code), reason.as_bytes());
        }
    }

    /// Waits until all connections have said goodbye; call it last, or peers find out by their timeout.
    pub async fn wait_idle(&self) {
        for socket in &self.sockets {
            socket.wait_idle().await;
        }
    }

    /// Connections that stand or are being made.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.sockets.iter().map(quinn::Endpoint::open_connections).sum()
    }

    /// The address the socket is bound to, with the port that was picked.
    ///
    /// # Errors
    /// [`NetError::ClosedHere`] if the socket is gone.
    pub fn local_addr(&self) -> Result<SocketAddr, NetError> {
        let socket = self.sockets.first().ok_or(NetError::ClosedHere)?;
        socket.local_addr().map_err(|_| NetError::ClosedHere)
    }
}

/// A client that was admitted and has not yet proved anything. Dropped, it is refused.
#[derive(Debug)]
pub struct Incoming {
    attempt: quinn::Incoming,
    place: Place,
    gate: Gate,
}

impl Incoming {
    /// Does the handshake.
    ///
    /// # Errors
    /// Why it failed: no key where one is required, another protocol, too slow; [`NetError::KeyConnections`].
    pub async fn establish(self) -> Result<Connection, NetError> {
        let Self {
            attempt,
            mut place,
            gate,
        } = self;
        let handshake = attempt.accept()?;
        let quic = timeout(HANDSHAKE_TIMEOUT, handshake)
            .await
            .map_err(|_| NetError::TimedOut)??;
        if let Err(limit) = place.establish(connection::peer_key(&quic)) {
            let reason = format!("this key has {limit} connections here; close one first");
            quic.close(VarInt::from_u32(CLOSE_BUSY), reason.as_bytes());
            return Err(NetError::KeyConnections { limit });
        }
        let budget = Budget::of_server(gate.client_key, place, gate.fast_places);
        Ok(Connection::new(quic, budget))
    }

    /// Where the client's packets come from.
    #[must_use]
    pub fn remote_addr(&self) -> SocketAddr {
        self.attempt.remote_address()
    }
}

/// Of two failures the one that says more: a timeout or an unreachable address hides what another address answered.
fn more_telling(first: NetError, second: NetError) -> NetError {
    match second {
        NetError::TimedOut | NetError::Bind { .. } if !matches!(first, NetError::Resolve { .. }) => first,
        _ if matches!(first, NetError::WrongKey { .. }) => first,
        _ => second,
    }
}

fn server_socket(
    bind: SocketAddr,
    config: quinn::ServerConfig,
    (key, salt): (&SecretKey, &ResetSalt),
) -> Result<quinn::Endpoint, NetError> {
    let failed = |error: std::io::Error| NetError::Bind {
        at: bind,
        kind: error.kind(),
    };
    let udp = UdpSocket::bind(bind).map_err(failed)?;
    // Known only now where the system picks the port.
    let endpoint = reset::endpoint_config(key, salt, udp.local_addr().map_err(failed)?);
    quinn::Endpoint::new(endpoint, Some(config), udp, Arc::new(TokioRuntime)).map_err(failed)
}

/// Its port is another one each time, so no peer of before finds it, and its reset key is random.
fn client_socket(bind: SocketAddr) -> Result<quinn::Endpoint, NetError> {
    UdpSocket::bind(bind)
        .and_then(|udp| quinn::Endpoint::new(EndpointConfig::default(), None, udp, Arc::new(TokioRuntime)))
        .map_err(|error| NetError::Bind {
            at: bind,
            kind: error.kind(),
        })
}

fn server_transport(client_key: ClientKey) -> TransportConfig {
    // Who demands keys is an escrow and reads requests; who does not is a payee and reads ticket streams.
    let (streams, stream_bytes, connection_bytes) = match client_key {
        ClientKey::Required => (
            REQUEST_STREAMS_MAX,
            REQUEST_STREAM_BYTES_MAX,
            REQUEST_CONNECTION_BYTES_MAX,
        ),
        ClientKey::NotAsked => (STREAMS_MAX, TICKET_STREAM_BYTES_MAX, TICKET_CONNECTION_BYTES_MAX),
    };
    let mut transport = base_transport();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(streams))
        .stream_receive_window(VarInt::from_u32(stream_bytes))
        .receive_window(VarInt::from_u32(connection_bytes))
        .send_window(SERVER_SEND_BYTES_MAX);
    transport
}

fn client_transport() -> TransportConfig {
    let mut transport = base_transport();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .stream_receive_window(VarInt::from_u32(DOWNLOAD_STREAM_BYTES_MAX))
        .receive_window(VarInt::from_u32(DOWNLOAD_CONNECTION_BYTES_MAX))
        .send_window(CLIENT_SEND_BYTES_MAX);
    transport
}

fn base_transport() -> TransportConfig {
    let idle_ms = u32::try_from(IDLE_TIMEOUT.as_millis()).unwrap_or(u32::MAX);
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(idle_ms))))
        .crypto_buffer_size(CRYPTO_BYTES_MAX)
        .datagram_receive_buffer_size(None);
    transport
}
