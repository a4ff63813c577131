"""What an escrow refuses that lost the end of its ledger, and what it takes back (R-24, R-25)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .audit import check_account, check_statement
from .codec import decode, encode
from .codes import Code
from .keys import Address, Secret
from .messages import Deposited, HoldRequest, Known, OpenHold, ReceiptEvidence, Restored, Resubmit, Transfer
from .objects import MS_PER_H, Claim, Hold, Phase, Receipt, Release, Signed, sign
from .payer import Escrow, Journal
from .provoke import CASES, FACE, RECOVERING, Parties, Seen, case, derived, outcome, rejected, run_case
from .provoke_escrow import claim_on, claimed
from .quic import Connection, connected


@dataclass(frozen=True)
class Lost:
    """What the parties keep of a hold that the ledger loses: a claim with two winners, and its receipt."""

    hold: Signed[Hold]
    claim: Claim
    receipt: Signed[Receipt]


@dataclass
class Recovery(Parties):
    """An escrow that was rolled back twice; of the first loss nothing was brought back before it went on."""

    first: Lost
    second: Lost
    # When the deposit was booked that the ledger ends with since the second time.
    restored_at: int


async def _parties(connection: Connection, escrow_at: Address, secret: Secret) -> Parties:
    escrow = Escrow(connection, escrow_at.key, secret)
    return Parties(escrow, await escrow.info(), secret, derived(secret, b"seller"))


def _opening(stage: Parties) -> OpenHold:
    expires_at, cap = stage.info.time + 30 * 24 * MS_PER_H, max(10 * FACE, stage.info.cap_min)
    ends = expires_at, expires_at + 7 * 24 * MS_PER_H
    request = HoldRequest(stage.secret.key, stage.seller.key, FACE, FACE, 4, *ends, cap, stage.info.fee)
    return OpenHold(stage.escrow.header(), request)


async def lose(escrow_at: Address, secret: Secret, state: Path) -> dict[str, Any]:
    """Opens a hold and redeems from it; what the escrow signed goes to the end of a file."""
    async with connected(escrow_at, secret) as connection:
        stage = await _parties(connection, escrow_at, secret)
        hold = await stage.escrow.ask(_opening(stage))
        claim = claim_on(stage, hold)
        lost = Lost(hold, claim, await claimed(stage, claim))
    with state.open("a") as lines:
        lines.write(encode(Lost, lost).hex() + "\n")
    return {"serial": hold.body.terms.serial}


async def recover(escrow_at: Address, secret: Secret, state: Path) -> dict[str, Any]:
    """Runs the cases of the recovering escrow, and brings back what it lost."""
    first, second = (decode(Lost, bytes.fromhex(line)) for line in state.read_text().split())
    cases = [each for each in CASES if each.where == RECOVERING]
    faults: list[str] = []
    async with connected(escrow_at, secret) as connection:
        parties = await _parties(connection, escrow_at, secret)
        assert parties.info.phase is Phase.RECOVERING
        last = (await parties.escrow.statement())[-1]
        assert isinstance(last.kind, Deposited), last
        stage = Recovery(**vars(parties), first=first, second=second, restored_at=last.at)
        for each in cases:
            await run_case(each, stage, faults)
        provoked = outcome(cases, faults)
        await _bring_back(stage)
    return provoked


async def _resubmitted(stage: Recovery, *evidence: Any) -> list[Any]:
    """An answer for each piece, in order."""
    answers = (await stage.escrow.ask(Resubmit(list(evidence)))).answers
    assert len(answers) == len(evidence)
    return list(answers)


def _release(stage: Recovery) -> Signed[Release]:
    return sign(stage.seller, Release(stage.second.hold.body.terms.id(), 2 * FACE))


async def _bring_back(stage: Recovery) -> None:
    """The receipt and then the release, the hold being back; the payer's account adds up again."""
    lost = stage.second
    evidence = lost.hold, ReceiptEvidence(lost.claim, lost.receipt), _release(stage)
    assert await _resubmitted(stage, *evidence) == [Known(), Restored(), Restored()]
    assert await _resubmitted(stage, *evidence) == [Known(), Known(), Known()]
    assert await claimed(stage, lost.claim) == lost.receipt, "the claim gets the receipt of before the loss"
    entries, journal = await stage.escrow.statement(), Journal({lost.claim.book.body.id(): lost.claim.through})
    verdict = check_statement(stage.secret.key, stage.escrow.key, entries, journal)
    check_account(await stage.escrow.account(), entries, verdict)
    assert (verdict.charges, verdict.charged) == (1, 2 * FACE), verdict


# What it refuses, in this order: the hold is brought back on the way


@case(Code.RECOVERING, RECOVERING)
async def a_hold_while_it_recovers(stage: Recovery) -> Seen:
    return Seen(await rejected(stage.escrow.ask(_opening(stage))))


@case(Code.RECOVERING, RECOVERING)
async def a_transfer_while_it_recovers(stage: Recovery) -> Seen:
    return Seen(await rejected(stage.escrow.ask(Transfer(stage.escrow.header(), stage.seller.key, 1, "", None))))


@case(Code.RESUBMITTED_TOO_OLD, RECOVERING)
async def a_hold_of_before_the_restored_end(stage: Recovery) -> Seen:
    (answer,) = await _resubmitted(stage, stage.first.hold)
    return Seen(answer, stage.restored_at, stage.first.hold.body.terms.opened_at)


@case(Code.HOLD_UNKNOWN, RECOVERING)
async def a_receipt_before_its_hold(stage: Recovery) -> Seen:
    (answer,) = await _resubmitted(stage, ReceiptEvidence(stage.second.claim, stage.second.receipt))
    return Seen(answer)


@case(Code.RECEIPT_MISMATCH, RECOVERING)
async def a_receipt_of_another_index(stage: Recovery) -> Seen:
    lost = stage.second
    receipt = ReceiptEvidence(replace(lost.claim, through=1), lost.receipt)
    restored, answer = await _resubmitted(stage, lost.hold, receipt)
    assert restored == Restored(), restored
    return Seen(answer, 2, 1)


@case(Code.RECEIPT_MISMATCH, RECOVERING)
async def a_receipt_of_another_book(stage: Recovery) -> Seen:
    lost = stage.second
    (answer,) = await _resubmitted(stage, ReceiptEvidence(claim_on(stage, lost.hold), lost.receipt))
    return Seen(answer, 2, 2)


@case(Code.RELEASE_MISMATCH, RECOVERING)
async def a_release_before_its_receipt(stage: Recovery) -> Seen:
    (answer,) = await _resubmitted(stage, _release(stage))
    return Seen(answer, 0, 2 * FACE)
