"""A payer: holds, books, files and tips (sections 7, 12, 15 and 16)."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from . import chain
from .codec import decode, encode
from .codes import Code, Refused
from .keys import Secret
from .messages import (
    Account,
    AccountState,
    Ack,
    BookFrame,
    Closed,
    EscrowAnswer,
    EscrowInfo,
    EscrowRequest,
    Exhausted,
    HoldRequest,
    HoldStatusRequest,
    Info,
    OpenBook,
    OpenHold,
    PayeeAnswer,
    PayeeRequest,
    PresentHold,
    QuoteRequest,
    Request,
    RequestHeader,
    ResponseHeader,
    RevisionStale,
    Statement,
    StatementEntry,
    TopUpHold,
)
from .objects import MS_PER_H, Book, Hold, HoldState, Quote, Reject, Signed, Ticket, sign
from .quic import Connection, PeerError, Stream

_WINDOW_PRICES = 64
_TRIES, _RETRY_S = 200, 0.05


def _accepted(answer: Any) -> Any:
    if isinstance(answer, Reject):
        raise Refused(answer.code, answer.need, answer.has)
    return answer


@dataclass
class Escrow:
    """The escrow as one key talks to it."""

    connection: Connection
    key: bytes
    secret: Secret
    # The escrow's time less ours, as Info told (C-05).
    ahead: int = 0

    async def ask(self, command: Any, account: bytes | None = None) -> Any:
        """One request; Refused where it is rejected."""
        request = EscrowRequest(account or self.secret.key, command)
        return _accepted(decode(EscrowAnswer, await self.connection.ask(encode(EscrowRequest, request))))

    async def info(self) -> EscrowInfo:
        info: EscrowInfo = await self.ask(Info())
        if info.escrow != self.key:
            raise PeerError("Info of another escrow")
        self.ahead = info.time - time.time_ns() // 1_000_000
        return info

    def now(self) -> int:
        return time.time_ns() // 1_000_000 + self.ahead

    def header(self) -> RequestHeader:
        """R-02."""
        return RequestHeader(secrets.token_bytes(16), self.now())

    async def account(self) -> AccountState:
        """All pages as one."""
        state: AccountState = await self.ask(Account(0))
        page = state
        while page.more:
            page = await self.ask(Account(page.holds[-1].hold.body.terms.serial))
            state.holds.extend(page.holds)
        return state

    async def statement(self) -> list[StatementEntry]:
        """All entries."""
        entries: list[StatementEntry] = []
        while True:
            page = await self.ask(Statement(entries[-1].sequence if entries else 0))
            entries.extend(page.entries)
            if not page.more:
                return entries

    def hold_request(self, payee: bytes, quote: Quote, info: EscrowInfo, cap: int) -> HoldRequest:
        """Terms that allow whatever the quote allows."""
        terms, expires_at = quote.terms, info.time + 30 * 24 * MS_PER_H
        face_value_min = max(info.face_value_min, terms.face_value_min)
        return HoldRequest(
            signer=self.secret.key,
            payee=payee,
            face_value_min=face_value_min,
            face_value_max=max(face_value_min, terms.face_value_max),
            book_length_max=terms.book_length_max,
            expires_at=expires_at,
            redeem_by=expires_at + 7 * 24 * MS_PER_H,
            cap=max(cap, info.cap_min),
            fee_max=info.fee,
        )

    async def hold(self, payee: bytes, quote: Quote, room: int) -> Signed[Hold]:
        """An open hold for the payee with room for so much more, found, raised or opened."""
        info = await self.info()
        if self.key not in quote.terms.escrows:
            raise PeerError("the payee does not take this escrow's holds")
        for status in (await self.account()).holds:
            hold = status.hold
            is_ours = hold.body.terms.payee == payee and hold.body.terms.signer == self.secret.key
            if status.state != HoldState.OPEN or not is_ours:
                continue
            while hold.body.cap - status.paid < room:
                top_up = TopUpHold(self.header(), hold.body.terms.id(), hold.body.revision, status.paid + room)
                answer = await self.ask(top_up)
                hold = answer.hold if isinstance(answer, RevisionStale) else answer
            return self._checked(hold)
        request = self.hold_request(payee, quote, info, room)
        return self._checked(await self.ask(OpenHold(self.header(), request)))

    async def raised(self, hold: Signed[Hold], amount: int) -> Signed[Hold]:
        """The hold with a cap that is so much larger (H-08)."""
        now = (await self.ask(HoldStatusRequest(hold.body.terms.id()))).hold.body
        return self._checked(await self.ask(TopUpHold(self.header(), now.terms.id(), now.revision, now.cap + amount)))

    def _checked(self, hold: Signed[Hold]) -> Signed[Hold]:
        hold.verify(self.key)
        hold.body.terms.check_rules()
        if hold.body.terms.escrow != self.key or hold.body.terms.payer != self.secret.key:
            raise PeerError("another hold than was asked for")
        return hold


class OpenedBook:
    """A book on its stream, with the window of B-16."""

    def __init__(self, stream: Stream, book: Signed[Book], quote: Quote, values: chain.Chain) -> None:
        self.stream, self.book, self.quote, self.values = stream, book, quote, values
        self.id = book.body.id()
        self.sent = self.through = 0
        face, price = book.body.face_value, quote.terms.ticket_price
        self.window, self.window_max = 1, min(quote.terms.jump_max, max(face // price, _WINDOW_PRICES))
        self.closed: Closed | None = None

    def send(self, upto: int) -> None:
        """One record pays for all tickets up to this one (B-08)."""
        if upto > self.sent:
            self.sent = upto
            self.stream.send(encode(Ticket, self.values.ticket(upto)))

    async def frame(self) -> Ack | Exhausted | Closed:
        """What the payee says next."""
        frame: Ack | Exhausted | Closed = decode(BookFrame, await self.stream.frame())
        if not self.through <= frame.through <= self.sent:
            raise PeerError(f"acknowledged {frame.through} of {self.sent}")
        if frame.through > self.through:
            self.window = min(self.window * 2, self.window_max)
        self.through = frame.through
        if isinstance(frame, Closed):
            self.closed = frame
        return frame

    async def pay(self, upto: int, raise_hold: Callable[[], Awaitable[None]] | None = None) -> None:
        """Pays for so many units of the book in all, never more than the window ahead."""
        while self.through < upto:
            self.send(min(upto, self.through + self.window))
            frame = await self.frame()
            if isinstance(frame, Exhausted) and raise_hold is not None:
                # The book goes on by itself when the payee has seen the raised hold (B-11).
                await raise_hold()
            elif isinstance(frame, Exhausted):
                raise Refused(Code.HOLD_EXHAUSTED, frame.need, frame.has)
            if isinstance(frame, Closed) and self.through < upto:
                raise Refused(frame.reject.code, frame.reject.need, frame.reject.has)

    async def finish(self) -> Closed:
        """Waits for the last word; ends our side first where the book is not complete."""
        if self.closed is None and self.through < self.book.body.length:
            self.stream.send(b"", end=True)
        while self.closed is None:
            await self.frame()
        return self.closed


@dataclass
class Journal:
    """S-01: what was acknowledged of each book, and what finds a cut download again."""

    acknowledged: dict[bytes, int] = field(default_factory=dict)


@dataclass
class Download:
    """What has arrived of a file, and the book that paid last."""

    service: str
    header: ResponseHeader | None = None
    content: bytearray = field(default_factory=bytearray)
    book: bytes | None = None
    ticket: Ticket | None = None

    @property
    def units(self) -> int:
        """Whole units that have arrived."""
        header = self.expected()
        if len(self.content) == header.size:
            return header.units
        return len(self.content) // header.unit_bytes

    def expected(self) -> ResponseHeader:
        """The header that the download began with."""
        if self.header is None:
            raise PeerError("the download has not begun")
        return self.header

    def check_header(self, header: ResponseHeader) -> None:
        """D-02: two versions are never spliced."""
        if self.header is not None and header.content_hash != self.header.content_hash:
            raise PeerError("the file has changed since the download began")
        self.header = self.header or header

    def check_content(self) -> None:
        """The whole has the hash that was promised."""
        if hashlib.sha256(self.content).digest() != self.expected().content_hash:
            raise PeerError("the content has another hash")

    async def receive(self, stream: Stream, units: int) -> None:
        """So many units from a response's stream, after its header."""
        header = self.expected()
        for _ in range(units):
            begin = self.units * header.unit_bytes
            unit = await stream.exactly(min(header.unit_bytes, header.size - begin))
            self.content[begin:] = unit


