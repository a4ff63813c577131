"""Every error code that a payer can provoke: the input, and the code and both numbers that must come back (X-01)."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from . import chain
from .codec import decode, encode
from .codes import Code, Refused
from .keys import Address, Secret
from .messages import (
    BookFrame,
    Closed,
    EscrowInfo,
    EscrowRequest,
    HoldRequest,
    OpenBook,
    OpenHold,
)
from .objects import Book, Hold, Quote, Reject, Signed, sign
from .payer import Escrow, Journal, OpenedBook, Payee
from .quic import Connection, Stream, connected

FILE, FACE, PRICE_OF_ALL = "/whole", 1_000_000, 2**64 - 1
# The encoding of the identity: no key (K-02).
NO_KEY = bytes([1]) + bytes(31)

# The number itself, or the times that it may lie between.
Number = int | range


@dataclass(frozen=True)
class Seen:
    """What came back, and the numbers that the specification asks for."""

    reject: Reject
    need: Number = 0
    has: Number = 0

    def fault(self, code: Code) -> str | None:
        """What is wrong with it."""
        got = self.reject
        if got.code is not code:
            return f"{got} in place of {code.name.lower()}"
        for name, wanted, number in (("need", self.need, got.need), ("has", self.has, got.has)):
            is_right = number in wanted if isinstance(wanted, range) else number == wanted
            if not is_right:
                return f"{name} is {number} in place of {wanted}"
        return None


@dataclass
class Parties:
    """Who is on every stage: the escrow, the payer, and a key that plays a payee of its own."""

    escrow: Escrow
    info: EscrowInfo
    secret: Secret
    seller: Secret


@dataclass
class Stage(Parties):
    """The parties and what every case starts from."""

    payee: Payee
    # A key without an account.
    stranger: Secret
    escrow_at: Address
    payee_at: Address
    hold: Signed[Hold]
    quote: Quote
    payee_pid: int | None

    async def open_hold(self, cap: int, **changes: Any) -> Signed[Hold]:
        """A further hold for the payee."""
        request = replace(self.request(cap), **changes)
        answer: Signed[Hold] = await self.escrow.ask(OpenHold(self.escrow.header(), request))
        return answer

    def request(self, cap: int) -> HoldRequest:
        return self.escrow.hold_request(self.payee.key, self.quote, self.info, cap)

    def fake(self, **changes: Any) -> Signed[Hold]:
        """The hold with other terms; its signature is no longer good, which is looked at late."""
        body = replace(self.hold.body, terms=replace(self.hold.body.terms, **changes))
        return replace(self.hold, body=body)

    def book(self, quote: Quote, hold: Signed[Hold] | None = None, **changes: Any) -> tuple[Signed[Book], chain.Chain]:
        """A book of 8 tickets that each win, with changes."""
        terms = (hold or self.hold).body.terms
        values = chain.Chain(changes.get("length", 8) or 1)
        book = Book(terms.id(), quote.commitment, values.anchor, 8, FACE, PRICE_OF_ALL)
        changes["hold"] = changes.pop("hold_id", book.hold)
        return sign(self.secret, replace(book, **changes)), values

    async def refused_opening(
        self, hold: Signed[Hold] | None = None, quote: Quote | None = None, **changes: Any
    ) -> Reject:
        """What an opening is refused with."""
        quote = quote or await self.payee.quote(FILE)
        book, _ = self.book(quote, hold, **changes)
        return await self.refused(OpenBook(hold or self.hold, quote, book))

    async def refused(self, request: OpenBook) -> Reject:
        _, first = await self.payee.open(request)
        assert isinstance(first, Closed) and first.through == 0 and first.next_quote is None, first
        return first.reject

    async def opened(self, hold: Signed[Hold] | None = None, **changes: Any) -> OpenedBook:
        """A book that the payee took; retried while it asks the escrow."""
        quote = await self.payee.quote(FILE)
        book, values = self.book(quote, hold, **changes)
        while True:
            stream, first = await self.payee.open(OpenBook(hold or self.hold, quote, book))
            if not isinstance(first, Closed):
                return OpenedBook(stream, book, quote, values)
            assert first.reject.code is Code.HOLD_UNCHECKED, first
            await asyncio.sleep(0.05)


async def rejected(asking: Awaitable[Any]) -> Reject:
    """What a request is rejected with."""
    try:
        answer = await asking
    except Refused as refused:
        return Reject(refused.code, refused.need, refused.has)
    raise AssertionError(f"accepted: {answer}")


async def closed(stream: Stream) -> Closed:
    """The last frame of a book's stream."""
    while True:
        frame = decode(BookFrame, await stream.frame())
        if isinstance(frame, Closed):
            assert await stream.rest() == b"", "bytes after the last frame"
            return frame


async def answer_to(connection: Connection, data: bytes, kind: Any) -> Reject:
    """What bare bytes are answered with."""
    stream = connection.open()
    stream.send(data, end=True)
    answer = decode(kind, await stream.frame())
    assert isinstance(answer, Reject), answer
    return answer


