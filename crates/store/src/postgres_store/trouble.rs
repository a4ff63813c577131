//! What a server or the way to it answered instead of what was asked for.

use std::error::Error as _;
use std::io;
use tokio_postgres::Error;
use tombola_ledger::store::StoreFault;

/// Why a statement or a connection failed, by what is to be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Another transaction was in the way; the same again may succeed.
    Again,
    /// The connection is gone, or the server is going or coming; another connection may do.
    Lost,
    /// A row of that key is there.
    Taken,
    /// The address lacks what the server asks for.
    Unfit,
    /// The certificate is not trusted.
    Untrusted,
    /// The server does not know this object or setting.
    Unknown([u8; 5]),
    /// What came is not what the protocol or our tables say.
    Damaged,
    /// The server refused.
    Refused([u8; 5]),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        if let Some(code) = error.code() {
            return Self::of_code(code.code());
        }
        if error.is_closed() {
            return Self::Lost;
        }
        let Some(io) = error.source().and_then(|cause| cause.downcast_ref::<io::Error>()) else {
            return Self::Damaged;
        };
        let inner = io.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match inner {
            Some(rustls::Error::InvalidCertificate(_)) => Self::Untrusted,
            _ => Self::Lost,
        }
    }
}

impl Trouble {
    /// By SQLSTATE.
    fn of_code(code: &str) -> Self {
        let mut bytes = *b"XX000";
        for (to, from) in bytes.iter_mut().zip(code.bytes()) {
            *to = from;
        }
        match &bytes {
            // Serialization failure, deadlock.
            b"40001" | b"40P01" => Self::Again,
            // Unique violation.
            b"23505" => Self::Taken,
            // Undefined object, feature not supported.
            b"42704" | b"0A000" => Self::Unknown(bytes),
            // Shutdown, crash, start-up, idle timeouts; a standby that only reads; too many connections.
            b"57P01" | b"57P02" | b"57P03" | b"57P05" | b"25P03" | b"25006" | b"53300" => Self::Lost,
            // Connection exceptions.
            [b'0', b'8', ..] => Self::Lost,
            _ => Self::Refused(bytes),
        }
    }

    /// What the ledger is told when nothing more can be done.
    pub(super) const fn fault(self) -> StoreFault {
        match self {
            Self::Again => StoreFault::Server(*b"40001"),
            Self::Lost => StoreFault::Unreachable,
            Self::Taken => StoreFault::Server(*b"23505"),
            Self::Unfit => StoreFault::Address,
            Self::Untrusted => StoreFault::Untrusted,
            Self::Damaged => StoreFault::Damaged,
            Self::Unknown(code) | Self::Refused(code) => StoreFault::Server(code),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_say_what_is_to_be_done() {
        assert_eq!(Trouble::of_code("40001"), Trouble::Again);
        assert_eq!(Trouble::of_code("40P01"), Trouble::Again);
        assert_eq!(Trouble::of_code("23505"), Trouble::Taken);
        assert_eq!(Trouble::of_code("08006"), Trouble::Lost);
        assert_eq!(Trouble::of_code("25006"), Trouble::Lost);
        assert_eq!(Trouble::of_code("53100").fault(), StoreFault::Server(*b"53100"));
    }
}