@dataclass
class Payee:
    """A payee as a payer talks to it."""

    connection: Connection
    key: bytes
    secret: Secret
    journal: Journal

    async def ask(self, request: Any) -> Any:
        """One request; Refused where it is rejected."""
        return _accepted(decode(PayeeAnswer, await self.connection.ask(encode(PayeeRequest, request))))

    async def quote(self, service: str, price: int | None = None) -> Quote:
        """A quote that is what was asked for."""
        quote: Quote = await self.ask(QuoteRequest(service, price))
        terms = quote.terms
        if terms.payee != self.key or terms.service != service:
            raise PeerError("a quote of another payee or for something else")
        if not 1 <= terms.ticket_price <= terms.face_value_max:
            raise PeerError("a quote whose price is out of range")
        return quote

    def make_book(self, hold: Signed[Hold], quote: Quote, face: int, length: int) -> tuple[Signed[Book], chain.Chain]:
        """A signed book on fresh secrets."""
        values = chain.Chain(length)
        odds = chain.threshold(quote.terms.ticket_price, face)
        book = Book(hold.body.terms.id(), quote.commitment, values.anchor, length, face, odds)
        return sign(self.secret, book), values

    async def open(self, request: OpenBook) -> tuple[Stream, Ack | Exhausted | Closed]:
        """Shows hold, quote and book; the payee's first word."""
        stream = self.connection.open()
        stream.send_frame(encode(PayeeRequest, request))
        return stream, decode(BookFrame, await stream.frame())

    async def open_book(self, hold: Signed[Hold], quote: Quote, face: int, length: int) -> OpenedBook:
        """A book that the payee has accepted."""
        book, values = self.make_book(hold, quote, face, length)
        for _ in range(_TRIES):
            stream, first = await self.open(OpenBook(hold, quote, book))
            if not isinstance(first, Closed) or first.reject.code is not Code.HOLD_UNCHECKED:
                break
            # B-06: the payee asks the escrow at once; nothing of the quote is used up.
            await asyncio.sleep(_RETRY_S)
        if isinstance(first, Closed):
            raise Refused(first.reject.code, first.reject.need, first.reject.has)
        if not isinstance(first, Ack) or first.through != 0:
            raise PeerError(f"{first} as the first word")
        self.journal.acknowledged[book.body.id()] = 0
        return OpenedBook(stream, book, quote, values)

    async def tip(self, escrow: Escrow, amount: int) -> bytes:
        """D-05: a book of one ticket; its id."""
        quote = await self.quote("tip", amount)
        face = max(amount, quote.terms.face_value_min)
        hold = await escrow.hold(self.key, quote, face)
        book = await self.open_book(hold, quote, face, 1)
        await book.pay(1, lambda: self._present(escrow, hold, face))
        self.journal.acknowledged[book.id] = 1
        await book.finish()
        return book.id

    async def _present(self, escrow: Escrow, hold: Signed[Hold], amount: int) -> None:
        await self.ask(PresentHold(await escrow.raised(hold, amount)))

    async def request(
        self, service: str, from_unit: int, book: bytes | None = None, ticket: Ticket | None = None
    ) -> tuple[Stream, ResponseHeader]:
        """D-02: the header, and the stream that the bytes come on."""
        stream = self.connection.open()
        stream.send_frame(encode(PayeeRequest, Request(service, from_unit, book, ticket)), end=True)
        header = _accepted(decode(PayeeAnswer, await stream.frame()))
        if not isinstance(header, ResponseHeader) or header.units != -(-header.size // header.unit_bytes):
            raise PeerError("not a response")
        return stream, header

    async def buy(self, escrow: Escrow, download: Download, face: int, cut_after: int | None = None) -> None:
        """Buys what is missing of a file. `cut_after` pays for that many units, takes one, and hangs up."""
        stream, header = await self.request(download.service, 0)
        await stream.rest()
        download.check_header(header)
        if download.book is not None:
            await self._resume(download)
        while download.units < header.units:
            await self._buy_book(escrow, download, face, cut_after)
            if cut_after is not None:
                return
        download.check_content()

    async def _resume(self, download: Download) -> None:
        """D-04: the units that the last book paid for and that did not arrive."""
        assert download.book is not None
        stream, header = await self.request(download.service, download.units, download.book, download.ticket)
        download.check_header(header)
        self.journal.acknowledged[download.book] = header.through
        before, paid = download.units, await stream.rest()
        download.content[before * header.unit_bytes :] = paid
        download.book = download.ticket = None

    async def _buy_book(self, escrow: Escrow, download: Download, face: int, cut_after: int | None) -> None:
        quote = await self.quote(download.service)
        header, first = download.expected(), download.units
        face = max(face, quote.terms.face_value_min)
        length = min(quote.terms.book_length_max, header.units - first)
        hold = await escrow.hold(self.key, quote, min(length, 20) * face)
        book = await self.open_book(hold, quote, face, length)
        download.book, download.ticket = book.id, book.values.ticket(1)
        wanted = length if cut_after is None else min(cut_after, length)
        taken = wanted if cut_after is None else 1
        stream, again = await self.request(download.service, first, book.id)
        download.check_header(again)
        paying = book.pay(wanted, lambda: self._present(escrow, hold, 20 * face))
        await asyncio.gather(paying, download.receive(stream, taken))
        self.journal.acknowledged[book.id] = book.through
        if cut_after is None:
            await book.finish()
            download.book = download.ticket = None
