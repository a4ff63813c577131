//! What can go wrong on the network, typed so that callers branch on variants and never on text.

use crate::limits::CLOSE_REASON_BYTES_MAX;
use quinn::{ConnectionError, ReadError, StoppedError, TransportErrorCode, WriteError};
use std::io;
use std::net::SocketAddr;
use tombola_core::key::AccountKey;

/// Why something on the network failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NetError {
    /// The socket could not be bound.
    #[error("cannot listen on {at}: {kind}")]
    Bind {
        /// The address asked for.
        at: SocketAddr,
        /// What the system said.
        kind: io::ErrorKind,
    },
    /// The peer closed the connection with an application code.
    #[error("the peer closed the connection with code {code} ({reason})")]
    ClosedByPeer {
        /// The application's close code.
        code: u64,
        /// What the peer said, for people.
        reason: String,
    },
    /// This side closed the connection or the endpoint.
    #[error("the connection was closed here")]
    ClosedHere,
    /// The stream ended inside of a frame.
    #[error("the stream ended inside of a frame")]
    FrameCut,
    /// A frame is over the limit; nothing was allocated for it.
    #[error("a frame of {given} bytes is over the limit of {limit}")]
    FrameTooLarge {
        /// The limit.
        limit: usize,
        /// The length the frame claims, or has.
        given: usize,
    },
    /// The server demands a client key and was shown none.
    #[error("the server demands a key from its clients")]
    KeyRequired,
    /// This node's own key or certificate cannot be used for TLS.
    #[error("the key cannot be used for TLS")]
    Identity,
    /// The peer's key has as many connections here as one key may have.
    #[error("the peer's key has {limit} connections already")]
    KeyConnections {
        /// The limit.
        limit: usize,
    },
    /// The peer lost the connection's state, most likely by a restart.
    #[error("the connection was lost")]
    Lost,
    /// The peer speaks another protocol than `tombola/1` over QUIC v1.
    #[error("the peer does not speak tombola/1")]
    OtherProtocol,
    /// The server takes no new connections now.
    #[error("the server refuses new connections")]
    Refused,
    /// The peer's certificate does not hold an acceptable Ed25519 key.
    #[error("the peer has no acceptable Ed25519 key")]
    BadPeerKey,
    /// The host name has no address.
    #[error("{host} cannot be resolved: {kind}")]
    Resolve {
        /// The host.
        host: String,
        /// What the resolver said.
        kind: io::ErrorKind,
    },
    /// This half of the stream was already finished, reset or stopped here.
    #[error("the stream was already closed here")]
    StreamClosed,
    /// The peer gave up sending on a stream.
    #[error("the peer reset the stream with code {code}")]
    StreamReset {
        /// The application's code.
        code: u64,
    },
    /// The peer does not want any more of a stream.
    #[error("the peer stopped the stream with code {code}")]
    StreamStopped {
        /// The application's code.
        code: u64,
    },
    /// Nothing was heard of the peer for too long.
    #[error("no answer: timed out")]
    TimedOut,
    /// A QUIC or TLS error; RFC 9000 section 20.1 lists the codes.
    #[error("transport error {code:#x}")]
    Transport {
        /// The transport error code.
        code: u64,
    },
    /// Someone else answers at this address.
    #[error("another key answers: expected {expected}, found {given}")]
    WrongKey {
        /// The key of the address.
        expected: AccountKey,
        /// The key that answered.
        given: AccountKey,
    },
}

/// TLS alert `certificate_required` (RFC 8446 section 6).
const ALERT_CERTIFICATE_REQUIRED: u8 = 116;
/// TLS alert `no_application_protocol` (RFC 7301).
const ALERT_NO_APPLICATION_PROTOCOL: u8 = 120;

impl NetError {
    fn from_transport(code: TransportErrorCode) -> Self {
        if code == TransportErrorCode::crypto(ALERT_CERTIFICATE_REQUIRED) {
            return Self::KeyRequired;
        }
        if code == TransportErrorCode::crypto(ALERT_NO_APPLICATION_PROTOCOL) {
            return Self::OtherProtocol;
        }
        if code == TransportErrorCode::CONNECTION_REFUSED {
            return Self::Refused;
        }
        Self::Transport { code: code.into() }
    }
}

impl From<ConnectionError> for NetError {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::VersionMismatch => Self::OtherProtocol,
            ConnectionError::TransportError(error) => Self::from_transport(error.code),
            ConnectionError::ConnectionClosed(close) => Self::from_transport(close.error_code),
            ConnectionError::ApplicationClosed(close) => {
                let kept = close.reason.len().min(CLOSE_REASON_BYTES_MAX);
                Self::ClosedByPeer {
                    code: close.error_code.into_inner(),
                    reason: String::from_utf8_lossy(&close.reason[..kept]).into_owned(),
                }
            }
            ConnectionError::Reset => Self::Lost,
            ConnectionError::TimedOut => Self::TimedOut,
            ConnectionError::LocallyClosed => Self::ClosedHere,
            ConnectionError::CidsExhausted => Self::Refused,
        }
    }
}

impl From<ReadError> for NetError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Reset(code) => Self::StreamReset {
                code: code.into_inner(),
            },
            ReadError::ConnectionLost(error) => error.into(),
            // Reads are always ordered and nothing is sent early, so these can only mean a stream closed here.
            ReadError::ClosedStream | ReadError::IllegalOrderedRead | ReadError::ZeroRttRejected => Self::StreamClosed,
        }
    }
}

impl From<WriteError> for NetError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Stopped(code) => Self::StreamStopped {
                code: code.into_inner(),
            },
            WriteError::ConnectionLost(error) => error.into(),
            WriteError::ClosedStream | WriteError::ZeroRttRejected => Self::StreamClosed,
        }
    }
}

impl From<StoppedError> for NetError {
    fn from(error: StoppedError) -> Self {
        match error {
            StoppedError::ConnectionLost(error) => error.into(),
            StoppedError::ZeroRttRejected => Self::StreamClosed,
        }
    }
}
