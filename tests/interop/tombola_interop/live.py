"""What a payer does against real nodes: buys, is cut off, goes on, tips, and audits what it was charged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from .audit import check_account, check_statement
from .bech32m import decode as bech32m_decode
from .codec import encode
from .codes import Code
from .keys import Address, Secret
from .objects import Reject
from .payer import Download, Escrow, Journal, Payee
from .quic import Connection, PeerError, connected


async def refuses_another_key(address: Address, secret: Secret) -> None:
    """N-02: whoever answers with another key than the address says is hung up on."""
    try:
        async with connected(replace(address, key=secret.key), secret):
            pass
    except PeerError:
        return
    raise AssertionError("took a peer with another key for the one in the address")


async def asks_nothing(connection: Connection) -> None:
    """N-05: a stream that ends inside of its first frame is answered with `malformed`."""
    malformed = bytes(4) + encode(Reject, Reject(Code.MALFORMED, 0, 0))
    for data in (b"", b"\5\0\0\0\0"):
        stream = connection.open()
        stream.send(data, end=True)
        answer = await stream.rest()
        assert answer == len(malformed).to_bytes(4, "little") + malformed, answer


def load(state: Path) -> Journal:
    """The journal of an earlier process."""
    if not state.exists():
        return Journal()
    lines = json.loads(state.read_text())
    return Journal({bytes.fromhex(book): through for book, through in lines.items()})


def save(state: Path, journal: Journal) -> None:
    state.write_text(json.dumps({book.hex(): through for book, through in journal.acknowledged.items()}))


async def buy(escrow_at: Address, payee_at: Address, secret: Secret, files: Path, state: Path) -> dict[str, Any]:
    """Buys both files that the payee sells, the second one with a cut, and tips twice."""
    journal = load(state)
    await refuses_another_key(escrow_at, secret)
    await refuses_another_key(payee_at, secret)
    whole, cut = Download("/whole"), Download("/cut")
    face = 1_000_000
    async with connected(escrow_at, secret) as to_escrow:
        escrow = Escrow(to_escrow, escrow_at.key, secret)
        info = await escrow.info()
        await asks_nothing(to_escrow)
        async with connected(payee_at, None) as to_payee:
            payee = Payee(to_payee, payee_at.key, secret, journal)
            await asks_nothing(to_payee)
            await payee.buy(escrow, whole, face)
            exact = await payee.tip(escrow, 20_000_000)
            chance = await payee.tip(escrow, 100)
            await payee.buy(escrow, cut, face, cut_after=7)
        assert cut.units == 1 and cut.book is not None
        first, half = cut.book, cut.units
        async with connected(payee_at, None) as to_payee:
            await Payee(to_payee, payee_at.key, secret, journal).buy(escrow, cut, face)
    assert journal.acknowledged[first] == 7, "the cut book paid for 7 units"
    for download in (whole, cut):
        assert (files / download.service[1:]).read_bytes() == download.content
    tickets = sum(journal.acknowledged.values())
    units = whole.units + cut.units
    assert tickets == units + 2, f"{tickets} tickets for {units} units and 2 tips"
    assert journal.acknowledged[exact] == journal.acknowledged[chance] == 1
    save(state, journal)
    return {"escrow": info.name, "units": units, "tickets": tickets, "units_before_the_cut": half}


async def audit(escrow_at: Address, secret: Secret, state: Path) -> dict[str, Any]:
    """Draws every charge again and adds everything up."""
    async with connected(escrow_at, secret) as to_escrow:
        escrow = Escrow(to_escrow, escrow_at.key, secret)
        entries, account = await escrow.statement(), await escrow.account()
    verdict = check_statement(secret.key, escrow_at.key, entries, load(state))
    check_account(account, entries, verdict)
    balance = {"balance": account.balance, "held": account.held}
    return {"entries": len(entries)} | vars(verdict) | balance


def key_of(text: str) -> bytes:
    """A key as people write it."""
    return bech32m_decode("tom", text)
