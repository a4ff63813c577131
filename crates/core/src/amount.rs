//! Money and time: integers of the escrow's atomic unit, milliseconds since the Unix epoch. No floats, no wrapping.

use bincode::{Decode, Encode};
use std::fmt;

/// A sum of money in atomic units of one escrow's asset. Spec: M-01.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub struct Amount(pub u64);

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// Sum, or `None` over `u64::MAX`.
    #[must_use]
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// Difference, or `None` below zero.
    #[must_use]
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(rest) => Some(Self(rest)),
            None => None,
        }
    }

    /// Difference, or zero: for showing what is left, never for booking it.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// Product with a count, or `None` over `u64::MAX`.
    #[must_use]
    pub const fn checked_mul(self, count: u64) -> Option<Self> {
        match self.0.checked_mul(count) {
            Some(product) => Some(Self(product)),
            None => None,
        }
    }

    /// Product with a count, at most `u64::MAX`: for bounds that are compared, never for booking.
    #[must_use]
    pub const fn saturating_mul(self, count: u64) -> Self {
        Self(self.0.saturating_mul(count))
    }

    /// Whether this is nothing.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// As a decimal in an asset of `decimals` places, without trailing zeros beyond the second place.
    #[must_use]
    pub fn decimal(self, decimals: u8) -> Decimal {
        Decimal {
            atoms: u128::from(self.0),
            decimals,
        }
    }

    /// Reads a plain decimal such as `0.0001`.
    ///
    /// # Errors
    /// [`ParseAmountError`] if it is not a plain decimal, has more than `decimals` places, or does not fit.
    pub fn parse(text: &str, decimals: u8) -> Result<Self, ParseAmountError> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(fraction) {
            return Err(ParseAmountError::NotADecimal);
        }
        let fraction = fraction.trim_end_matches('0');
        if fraction.len() > usize::from(decimals) {
            return Err(ParseAmountError::TooFine { decimals });
        }
        let mut atoms = 0u64;
        let padding = usize::from(decimals).saturating_sub(fraction.len());
        for digit in whole
            .bytes()
            .chain(fraction.bytes())
            .chain(std::iter::repeat_n(b'0', padding))
        {
            atoms = atoms
                .checked_mul(10)
                .and_then(|shifted| shifted.checked_add(u64::from(digit.saturating_sub(b'0'))))
                .ok_or(ParseAmountError::TooLarge)?;
        }
        Ok(Self(atoms))
    }
}

impl fmt::Debug for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl serde::Serialize for Amount {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // JSON numbers lose integers over 2^53; atomic amounts are strings there.
        serializer.collect_str(&self.0)
    }
}

/// Sums amounts in u128, where no number of them that fits in memory can overflow.
#[must_use]
pub fn sum(amounts: impl IntoIterator<Item = Amount>) -> u128 {
    amounts
        .into_iter()
        .fold(0u128, |total, amount| total.saturating_add(u128::from(amount.0)))
}

/// An amount shown as a decimal; made by [`Amount::decimal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decimal {
    /// Atomic units; sums may exceed one account's u64.
    pub atoms: u128,
    /// Decimal places of the asset.
    pub decimals: u8,
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = usize::from(self.decimals);
        let digits = format!("{:0>width$}", self.atoms, width = places.saturating_add(1));
        let (whole, fraction) = digits.split_at(digits.len().saturating_sub(places));
        let keep = fraction.trim_end_matches('0').len().max(2).min(places);
        f.write_str(whole)?;
        match fraction.get(..keep) {
            Some(shown) if !shown.is_empty() => write!(f, ".{shown}"),
            _ => Ok(()),
        }
    }
}

/// Why text is not an amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseAmountError {
    /// Only digits and at most one point are allowed.
    #[error("not a plain decimal such as 0.0001")]
    NotADecimal,
    /// The asset has no such small unit.
    #[error("more than the asset's {decimals} decimal places")]
    TooFine {
        /// Places that the asset has.
        decimals: u8,
    },
    /// Over `u64::MAX` atomic units.
    #[error("larger than any account can hold")]
    TooLarge,
}

/// What one escrow counts: a name of at most 16 bytes and its decimal places. Spec: M-02.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Asset {
    /// ASCII name, zero-padded.
    pub code: [u8; 16],
    /// Decimal places: an amount of `10^decimals` is 1.
    pub decimals: u8,
}

