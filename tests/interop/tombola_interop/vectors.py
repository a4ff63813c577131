"""Checks everything that `tests/vectors` says, valid and invalid."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from . import bech32m, chain, codec, keys, model
from .codec import Items, decode, encode, show
from .codes import Code, Refused
from .messages import TYPES, EscrowRequest, Evidence, HoldRequest, PayeeRequest, Share
from .objects import (
    Asset,
    Claim,
    Delegation,
    Fee,
    Hold,
    HoldState,
    HoldTerms,
    Phase,
    Release,
    Signed,
    Ticket,
    covered,
    tagged_hash,
)

Vector = dict[str, Any]
DOLLAR = Asset(b"USD".ljust(16, b"\0"), 9)


def _hex(value: Any) -> bytes:
    if isinstance(value, dict):
        return bytes.fromhex(value["byte"]) * int(value["count"])
    return bytes.fromhex(value)


def _signed(kind: Any, value: Any) -> Any:
    return None if value is None else decode(Signed[kind], _hex(value))


# Valid ones


def check_object(v: Vector) -> None:
    """Bytes and fields say the same; what is signed verifies; ids and hashes are as they should be."""
    kind = TYPES[v["type"]]
    value = decode(kind, _hex(v["bytes"]))
    assert encode(kind, value) == _hex(v["bytes"])
    assert show(kind, value) == v["fields"], show(kind, value)
    if "covered" in v:
        assert covered(value.body) == _hex(v["covered"])
        value.verify(_hex(v["signed_by"]))
    if "id" in v:
        body = value.body.terms if isinstance(value.body, Hold) else value.body
        prefix = "tomhold" if isinstance(value.body, Hold) else "tombook"
        assert body.id() == _hex(v["id"]["hex"]) == bech32m.decode(prefix, v["id"]["text"])
        assert bech32m.encode(prefix, body.id()) == v["id"]["text"]
    if "request_hash" in v:
        assert value.hash() == _hex(v["request_hash"])
    if "reveal" in v and "epoch_secret" in v:
        reveal = model.reveal_of(_hex(v["epoch_secret"]), value.terms)
        assert reveal == _hex(v["reveal"])
        assert chain.commitment(reveal) == value.commitment == _hex(v["commitment"])
    if "winning_indices" in v:
        outcome = chain.judge(value, _signed(Hold, v["hold"]).body)
        assert list(outcome.indices) == v["winning_indices"] and len(outcome.indices) == v["winners"]
        assert (outcome.gross, outcome.fee) == (int(v["gross"]), int(v["fee"]))
        assert tagged_hash("claim-hash", encode(Claim, value)) == _hex(v["claim_hash"])


def check_keys(v: Vector) -> None:
    secret = keys.Secret(_hex(v["seed"]))
    assert secret.key == _hex(v["key"]) == bech32m.decode("tom", v["text"])
    assert bech32m.encode("tom", secret.key) == v["text"]
    assert secret.sign(_hex(v["message"])) == _hex(v["signature"])
    keys.verify(secret.key, _hex(v["message"]), _hex(v["signature"]))


def check_chain(v: Vector) -> None:
    values = chain.Chain(v["length"], _hex(v["secret"])).values
    assert values[0] == _hex(v["anchor"])
    for index, value in v["values"].items():
        assert values[int(index)] == _hex(value), index


def check_draw(v: Vector) -> None:
    number = chain.draw(_hex(v["book_id"]), _hex(v["reveal"]), v["index"], _hex(v["preimage"]))
    assert number == int(v["number"])
    assert (number <= int(v["threshold"])) == v["wins"]


def check_odds(v: Vector) -> None:
    price, face = int(v["price"]), int(v["face_value"])
    if "code" in v:
        _expect(v["code"], lambda: chain.threshold(price, face))
        return
    odds = chain.threshold(price, face)
    assert odds == int(v["threshold"])
    assert chain.covers(face, odds, price) == v["covers"]
    assert chain.covers(face, odds - 1, price) == v["less_covers"]
    assert face * (odds + 1) == int(v["value_scaled"])


# Invalid ones


def _payee(v: Vector) -> model.Payee:
    fee = Fee(int(v["fee_flat_max"]), int(v["fee_ppm_max"]))
    window, since = int(v["redeem_window_min_ms"]), int(v["store_since"])
    return model.Payee(_hex(v["payee"]), _hex(v["epoch_secret"]), fee, window, since)


def _opened(v: Vector, payee: model.Payee) -> model.OpenedBook | None:
    first = v.get("first")
    return payee.open_book(decode(PayeeRequest, _hex(first)), int(v["now"])) if first else None


def open_book(v: Vector) -> None:
    payee = _payee(v)
    _opened(v, payee)
    payee.open_book(decode(PayeeRequest, _hex(v["open"])), int(v["now"]))


def present_hold(v: Vector) -> None:
    payee = _payee(v)
    _opened(v, payee)
    payee.present_hold(_signed(Hold, v["hold"]))


def take_ticket(v: Vector) -> None:
    payee = _payee(v)
    book = _opened(v, payee)
    assert book is not None
    for ticket in v["before"]:
        payee.take_ticket(book, decode(Ticket, _hex(ticket["record"])), int(v["now"]))
    payee.take_ticket(book, decode(Ticket, _hex(v["ticket"])), int(v["ticket_at"]))


def _state(v: Vector) -> HoldState:
    return HoldState[v["state"].upper()]


def judge_claim(v: Vector) -> None:
    claim, hold = decode(Claim, _hex(v["claim"])), _signed(Hold, v["hold"]).body
    model.judge_claim(claim, _hex(v["claimant"]), hold, _state(v), int(v["paid"]))


def open_hold(v: Vector) -> None:
    request = decode(HoldRequest, _hex(v["request"]))
    fee = Fee(int(v["fee_flat"]), int(v["fee_ppm"]))
    faces, times = (request.face_value_min, request.face_value_max), (request.expires_at, request.redeem_by)
    parties = (_hex(v["payer"]), request.signer, request.payee)
    terms = HoldTerms(
        _hex(v["escrow"]), DOLLAR, *parties, 1, fee, *faces, request.book_length_max, int(v["now"]), *times
    )
    limits = model.EscrowLimits(fee, int(v["face_value_min"]), int(v["cap_min"]))
    model.open_hold(terms, request, limits, int(v["open_holds"]), int(v["balance"]))


def top_up(v: Vector) -> None:
    hold = _signed(Hold, v["hold"]).body
    model.top_up(hold, _state(v), int(v["revision"]), int(v["cap"]), int(v["balance"]))


def delegated_hold(v: Vector) -> None:
    delegation = _signed(Delegation, v["delegation"])
    request, signer = decode(HoldRequest, _hex(v["request"])), _hex(v["signer"])
    body = delegation.body if delegation else None
    model.delegated_hold(request, signer, body, int(v["committed"]), int(v["now"]))


def resubmit(v: Vector) -> None:
    evidence, escrow = decode(Evidence, _hex(v["evidence"])), _hex(v["escrow"])
    is_hold = isinstance(evidence, Signed) and isinstance(evidence.body, Hold)
    known = None if is_hold else _signed(Hold, v["hold"])
    body = known.body if known else None
    model.resubmit(evidence, escrow, DOLLAR, body, int(v["restored_at"]), int(v["balance"]))


def _payout(v: Vector) -> tuple[str, int, int]:
    return v["destination"], int(v["payout_fee"]), int(v["payout_min"])


OPERATIONS: dict[str, Callable[[Vector], Any]] = {
    "decode": lambda v: decode(TYPES[v["type"]], _hex(v["bytes"])),
    "check_key": lambda v: keys.check_key(_hex(v["key"])),
    "verify_bytes": lambda v: keys.verify(_hex(v["key"]), _hex(v["message"]), _hex(v["signature"])),
    "verify_object": lambda v: decode(TYPES[v["type"]], _hex(v["object"])).verify(_hex(v["key"])),
    "check_hold": lambda v: _signed(Hold, v["hold"]).body.terms.check_rules(),
    "threshold": lambda v: chain.threshold(int(v["price"]), int(v["face_value"])),
    "verify_claim": lambda v: chain.judge(decode(Claim, _hex(v["claim"])), _signed(Hold, v["hold"]).body),
    "open_book": open_book,
    "present_hold": present_hold,
    "take_ticket": take_ticket,
    "judge_claim": judge_claim,
    "open_hold": open_hold,
    "top_up": top_up,
    "release": lambda v: model.release(
        _signed(Release, v["release"]), _signed(Hold, v["hold"]).body, _state(v), int(v["paid"])
    ),
    "request_time": lambda v: model.check_issued_at(int(v["issued_at"]), int(v["now"])),
    "withdraw": lambda v: model.withdraw(int(v["amount"]), int(v["balance"]), *_payout(v)),
    "check_payout": lambda v: model.check_payout(int(v["threshold"]), int(v["every_ms"]), *_payout(v)),
    "check_split": lambda v: model.check_split(
        _hex(v["payee"]), decode(Annotated[list[Share], Items(32)], _hex(v["shares"]))
    ),
    "delegate": lambda v: model.delegate(
        _signed(Delegation, v["delegation"]), _hex(v["escrow"]), _signed(Delegation, v["current"])
    ),
    "delegated_hold": delegated_hold,
    "phase": lambda v: model.check_phase(decode(EscrowRequest, _hex(v["request"])), Phase[v["phase"].upper()]),
    "resubmit": resubmit,
}


def _expect(code: str, operation: Callable[[], Any]) -> Refused:
    try:
        operation()
    except Refused as refused:
        assert refused.code is Code[code.upper()], f"{refused} instead of {code}"
        return refused
    raise AssertionError(f"accepted instead of {code}")


def check_invalid(v: Vector) -> None:
    refused = _expect(v["code"], lambda: OPERATIONS[v["operation"]](v))
    numbers = int(v["need"]), int(v["has"])
    assert (refused.need, refused.has) == numbers, f"{refused} instead of {numbers}"


CHECKS = {
    "keys": check_keys,
    "chain": check_chain,
    "draw": check_draw,
    "odds": check_odds,
    "invalid": check_invalid,
}


def run(directory: Path) -> int:
    """Checks every vector of every file; raises at the end if one does not hold. Gives their number."""
    count, failures = 0, []
    for path in sorted(directory.glob("*.json")):
        check = CHECKS.get(path.stem, check_object)
        for vector in json.loads(path.read_text())["vectors"]:
            count += 1
            try:
                check(vector)
            except Exception as error:  # noqa: BLE001 - every failure is shown
                failures.append(f"{path.name}: {vector['name']}: {type(error).__name__}: {error}")
    assert count > 0, f"no vectors in {directory}"
    assert not failures, "\n".join(failures)
    assert codec.MESSAGE_BYTES_MAX == 65_536
    return count
