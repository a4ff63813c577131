//! Printing: for people, or one JSON object for programs. Amounts are decimals in the asset either way.

use crate::exit::Failure;
use serde_json::Value;
use std::io::Write;
use tombola_core::amount::{Amount, Asset, Decimal, Timestamp};

/// Who reads the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    People,
    Programs,
}

impl Output {
    /// The result of a command.
    pub(crate) fn result(self, value: &Value, text: impl FnOnce() -> String) {
        match self {
            Self::People => line(&text()),
            Self::Programs => line(&value.to_string()),
        }
    }

    /// What a check found that fails: people read it now, programs within the failure, as they read one object.
    pub(crate) fn found(self, value: Value, text: impl FnOnce() -> String, failure: Failure) -> Failure {
        match self {
            Self::People => {
                line(&text());
                failure
            }
            Self::Programs => failure.found(value),
        }
    }

    /// Something that only people want to see.
    pub(crate) fn note(self, text: &str) {
        if self == Self::People {
            line(text);
        }
    }

    pub(crate) fn failure(self, failure: &Failure) {
        match self {
            Self::People => eprintln!("{}", failure.text()),
            Self::Programs => line(&failure.json().to_string()),
        }
    }
}

fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    // A reader that went away, such as `head`, has seen enough.
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// An amount as a decimal.
pub(crate) fn money(amount: Amount, asset: Asset) -> String {
    amount.decimal(asset.decimals).to_string()
}

/// A sum as a decimal.
pub(crate) fn sum(atoms: u128, asset: Asset) -> String {
    let decimals = asset.decimals;
    Decimal { atoms, decimals }.to_string()
}

/// A text field of a JSON object; nothing if it is not there.
pub(crate) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// A number field of a JSON object; 0 if it is not there.
pub(crate) fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or_default()
}

/// The fields of a JSON object as aligned lines.
pub(crate) fn fields(value: &Value) -> String {
    let mut lines = Vec::new();
    collect(value, "", &mut lines);
    let width = lines.iter().map(|(key, _)| key.len()).max().unwrap_or(0);
    let lines = lines.iter().map(|(key, value)| format!("{key:<width$}  {value}"));
    lines.collect::<Vec<_>>().join("\n")
}

fn collect(value: &Value, prefix: &str, lines: &mut Vec<(String, String)>) {
    let under = |key: &str| match prefix {
        "" => key.to_owned(),
        prefix => format!("{prefix}.{key}"),
    };
    match value {
        Value::Object(object) => object
            .iter()
            .for_each(|(key, value)| collect(value, &under(key), lines)),
        Value::Array(items) if items.is_empty() => lines.push((prefix.to_owned(), "none".to_owned())),
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                collect(item, &under(&at.to_string()), lines);
            }
        }
        Value::String(text) => lines.push((prefix.to_owned(), text.clone())),
        Value::Null => lines.push((prefix.to_owned(), "-".to_owned())),
        other => lines.push((prefix.to_owned(), other.to_string())),
    }
}

/// A time as people write it, in UTC: `2026-11-22 18:10:01`.
pub(crate) fn date(at: Timestamp) -> String {
    let seconds = at.0 / 1_000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

/// Year, month and day of a number of days since 1970, in the Gregorian calendar, counted in eras of 400 years.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days.saturating_add(719_468);
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00"),
            (951_782_399, "2000-02-28 23:59:59"),
            (951_782_400, "2000-02-29 00:00:00"),
            (1_735_689_599, "2024-12-31 23:59:59"),
            (4_107_542_400, "2100-03-01 00:00:00"),
        ] {
            assert_eq!(date(Timestamp(seconds * 1_000)), text);
        }
    }

    #[test]
    fn fields_are_aligned_and_nested_ones_have_their_path() {
        let value = json!({ "a": { "long": "x", "list": [1, 2] }, "b": null });
        assert_eq!(fields(&value), "a.list.0  1\na.list.1  2\na.long    x\nb         -");
    }
}
