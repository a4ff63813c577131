"""Messages between payer and payee (section 14) and between a party and its escrow (section 16)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from .codec import U32, U64, Amount, Items, Variants, encode
from .objects import (
    Asset,
    Book,
    BookId,
    Claim,
    ClaimBatch,
    Delegation,
    Fee,
    Hash,
    Hold,
    HoldId,
    HoldState,
    Key,
    Phase,
    Quote,
    Receipt,
    Reference,
    Refusal,
    Reject,
    Release,
    RequestId,
    Service,
    Signature,
    Signed,
    Ticket,
    tagged_hash,
)

# Payer and payee


@dataclass(frozen=True)
class Services:
    after: Service | None


@dataclass(frozen=True)
class QuoteRequest:
    service: Service
    price: Amount | None


@dataclass(frozen=True)
class OpenBook:
    hold: Signed[Hold]
    quote: Quote
    book: Signed[Book]


@dataclass(frozen=True)
class PresentHold:
    hold: Signed[Hold]


@dataclass(frozen=True)
class Request:
    service: Service
    from_unit: U64
    book: BookId | None
    ticket: Ticket | None


PayeeRequest = Annotated[
    Services | QuoteRequest | OpenBook | PresentHold | Request,
    Variants(QuoteRequest="Quote"),
]


@dataclass(frozen=True)
class ServiceOffer:
    """D-01."""

    service: Service
    asset: Asset
    ticket_price: Amount
    unit_bytes: U32
    size: U64


@dataclass(frozen=True)
class ServicesPage:
    services: Annotated[list[ServiceOffer], Items(100)]
    more: bool


@dataclass(frozen=True)
class HoldRoom:
    revision: U32
    room: Amount


@dataclass(frozen=True)
class ResponseHeader:
    """D-02."""

    size: U64
    units: U64
    unit_bytes: U32
    content_hash: Hash
    through: U32


PayeeAnswer = Annotated[
    Reject | ServicesPage | Quote | HoldRoom | ResponseHeader,
    Variants(Reject="Rejected", ServicesPage="Services", HoldRoom="HoldState", ResponseHeader="Response"),
]


@dataclass(frozen=True)
class Ack:
    through: U32
    next_quote: Quote | None


@dataclass(frozen=True)
class Exhausted:
    through: U32
    need: Amount
    has: Amount


@dataclass(frozen=True)
class Closed:
    through: U32
    reject: Reject
    next_quote: Quote | None


BookFrame = Annotated[Ack | Exhausted | Closed, Variants()]

# A party and its escrow: requests


@dataclass(frozen=True)
class RequestHeader:
    """R-02."""

    id: RequestId
    issued_at: U64


@dataclass(frozen=True)
class HoldRequest:
    """R-05."""

    signer: Key
    payee: Key
    face_value_min: Amount
    face_value_max: Amount
    book_length_max: U32
    expires_at: U64
    redeem_by: U64
    cap: Amount
    fee_max: Fee


@dataclass(frozen=True)
class Info:
    pass


@dataclass(frozen=True)
class Account:
    holds_after: U64


@dataclass(frozen=True)
class OpenHold:
    request: RequestHeader
    hold: HoldRequest


@dataclass(frozen=True)
class TopUpHold:
    request: RequestHeader
    hold: HoldId
    revision: U32
    cap: Amount


@dataclass(frozen=True)
class HoldStatusRequest:
    hold: HoldId


@dataclass(frozen=True)
class Delegate:
    request: RequestHeader
    delegation: Signed[Delegation]


@dataclass(frozen=True)
class ClaimRequest:
    batch: ClaimBatch
    signature: Signature | None


@dataclass(frozen=True)
class Transfer:
    request: RequestHeader
    to: Key
    amount: Amount
    reference: Reference
    book: BookId | None


@dataclass(frozen=True)
class Withdraw:
    request: RequestHeader
    amount: Amount
    destination: Reference
    reference: Reference


@dataclass(frozen=True)
class Statement:
    after: U64


@dataclass(frozen=True)
class Subscribe:
    after: U64


@dataclass(frozen=True)
class PayoutPolicy:
    """R-21."""

    threshold: Amount
    every_ms: U64
    destination: Reference


@dataclass(frozen=True)
class SetPayout:
    request: RequestHeader
    policy: PayoutPolicy | None


@dataclass(frozen=True)
class Share:
    """R-22."""

    account: Key
    ppm: U32


@dataclass(frozen=True)
class SetSplit:
    request: RequestHeader
    shares: Annotated[list[Share], Items(32)]


@dataclass(frozen=True)
class ReceiptEvidence:
    claim: Claim
    receipt: Signed[Receipt]


Evidence = Annotated[
    Signed[Hold] | Signed[Release] | ReceiptEvidence,
    Variants(ReceiptEvidence="Receipt"),
]


@dataclass(frozen=True)
class Resubmit:
    evidence: Annotated[list[Evidence], Items(64)]


Command = Annotated[
    Info
    | Account
    | OpenHold
    | TopUpHold
    | HoldStatusRequest
    | Signed[Release]
    | Delegate
    | ClaimRequest
    | Transfer
    | Withdraw
    | Statement
    | Subscribe
    | SetPayout
    | SetSplit
    | Resubmit,
    Variants(HoldStatusRequest="HoldStatus", ClaimRequest="Claim"),
]


@dataclass(frozen=True)
class EscrowRequest:
    """R-01."""

    account: Key
    command: Command

    def hash(self) -> bytes:
        """R-02."""
        return tagged_hash("request", encode(EscrowRequest, self))


# Answers


@dataclass(frozen=True)
class EscrowInfo:
    """R-04."""

    escrow: Key
    asset: Asset
    name: Reference
    time: U64
    phase: Phase
    fee: Fee
    face_value_min: Amount
    cap_min: Amount
    writer: U32
    height: U64
    head: Hash
    payout_fee: Amount
    payout_min: Amount


@dataclass(frozen=True)
class HoldStatus:
    """R-08."""

    hold: Signed[Hold]
    paid: Amount
    state: HoldState


@dataclass(frozen=True)
class AccountState:
    """R-06."""

    account: Key
    balance: Amount
    held: Amount
    open_holds: U32
    holds: Annotated[list[HoldStatus], Items(100)]
    more: bool
    pending: Amount
    payout: PayoutPolicy | None
    shares: Annotated[list[Share], Items(32)]


@dataclass(frozen=True)
class RevisionStale:
    NAMELESS = True

    hold: Signed[Hold]


@dataclass(frozen=True)
class Released:
    hold: HoldId
    returned: Amount
    at: U64


@dataclass(frozen=True)
class Delegated:
    serial: U64


ClaimAnswer = Annotated[Signed[Receipt] | Signed[Refusal], Variants()]


@dataclass(frozen=True)
class Claimed:
    answers: Annotated[list[ClaimAnswer], Items(128)]


@dataclass(frozen=True)
class TransferReceipt:
    """R-15; `from` is a word of Python."""

    from_: Key
    to: Key
    amount: Amount
    reference: Reference
    at: U64
    height: U64
    head: Hash


@dataclass(frozen=True)
class WithdrawalPending:
    withdrawal: U64
    at: U64
    fee: Amount


@dataclass(frozen=True)
class PayoutSet:
    at: U64


@dataclass(frozen=True)
class SplitSet:
    at: U64


@dataclass(frozen=True)
class Restored:
    pass


@dataclass(frozen=True)
class Known:
    pass


ResubmitAnswer = Annotated[Restored | Known | Reject, Variants(Reject="Refused")]


@dataclass(frozen=True)
class Resubmitted:
    answers: Annotated[list[ResubmitAnswer], Items(64)]


# The statement


@dataclass(frozen=True)
class Deposited:
    amount: Amount
    reference: Reference


@dataclass(frozen=True)
class Held:
    hold: Signed[Hold]
    amount: Amount


@dataclass(frozen=True)
class Returned:
    hold: HoldId
    paid: Amount
    amount: Amount
    state: HoldState


@dataclass(frozen=True)
class Charge:
    """R-16."""

    hold: Signed[Hold]
    claim: Claim
    receipt: Signed[Receipt]
    amount: Amount


@dataclass(frozen=True)
class SharePaid:
    account: Key
    amount: Amount


@dataclass(frozen=True)
class Redemption:
    """R-16."""

    charge: Charge
    shares: Annotated[list[SharePaid], Items(32)]


@dataclass(frozen=True)
class Sent:
    to: Key
    amount: Amount
    reference: Reference


@dataclass(frozen=True)
class Received:
    from_: Key
    amount: Amount
    reference: Reference
    book: BookId | None


@dataclass(frozen=True)
class Withdrawn:
    withdrawal: U64
    amount: Amount
    fee: Amount
    destination: Reference
    reference: Reference


@dataclass(frozen=True)
class WithdrawalPaid:
    withdrawal: U64
    reference: Reference


@dataclass(frozen=True)
class WithdrawalFailed:
    withdrawal: U64
    amount: Amount
    reference: Reference


@dataclass(frozen=True)
class Shared:
    payee: Key
    book: BookId
    amount: Amount


@dataclass(frozen=True)
class Private:
    pass


EntryKind = Annotated[
    Deposited
    | Held
    | Returned
    | Charge
    | Redemption
    | Sent
    | Received
    | Withdrawn
    | WithdrawalPaid
    | WithdrawalFailed
    | Shared
    | Private,
    Variants(lower=True, Charge="charged", Redemption="redeemed"),
]


@dataclass(frozen=True)
class StatementEntry:
    sequence: U64
    at: U64
    balance: Amount
    kind: EntryKind


@dataclass(frozen=True)
class StatementPage:
    entries: Annotated[list[StatementEntry], Items(30)]
    more: bool


EscrowAnswer = Annotated[
    Reject
    | EscrowInfo
    | AccountState
    | Signed[Hold]
    | RevisionStale
    | HoldStatus
    | Released
    | Delegated
    | Claimed
    | TransferReceipt
    | WithdrawalPending
    | StatementPage
    | PayoutSet
    | SplitSet
    | Resubmitted,
    Variants(
        Reject="Rejected",
        EscrowInfo="Info",
        AccountState="Account",
        TransferReceipt="Transferred",
        StatementPage="Statement",
    ),
]

TYPES = {
    "BookFrame": BookFrame,
    "Claim": Claim,
    "EscrowAnswer": EscrowAnswer,
    "EscrowRequest": EscrowRequest,
    "PayeeAnswer": PayeeAnswer,
    "PayeeRequest": PayeeRequest,
    "Quote": Quote,
    "Reject": Reject,
    "Signed<Book>": Signed[Book],
    "Signed<ClaimBatch>": Signed[ClaimBatch],
    "Signed<Delegation>": Signed[Delegation],
    "Signed<Hold>": Signed[Hold],
    "Signed<Receipt>": Signed[Receipt],
    "Signed<Refusal>": Signed[Refusal],
    "Signed<Release>": Signed[Release],
    "StatementEntry": StatementEntry,
    "Ticket": Ticket,
}
