//! Parsers of what people type: keys, ids, addresses, amounts, sizes and database addresses.

use std::fmt::{Debug, Display};
use std::str::FromStr;
use tombola_core::amount::{Amount, Asset};
use tombola_core::key::{AccountKey, BookId, HoldId, QuoteId, RequestId};
use tombola_net::Address;
use tombola_node::config::{DatabaseUrl, Money, parse_bytes};

/// The first byte names the parser, the second its parameter, the others are the text.
pub fn text(data: &[u8]) {
    let [parser, parameter, text @ ..] = data else {
        return;
    };
    let Ok(text) = std::str::from_utf8(text) else { return };
    match parser % 11 {
        0 => reads_as_it_prints::<AccountKey>(text),
        1 => reads_as_it_prints::<HoldId>(text),
        2 => reads_as_it_prints::<BookId>(text),
        3 => reads_as_it_prints::<QuoteId>(text),
        4 => reads_as_it_prints::<RequestId>(text),
        5 => reads_as_it_prints::<Address>(text),
        6 => amount(text, *parameter),
        7 => reads_as_it_prints::<Money>(text),
        8 => size(text),
        9 => asset(text, *parameter),
        // Shown without its password, so it does not read as it prints.
        _ => drop(text.parse::<DatabaseUrl>().map(|url| url.to_string())),
    }
}

/// What was read is printed in a form that is read as the same.
fn reads_as_it_prints<T>(text: &str)
where
    T: FromStr + Display + PartialEq + Debug,
    T::Err: Display + Debug,
{
    match text.parse::<T>() {
        Ok(value) => {
            let again = value.to_string().parse::<T>();
            assert_eq!(again.ok(), Some(value), "{text:?}");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Spec: M-03.
fn amount(text: &str, decimals: u8) {
    let Ok(amount) = Amount::parse(text, decimals) else {
        return;
    };
    let shown = amount.decimal(decimals).to_string();
    assert_eq!(
        Amount::parse(&shown, decimals),
        Ok(amount),
        "{text:?} shown as {shown:?}"
    );
}

fn size(text: &str) {
    if let Ok(bytes) = parse_bytes(text) {
        assert_eq!(parse_bytes(&bytes.to_string()), Ok(bytes), "{text:?}");
    }
}

/// Spec: M-02.
fn asset(text: &str, decimals: u8) {
    if let Some(asset) = Asset::new(text, decimals) {
        assert_eq!((asset.name(), asset.decimals), (text, decimals));
    }
}
