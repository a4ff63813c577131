//! Every decoder of bytes that came from elsewhere: the wire, signed objects, rows and events.

use tombola_core::book::{Book, TICKET_BYTES, Ticket};
use tombola_core::claim::{Claim, ClaimBatch, Receipt, Refusal};
use tombola_core::codec::{DecodeError, MESSAGE_BYTES_MAX, decode, encode};
use tombola_core::hold::{Delegation, Hold, Release};
use tombola_core::key::Signed;
use tombola_core::message::{
    BookFrame, EscrowAnswer, EscrowRequest, Evidence, PayeeAnswer, PayeeRequest, ResponseHeader, ServiceOffer,
    StatementEntry,
};
use tombola_core::payee::{HoldRow, WinnerRow};
use tombola_core::payer::JournalRow;
use tombola_core::quote::Quote;
use tombola_core::reject::Reject;
use tombola_ledger::event::Event;
use tombola_ledger::extract::{LogEnd, Start};
use tombola_ledger::row::{Row, Table};

/// A decoder by the name that the vectors have for its type; it says whether it took the bytes.
type Decoder = (&'static str, fn(&[u8]) -> bool);

/// Decoders by name: what one accepts has one encoding, and can be shown. Spec: E-02, E-03.
macro_rules! decoders {
    ($($name:literal $kind:ty),* $(,)?) => {
        const DECODERS: &[Decoder] = &[$(($name, |data| match decode::<$kind>(data) {
            Ok(value) => {
                assert!(encode(&value) == data, "{}: one encoding of each value", $name);
                assert!(!format!("{value:?}").is_empty(), "{} is shown", $name);
                true
            }
            Err(error) => {
                check_error(error, data);
                false
            }
        })),*];
    };
}

decoders! {
    "BookFrame" BookFrame,
    "Claim" Claim,
    "EscrowAnswer" EscrowAnswer,
    "EscrowRequest" EscrowRequest,
    "PayeeAnswer" PayeeAnswer,
    "PayeeRequest" PayeeRequest,
    "Quote" Quote,
    "Reject" Reject,
    "ResponseHeader" ResponseHeader,
    "ServiceOffer" ServiceOffer,
    "Signed<Book>" Signed<Book>,
    "Signed<ClaimBatch>" Signed<ClaimBatch>,
    "Signed<Delegation>" Signed<Delegation>,
    "Signed<Hold>" Signed<Hold>,
    "Signed<Receipt>" Signed<Receipt>,
    "Signed<Refusal>" Signed<Refusal>,
    "Signed<Release>" Signed<Release>,
    "StatementEntry" StatementEntry,
    "Ticket" Ticket,
    "Evidence" Evidence,
    "Event" Event,
    "Signed<LogEnd>" Signed<LogEnd>,
    "Start" Start,
    "HoldRow" HoldRow,
    "WinnerRow" WinnerRow,
    "JournalRow" JournalRow,
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
