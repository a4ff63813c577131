//! What a node says when it refuses: a stable code and the two numbers that were compared.

use bincode::de::{BorrowDecoder, Decoder};
use bincode::enc::Encoder;
use bincode::error::EncodeError;
use bincode::{BorrowDecode, Decode, Encode};
use std::fmt;

macro_rules! codes {
    ($($(#[$doc:meta])* $number:literal $variant:ident $name:literal $advice:literal;)*) => {
        /// A stable error or close code; u16 on the wire. Spec: X-01.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Code {
            $($(#[$doc])* $variant,)*
        }

        impl Code {
            /// Every code, in the order of its number.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The number on the wire.
            #[must_use]
            pub const fn number(self) -> u16 {
                match self { $(Self::$variant => $number),* }
            }

            /// The name in the spec, in JSON and in logs.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// What whoever reads the message can do next.
            #[must_use]
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$variant => $advice),* }
            }

            /// The code of a number.
            #[must_use]
            pub const fn from_number(number: u16) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

codes! {
    /// The bytes are not the message they were taken for.
    1 Malformed "malformed" "update the older of the two programs";
    /// A frame is over its limit (limit, given).
    2 TooLarge "too_large" "send less at once";
    /// This node does not offer the request.
    3 NotOffered "not_offered" "ask a node that offers it";
    /// The connection's key may not do this for that account, or a request does not show a ticket of its book.
    4 Unauthorized "unauthorized" "connect with the account's own key";
    /// A limit on open things or on work per peer is reached (limit, now).
    5 Busy "busy" "wait and try again";
    /// The node is closing or its disk failed.
    6 Unavailable "unavailable" "try again in a minute";
    /// A public key is not canonical, is weak, or has a torsion component.
    7 BadKey "bad_key" "make a new key";
    /// A signature does not verify.
    8 BadSignature "bad_signature" "sign with the key that the object names";
    /// A price is zero or over the face value, or a limit contradicts another (need, given).
    9 BadTerms "bad_terms" "choose terms within the other side's limits";

    /// A request id was used for another body.
    20 RequestIdReused "request_id_reused" "use a fresh request id";
    /// A request was issued over 24 h ago (oldest, issued_at).
    21 RequestExpired "request_expired" "set the clock and issue the request anew";
    /// A request was issued over 5 min ahead (latest, issued_at).
    22 RequestInFuture "request_in_future" "set the clock and issue the request anew";
    /// A reference was used with another amount or account (before, now).
    23 ReferenceReused "reference_reused" "use a fresh reference";

    /// The quote has run out (now, expires_at).
    30 QuoteExpired "quote_expired" "ask for a fresh quote";
    /// The quote is not one this payee made in this epoch, or was altered.
    31 QuoteAltered "quote_altered" "ask for a fresh quote";
    /// The commitment already served a book.
    32 CommitmentReused "commitment_reused" "ask for a fresh quote for each book";
    /// The book's commitment is not the quote's, or not that of the claim's reveal.
    33 CommitmentMismatch "commitment_mismatch" "build the book on the quote's commitment";

    /// This escrow or payee knows no such hold.
    40 HoldUnknown "hold_unknown" "check the escrow and the hold id";
    /// The hold has expired or takes no tickets any more (now, last time it does).
    41 HoldExpired "hold_expired" "open a new hold";
    /// The hold was released.
    42 HoldReleased "hold_released" "open a new hold";
    /// The payee must ask the escrow about this hold first; retry soon.
    43 HoldUnchecked "hold_unchecked" "try again in a moment";
    /// The hold is for another payee.
    44 HoldNotForMe "hold_not_for_me" "open a hold for this payee";
    /// The hold's escrow is not one the payee named, or a batch, delegation or piece of evidence is for another escrow.
    45 WrongEscrow "wrong_escrow" "use an escrow from the quote, or ask the escrow that is named";
    /// Another asset than the escrow's or the quote's.
    46 WrongAsset "wrong_asset" "use the quote's asset";
    /// The hold's fee is over the payee's limit, or over that of the payer who asks for it (limit, fee).
    47 FeeTooHigh "fee_too_high" "use an escrow with a lower fee";
    /// Payer, signer and payee must be different accounts.
    48 SelfHold "self_hold" "use different accounts for payer and payee";
    /// The book names another hold than the one presented.
    49 HoldMismatch "hold_mismatch" "present the hold that the book names";
    /// Too little time between expiry and redeem_by (need, has), in ms.
    50 RedeemWindowShort "redeem_window_short" "open a hold with a later redeem_by";
    /// The hold has no room for another winner (need, has).
    51 HoldExhausted "hold_exhausted" "top up the hold";
    /// The hold's revision is not the current one (current, given).
    52 RevisionStale "revision_stale" "top up from the current hold in the answer";

    /// No book of this id in this process.
    60 BookUnknown "book_unknown" "open a new book";
    /// Face value outside of the limits of quote, hold, delegation or escrow (limit, given).
    61 FaceOutOfRange "face_out_of_range" "choose a face value in the range";
    /// The book is longer than quote or hold allow, or empty (limit, given).
    62 BookTooLong "book_too_long" "issue a shorter book";
    /// The odds do not cover the quoted price (need, given).
    63 OddsTooLow "odds_too_low" "use the threshold of O-02";

    /// Ticket index 0.
    70 IndexZero "index_zero" "indices start at 1";
    /// Ticket index past the end of the book (length, index).
    71 IndexPastEnd "index_past_end" "open a new book";
    /// A ticket is too far after the last one (limit, jump).
    72 JumpTooLong "jump_too_long" "send tickets with smaller gaps";
    /// The chain does not lead to the last verified value, or a claim's not to the anchor.
    73 ChainBroken "chain_broken" "open a new book";

    /// The book has reached its length.
    80 BookComplete "book_complete" "open a new book";
    /// The payer finished the stream.
    81 BookFinished "book_finished" "nothing: you closed it";
    /// Stream or connection was lost.
    82 StreamLost "stream_lost" "connect again and open a new book";
    /// No ticket for 60 s and nothing owed.
    83 BookIdle "book_idle" "open a new book when you need it";
    /// The payee closed the book to redeem its winners.
    84 BookRedeemed "book_redeemed" "open a new book";
    /// The node is shutting down: a payee, or an escrow that is asked for a hold.
    85 Draining "draining" "try again in a minute";

    /// The payee does not sell this.
    90 ServiceUnknown "service_unknown" "list the payee's services";
    /// The unit is past the end (units, from_unit).
    91 UnitOutOfRange "unit_out_of_range" "ask for a unit that exists";
    /// The price of the book or the one asked for is under the service's, or the book is for another one (need, given).
    92 PriceMismatch "price_mismatch" "open a book on a quote for this service";
    /// The payee takes no payments: it could not redeem in time, or its store failed.
    93 NotSelling "not_selling" "try again later, or buy elsewhere";

    /// The balance is too small (need, has).
    100 InsufficientFunds "insufficient_funds" "deposit more, or choose a smaller amount";
    /// A hold's cap is outside the escrow's limits or would go down (limit, given).
    101 CapOutOfRange "cap_out_of_range" "choose a cap in the range";
    /// Expiry, redeem_by or the schedule of a payout policy is out of its limits (limit, given).
    102 TimeOutOfRange "time_out_of_range" "choose times in the range";
    /// The escrow has no such account.
    103 AccountUnknown "account_unknown" "deposit to it first";
    /// The release's paid differs from the ledger's (ledger, given).
    104 ReleaseMismatch "release_mismatch" "claim or fetch receipts first";
    /// The deposit would take the ledger over its supply limit (room, amount).
    105 SupplyExceeded "supply_exceeded" "deposit less";
    /// Amount zero where something must move.
    106 AmountZero "amount_zero" "choose an amount";
    /// The amount is under the smallest payout, or the payout fee would take all of it (min, given).
    107 PayoutTooSmall "payout_too_small" "wait until there is more to pay out";
    /// The escrow has no withdrawal of this number (0, given).
    108 WithdrawalUnknown "withdrawal_unknown" "list the pending payouts";
    /// The withdrawal was settled in another way or with another reference.
    109 WithdrawalSettled "withdrawal_settled" "compare the payment with the withdrawal's entry in the statement";

    /// The claim's top index does not win.
    110 ClaimDoesNotWin "claim_does_not_win" "claim through a winning index";
    /// The claim pays more than is left in the hold (need, has).
    111 ClaimOverCap "claim_over_cap" "keep the refusal: the payee took a ticket without room";
    /// The claim is for another payee, or its batch is not signed by it.
    112 WrongPayee "wrong_payee" "claim on the payee's own connection";

    /// The shares of a split are over the whole (limit, sum), in millionths.
    120 SharesOver "shares_over" "choose shares that sum to 100 % or less";
    /// A payee cannot be among its own shares.
    121 SplitToSelf "split_to_self" "leave the payee out: it keeps what is left";
    /// An account is twice among the shares.
    122 ShareRepeated "share_repeated" "give each account one share";

    /// The escrow lost a part of its ledger and promises nothing new until it has recovered.
    130 Recovering "recovering" "resubmit holds, releases and receipts, and try again later";
    /// The escrow takes evidence only while it recovers.
    131 NotRecovering "not_recovering" "nothing: the escrow knows its ledger";
    /// The escrow knew all holds of that time, and this is none of them (restored, opened_at).
    132 ResubmittedTooOld "resubmitted_too_old" "nothing: the hold had ended and was forgotten";
    /// The receipt is not for this claim.
    133 ReceiptMismatch "receipt_mismatch" "resubmit the claim that the receipt answered";

    /// The escrow has a delegation with this serial or a larger one (current, given).
    140 DelegationStale "delegation_stale" "sign one with a larger serial";
    /// The delegation ends too soon (needed, expires_at).
    141 DelegationExpired "delegation_expired" "have the account sign a new delegation";
    /// The account revoked the delegation.
    142 DelegationRevoked "delegation_revoked" "have the account sign a new delegation";
    /// The signer's holds would set aside or have paid more than it may (limit, would be).
    143 OverSpendMax "over_spend_max" "release holds, or have the account raise the limit";
    /// The delegation does not name this payee.
    144 PayeeNotAllowed "payee_not_allowed" "pay a payee that the delegation names";
}

impl Code {
    /// Whether trying the same again later may succeed. Spec: X-03.
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::Busy | Self::Unavailable | Self::HoldUnchecked | Self::NotSelling | Self::Draining | Self::Recovering
        )
    }

    /// Whether a claim refused by it is never paid, as its hold has ended. Spec: B-15.
    #[must_use]
    pub const fn ends_hold(self) -> bool {
        matches!(self, Self::HoldUnknown | Self::HoldReleased | Self::HoldExpired)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl serde::Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl Encode for Code {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.number().encode(encoder)
    }
}

impl<C> Decode<C> for Code {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, bincode::error::DecodeError> {
        Self::from_number(u16::decode(decoder)?).ok_or(bincode::error::DecodeError::Other("code"))
    }
}

impl<'de, C> BorrowDecode<'de, C> for Code {
    fn borrow_decode<D: BorrowDecoder<'de, Context = C>>(decoder: &mut D) -> Result<Self, bincode::error::DecodeError> {
        Self::decode(decoder)
    }
}

/// A refusal: whose fault is the peer's, and what was compared. Spec: X-02.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, serde::Serialize, thiserror::Error)]
#[error("{code}: need {need}, has {has}; {}", .code.advice())]
pub struct Reject {
    /// Which rule.
    pub code: Code,
    /// The number that was needed: a limit, a price, a time. 0 where nothing is compared.
    pub need: u64,
    /// The number that was there.
    pub has: u64,
}

impl Reject {
    /// A refusal without numbers.
    #[must_use]
    pub const fn of(code: Code) -> Self {
        Self { code, need: 0, has: 0 }
    }

    /// A refusal with both compared numbers.
    #[must_use]
    pub const fn compared(code: Code, need: u64, has: u64) -> Self {
        Self { code, need, has }
    }
}

impl From<crate::codec::DecodeError> for Reject {
    fn from(error: crate::codec::DecodeError) -> Self {
        use crate::codec::{DecodeError, MESSAGE_BYTES_MAX};
        let size = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        match error {
            DecodeError::TooLarge(given) => Self::compared(Code::TooLarge, size(MESSAGE_BYTES_MAX), size(given)),
            DecodeError::Malformed => Self::of(Code::Malformed),
            DecodeError::Trailing { used, given } => Self::compared(Code::Malformed, size(used), size(given)),
        }
    }
}

impl From<crate::key::BadKey> for Reject {
    fn from(_: crate::key::BadKey) -> Self {
        Self::of(Code::BadKey)
    }
}

impl From<crate::key::BadSignature> for Reject {
    fn from(_: crate::key::BadSignature) -> Self {
        Self::of(Code::BadSignature)
    }
}

impl From<crate::odds::BadTerms> for Reject {
    fn from(bad: crate::odds::BadTerms) -> Self {
        Self::compared(Code::BadTerms, bad.price.0, bad.face_value.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Spec: X-01.
    #[test]
    fn numbers_and_names_are_unique_and_round_trip() {
        let numbers: BTreeSet<_> = Code::ALL.iter().map(|c| c.number()).collect();
        let names: BTreeSet<_> = Code::ALL.iter().map(|c| c.name()).collect();
        assert_eq!((numbers.len(), names.len()), (Code::ALL.len(), Code::ALL.len()));
        for code in Code::ALL {
            assert_eq!(Code::from_number(code.number()), Some(*code));
        }
        assert_eq!(Code::from_number(0), None);
    }

    /// Spec: X-02.
    #[test]
    fn a_reject_is_its_code_and_both_numbers() {
        let bytes = crate::codec::encode(&Reject::compared(Code::CapOutOfRange, 258, 3));
        assert_eq!(bytes, [101, 0, 2, 1, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
        let unknown = [[255, 255].as_slice(), &bytes[2..]].concat();
        assert!(crate::codec::decode::<Reject>(&unknown).is_err());
    }
}
