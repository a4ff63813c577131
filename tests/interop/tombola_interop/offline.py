"""The offline checker of evidence: hold, book and claim; receipts; refusals (R-14)."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .audit import check_claim, check_receipt, check_refusal
from .codec import decode, show
from .codes import Refused
from .messages import TYPES
from .objects import Book, Claim, Hold, Receipt, Refusal, Signed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = parser.add_subparsers(dest="what", required=True)
    add = what.add_parser("claim", help="whether hold, book and claim prove that an escrow owes a payee")
    add.add_argument("hold", type=Path)
    add.add_argument("book", type=Path)
    add.add_argument("claim", type=Path)
    add.add_argument("--receipt", type=Path)
    add.add_argument("--refusal", type=Path)
    add = what.add_parser("altered", help="whether every single altered byte of the evidence is refused")
    for name in ("hold", "book", "claim", "receipt"):
        add.add_argument(name, type=Path)
    add = what.add_parser("show", help="an object's fields")
    add.add_argument("type")
    add.add_argument("object", type=Path)
    add = what.add_parser("receipt", help="whether its escrow signed a receipt")
    add.add_argument("receipt", type=Path)


def read(kind: Any, path: Path) -> Any:
    """The object in a file of bytes or hex."""
    return decode(kind, content(path))


def content(path: Path) -> bytes:
    """The bytes that a file holds, or that its hex says."""
    data = path.read_bytes()
    try:
        return bytes.fromhex(data.decode())
    except ValueError:
        return data


def check(given: argparse.Namespace) -> dict[str, Any]:
    """What the evidence proves; Refused where it proves nothing."""
    if given.what == "receipt":
        receipt: Signed[Receipt] = read(Signed[Receipt], given.receipt)
        check_receipt(receipt)
        return {"proven": True, "through": receipt.body.through, "gross": receipt.body.gross}
    if given.what == "show":
        kind = TYPES[given.type]
        return {"fields": show(kind, read(kind, given.object))}
    if given.what == "altered":
        return altered([content(getattr(given, name)) for name in ("hold", "book", "claim", "receipt")])
    hold: Signed[Hold] = read(Signed[Hold], given.hold)
    book: Signed[Book] = read(Signed[Book], given.book)
    claim: Claim = read(Claim, given.claim)
    outcome = check_claim(hold, book, claim)
    if given.receipt:
        check_receipt(read(Signed[Receipt], given.receipt), claim, hold)
    if given.refusal:
        check_refusal(read(Signed[Refusal], given.refusal), claim, hold)
    drawn = {"winners": len(outcome.indices), "gross": outcome.gross, "fee": outcome.fee}
    return {"proven": True, "through": claim.through} | drawn


def altered(parts: list[bytes]) -> dict[str, Any]:
    """Alters each byte of hold, book, claim and receipt, one at a time; each time the whole must be refused."""
    _judge(parts)
    refused = 0
    for number, part in enumerate(parts):
        for at in range(len(part)):
            changed = bytearray(part)
            changed[at] ^= 1 << at % 8
            try:
                _judge([*parts[:number], bytes(changed), *parts[number + 1 :]])
            except Refused:
                refused += 1
                continue
            raise AssertionError(f"took part {number} with byte {at} altered")
    return {"refused": refused}


def _judge(parts: list[bytes]) -> None:
    hold, book = decode(Signed[Hold], parts[0]), decode(Signed[Book], parts[1])
    claim, receipt = decode(Claim, parts[2]), decode(Signed[Receipt], parts[3])
    check_claim(hold, book, claim)
    check_receipt(receipt, claim, hold)
