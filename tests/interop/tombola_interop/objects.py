"""Objects of the protocol with their tags and ids (sections 3 to 16)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Any, Generic, TypeVar

from . import keys
from .codec import U8, U32, U64, Amount, Fixed, Int, Items, Short, Text, encode
from .codes import Code, must

Key = Annotated[bytes, Fixed(32, "tom")]
HoldId = Annotated[bytes, Fixed(32, "tomhold")]
BookId = Annotated[bytes, Fixed(32, "tombook")]
QuoteId = Annotated[bytes, Fixed(16, "tomquote")]
RequestId = Annotated[bytes, Fixed(16, "tomreq")]
Hash = Annotated[bytes, Fixed(32)]
Signature = Annotated[bytes, Fixed(64)]
Service = Annotated[str, Text(512)]
Reference = Annotated[str, Text(128)]
Threshold = Annotated[int, Int(8, text=True)]
RejectCode = Annotated[Code, Short()]

MS_PER_H = 3_600_000
BOOK_LENGTH_MAX = 65_536


def tag(name: str) -> bytes:
    """E-04."""
    return f"tombola/{name}/v1".encode().ljust(24, b"\0")


def tagged_hash(name: str, body: bytes) -> bytes:
    """E-05."""
    return hashlib.sha256(tag(name) + body).digest()


@dataclass(frozen=True)
class Reject:
    """X-02."""

    code: RejectCode
    need: U64
    has: U64


@dataclass(frozen=True)
class Asset:
    """M-02."""

    code: Annotated[bytes, Fixed(16)]
    decimals: U8

    def show(self) -> str:
        """`USD/9`."""
        return f"{self.code.rstrip(bytes(1)).decode('ascii', 'backslashreplace')}/{self.decimals}"


@dataclass(frozen=True)
class Fee:
    """H-04."""

    flat: Amount
    ppm: U32

    def of(self, face: int) -> int:
        """The fee of one winner."""
        return min(face, self.flat + -(-face * self.ppm // 1_000_000))

    def check_within(self, limit: Fee) -> None:
        """Flat and ppm each for itself."""
        must(self.flat <= limit.flat, Code.FEE_TOO_HIGH, limit.flat, self.flat)
        must(self.ppm <= limit.ppm, Code.FEE_TOO_HIGH, limit.ppm, self.ppm)


@dataclass(frozen=True)
class HoldTerms:
    """H-01: what never changes of a hold."""

    escrow: Key
    asset: Asset
    payer: Key
    signer: Key
    payee: Key
    serial: U64
    fee: Fee
    face_value_min: Amount
    face_value_max: Amount
    book_length_max: U32
    opened_at: U64
    expires_at: U64
    redeem_by: U64

    def id(self) -> bytes:
        """H-02."""
        return tagged_hash("hold-id", encode(HoldTerms, self))

    def check_rules(self) -> None:
        """H-03."""
        must(self.payer != self.payee and self.signer != self.payee, Code.SELF_HOLD)
        low, high = self.face_value_min, self.face_value_max
        must(1 <= low <= high, Code.FACE_OUT_OF_RANGE, high, low)
        length = self.book_length_max
        must(1 <= length <= BOOK_LENGTH_MAX, Code.BOOK_TOO_LONG, BOOK_LENGTH_MAX, length)
        must(self.expires_at > self.opened_at, Code.TIME_OUT_OF_RANGE, self.opened_at, self.expires_at)
        window = max(0, self.redeem_by - self.expires_at)
        must(window >= 24 * MS_PER_H, Code.REDEEM_WINDOW_SHORT, 24 * MS_PER_H, window)


@dataclass(frozen=True)
class Hold:
    """H-01."""

    TAG = "hold"

    terms: HoldTerms
    revision: U32
    cap: Amount


@dataclass(frozen=True)
class Release:
    """H-07."""

    TAG = "release"

    hold: HoldId
    paid: Amount


@dataclass(frozen=True)
class Delegation:
    """A-02."""

    TAG = "delegation"

    escrow: Key
    account: Key
    signer: Key
    spend_max: Amount
    face_value_max: Amount
    payees: Annotated[list[Key], Items(32)]
    expires_at: U64
    serial: U64


@dataclass(frozen=True)
class QuoteTerms:
    """Q-01."""

    payee: Key
    quote_id: QuoteId
    service: Service
    asset: Asset
    ticket_price: Amount
    face_value_min: Amount
    face_value_max: Amount
    book_length_max: U32
    jump_max: U32
    expires_at: U64
    escrows: Annotated[list[Key], Items(8)]


@dataclass(frozen=True)
class Quote:
    """Q-01, with the commitment."""

    terms: QuoteTerms
    commitment: Hash


@dataclass(frozen=True)
class Book:
    """B-01."""

    TAG = "book"

    hold: HoldId
    commitment: Hash
    anchor: Hash
    length: U32
    face_value: Amount
    threshold: Threshold

    def id(self) -> bytes:
        """B-02."""
        return tagged_hash("book-id", encode(Book, self))

    def check_against(self, terms: HoldTerms) -> None:
        """B-03."""
        must(self.hold == terms.id(), Code.HOLD_MISMATCH)
        longest = min(terms.book_length_max, BOOK_LENGTH_MAX)
        must(1 <= self.length <= longest, Code.BOOK_TOO_LONG, longest, self.length)
        check_face(self.face_value, terms.face_value_min, terms.face_value_max)


def check_face(face: int, low: int, high: int) -> None:
    """The face value is in a range: else the bound that it breaks."""
    must(face >= low, Code.FACE_OUT_OF_RANGE, low, face)
    must(face <= high, Code.FACE_OUT_OF_RANGE, high, face)


@dataclass(frozen=True)
class Ticket:
    """T-01."""

    index: U32
    preimage: Hash


Body = TypeVar("Body")


@dataclass(frozen=True)
class Signed(Generic[Body]):
    """E-04: an object and a signature of it."""

    body: Body
    signature: Signature

    def verify(self, key: bytes) -> None:
        """K-02, then K-04, or `bad_key`, `bad_signature`."""
        keys.verify(key, covered(self.body), self.signature)


def covered(body: Any) -> bytes:
    """What a signature of an object covers (E-04)."""
    return tag(body.TAG) + encode(type(body), body)


def sign(secret: keys.Secret, body: Body) -> Signed[Body]:
    """K-03."""
    return Signed(body, secret.sign(covered(body)))


@dataclass(frozen=True)
class Claim:
    """R-10."""

    book: Signed[Book]
    reveal: Hash
    through: U32
    preimage: Hash


@dataclass(frozen=True)
class ClaimBatch:
    """R-10."""

    TAG = "claims"

    escrow: Key
    payee: Key
    claims: Annotated[list[Claim], Items(128)]


@dataclass(frozen=True)
class Receipt:
    """R-13."""

    TAG = "receipt"

    escrow: Key
    writer: U32
    book: BookId
    through: U32
    winners: U32
    gross: Amount
    fee: Amount
    hold_paid_after: Amount
    at: U64
    height: U64
    head: Hash


@dataclass(frozen=True)
class Refusal:
    """R-14."""

    TAG = "refusal"

    escrow: Key
    writer: U32
    book: BookId
    claim_hash: Hash
    code: RejectCode
    revision: U32
    cap: Amount
    paid: Amount
    at: U64


class HoldState(IntEnum):
    """H-05, as R-08 writes it."""

    OPEN = 0
    RELEASED = 1
    EXPIRED = 2


class Phase(IntEnum):
    """R-04."""

    OPEN = 0
    RECOVERING = 1
    DRAINING = 2