impl Asset {
    /// The default asset: US dollars with 9 decimals; 1 is a nano-dollar.
    pub const USD: Self = Self {
        code: *b"USD\0\0\0\0\0\0\0\0\0\0\0\0\0",
        decimals: 9,
    };

    /// Makes an asset from 1 to 16 printable ASCII characters and at most 18 places.
    #[must_use]
    pub fn new(code: &str, decimals: u8) -> Option<Self> {
        let mut padded = [0u8; 16];
        padded.get_mut(..code.len())?.copy_from_slice(code.as_bytes());
        (!code.is_empty() && code.bytes().all(|b| b.is_ascii_graphic()) && decimals <= 18)
            .then_some(Self { code: padded, decimals })
    }

    /// The name without its padding.
    #[must_use]
    pub fn name(&self) -> &str {
        std::str::from_utf8(&self.code).unwrap_or("?").trim_end_matches('\0')
    }
}

impl fmt::Debug for Asset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name(), self.decimals)
    }
}

impl serde::Serialize for Asset {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{self:?}"))
    }
}

/// Milliseconds since the Unix epoch. Spec: C-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode, serde::Serialize)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The last time there is: later than any that a clock shows.
    pub const MAX: Self = Self(u64::MAX);

    /// This time and `ms` later, at most the end of time.
    #[must_use]
    pub const fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// This time and `ms` earlier, at least the epoch.
    #[must_use]
    pub const fn minus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_sub(ms))
    }
}

/// One second in milliseconds.
pub const SECOND_MS: u64 = 1_000;
/// One minute in milliseconds.
pub const MINUTE_MS: u64 = 60 * SECOND_MS;
/// One hour in milliseconds.
pub const HOUR_MS: u64 = 60 * MINUTE_MS;
/// One day in milliseconds.
pub const DAY_MS: u64 = 24 * HOUR_MS;

#[cfg(test)]
mod tests {
    use super::*;

    /// Spec: M-03.
    #[test]
    fn amounts_read_as_they_print() {
        for (text, atoms) in [
            ("0.0001", 100_000),
            ("1.00", 1_000_000_000),
            ("7.99", 7_990_000_000),
            ("0.000000001", 1),
        ] {
            assert_eq!(Amount::parse(text, 9), Ok(Amount(atoms)));
            assert_eq!(Amount(atoms).decimal(9).to_string(), text);
        }
        assert_eq!(Amount(1_234).decimal(0).to_string(), "1234");
        assert_eq!(Amount::parse("18446744073.709551615", 9), Ok(Amount(u64::MAX)));
    }

    /// Spec: M-03.
    #[test]
    fn bad_amounts_are_typed_errors() {
        for text in ["", ".", "-1", "1e9", "1.", ".5", "1,5", "0x1", " 1"] {
            assert_eq!(Amount::parse(text, 9), Err(ParseAmountError::NotADecimal), "{text:?}");
        }
        assert_eq!(
            Amount::parse("0.0000000001", 9),
            Err(ParseAmountError::TooFine { decimals: 9 })
        );
        assert_eq!(
            Amount::parse("18446744073.709551616", 9),
            Err(ParseAmountError::TooLarge)
        );
    }

    /// Spec: M-02, M-03.
    #[test]
    fn an_asset_is_17_bytes_and_has_a_printable_name() {
        let usd = crate::codec::encode(&Asset::USD);
        assert_eq!((usd.len(), &usd[..4], usd[16]), (17, &b"USD\0"[..], 9));
        assert_eq!(Asset::new("USD", 9), Some(Asset::USD));
        assert_ne!(Asset::new("USD", 2), Some(Asset::USD));
        assert!(Asset::new("SIXTEEN-LETTERS!", 18).is_some());
        for (code, decimals) in [
            ("", 2),
            ("SEVENTEEN-LETTERS", 2),
            ("A B", 2),
            ("\u{e9}", 2),
            ("EUR", 19),
        ] {
            assert_eq!(Asset::new(code, decimals), None, "{code:?}");
        }
    }

    /// Spec: C-01.
    #[test]
    fn time_stops_at_both_ends() {
        assert_eq!(Timestamp(u64::MAX - 1).plus_ms(5), Timestamp(u64::MAX));
        assert_eq!(Timestamp(4).minus_ms(5), Timestamp(0));
        assert_eq!(crate::codec::encode(&Timestamp(258)), [2, 1, 0, 0, 0, 0, 0, 0]);
    }
}