# A case on its stage; the recovering escrow has one of its own.
Run = Callable[[Any], Awaitable[Seen]]
RECOVERING = "recovering escrow"


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    code: Code
    where: str
    run: Run

    @property
    def name(self) -> str:
        return self.run.__name__


CASES: list[Case] = []


def case(code: Code, where: str) -> Callable[[Run], Run]:
    """Puts a function into the table."""

    def add(run: Run) -> Run:
        CASES.append(Case(code, where, run))
        return run

    return add


UNPROVOKED = {
    Code.NOT_OFFERED: "both nodes offer every request of the specification",
    Code.UNAVAILABLE: "needs a failed disk",
    Code.REFERENCE_REUSED: "answers the operator's deposits only (R-17, G-07)",
    Code.NOT_SELLING: "needs a failed disk, or an escrow away for half a redeem window (B-14, C-04)",
    Code.SUPPLY_EXCEEDED: "answers the operator's deposits only (R-17)",
    Code.WITHDRAWAL_UNKNOWN: "answers the operator's word on a withdrawal (R-23)",
    Code.WITHDRAWAL_SETTLED: "answers the operator's word on a withdrawal (R-23)",
}


def check_coverage() -> None:
    """Each code is provoked, or it is said why not; never both."""
    provoked = {case.code for case in CASES}
    assert provoked | UNPROVOKED.keys() == set(Code), set(Code) - provoked - UNPROVOKED.keys()
    assert not provoked & UNPROVOKED.keys(), provoked & UNPROVOKED.keys()


async def run(escrow_at: Address, payee_at: Address, secret: Secret, payee_pid: int | None) -> dict[str, Any]:
    """Runs the table, the slow cases beside the others, and the payee's end after all of them."""
    from . import provoke_escrow, provoke_payee, provoke_recovery  # noqa: F401 - they fill the table

    check_coverage()
    cases = [each for each in CASES if each.where != RECOVERING]
    faults: list[str] = []
    async with connected(escrow_at, secret) as to_escrow, connected(payee_at, None) as to_payee:
        escrow = Escrow(to_escrow, escrow_at.key, secret)
        payee = Payee(to_payee, payee_at.key, secret, Journal())
        stage = await _stage(escrow, payee, escrow_at, payee_at, payee_pid)
        slow = asyncio.gather(*(run_case(each, stage, faults) for each in cases if each.run in provoke_payee.SLOW))
        for each in cases:
            if each.run not in provoke_payee.SLOW and each.run is not provoke_payee.LAST:
                await run_case(each, stage, faults)
        await slow
        for each in cases:
            if each.run is provoke_payee.LAST:
                await run_case(each, stage, faults)
    unprovoked = {code.name.lower(): why for code, why in UNPROVOKED.items()}
    return outcome(cases, faults) | {"unprovoked": unprovoked}


def outcome(cases: list[Case], faults: list[str]) -> dict[str, Any]:
    """What was provoked; each case must have come out."""
    assert not faults, "\n".join(faults)
    return {"cases": len(cases), "codes": sorted({each.code.name.lower() for each in cases})}


async def run_case(each: Case, stage: Parties, faults: list[str]) -> None:
    try:
        fault = (await each.run(stage)).fault(each.code)
    except Exception as error:  # noqa: BLE001 - every fault is shown
        fault = f"{type(error).__name__}: {error}"
    if fault:
        faults.append(f"{each.code.name.lower()} by the {each.where}, {each.name}: {fault}")


async def _stage(escrow: Escrow, payee: Payee, escrow_at: Address, payee_at: Address, payee_pid: int | None) -> Stage:
    secret, info, quote = escrow.secret, await escrow.info(), await payee.quote(FILE)
    stranger, seller = derived(secret, b"stranger"), derived(secret, b"seller")
    terms = escrow.hold_request(payee.key, quote, info, 5_000_000_000)
    hold = await escrow.ask(OpenHold(escrow.header(), terms))
    return Stage(escrow, info, secret, seller, payee, stranger, escrow_at, payee_at, hold, quote, payee_pid)


def derived(secret: Secret, name: bytes) -> Secret:
    """The key of another party that we play."""
    return Secret(hashlib.sha256(secret.key + name).digest())


async def ask_as(stage: Stage, asking: Secret, command: Any, account: bytes | None = None) -> Any:
    """One request on a connection of another key."""
    async with connected(stage.escrow_at, asking) as connection:
        return await Escrow(connection, stage.escrow.key, asking, stage.escrow.ahead).ask(command, account)


def request_bytes(stage: Stage, command: Any) -> bytes:
    return encode(EscrowRequest, EscrowRequest(stage.secret.key, command))


def framed(data: bytes, size: int | None = None) -> bytes:
    """A frame, also one that says another length."""
    return (len(data) if size is None else size).to_bytes(4, "little") + data


def random_id() -> bytes:
    return secrets.token_bytes(32)
