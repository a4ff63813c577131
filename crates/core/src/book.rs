//! Books and tickets: one signature covers a whole chain of lottery tickets.

use crate::amount::Amount;
use crate::chain::Preimage;
use crate::codec::{Tag, hex_bytes, tagged_hash};
use crate::draw::Commitment;
use crate::hold::Hold;
use crate::key::{BookId, HoldId, Tagged};
use crate::limits::BOOK_LENGTH_MAX;
use crate::odds::Threshold;
use crate::reject::{Code, Reject};
use bincode::{Decode, Encode};

/// Bytes of a ticket on the wire: le32 index, preimage. Spec: T-01.
pub const TICKET_BYTES: usize = 36;

/// A book of tickets, signed by the hold's signer. Spec: B-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, serde::Serialize)]
pub struct Book {
    /// Which promise pays its winners.
    pub hold: HoldId,
    /// The payee's half of the draws.
    pub commitment: Commitment,
    /// `w[0]` of the payer's chain.
    pub anchor: Anchor,
    /// Number of tickets.
    pub length: u32,
    /// What a winner pays.
    pub face_value: Amount,
    /// What wins.
    pub threshold: Threshold,
}

impl Book {
    /// The id: a hash of the body, never of the signature. Spec: B-02.
    #[must_use]
    pub fn id(&self) -> BookId {
        BookId(tagged_hash(BOOK_ID_TAG, self))
    }

    /// Whether the book keeps to its hold: the checks that payee, escrow and auditor share. Spec: B-03.
    ///
    /// # Errors
    /// `hold_mismatch`, `book_too_long`, `face_out_of_range`.
    pub fn check_hold(&self, hold: &Hold) -> Result<(), Reject> {
        if self.hold != hold.id() {
            return Err(Reject::of(Code::HoldMismatch));
        }
        let length_max = hold.terms.book_length_max.min(BOOK_LENGTH_MAX);
        if self.length == 0 || self.length > length_max {
            return Err(Reject::compared(
                Code::BookTooLong,
                u64::from(length_max),
                u64::from(self.length),
            ));
        }
        check_face(self.face_value, hold.terms.face_value_min, hold.terms.face_value_max)
    }
}

/// Whether a face value lies in a range.
///
/// # Errors
/// `face_out_of_range` with the bound that it breaks.
pub fn check_face(face_value: Amount, min: Amount, max: Amount) -> Result<(), Reject> {
    let bound = if face_value < min { min } else { max };
    if face_value < min || face_value > max {
        return Err(Reject::compared(Code::FaceOutOfRange, bound.0, face_value.0));
    }
    Ok(())
}

impl Tagged for Book {
    const TAG: Tag = Tag::new("tombola/book/v1");
}

hex_bytes!(
    /// `w[0]` of a chain. Spec: T-02.
    Anchor,
    32
);

/// One payment: an index and the chain value there. Spec: T-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, serde::Serialize)]
pub struct Ticket {
    /// `1..=length`; how many tickets of the book this pays for in all.
    pub index: u32,
    /// `w[index]`.
    pub preimage: Preimage,
}

impl Ticket {
    /// The 36 bytes on the wire.
    #[must_use]
    #[inline]
    pub fn to_bytes(&self) -> [u8; TICKET_BYTES] {
        let mut bytes = [0u8; TICKET_BYTES];
        let (index, preimage) = bytes.split_at_mut(4);
        index.copy_from_slice(&self.index.to_le_bytes());
        preimage.copy_from_slice(&self.preimage.0);
        bytes
    }

    /// Reads the 36 bytes; any 36 bytes are a ticket, whether it is good the book decides.
    #[must_use]
    #[inline]
    pub fn from_bytes(bytes: &[u8; TICKET_BYTES]) -> Self {
        let mut index = [0u8; 4];
        let mut preimage = [0u8; 32];
        let (left, right) = bytes.split_at(4);
        index.copy_from_slice(left);
        preimage.copy_from_slice(right);
        Self {
            index: u32::from_le_bytes(index),
            preimage: Preimage(preimage),
        }
    }
}

const BOOK_ID_TAG: Tag = Tag::new("tombola/book-id/v1");
