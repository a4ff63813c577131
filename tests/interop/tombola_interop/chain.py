"""Chain, draw, odds, and what a claim proves (sections 10 and 11, R-11)."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass

from .codes import Code, must
from .objects import Book, Claim, Hold, Receipt, Signed, Ticket, tagged_hash


def step(value: bytes, index: int) -> bytes:
    """T-02: w[index - 1] of w[index]."""
    return hashlib.sha256(value + index.to_bytes(4, "little") + b"tombola/chain/v1").digest()


def walk(value: bytes, start: int, end: int) -> bytes:
    """w[end] of w[start], start being the higher one."""
    for index in range(start, end, -1):
        value = step(value, index)
    return value


class Chain:
    """All values of a book's chain; they die with the process."""

    def __init__(self, length: int, secret: bytes | None = None) -> None:
        values = [secret or secrets.token_bytes(32)]
        for index in range(length, 0, -1):
            values.append(step(values[-1], index))
        self.values = values[::-1]

    @property
    def anchor(self) -> bytes:
        return self.values[0]

    def ticket(self, index: int) -> Ticket:
        """T-01."""
        return Ticket(index, self.values[index])


def draw(book: bytes, reveal: bytes, index: int, preimage: bytes) -> int:
    """T-03."""
    hashed = hashlib.sha256(book + reveal + preimage + index.to_bytes(4, "little") + b"tombola/draw/v1")
    return int.from_bytes(hashed.digest()[:8], "little")


def threshold(price: int, face: int) -> int:
    """O-02."""
    must(1 <= price <= face, Code.BAD_TERMS, price, face)
    return -(-price * 2**64 // face) - 1


def covers(face: int, odds: int, price: int) -> bool:
    """O-03."""
    return face * (odds + 1) >= price * 2**64


def expected(face: int, odds: int) -> int:
    """What a ticket is worth, to the nearest atomic unit, half up (B-04)."""
    return (face * (odds + 1) + 2**63) // 2**64


def commitment(reveal: bytes) -> bytes:
    """Q-02."""
    return tagged_hash("commitment", reveal)


@dataclass(frozen=True)
class Outcome:
    """What a claim wins."""

    indices: tuple[int, ...]
    gross: int
    fee: int


def judge(claim: Claim, hold: Hold) -> Outcome:
    """R-11 from step 2 on: every ticket is drawn again."""
    book: Book = claim.book.body
    terms = hold.terms
    book.check_against(terms)
    must(claim.through >= 1, Code.INDEX_ZERO)
    must(claim.through <= book.length, Code.INDEX_PAST_END, book.length, claim.through)
    must(commitment(claim.reveal) == book.commitment, Code.COMMITMENT_MISMATCH)
    name = book.id()
    top = draw(name, claim.reveal, claim.through, claim.preimage)
    must(top <= book.threshold, Code.CLAIM_DOES_NOT_WIN)
    claim.book.verify(terms.signer)
    value, winners = claim.preimage, []
    for index in range(claim.through, 0, -1):
        if draw(name, claim.reveal, index, value) <= book.threshold:
            winners.append(index)
        value = step(value, index)
    must(value == book.anchor, Code.CHAIN_BROKEN)
    gross = len(winners) * book.face_value
    must(gross < 2**64, Code.CLAIM_OVER_CAP, 2**64 - 1, hold.cap)
    return Outcome(tuple(reversed(winners)), gross, len(winners) * terms.fee.of(book.face_value))


def settles(claim: Claim, receipt: Signed[Receipt], outcome: Outcome) -> bool:
    """Whether a receipt is for this claim and says what the draws say."""
    body = receipt.body
    said = (body.book, body.through, body.winners, body.gross, body.fee)
    return said == (claim.book.body.id(), claim.through, len(outcome.indices), outcome.gross, outcome.fee)
