//! QUIC endpoints with pinned Ed25519 keys, and framing. This crate moves frames and bytes; it knows no message.
//!
//! A node's account key is its TLS identity: it signs the TLS 1.3 handshake and stands in a self-signed X.509
//! certificate of which only the SubjectPublicKeyInfo counts. Names, dates and extensions are ignored, no authority is
//! asked, and an address carries the key that must answer. Nothing is resumed and nothing is sent before the handshake
//! is complete, so no byte of a connection can be replayed into another one.
//!
//! ```no_run
//! # async fn run() -> Result<(), tombola_net::NetError> {
//! use tombola_core::key::SecretKey;
//! use tombola_net::{Address, ClientKey, Endpoint, ResetSalt};
//!
//! let key = SecretKey::from_seed(&[7; 32]);
//! let server = Endpoint::server(([127, 0, 0, 1], 0).into(), &key, ClientKey::NotAsked, &ResetSalt::new([7; 32]))?;
//! let address = Address::new(key.account(), "127.0.0.1", server.local_addr()?.port());
//!
//! let client = Endpoint::client(None)?;
//! let connection = client.connect(&address).await?;
//! let (mut send, mut recv) = connection.open().await?;
//! send.send_frame(b"hello").await?;
//! send.finish()?;
//! let answer = recv.recv_frame(1_024).await?;
//! # Ok(())
//! # }
//! ```
//!
//! | module | what |
//! | --- | --- |
//! | [`address`] | `tombola://KEY@HOST:PORT/path`, one copyable string |
//! | [`endpoint`] | a UDP socket: connects, accepts, admits, drains |
//! | `admission` | who gets in, by how many are in, from where, and how fast they come |
//! | [`connection`] | one authenticated peer |
//! | `budget` | what it may have in memory |
//! | [`stream`] | frames and bare bytes on one bidirectional stream |
//! | [`limits`] | every limit of the transport, with its reason |
//! | [`error`] | what can go wrong, typed |

pub mod address;
mod admission;
mod budget;
pub mod connection;
pub mod endpoint;
pub mod error;
pub mod limits;
mod reset;
pub mod stream;
mod tls;

pub use address::{Address, ParseAddressError};
pub use admission::TurnedAway;
pub use budget::SetAside;
pub use connection::Connection;
pub use endpoint::{ClientKey, Endpoint, Incoming};
pub use error::NetError;
pub use reset::ResetSalt;
pub use stream::{RecvHalf, SendHalf};
pub use tls::{certificate, key_of};

/// The application protocol named in the TLS handshake.
pub const ALPN: &[u8] = b"tombola/1";
