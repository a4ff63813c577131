//! The parties and objects that all vectors are about, from fixed seeds.

use tombola_core::amount::{Amount, Asset, DAY_MS, HOUR_MS, MINUTE_MS, Timestamp};
use tombola_core::book::{Anchor, Book, Ticket};
use tombola_core::chain::Chain;
use tombola_core::chain::Preimage;
use tombola_core::claim::{Claim, ClaimBatch, ClaimHash, Head, Receipt, Refusal};
use tombola_core::codec::List;
use tombola_core::draw::{Draw, Reveal};
use tombola_core::hold::{Delegation, Fee, Hold, HoldTerms, Release};
use tombola_core::key::{AccountKey, QuoteId, RequestId, SecretKey, Signed};
use tombola_core::message::{HoldRequest, RequestHeader};
use tombola_core::odds::Threshold;
use tombola_core::quote::{EpochSecret, Quote, QuoteTerms, Service};
use tombola_core::reject::Code;

/// 2025-01-01T00:00:00Z.
pub(crate) const START: Timestamp = Timestamp(1_735_689_600_000);
/// The seed of the payee's quoting secret.
pub(crate) const EPOCH: [u8; 32] = [0xe0; 32];
/// The secret end of the sample book's chain.
pub(crate) const CHAIN_SECRET: Preimage = Preimage([0x5a; 32]);

/// Keys of the four parties and the objects between them.
pub(crate) struct Sample {
    pub(crate) escrow: SecretKey,
    pub(crate) payer: SecretKey,
    pub(crate) payee: SecretKey,
    pub(crate) signer: SecretKey,
    pub(crate) hold: Hold,
    pub(crate) quote: Quote,
    pub(crate) reveal: Reveal,
    pub(crate) book: Book,
}

impl Sample {
    /// What the hold was asked for with.
    pub(crate) fn hold_request(&self) -> HoldRequest {
        let terms = &self.hold.terms;
        HoldRequest {
            signer: terms.signer,
            payee: terms.payee,
            face_value_min: terms.face_value_min,
            face_value_max: terms.face_value_max,
            book_length_max: terms.book_length_max,
            expires_at: terms.expires_at,
            redeem_by: terms.redeem_by,
            cap: self.hold.cap,
            fee_max: terms.fee,
        }
    }

    pub(crate) fn new() -> Self {
        let escrow = SecretKey::from_seed(&[1; 32]);
        let payer = SecretKey::from_seed(&[2; 32]);
        let payee = SecretKey::from_seed(&[3; 32]);
        let signer = SecretKey::from_seed(&[4; 32]);
        let hold = Hold {
            terms: hold_terms(escrow.account(), payer.account(), payee.account()),
            revision: 0,
            cap: Amount(2_000_000_000),
        };
        let terms = quote_terms(payee.account(), escrow.account());
        let secret = EpochSecret::new(EPOCH);
        let reveal = secret.reveal(&terms);
        let quote = secret.quote(terms);
        let book = Book {
            hold: hold.id(),
            commitment: quote.commitment,
            anchor: Anchor(Chain::new(CHAIN_SECRET, 64).anchor().0),
            length: 64,
            face_value: Amount(1_000_000),
            threshold: threshold(100_000, 1_000_000),
        };
        Self {
            escrow,
            payer,
            payee,
            signer,
            hold,
            quote,
            reveal,
            book,
        }
    }

    pub(crate) fn signed_hold(&self) -> Signed<Hold> {
        Signed::new(self.hold, &self.escrow)
    }

    pub(crate) fn signed_book(&self) -> Signed<Book> {
        Signed::new(self.book, &self.payer)
    }

    pub(crate) fn ticket(&self, index: u32) -> Ticket {
        let preimage = Chain::new(CHAIN_SECRET, self.book.length).preimage(index);
        Ticket {
            index,
            preimage: preimage.expect("an index of the sample book"),
        }
    }

    /// Every winning index of the sample book, in ascending order.
    pub(crate) fn winners(&self) -> Vec<u32> {
        let draw = Draw::new(&self.book.id(), &self.reveal, self.book.threshold);
        (1..=self.book.length)
            .filter(|index| draw.wins(*index, &self.ticket(*index).preimage))
            .collect()
    }

