//! One authenticated peer.

use crate::admission::address_of;
use crate::budget::{Budget, SetAside};
use crate::error::NetError;
use crate::limits::{FAST_CONNECTION_BYTES_MAX, FAST_SEND_BYTES_MAX, FAST_STREAMS_MAX};
use crate::stream::{RecvHalf, SendHalf};
use crate::tls::key_of;
use quinn::VarInt;
use rustls::pki_types::CertificateDer;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use tombola_core::key::AccountKey;

/// A connection to one peer; clones share it. It is closed when the last clone and the last stream are dropped.
#[derive(Debug, Clone)]
pub struct Connection {
    quic: quinn::Connection,
    peer_key: Option<AccountKey>,
    budget: Arc<Budget>,
}

/// The key that a peer proved in its handshake.
pub(crate) fn peer_key(quic: &quinn::Connection) -> Option<AccountKey> {
    quic.peer_identity()
        .and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok())
        .and_then(|chain| key_of(chain.first()?))
        .map(|key| key.account())
}

impl Connection {
    pub(crate) fn new(quic: quinn::Connection, budget: Arc<Budget>) -> Self {
        Self {
            peer_key: peer_key(&quic),
            quic,
            budget,
        }
    }

    /// Opens a stream, waiting while the peer allows no more. The peer learns of it with the first byte.
    ///
    /// # Errors
    /// Why the connection ended.
    pub async fn open(&self) -> Result<(SendHalf, RecvHalf), NetError> {
        let (send, recv) = self.quic.open_bi().await?;
        Ok((SendHalf::new(send), RecvHalf::new(recv, Arc::clone(&self.budget))))
    }

    /// Waits for the next stream that the peer opens. Cancel-safe.
    ///
    /// # Errors
    /// Why the connection ended.
    pub async fn accept(&self) -> Result<(SendHalf, RecvHalf), NetError> {
        let (send, recv) = self.quic.accept_bi().await?;
        Ok((SendHalf::new(send), RecvHalf::new(recv, Arc::clone(&self.budget))))
    }

    /// Sets memory aside for an answer before it is made, waiting until as much of earlier ones was taken by the peer or
    /// given up: a peer that asks and does not read has no more than this in memory. To be held until the answer is sent.
    pub async fn set_aside(&self, bytes: usize) -> SetAside {
        self.budget.answer(bytes).await
    }

    /// Widens the windows of a peer of this server that pays: more streams, and more bytes on their way. There are so
    /// many places for such connections; without one, or with one already, nothing changes.
    pub fn become_fast(&self) {
        if self.budget.become_fast() {
            self.quic
                .set_max_concurrent_bi_streams(VarInt::from_u32(FAST_STREAMS_MAX));
            self.quic
                .set_receive_window(VarInt::from_u32(FAST_CONNECTION_BYTES_MAX));
            self.quic.set_send_window(FAST_SEND_BYTES_MAX);
        }
    }

    /// Closes at once: what is on its way is dropped, and the peer sees [`NetError::ClosedByPeer`].
    pub fn close(&self, code: u32, reason: &str) {
        self.quic.close(VarInt::from_u32(code), reason.as_bytes());
    }

    /// Waits until the connection has ended and says why.
    pub async fn closed(&self) -> NetError {
        self.quic.closed().await.into()
    }

    /// Why the connection ended, if it has.
    #[must_use]
    pub fn close_reason(&self) -> Option<NetError> {
        self.quic.close_reason().map(NetError::from)
    }

    /// Whether both are clones of one connection.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.quic.stable_id() == other.quic.stable_id()
    }

    /// The key that the peer proved: always there at a client, and at a server that demands keys.
    #[must_use]
    pub fn peer_key(&self) -> Option<AccountKey> {
        self.peer_key
    }

    /// Where the peer's packets come from.
    #[must_use]
    pub fn remote_addr(&self) -> SocketAddr {
        self.quic.remote_address()
    }

    /// The address that the peer's packets come from: an IPv4 address, mapped, or the first address
    /// of an IPv6 /64, of which one host has all.
    #[must_use]
    pub fn peer_address(&self) -> Ipv6Addr {
        address_of(self.remote_addr().ip()).into()
    }

    /// All UDP payload bytes so far: (sent, received).
    #[must_use]
    pub fn udp_bytes(&self) -> (u64, u64) {
        let stats = self.quic.stats();
        (stats.udp_tx.bytes, stats.udp_rx.bytes)
    }
}
