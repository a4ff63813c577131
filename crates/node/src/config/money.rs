//! Quantities as people write them: `0.0001` and `64KiB`.

use super::ConfigError;
use std::fmt;
use std::str::FromStr;
use tombola_core::amount::{Amount, Asset, ParseAmountError};

/// Most decimal places of any asset.
const DECIMALS_MAX: u8 = 18;

/// A sum of money as a plain decimal; it becomes an amount where the asset's decimal places are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Money(String);

impl Money {
    /// One of this module's own defaults, which a test reads.
    pub(super) fn literal(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The amount in an asset; errors name the setting.
    ///
    /// # Errors
    /// [`ConfigError::Amount`] if it is finer than the asset or larger than any account can hold.
    pub fn amount(&self, key: &'static str, asset: Asset) -> Result<Amount, ConfigError> {
        Amount::parse(&self.0, asset.decimals).map_err(|error| ConfigError::Amount { key, error })
    }

    /// The amount in an asset, which must be more than nothing.
    ///
    /// # Errors
    /// As [`Money::amount`], and [`ConfigError::Zero`].
    pub fn positive(&self, key: &'static str, asset: Asset) -> Result<Amount, ConfigError> {
        let amount = self.amount(key, asset)?;
        if amount.is_zero() {
            return Err(ConfigError::Zero { key });
        }
        Ok(amount)
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Money {
    type Err = ParseAmountError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match Amount::parse(text, DECIMALS_MAX) {
            // Whether it fits depends on the asset.
            Ok(_) | Err(ParseAmountError::TooLarge) => Ok(Self(text.to_owned())),
            Err(error) => Err(error),
        }
    }
}

impl serde::Serialize for Money {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for Money {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Reads a number of bytes: `65536`, `64KiB`, `1MiB`, `64kB` or `1MB`.
///
/// # Errors
/// [`ParseBytesError`] for anything else, and where it does not fit.
pub fn parse_bytes(text: &str) -> Result<u32, ParseBytesError> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor: u64 = match unit {
        "" | "B" => 1,
        "KiB" => 1_024,
        "MiB" => 1_024 * 1_024,
        "kB" => 1_000,
        "MB" => 1_000_000,
        _ => return Err(ParseBytesError),
    };
    let number: u64 = number.parse().map_err(|_| ParseBytesError)?;
    let bytes = number.checked_mul(factor).ok_or(ParseBytesError)?;
    u32::try_from(bytes).map_err(|_| ParseBytesError)
}

/// Text is not a number of bytes below 4 GiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a number of bytes such as 65536, 64KiB or 1MB")]
pub struct ParseBytesError;
