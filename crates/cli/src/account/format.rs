//! Shares and spans of time as people write them: `70%`, `7d`.

use std::fmt;
use tombola_core::amount::{DAY_MS, HOUR_MS};
use tombola_core::key::AccountKey;

/// A part of a whole, in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Percent(u32);

/// Millionths of one percent.
const PPM_OF_PERCENT: u32 = 10_000;

impl Percent {
    pub(super) const fn of(ppm: u32) -> Self {
        Self(ppm)
    }

    pub(super) const fn ppm(self) -> u32 {
        self.0
    }

    fn parse(text: &str) -> Option<Self> {
        let number = text.strip_suffix('%')?;
        let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if !(digits(whole) && digits(part)) || part.is_empty() || part.len() > 4 {
            return None;
        }
        let part: u32 = format!("{part:0<4}").parse().ok()?;
        let whole: u32 = whole.parse().ok()?;
        whole.checked_mul(PPM_OF_PERCENT)?.checked_add(part).map(Self)
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / PPM_OF_PERCENT, self.0 % PPM_OF_PERCENT);
        let part = format!("{part:04}");
        match part.trim_end_matches('0') {
            "" => write!(f, "{whole}%"),
            part => write!(f, "{whole}.{part}%"),
        }
    }
}

/// An account and its share: `tom1...=70%`.
pub(super) fn parse_share(text: &str) -> Result<(AccountKey, Percent), String> {
    let (account, share) = text.rsplit_once('=').ok_or("write it as tom1...=70%")?;
    let share = Percent::parse(share).ok_or_else(|| format!("{share} is no share; write it as 70% or 0.5%"))?;
    Ok((crate::local::parse_account(account)?, share))
}

/// A span of time in milliseconds: `7d` or `12h`.
pub(super) fn parse_span(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text} is no time; write it as 7d or 12h");
    let (number, unit_ms) = match text.strip_suffix('d') {
        Some(days) => (days, DAY_MS),
        None => (text.strip_suffix('h').ok_or_else(wrong)?, HOUR_MS),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(unit_ms).filter(|span| *span > 0).ok_or_else(wrong)
}

/// The same, the other way round; what is no whole number of hours is shown in milliseconds.
pub(super) fn span(ms: u64) -> String {
    match ms {
        ms if ms % DAY_MS == 0 => format!("{}d", ms / DAY_MS),
        ms if ms % HOUR_MS == 0 => format!("{}h", ms / HOUR_MS),
        ms => format!("{ms} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percents_are_exact_to_a_millionth() {
        for (text, ppm) in [
            ("70%", 700_000),
            ("0.5%", 5_000),
            ("33.3333%", 333_333),
            ("100%", 1_000_000),
        ] {
            assert_eq!(Percent::parse(text), Some(Percent(ppm)));
            assert_eq!(Percent(ppm).to_string(), text);
        }
        for text in ["70", "%", "1.%", "0.00001%", "-1%", "1e1%", "999999999%"] {
            assert_eq!(Percent::parse(text), None, "{text}");
        }
    }

    #[test]
    fn spans_are_days_or_hours() {
        assert_eq!(parse_span("7d"), Ok(7 * DAY_MS));
        assert_eq!(parse_span("12h"), Ok(12 * HOUR_MS));
        assert_eq!(span(36 * HOUR_MS), "36h");
        for text in ["7", "d", "0d", "-1h", "1w", "999999999999999999d"] {
            assert!(parse_span(text).is_err(), "{text}");
        }
    }
}
