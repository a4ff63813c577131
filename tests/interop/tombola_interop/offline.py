"""The offline checker of evidence: hold, book and claim; receipts; refusals (R-14)."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .audit import check_claim, check_receipt, check_refusal
from .codec import decode
from .objects import Book, Claim, Hold, Receipt, Refusal, Signed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = parser.add_subparsers(dest="what", required=True)
    add = what.add_parser("claim", help="whether hold, book and claim prove that an escrow owes a payee")
    add.add_argument("hold", type=Path)
    add.add_argument("book", type=Path)
    add.add_argument("claim", type=Path)
    add.add_argument("--receipt", type=Path)
    add.add_argument("--refusal", type=Path)
    add = what.add_parser("receipt", help="whether its escrow signed a receipt")
    add.add_argument("receipt", type=Path)


def read(kind: Any, path: Path) -> Any:
    """The object in a file, as bytes."""
    return decode(kind, path.read_bytes())


def check(given: argparse.Namespace) -> dict[str, Any]:
    """What the evidence proves; Refused where it proves nothing."""
    if given.what == "receipt":
        receipt: Signed[Receipt] = read(Signed[Receipt], given.receipt)
        check_receipt(receipt)
        return {"proven": True, "through": receipt.body.through, "gross": receipt.body.gross}
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
