//! What can be wrong with a configuration.

use crate::key_file::PassphraseFileError;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use tombola_core::amount::{Decimal, ParseAmountError};

/// Why a configuration cannot be used. Every variant names the setting or the place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// An amount does not fit the asset.
    #[error("{key}: {error}")]
    Amount {
        /// The setting.
        key: &'static str,
        /// What is wrong with it.
        error: ParseAmountError,
    },
    /// An amount is below another one that it must reach.
    #[error("{key} is {given}, below {floor_key}, which is {floor}")]
    AmountBelow {
        /// The setting.
        key: &'static str,
        /// Its value.
        given: Decimal,
        /// The setting that it must reach.
        floor_key: &'static str,
        /// The value of that.
        floor: Decimal,
    },
    /// Not an asset: a name of 1 to 16 printable characters, at most 18 places.
    #[error("asset is {name:?} with decimals {decimals}; it takes 1 to 16 printable characters and at most 18 places")]
    Asset {
        /// The name.
        name: String,
        /// The decimal places.
        decimals: u8,
    },
    /// Something about a file; the source says what.
    #[error("{}: {error}", path.display())]
    In {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        error: Box<Self>,
    },
    /// The system refused.
    #[error("{}: {kind}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        kind: io::ErrorKind,
    },
    /// A number is out of its range.
    #[error("{key} is {given}, not from {min} to {max}")]
    OutOfRange {
        /// The setting.
        key: &'static str,
        /// Its value.
        given: u64,
        /// The smallest value.
        min: u64,
        /// The largest value.
        max: u64,
    },
    /// A setting means something only where another one is set.
    #[error("{key} is set and {needs} is not; set {needs}, or leave {key} out")]
    Needs {
        /// The setting.
        key: &'static str,
        /// The setting that it needs.
        needs: &'static str,
    },
    /// Other machines would reach what is meant for this one.
    #[error("{key} is {given}, which other machines reach; use 127.0.0.1, or set {needs} = true as well")]
    NotLoopback {
        /// The setting.
        key: &'static str,
        /// Its value.
        given: SocketAddr,
        /// The setting that allows it.
        needs: &'static str,
    },
    /// The file of a secret is not for this process alone, or cannot be read.
    #[error("{key}: {error}")]
    Secret {
        /// The setting that names it.
        key: &'static str,
        /// The file, and why.
        error: PassphraseFileError,
    },
    /// The text is not TOML, has an unknown key, or a value of another type.
    #[error("line {line}{}: {detail}", key.as_ref().map(|key| format!(", {key}")).unwrap_or_default())]
    Syntax {
        /// The line, from 1.
        line: usize,
        /// The key on that line, if it has one.
        key: Option<String>,
        /// What the parser says, for people.
        detail: String,
    },
    /// An amount must be more than nothing.
    #[error("{key} is 0 and must be more")]
    Zero {
        /// The setting.
        key: &'static str,
    },
}

impl ConfigError {
    /// The same error, with the file it is in.
    #[must_use]
    pub fn in_file(self, path: impl Into<PathBuf>) -> Self {
        Self::In {
            path: path.into(),
            error: Box::new(self),
        }
    }
}

pub(super) fn check_range(key: &'static str, given: u64, min: u64, max: u64) -> Result<(), ConfigError> {
    if (min..=max).contains(&given) {
        return Ok(());
    }
    Err(ConfigError::OutOfRange { key, given, min, max })
}

/// Metrics are for programs of this machine, unless the operator says so twice.
pub(super) const fn check_metrics(listen: Option<SocketAddr>, is_beyond_allowed: bool) -> Result<(), ConfigError> {
    match listen {
        Some(given) if !given.ip().is_loopback() && !is_beyond_allowed => Err(ConfigError::NotLoopback {
            key: "metrics_listen",
            given,
            needs: "metrics_beyond_loopback",
        }),
        _ => Ok(()),
    }
}