    /// The claim of the sample book through its highest winner.
    pub(crate) fn claim(&self) -> Claim {
        let through = *self.winners().last().expect("the sample book has winners");
        Claim {
            book: self.signed_book(),
            reveal: self.reveal,
            through,
            preimage: self.ticket(through).preimage,
        }
    }

    pub(crate) fn batch(&self) -> ClaimBatch {
        ClaimBatch {
            escrow: self.escrow.account(),
            payee: self.payee.account(),
            claims: list(vec![self.claim()]),
        }
    }

    pub(crate) fn receipt(&self) -> Receipt {
        let won = self.claim().verify(&self.hold).expect("the sample claim is good");
        Receipt {
            escrow: self.escrow.account(),
            writer: 1,
            book: won.book,
            through: won.through,
            winners: won.winners,
            gross: won.gross,
            fee: won.fee,
            hold_paid_after: won.gross,
            at: START.plus_ms(HOUR_MS),
            height: 77,
            head: Head([0x6e; 32]),
        }
    }

    pub(crate) fn refusal(&self) -> Refusal {
        let claim_hash: ClaimHash = self.claim().hash();
        Refusal {
            escrow: self.escrow.account(),
            writer: 1,
            book: self.book.id(),
            claim_hash,
            code: Code::ClaimOverCap,
            revision: self.hold.revision,
            cap: self.hold.cap,
            paid: self.hold.cap,
            at: START.plus_ms(HOUR_MS),
        }
    }

    pub(crate) fn release(&self) -> Release {
        Release {
            hold: self.hold.id(),
            paid: self.receipt().hold_paid_after,
        }
    }

    pub(crate) fn delegation(&self) -> Delegation {
        Delegation {
            escrow: self.escrow.account(),
            account: self.payer.account(),
            signer: self.signer.account(),
            spend_max: Amount(5_000_000_000),
            face_value_max: Amount(100_000_000),
            payees: list(vec![self.payee.account()]),
            expires_at: START.plus_ms(30 * DAY_MS),
            serial: 1,
        }
    }

    pub(crate) fn request(&self) -> RequestHeader {
        RequestHeader {
            id: RequestId([0xa1; 16]),
            issued_at: START,
        }
    }
}

fn hold_terms(escrow: AccountKey, payer: AccountKey, payee: AccountKey) -> HoldTerms {
    HoldTerms {
        escrow,
        asset: Asset::USD,
        payer,
        signer: payer,
        payee,
        serial: 1,
        fee: Fee {
            flat: Amount(100),
            ppm: 5_000,
        },
        face_value_min: Amount(1_000),
        face_value_max: Amount(100_000_000),
        book_length_max: 4_096,
        opened_at: START,
        expires_at: START.plus_ms(30 * DAY_MS),
        redeem_by: START.plus_ms(37 * DAY_MS),
    }
}

fn quote_terms(payee: AccountKey, escrow: AccountKey) -> QuoteTerms {
    QuoteTerms {
        payee,
        quote_id: QuoteId([0x91; 16]),
        service: service("/song.ogg"),
        asset: Asset::USD,
        ticket_price: Amount(100_000),
        face_value_min: Amount(100_000),
        face_value_max: Amount(100_000_000),
        book_length_max: 4_096,
        jump_max: 4_096,
        expires_at: START.plus_ms(HOUR_MS + MINUTE_MS),
        escrows: list(vec![escrow]),
    }
}

/// A service name that is known to fit.
pub(crate) fn service(name: &str) -> Service {
    Service::new(name).expect("a short name")
}

/// A list that is known to fit.
pub(crate) fn list<T, const MAX: usize>(items: Vec<T>) -> List<T, MAX> {
    List::new(items).unwrap_or_else(|e| panic!("too many items: {e}"))
}

/// The threshold of a price that is known to be good.
pub(crate) fn threshold(price: u64, face_value: u64) -> Threshold {
    Threshold::for_price(Amount(price), Amount(face_value)).expect("good terms")
}
