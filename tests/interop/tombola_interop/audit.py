"""Checks of what was signed: charges of a statement (S-02), and evidence in files (R-14)."""

from __future__ import annotations

from dataclasses import dataclass

from . import chain
from .codec import encode
from .codes import Code, must
from .messages import (
    AccountState,
    Charge,
    Deposited,
    Held,
    HoldStatus,
    Received,
    Redemption,
    Returned,
    Sent,
    Shared,
    StatementEntry,
    WithdrawalFailed,
    Withdrawn,
)
from .objects import Book, Claim, Hold, HoldState, Receipt, Refusal, Signed, tagged_hash
from .payer import Journal


def check_claim(hold: Signed[Hold], book: Signed[Book], claim: Claim) -> chain.Outcome:
    """R-14: hold, book and claim prove what the escrow owes; Refused where they do not."""
    hold.verify(hold.body.terms.escrow)
    hold.body.terms.check_rules()
    must(claim.book == book, Code.HOLD_MISMATCH)
    outcome = chain.judge(claim, hold.body)
    must(outcome.gross <= hold.body.cap, Code.CLAIM_OVER_CAP, outcome.gross, hold.body.cap)
    return outcome


def check_receipt(receipt: Signed[Receipt], claim: Claim | None = None, hold: Signed[Hold] | None = None) -> None:
    """The escrow signed it; with claim and hold, that it says what the draws say."""
    receipt.verify(receipt.body.escrow)
    if claim is not None and hold is not None:
        must(receipt.body.escrow == hold.body.terms.escrow, Code.WRONG_ESCROW)
        outcome = check_claim(hold, claim.book, claim)
        must(chain.settles(claim, receipt, outcome), Code.RECEIPT_MISMATCH, receipt.body.through, claim.through)


def check_refusal(refusal: Signed[Refusal], claim: Claim, hold: Signed[Hold]) -> None:
    """The hold's escrow signed that it refuses this very claim."""
    refusal.verify(hold.body.terms.escrow)
    must(refusal.body.escrow == hold.body.terms.escrow, Code.WRONG_ESCROW)
    is_same = refusal.body.claim_hash == tagged_hash("claim-hash", encode(Claim, claim))
    must(is_same and refusal.body.book == claim.book.body.id(), Code.RECEIPT_MISMATCH)


@dataclass
class Verdict:
    """What an audit found, in atomic units."""

    charges: int = 0
    drawn: int = 0
    charged: int = 0
    deposited: int = 0
    held: int = 0
    sent: int = 0
    received: int = 0


def check_statement(account: bytes, escrow: bytes, entries: list[StatementEntry], journal: Journal) -> Verdict:
    """S-02 for each charge, and each balance from the one before (R-16)."""
    verdict, balance = Verdict(), 0
    paid: dict[bytes, int] = {}
    for number, entry in enumerate(entries, 1):
        assert entry.sequence == number, f"entry {entry.sequence} in place of {number}"
        balance += _moved(account, escrow, entry, journal, verdict, paid)
        assert entry.balance == balance, f"entry {number}: balance {entry.balance} in place of {balance}"
    return verdict


def _moved(
    account: bytes,
    escrow: bytes,
    entry: StatementEntry,
    journal: Journal,
    verdict: Verdict,
    paid: dict[bytes, int],
) -> int:
    """By how much an entry changes the balance."""
    match entry.kind:
        case Deposited(amount):
            verdict.deposited += amount
            return amount
        case Held(hold, amount):
            hold.verify(escrow)
            assert hold.body.terms.payer == account
            verdict.held += amount
            return -amount
        case Returned(_, _, amount):
            verdict.held -= amount
            return amount
        case Charge() as charge:
            _check_charge(account, escrow, charge, journal, verdict, paid)
            return 0
        case Sent(_, amount):
            verdict.sent += amount
            return -amount
        case Received(_, amount):
            verdict.received += amount
            return amount
        case Shared(_, _, amount):
            return amount
        case Withdrawn(_, amount):
            return -amount
        case WithdrawalFailed(_, amount):
            return amount
        case Redemption(charge, shares):
            fee = charge.receipt.body.fee * charge.amount // charge.receipt.body.gross
            return charge.amount - fee - sum(share.amount for share in shares)
    return 0


def _check_charge(
    account: bytes, escrow: bytes, charge: Charge, journal: Journal, verdict: Verdict, paid: dict[bytes, int]
) -> None:
    terms, book = charge.hold.body.terms, charge.claim.book.body.id()
    assert terms.escrow == escrow and terms.payer == account, "a charge on another's hold"
    check_receipt(charge.receipt, charge.claim, charge.hold)
    assert charge.amount == charge.receipt.body.gross - paid.get(book, 0), "the difference to the receipt before"
    paid[book] = charge.receipt.body.gross
    acknowledged = journal.acknowledged.get(book)
    assert acknowledged is not None, f"book {book.hex()} is not in the journal"
    assert charge.claim.through <= acknowledged, f"charged through {charge.claim.through} of {acknowledged}"
    verdict.charges += 1
    verdict.drawn += charge.claim.through
    verdict.charged += charge.amount
    verdict.held -= charge.amount


def check_account(state: AccountState, entries: list[StatementEntry], verdict: Verdict) -> None:
    """Statement, account and holds agree to the unit."""
    assert state.balance == entries[-1].balance, f"{state.balance} and {entries[-1].balance}"
    assert state.held == verdict.held == sum(map(_left, state.holds)), f"{state.held} and {verdict.held}"
    everything = state.balance + state.held + verdict.charged + verdict.sent
    assert verdict.deposited + verdict.received == everything, f"{verdict} and {state.balance}"


def _left(status: HoldStatus) -> int:
    return status.hold.body.cap - status.paid if status.state == HoldState.OPEN else 0
