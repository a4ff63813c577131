//! Quotes: a payee's offer and its commitment to the secret half of the draws.

use crate::amount::{Amount, Asset, Timestamp};
use crate::codec::{List, Tag, Text, tagged_bytes};
use crate::draw::{Commitment, Reveal};
use crate::key::{AccountKey, QuoteId};
use crate::limits::{ESCROWS_MAX, SERVICE_BYTES_MAX};
use bincode::{Decode, Encode};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Name of a service. `tip` takes tips; a name that starts with `/` is a file. Spec: D-01.
pub type Service = Text<SERVICE_BYTES_MAX>;

/// Escrows that a payee accepts.
pub type Escrows = List<AccountKey, ESCROWS_MAX>;

/// What a payee offers, all that the reveal is made from. Spec: Q-01.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, serde::Serialize)]
pub struct QuoteTerms {
    /// Who offers.
    pub payee: AccountKey,
    /// Random.
    pub quote_id: QuoteId,
    /// What is offered.
    pub service: Service,
    /// In which asset.
    pub asset: Asset,
    /// Expected value of one ticket; one ticket pays one unit.
    pub ticket_price: Amount,
    /// Smallest face value.
    pub face_value_min: Amount,
    /// Largest face value.
    pub face_value_max: Amount,
    /// Longest book.
    pub book_length_max: u32,
    /// Farthest jump between tickets.
    pub jump_max: u32,
    /// No book is opened on it after this.
    pub expires_at: Timestamp,
    /// Escrows that the payee accepts.
    pub escrows: Escrows,
}

/// An offer with the commitment to its reveal. Spec: Q-01.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, serde::Serialize)]
pub struct Quote {
    /// The offer.
    pub terms: QuoteTerms,
    /// Binds the payee to the reveal that the terms and its epoch secret make.
    pub commitment: Commitment,
}

/// The secret from which a payee makes all reveals of an epoch. Zeroised when dropped. Spec: Q-03.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct EpochSecret([u8; 32]);

impl EpochSecret {
    /// Takes 32 fresh random bytes.
    #[must_use]
    pub const fn new(random: [u8; 32]) -> Self {
        Self(random)
    }

    /// `HMAC-SHA256(secret, tag || terms)`. Spec: Q-03.
    #[must_use]
    pub fn reveal(&self, terms: &QuoteTerms) -> Reveal {
        // HMAC takes a key of any length.
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).unwrap_or_else(|_| unreachable!("any key length"));
        mac.update(&tagged_bytes(QUOTE_TAG, terms));
        Reveal(mac.finalize().into_bytes().into())
    }

    /// A quote on these terms.
    #[must_use]
    pub fn quote(&self, terms: QuoteTerms) -> Quote {
        let commitment = self.reveal(&terms).commitment();
        Quote { terms, commitment }
    }
}

impl std::fmt::Debug for EpochSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EpochSecret(..)")
    }
}

const QUOTE_TAG: Tag = Tag::new("tombola/quote/v1");
