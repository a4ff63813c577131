//! Every decoder of bytes that came from elsewhere: the wire, signed objects, rows and events.

use bincode::{Decode, Encode};
use serde::Serialize;
use std::any::type_name;
use std::fmt::Debug;
use std::sync::LazyLock;
use tombola_core::book::{TICKET_BYTES, Ticket};
use tombola_core::codec::{DecodeError, MESSAGE_BYTES_MAX, decode, encode};
use tombola_core::key::Signed;
use tombola_core::message::Evidence;
use tombola_core::payee::{HoldRow, Settled, WinnerRow};
use tombola_core::payer::JournalRow;
use tombola_ledger::event::Event;
use tombola_ledger::extract::{LogEnd, Start};
use tombola_ledger::row::{Row, Table};
use tombola_tests::vectors::run::{Use, with_each_type};

/// A decoder says whether it took the bytes.
type Decoder = fn(&[u8]) -> bool;

/// By the name of its type: those that have vectors, then what else comes from elsewhere, and what is kept.
static DECODERS: LazyLock<Vec<(&'static str, Decoder)>> = LazyLock::new(|| {
    let others: [(&str, Decoder); 8] = [
        ("Evidence", take::<Evidence>),
        ("Event", take::<Event>),
        ("Signed<LogEnd>", take::<Signed<LogEnd>>),
        ("Start", take::<Start>),
        ("HoldRow", take::<HoldRow>),
        ("WinnerRow", take::<WinnerRow>),
        ("JournalRow", take::<JournalRow>),
        ("Settled", take::<Settled>),
    ];
    with_each_type::<Taking>().into_iter().chain(others).collect()
});

struct Taking;

impl Use for Taking {
    type Of = Decoder;

    fn of<T: Encode + Decode<()> + Serialize + Debug>() -> Decoder {
        take::<T>
    }
}

/// What is accepted has one encoding, and can be shown. Spec: E-02, E-03.
fn take<T: Encode + Decode<()> + Debug>(data: &[u8]) -> bool {
    match decode::<T>(data) {
        Ok(value) => {
            let name = type_name::<T>();
            assert!(encode(&value) == data, "{name}: one encoding of each value");
            assert!(!format!("{value:?}").is_empty(), "{name} is shown");
            true
        }
        Err(error) => {
            check_error(error, data);
            false
        }
    }
}

fn check_error(error: DecodeError, data: &[u8]) {
    match error {
        DecodeError::TooLarge(given) => assert!(given == data.len() && given > MESSAGE_BYTES_MAX),
        DecodeError::Trailing { used, given } => assert!(given == data.len() && used < given),
        // It says nothing more.
        _ => {}
    }
}

/// The first byte names the decoder, the others are its input.
pub fn decoder(data: &[u8]) {
    let Some((number, data)) = data.split_first() else {
        return;
    };
    let number = usize::from(*number);
    if let Some((_, decoder)) = DECODERS.get(number) {
        decoder(data);
    } else if let Some(table) = Table::ALL.get(number - DECODERS.len()) {
        if let Ok(row) = Row::decode(*table, data) {
            assert!(row.encode() == data, "{table:?}: one encoding of each row");
        }
    } else if let Some(record) = data.first_chunk::<TICKET_BYTES>() {
        assert_eq!(Ticket::from_bytes(record).to_bytes(), *record);
    }
}

/// The input that gives these bytes to the decoder of this type, if there is one.
pub(crate) fn seed(kind: &str, bytes: &[u8]) -> Option<Vec<u8>> {
    let number = DECODERS.iter().position(|(name, _)| *name == kind)?;
    let number = u8::try_from(number).ok()?;
    Some([&[number], bytes].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_valid_vector_is_accepted_by_its_decoder() {
        let mut accepted = 0;
        for (kind, bytes) in crate::seed::vectors() {
            let decoder = DECODERS.iter().find(|(name, _)| *name == kind);
            let (name, decoder) = decoder.unwrap_or_else(|| panic!("no decoder for {kind}"));
            assert!(decoder(&bytes), "{name}");
            accepted += 1;
        }
        assert!(accepted > 80, "only {accepted} vectors");
    }
}
