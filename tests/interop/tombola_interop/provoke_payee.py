"""What the payee rejects. Each function is a case: it sends the input and says which numbers must come back."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import replace
from typing import Any

from .codec import encode
from .codes import Code
from .messages import Ack, Exhausted, OpenBook, PayeeAnswer, PayeeRequest, PresentHold, Services
from .objects import MS_PER_H, Asset, Fee, Reject, Ticket, sign
from .payer import OpenedBook, Payee
from .provoke import FACE, FILE, Seen, Stage, answer_to, case, closed, framed, random_id, rejected
from .quic import connected

_DAY = 24 * MS_PER_H
_SERVICES = encode(PayeeRequest, Services(None))


def _now(stage: Stage) -> range:
    now = stage.escrow.now()
    return range(now - 5_000, now + 60_000)


async def _after(book: OpenedBook, *tickets: Ticket) -> Reject:
    """What closes a book after these records."""
    for ticket in tickets:
        book.stream.send(encode(Ticket, ticket))
    return (await closed(book.stream)).reject


@case(Code.MALFORMED, "payee")
async def a_byte_too_many(stage: Stage) -> Seen:
    size = len(_SERVICES)
    return Seen(await answer_to(stage.payee.connection, framed(_SERVICES + b"\0"), PayeeAnswer), size, size + 1)


@case(Code.MALFORMED, "payee")
async def an_unknown_request(stage: Stage) -> Seen:
    return Seen(await answer_to(stage.payee.connection, framed(bytes([5, 0, 0, 0])), PayeeAnswer))


@case(Code.MALFORMED, "payee")
async def half_an_opening(stage: Stage) -> Seen:
    return Seen(await answer_to(stage.payee.connection, framed(bytes([2, 0, 0, 0])), PayeeAnswer))


@case(Code.TOO_LARGE, "payee")
async def a_frame_over_its_limit(stage: Stage) -> Seen:
    return Seen(await answer_to(stage.payee.connection, framed(b"", 65_537), PayeeAnswer), 65_536, 65_537)


# Quotes and services


@case(Code.SERVICE_UNKNOWN, "payee")
async def a_file_that_is_not_there(stage: Stage) -> Seen:
    return Seen(await rejected(stage.payee.quote("/no such file")))


@case(Code.SERVICE_UNKNOWN, "payee")
async def a_file_outside(stage: Stage) -> Seen:
    return Seen(await rejected(stage.payee.request("/../key.pem", 0)))


@case(Code.BAD_TERMS, "payee")
async def a_tip_of_nothing(stage: Stage) -> Seen:
    return Seen(await rejected(stage.payee.quote("tip", 0)), stage.quote.terms.face_value_max, 0)


@case(Code.BAD_TERMS, "payee")
async def a_tip_without_a_price(stage: Stage) -> Seen:
    return Seen(await rejected(stage.payee.quote("tip")), stage.quote.terms.face_value_max, 0)


@case(Code.PRICE_MISMATCH, "payee")
async def less_than_the_price(stage: Stage) -> Seen:
    price = stage.quote.terms.ticket_price
    return Seen(await rejected(stage.payee.quote(FILE, price - 1)), price, price - 1)


@case(Code.UNIT_OUT_OF_RANGE, "payee")
async def a_unit_past_the_end(stage: Stage) -> Seen:
    _, header = await stage.payee.request(FILE, 0)
    return Seen(await rejected(stage.payee.request(FILE, header.units + 1)), header.units, header.units + 1)


@case(Code.BOOK_UNKNOWN, "payee")
async def units_of_no_book(stage: Stage) -> Seen:
    return Seen(await rejected(stage.payee.request(FILE, 0, random_id())))


# Openings, in the order of B-04


@case(Code.HOLD_UNCHECKED, "payee")
async def the_first_book_of_a_young_store(stage: Stage) -> Seen:
    return Seen(await stage.refused_opening(await stage.open_hold(10_000_000)))


async def _altered(stage: Stage, **changes: Any) -> Reject:
    quote = await stage.payee.quote(FILE)
    return await stage.refused_opening(quote=replace(quote, terms=replace(quote.terms, **changes)))


@case(Code.QUOTE_EXPIRED, "payee")
async def an_expired_quote(stage: Stage) -> Seen:
    ended = stage.escrow.now() - 10_000
    return Seen(await _altered(stage, expires_at=ended), _now(stage), ended)


@case(Code.QUOTE_ALTERED, "payee")
async def a_cheaper_quote(stage: Stage) -> Seen:
    return Seen(await _altered(stage, ticket_price=1))


@case(Code.COMMITMENT_REUSED, "payee")
async def a_second_book_on_one_quote(stage: Stage) -> Seen:
    book = await stage.opened()
    reject = await stage.refused_opening(quote=book.quote)
    await book.finish()
    return Seen(reject)


@case(Code.WRONG_ESCROW, "payee")
async def a_hold_of_another_escrow(stage: Stage) -> Seen:
    return Seen(await stage.refused_opening(stage.fake(escrow=stage.stranger.key)))


@case(Code.WRONG_ASSET, "payee")
async def a_hold_in_another_asset(stage: Stage) -> Seen:
    return Seen(await stage.refused_opening(stage.fake(asset=Asset(b"EUR".ljust(16, b"\0"), 9))))


@case(Code.HOLD_NOT_FOR_ME, "payee")
async def a_hold_for_another_payee(stage: Stage) -> Seen:
    return Seen(await stage.refused_opening(stage.fake(payee=stage.seller.key)))


@case(Code.SELF_HOLD, "payee")
async def the_payees_own_hold(stage: Stage) -> Seen:
    return Seen(await stage.refused_opening(stage.fake(payer=stage.payee.key)))


@case(Code.HOLD_EXPIRED, "payee")
async def a_hold_that_ends_too_soon(stage: Stage) -> Seen:
    ends = stage.escrow.now() + 30_000
    return Seen(await stage.refused_opening(stage.fake(expires_at=ends)), _now(stage), ends - 60_000)


@case(Code.REDEEM_WINDOW_SHORT, "payee")
async def a_day_less_one_ms(stage: Stage) -> Seen:
    ends = stage.hold.body.terms.expires_at
    return Seen(await stage.refused_opening(stage.fake(redeem_by=ends + _DAY - 1)), _DAY, _DAY - 1)


@case(Code.FEE_TOO_HIGH, "payee")
async def a_flat_fee_over_the_limit(stage: Stage) -> Seen:
    return Seen(await stage.refused_opening(stage.fake(fee=Fee(100_001, 0))), 100_000, 100_001)


@case(Code.FEE_TOO_HIGH, "payee")
async def a_share_over_the_limit(stage: Stage) -> Seen:
    return Seen(await stage.refused_opening(stage.fake(fee=Fee(0, 20_001))), 20_000, 20_001)


@case(Code.HOLD_MISMATCH, "payee")
async def a_book_of_another_hold(stage: Stage) -> Seen:
    return Seen(await stage.refused_opening(hold_id=random_id()))


@case(Code.BOOK_TOO_LONG, "payee")
async def an_empty_book(stage: Stage) -> Seen:
    return Seen(await stage.refused_opening(length=0), stage.hold.body.terms.book_length_max, 0)


@case(Code.BOOK_TOO_LONG, "payee")
async def a_book_over_the_limit(stage: Stage) -> Seen:
    limit = stage.hold.body.terms.book_length_max
    return Seen(await stage.refused_opening(length=limit + 1), limit, limit + 1)


@case(Code.FACE_OUT_OF_RANGE, "payee")
async def a_face_under_the_holds(stage: Stage) -> Seen:
    least = stage.hold.body.terms.face_value_min
    return Seen(await stage.refused_opening(face_value=least - 1), least, least - 1)


@case(Code.FACE_OUT_OF_RANGE, "payee")
async def a_face_over_the_quotes(stage: Stage) -> Seen:
    most = stage.quote.terms.face_value_max
    hold = stage.fake(face_value_max=most + 1)
    return Seen(await stage.refused_opening(hold, face_value=most + 1), most, most + 1)


@case(Code.COMMITMENT_MISMATCH, "payee")
async def a_book_on_another_commitment(stage: Stage) -> Seen:
    return Seen(await stage.refused_opening(commitment=random_id()))


async def _worth(stage: Stage, eighths: int) -> Seen:
    """Odds that make a ticket worth so many eighths of a unit; a face that is a power of 2 makes it exact."""
    face = 1 << 20
    reject = await stage.refused_opening(face_value=face, threshold=eighths * 2**64 // (8 * face) - 1)
    return Seen(reject, stage.quote.terms.ticket_price, (eighths + 4) // 8)


@case(Code.ODDS_TOO_LOW, "payee")
async def odds_that_round_down(stage: Stage) -> Seen:
    return await _worth(stage, 8 * 49_999 + 3)


@case(Code.ODDS_TOO_LOW, "payee")
async def odds_that_round_up(stage: Stage) -> Seen:
    return await _worth(stage, 8 * 49_999 + 5)


@case(Code.ODDS_TOO_LOW, "payee")
async def odds_of_half_a_unit_more(stage: Stage) -> Seen:
    return await _worth(stage, 8 * 49_998 + 4)


@case(Code.BAD_SIGNATURE, "payee")
async def a_hold_that_the_escrow_did_not_sign(stage: Stage) -> Seen:
    return Seen(await stage.refused_opening(stage.fake(serial=99)))


@case(Code.BAD_SIGNATURE, "payee")
async def a_book_that_its_signer_did_not_sign(stage: Stage) -> Seen:
    quote = await stage.payee.quote(FILE)
    book, _ = stage.book(quote)
    return Seen(await stage.refused(OpenBook(stage.hold, quote, sign(stage.stranger, book.body))))


@case(Code.BUSY, "payee")
async def a_65th_open_book(stage: Stage) -> Seen:
    hold = await stage.open_hold(100_000_000)
    books = [await stage.opened(hold) for _ in range(64)]
    reject = await stage.refused_opening(hold)
    for book in books:
        await book.finish()
    return Seen(reject, 64, 64)


@case(Code.HOLD_UNKNOWN, "payee")
async def a_top_up_of_a_hold_without_a_book(stage: Stage) -> Seen:
    return Seen(await rejected(stage.payee.ask(PresentHold(await stage.open_hold(10_000_000)))))


@case(Code.BAD_SIGNATURE, "payee")
async def a_top_up_that_the_payer_signed(stage: Stage) -> Seen:
    await (await stage.opened()).finish()
    raised = sign(stage.secret, replace(stage.hold.body, revision=1, cap=stage.hold.body.cap + 1))
    return Seen(await rejected(stage.payee.ask(PresentHold(raised))))


# Tickets


@case(Code.INDEX_ZERO, "payee")
async def ticket_0(stage: Stage) -> Seen:
    return Seen(await _after(await stage.opened(), Ticket(0, bytes(32))))


@case(Code.INDEX_PAST_END, "payee")
async def ticket_9_of_8(stage: Stage) -> Seen:
    return Seen(await _after(await stage.opened(), Ticket(9, bytes(32))), 8, 9)


@case(Code.CHAIN_BROKEN, "payee")
async def a_ticket_off_the_chain(stage: Stage) -> Seen:
    book = await stage.opened()
    return Seen(await _after(book, book.values.ticket(1), Ticket(3, book.values.ticket(2).preimage)))


@case(Code.JUMP_TOO_LONG, "payee")
async def a_jump_over_the_limit(stage: Stage) -> Seen:
    limit = stage.quote.terms.jump_max
    book = await stage.opened(length=limit + 1)
    return Seen(await _after(book, book.values.ticket(limit + 1)), limit, limit + 1)


@case(Code.HOLD_EXHAUSTED, "payee")
async def a_winner_without_room(stage: Stage) -> Seen:
    hold = await stage.open_hold(3 * FACE // 2)
    book = await stage.opened(hold)
    book.send(2)
    while not isinstance(frame := await book.frame(), Exhausted):
        assert isinstance(frame, Ack), frame
    # Of the winner before it, which may not be durable yet, an Ack tells (P-05).
    assert frame.through <= 1, frame
    last = await book.finish()
    assert (last.through, last.reject.code) == (1, Code.BOOK_FINISHED), last
    return Seen(Reject(Code.HOLD_EXHAUSTED, frame.need, frame.has), FACE, FACE // 2)


@case(Code.BOOK_COMPLETE, "payee")
async def the_last_ticket(stage: Stage) -> Seen:
    book = await stage.opened()
    book.send(8)
    last = await closed(book.stream)
    assert last.through == 8
    return Seen(last.reject)


@case(Code.BOOK_FINISHED, "payee")
async def half_a_record_and_the_end(stage: Stage) -> Seen:
    book = await stage.opened()
    book.stream.send(encode(Ticket, book.values.ticket(1)) + bytes(35), end=True)
    last = await closed(book.stream)
    assert last.through == 1
    return Seen(last.reject)


@case(Code.STREAM_LOST, "payee")
async def a_stream_that_was_reset(stage: Stage) -> Seen:
    book = await stage.opened()
    await book.pay(1)
    book.stream.reset_sending()
    last = await closed(book.stream)
    assert last.through == 1
    return Seen(last.reject)


@case(Code.BOOK_REDEEMED, "payee")
async def winners_worth_redeeming(stage: Stage) -> Seen:
    book = await stage.opened(length=1_000)
    book.send(stage.quote.terms.jump_max // 2)
    return Seen(await _after(book))


# Delivery


@case(Code.PRICE_MISMATCH, "payee")
async def another_file_with_the_same_book(stage: Stage) -> Seen:
    book, price = await stage.opened(), stage.quote.terms.ticket_price
    reject = await rejected(stage.payee.request("/cut", 0, book.id))
    await book.finish()
    return Seen(reject, price, price)


@case(Code.UNAUTHORIZED, "payee")
async def anothers_book(stage: Stage) -> Seen:
    book = await stage.opened()
    async with connected(stage.payee_at, None) as connection:
        other = Payee(connection, stage.payee.key, stage.secret, stage.payee.journal)
        bare = await rejected(other.request(FILE, 0, book.id))
        assert bare == Reject(Code.UNAUTHORIZED, 0, 0), bare
        reject = await rejected(other.request(FILE, 0, book.id, Ticket(1, bytes(32))))
    await book.finish()
    return Seen(reject)


# What takes its time


@case(Code.HOLD_EXPIRED, "payee")
async def a_ticket_after_the_last_time(stage: Stage) -> Seen:
    ends = stage.escrow.now() + 75_000
    hold = await stage.open_hold(10_000_000, expires_at=ends, redeem_by=ends + _DAY)
    book = await stage.opened(hold)
    await asyncio.sleep(max(0, ends - 60_000 + 500 - stage.escrow.now()) / 1_000)
    return Seen(await _after(book, book.values.ticket(1)), _now(stage), ends - 60_000)


@case(Code.BOOK_IDLE, "payee")
async def a_book_without_a_ticket(stage: Stage) -> Seen:
    book, began = await stage.opened(), time.monotonic()
    reject = await _after(book)
    assert time.monotonic() - began > 55, "60 s without a ticket"
    return Seen(reject)


@case(Code.DRAINING, "payee")
async def a_payee_that_is_told_to_end(stage: Stage) -> Seen:
    book = await stage.opened()
    assert stage.payee_pid is not None
    os.kill(stage.payee_pid, signal.SIGTERM)
    return Seen(await _after(book))


SLOW = (a_ticket_after_the_last_time, a_book_without_a_ticket)
LAST = a_payee_that_is_told_to_end
