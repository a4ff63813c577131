"""What the escrow rejects. Each function is a case: it sends the input and says which numbers must come back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from . import chain
from .codec import encode
from .codes import Code
from .messages import (
    Account,
    Claimed,
    ClaimRequest,
    Delegate,
    Delegated,
    EscrowAnswer,
    HoldStatusRequest,
    Info,
    OpenHold,
    PayoutPolicy,
    Released,
    Resubmit,
    RevisionStale,
    SetPayout,
    SetSplit,
    Share,
    Subscribe,
    TopUpHold,
    Transfer,
    Withdraw,
)
from .objects import (
    MS_PER_H,
    Book,
    Claim,
    ClaimBatch,
    Delegation,
    Fee,
    Hold,
    Receipt,
    Refusal,
    Reject,
    Release,
    Signed,
    covered,
    sign,
    tagged_hash,
)
from .provoke import (
    FACE,
    NO_KEY,
    PRICE_OF_ALL,
    Parties,
    Seen,
    Stage,
    answer_to,
    ask_as,
    case,
    framed,
    random_id,
    rejected,
    request_bytes,
)

_DAY = 24 * MS_PER_H


async def _opening(stage: Stage, cap: int = 10_000_000, **changes: Any) -> Reject:
    return await rejected(stage.open_hold(cap, **changes))


async def _transfer(stage: Stage, to: bytes, amount: int) -> Reject:
    return await rejected(stage.escrow.ask(Transfer(stage.escrow.header(), to, amount, "", None)))


# Frames, keys and requests


@case(Code.MALFORMED, "escrow")
async def a_byte_too_many(stage: Stage) -> Seen:
    data = request_bytes(stage, Info())
    return Seen(await answer_to(stage.escrow.connection, framed(data + b"\0"), EscrowAnswer), len(data), len(data) + 1)


@case(Code.MALFORMED, "escrow")
async def a_message_cut_short(stage: Stage) -> Seen:
    return Seen(await answer_to(stage.escrow.connection, framed(request_bytes(stage, Info())[:-1]), EscrowAnswer))


@case(Code.TOO_LARGE, "escrow")
async def a_frame_over_its_limit(stage: Stage) -> Seen:
    return Seen(await answer_to(stage.escrow.connection, framed(b"", 65_537), EscrowAnswer), 65_536, 65_537)


@case(Code.UNAUTHORIZED, "escrow")
async def anothers_account(stage: Stage) -> Seen:
    return Seen(await rejected(stage.escrow.ask(Account(0), stage.payee.key)))


@case(Code.UNAUTHORIZED, "escrow")
async def anothers_hold(stage: Stage) -> Seen:
    asking = ask_as(stage, stage.stranger, HoldStatusRequest(stage.hold.body.terms.id()))
    return Seen(await rejected(asking))


@case(Code.BUSY, "escrow")
async def a_ninth_subscription(stage: Stage) -> Seen:
    streams = []
    for _ in range(8):
        stream = stage.escrow.connection.open()
        stream.send_frame(request_bytes(stage, Subscribe(0)), end=True)
        await stream.frame()
        streams.append(stream)
    refused = await answer_to(stage.escrow.connection, framed(request_bytes(stage, Subscribe(0))), EscrowAnswer)
    for stream in streams:
        stream.reset()
    return Seen(refused, 8, 8)


@case(Code.REQUEST_ID_REUSED, "escrow")
async def one_id_for_two_requests(stage: Stage) -> Seen:
    header = stage.escrow.header()
    first = OpenHold(header, stage.request(10_000_000))
    hold = await stage.escrow.ask(first)
    assert await stage.escrow.ask(first) == hold, "a repeat gets the same answer"
    return Seen(await rejected(stage.escrow.ask(OpenHold(header, stage.request(10_000_001)))))


@case(Code.REQUEST_EXPIRED, "escrow")
async def a_request_of_yesterday(stage: Stage) -> Seen:
    now = stage.escrow.now()
    header = replace(stage.escrow.header(), issued_at=now - _DAY - 60_000)
    oldest = range(now - _DAY - 5_000, now - _DAY + 60_000)
    reject = await rejected(stage.escrow.ask(OpenHold(header, stage.request(10_000_000))))
    return Seen(reject, oldest, header.issued_at)


@case(Code.REQUEST_IN_FUTURE, "escrow")
async def a_request_of_later(stage: Stage) -> Seen:
    now, ahead = stage.escrow.now(), 5 * 60_000
    header = replace(stage.escrow.header(), issued_at=now + ahead + 120_000)
    latest = range(now + ahead - 5_000, now + ahead + 60_000)
    reject = await rejected(stage.escrow.ask(OpenHold(header, stage.request(10_000_000))))
    return Seen(reject, latest, header.issued_at)


# Holds


@case(Code.BAD_KEY, "escrow")
async def a_hold_for_no_key(stage: Stage) -> Seen:
    return Seen(await _opening(stage, payee=NO_KEY))


@case(Code.SELF_HOLD, "escrow")
async def a_hold_for_oneself(stage: Stage) -> Seen:
    return Seen(await _opening(stage, payee=stage.secret.key))


@case(Code.FACE_OUT_OF_RANGE, "escrow")
async def no_face_in_the_range(stage: Stage) -> Seen:
    return Seen(await _opening(stage, face_value_min=FACE, face_value_max=FACE - 1), FACE - 1, FACE)


@case(Code.FACE_OUT_OF_RANGE, "escrow")
async def faces_under_the_escrows(stage: Stage) -> Seen:
    least = stage.info.face_value_min
    return Seen(await _opening(stage, face_value_min=least - 1), least, least - 1)


@case(Code.BOOK_TOO_LONG, "escrow")
async def books_over_the_limit(stage: Stage) -> Seen:
    return Seen(await _opening(stage, book_length_max=65_537), 65_536, 65_537)


@case(Code.TIME_OUT_OF_RANGE, "escrow")
async def a_hold_of_the_past(stage: Stage) -> Seen:
    now, before = stage.escrow.now(), stage.info.time - 1
    reject = await _opening(stage, expires_at=before, redeem_by=before + _DAY)
    return Seen(reject, range(now - 5_000, now + 60_000), before)


@case(Code.TIME_OUT_OF_RANGE, "escrow")
async def a_hold_for_ever(stage: Stage) -> Seen:
    now, years = stage.escrow.now(), stage.info.time + 401 * _DAY
    limit = now + 400 * _DAY
    return Seen(await _opening(stage, redeem_by=years), range(limit - 5_000, limit + 60_000), years)


@case(Code.REDEEM_WINDOW_SHORT, "escrow")
async def a_day_less_one_ms(stage: Stage) -> Seen:
    expires_at = stage.info.time + _DAY
    return Seen(await _opening(stage, expires_at=expires_at, redeem_by=expires_at + _DAY - 1), _DAY, _DAY - 1)


@case(Code.CAP_OUT_OF_RANGE, "escrow")
async def a_cap_under_the_escrows(stage: Stage) -> Seen:
    least = stage.info.cap_min
    request = replace(stage.request(least), cap=least - 1)
    return Seen(await rejected(stage.escrow.ask(OpenHold(stage.escrow.header(), request))), least, least - 1)


@case(Code.FEE_TOO_HIGH, "escrow")
async def less_than_the_flat_fee(stage: Stage) -> Seen:
    fee = stage.info.fee
    limit = Fee(fee.flat - 1, fee.ppm)
    return Seen(await _opening(stage, fee_max=limit), fee.flat - 1, fee.flat)


@case(Code.FEE_TOO_HIGH, "escrow")
async def less_than_the_share(stage: Stage) -> Seen:
    fee = stage.info.fee
    return Seen(await _opening(stage, fee_max=Fee(fee.flat, fee.ppm - 1)), fee.ppm - 1, fee.ppm)


@case(Code.INSUFFICIENT_FUNDS, "escrow")
async def more_than_the_balance(stage: Stage) -> Seen:
    balance = (await stage.escrow.account()).balance
    return Seen(await _opening(stage, cap=balance + 1), balance + 1, balance)


@case(Code.ACCOUNT_UNKNOWN, "escrow")
async def a_hold_without_an_account(stage: Stage) -> Seen:
    request = replace(stage.request(10_000_000), signer=stage.stranger.key)
    return Seen(await rejected(ask_as(stage, stage.stranger, OpenHold(stage.escrow.header(), request))))


@case(Code.HOLD_UNKNOWN, "escrow")
async def the_status_of_no_hold(stage: Stage) -> Seen:
    return Seen(await rejected(stage.escrow.ask(HoldStatusRequest(random_id()))))


@case(Code.REVISION_STALE, "escrow")
async def a_top_up_of_another_revision(stage: Stage) -> Seen:
    hold = stage.hold.body
    top_up = TopUpHold(stage.escrow.header(), hold.terms.id(), hold.revision + 1, hold.cap + 1)
    answer = await stage.escrow.ask(top_up)
    assert answer == RevisionStale(stage.hold), answer
    # An answer of its own takes the place of the code and its numbers (H-08).
    return Seen(Reject(Code.REVISION_STALE, 0, 0))


@case(Code.CAP_OUT_OF_RANGE, "escrow")
async def a_top_up_to_the_same_cap(stage: Stage) -> Seen:
    hold = stage.hold.body
    top_up = TopUpHold(stage.escrow.header(), hold.terms.id(), hold.revision, hold.cap)
    return Seen(await rejected(stage.escrow.ask(top_up)), hold.cap, hold.cap)


# Money


@case(Code.AMOUNT_ZERO, "escrow")
async def a_transfer_of_nothing(stage: Stage) -> Seen:
    return Seen(await _transfer(stage, stage.payee.key, 0))


@case(Code.BAD_TERMS, "escrow")
async def a_transfer_to_oneself(stage: Stage) -> Seen:
    return Seen(await _transfer(stage, stage.secret.key, 1))


@case(Code.BAD_KEY, "escrow")
async def a_transfer_to_no_key(stage: Stage) -> Seen:
    return Seen(await _transfer(stage, NO_KEY, 1))


@case(Code.PAYOUT_TOO_SMALL, "escrow")
async def a_withdrawal_under_the_smallest(stage: Stage) -> Seen:
    least = max(stage.info.payout_min, stage.info.payout_fee + 1)
    withdraw = Withdraw(stage.escrow.header(), least - 1, "bank", "")
    return Seen(await rejected(stage.escrow.ask(withdraw)), least, least - 1)


@case(Code.BAD_TERMS, "escrow")
async def a_withdrawal_to_nowhere(stage: Stage) -> Seen:
    withdraw = Withdraw(stage.escrow.header(), stage.info.payout_min, "", "")
    return Seen(await rejected(stage.escrow.ask(withdraw)), 1, 0)


@case(Code.TIME_OUT_OF_RANGE, "escrow")
async def a_payout_too_often(stage: Stage) -> Seen:
    policy = PayoutPolicy(0, MS_PER_H - 1, "bank")
    return Seen(await rejected(stage.escrow.ask(SetPayout(stage.escrow.header(), policy))), MS_PER_H, MS_PER_H - 1)


async def _split(stage: Stage, *shares: Share) -> Reject:
    return await rejected(stage.escrow.ask(SetSplit(stage.escrow.header(), list(shares))))


@case(Code.SHARES_OVER, "escrow")
async def shares_over_the_whole(stage: Stage) -> Seen:
    shares = Share(stage.payee.key, 600_000), Share(stage.seller.key, 400_001)
    return Seen(await _split(stage, *shares), 1_000_000, 1_000_001)


@case(Code.SPLIT_TO_SELF, "escrow")
async def a_share_of_ones_own(stage: Stage) -> Seen:
    return Seen(await _split(stage, Share(stage.secret.key, 1)))


@case(Code.SHARE_REPEATED, "escrow")
async def a_share_twice(stage: Stage) -> Seen:
    return Seen(await _split(stage, Share(stage.payee.key, 1), Share(stage.payee.key, 1)))


@case(Code.NOT_RECOVERING, "escrow")
async def evidence_for_nothing(stage: Stage) -> Seen:
    return Seen(await rejected(stage.escrow.ask(Resubmit([stage.hold]))))


# Delegations: the stranger's key signs holds on our account


async def _delegate(stage: Stage, serial: int, by: bytes | None = None, **changes: Any) -> Any:
    expires_at = stage.info.time + 60 * _DAY
    body = Delegation(
        stage.escrow.key, stage.secret.key, stage.stranger.key, 20_000_000, 10 * FACE, [], expires_at, serial
    )
    delegation = sign(stage.secret, replace(body, **changes))
    return await stage.escrow.ask(Delegate(stage.escrow.header(), delegation), by)


async def _delegated(stage: Stage, **changes: Any) -> Reject:
    request = replace(stage.request(10_000_000), signer=stage.stranger.key, face_value_max=FACE)
    opening = OpenHold(stage.escrow.header(), replace(request, **changes))
    return await rejected(ask_as(stage, stage.stranger, opening, stage.secret.key))


@case(Code.UNAUTHORIZED, "escrow")
async def a_signer_without_a_delegation(stage: Stage) -> Seen:
    return Seen(await _delegated(stage))


@case(Code.DELEGATION_STALE, "escrow")
async def an_older_delegation(stage: Stage) -> Seen:
    assert await _delegate(stage, 5) == Delegated(5)
    return Seen(await rejected(_delegate(stage, 4)), 5, 4)


@case(Code.WRONG_ESCROW, "escrow")
async def a_delegation_for_another_escrow(stage: Stage) -> Seen:
    return Seen(await rejected(_delegate(stage, 6, escrow=stage.payee.key)))


@case(Code.BAD_TERMS, "escrow")
async def a_delegation_to_oneself(stage: Stage) -> Seen:
    return Seen(await rejected(_delegate(stage, 6, signer=stage.secret.key)))


@case(Code.OVER_SPEND_MAX, "escrow")
async def a_hold_over_what_the_signer_may(stage: Stage) -> Seen:
    return Seen(await _delegated(stage, cap=20_000_001), 20_000_000, 20_000_001)


@case(Code.FACE_OUT_OF_RANGE, "escrow")
async def a_face_over_the_delegations(stage: Stage) -> Seen:
    return Seen(await _delegated(stage, face_value_max=10 * FACE + 1), 10 * FACE, 10 * FACE + 1)


@case(Code.DELEGATION_EXPIRED, "escrow")
async def a_hold_that_outlives_its_delegation(stage: Stage) -> Seen:
    ends = stage.info.time + 60 * _DAY
    return Seen(await _delegated(stage, expires_at=ends + 1, redeem_by=ends + 1 + _DAY), ends + 1, ends)


@case(Code.PAYEE_NOT_ALLOWED, "escrow")
async def a_hold_for_a_payee_that_is_not_named(stage: Stage) -> Seen:
    await _delegate(stage, 7, payees=[stage.seller.key])
    return Seen(await _delegated(stage))


@case(Code.DELEGATION_EXPIRED, "escrow")
async def a_hold_after_the_delegation(stage: Stage) -> Seen:
    ended = stage.info.time - 1
    await _delegate(stage, 8, expires_at=ended)
    now = stage.escrow.now()
    return Seen(await _delegated(stage), range(now - 5_000, now + 60_000), ended)


@case(Code.DELEGATION_REVOKED, "escrow")
async def a_hold_after_the_revocation(stage: Stage) -> Seen:
    await _delegate(stage, 9, spend_max=0)
    return Seen(await _delegated(stage))


# Claims and releases: the seller's key plays a payee of ours


_REVEAL = bytes(range(32))


async def _sold(stage: Stage, cap: int = 10_000_000) -> Signed[Hold]:
    request = replace(stage.request(cap), payee=stage.seller.key)
    hold: Signed[Hold] = await stage.escrow.ask(OpenHold(stage.escrow.header(), request))
    return hold


def claim_on(stage: Parties, hold: Signed[Hold], through: int = 2, **changes: Any) -> Claim:
    """A claim on a book of 4 tickets that each win."""
    values = chain.Chain(4)
    book = Book(hold.body.terms.id(), chain.commitment(_REVEAL), values.anchor, 4, FACE, PRICE_OF_ALL)
    changes["hold"] = changes.pop("hold_id", book.hold)
    signed = sign(stage.secret, replace(book, **changes))
    return Claim(signed, _REVEAL, through, values.values[min(through, 4)])


async def claimed(stage: Parties, claim: Claim, **changes: Any) -> Signed[Receipt] | Signed[Refusal]:
    batch = replace(ClaimBatch(stage.escrow.key, stage.seller.key, [claim]), **changes)
    signature = stage.seller.sign(covered(batch))
    answer = await stage.escrow.ask(ClaimRequest(batch, signature), stage.seller.key)
    assert isinstance(answer, Claimed) and len(answer.answers) == 1
    return answer.answers[0]


async def _refused(stage: Stage, hold: Signed[Hold], claim: Claim, paid: int = 0) -> Seen:
    """A refusal has the hold's numbers in the place of the two of a Reject (R-14)."""
    answer = await claimed(stage, claim)
    answer.verify(stage.escrow.key)
    refusal = answer.body
    assert isinstance(refusal, Refusal), refusal
    assert refusal.book == claim.book.body.id() and refusal.escrow == stage.escrow.key
    assert refusal.claim_hash == tagged_hash("claim-hash", encode(Claim, claim))
    known = (hold.body.revision, hold.body.cap, paid)
    assert (refusal.revision, refusal.cap, refusal.paid) == known, refusal
    return Seen(Reject(refusal.code, 0, 0))


@case(Code.INDEX_ZERO, "escrow")
async def a_claim_through_nothing(stage: Stage) -> Seen:
    hold = await _sold(stage)
    return await _refused(stage, hold, claim_on(stage, hold, 0))


@case(Code.INDEX_PAST_END, "escrow")
async def a_claim_past_the_end(stage: Stage) -> Seen:
    hold = await _sold(stage)
    return await _refused(stage, hold, claim_on(stage, hold, 5))


@case(Code.COMMITMENT_MISMATCH, "escrow")
async def a_claim_with_another_reveal(stage: Stage) -> Seen:
    hold = await _sold(stage)
    return await _refused(stage, hold, replace(claim_on(stage, hold), reveal=bytes(32)))


@case(Code.CLAIM_DOES_NOT_WIN, "escrow")
async def a_claim_that_lost(stage: Stage) -> Seen:
    hold = await _sold(stage)
    return await _refused(stage, hold, claim_on(stage, hold, threshold=0))


@case(Code.CHAIN_BROKEN, "escrow")
async def a_claim_off_its_chain(stage: Stage) -> Seen:
    hold = await _sold(stage)
    return await _refused(stage, hold, replace(claim_on(stage, hold), preimage=bytes(32)))


@case(Code.BAD_SIGNATURE, "escrow")
async def a_claim_that_nobody_signed(stage: Stage) -> Seen:
    hold = await _sold(stage)
    claim = claim_on(stage, hold)
    return await _refused(stage, hold, replace(claim, book=sign(stage.seller, claim.book.body)))


@case(Code.CLAIM_OVER_CAP, "escrow")
async def a_claim_over_the_cap(stage: Stage) -> Seen:
    hold = await _sold(stage, 3 * FACE)
    return await _refused(stage, hold, claim_on(stage, hold, 4))


@case(Code.HOLD_UNKNOWN, "escrow")
async def a_claim_on_no_hold(stage: Stage) -> Seen:
    hold = await _sold(stage)
    claim = claim_on(stage, hold, hold_id=random_id())
    answer = await claimed(stage, claim)
    refusal = answer.body
    assert isinstance(refusal, Refusal) and (refusal.revision, refusal.cap, refusal.paid) == (0, 0, 0)
    return Seen(Reject(refusal.code, 0, 0))


@case(Code.WRONG_PAYEE, "escrow")
async def a_claim_of_anothers_hold(stage: Stage) -> Seen:
    return await _refused(stage, stage.hold, claim_on(stage, stage.hold))


@case(Code.WRONG_PAYEE, "escrow")
async def a_batch_that_nobody_signed(stage: Stage) -> Seen:
    batch = ClaimBatch(stage.escrow.key, stage.seller.key, [])
    return Seen(await rejected(stage.escrow.ask(ClaimRequest(batch, None), stage.seller.key)))


@case(Code.BAD_SIGNATURE, "escrow")
async def a_batch_that_another_signed(stage: Stage) -> Seen:
    batch = ClaimBatch(stage.escrow.key, stage.seller.key, [])
    signature = stage.stranger.sign(covered(batch))
    return Seen(await rejected(stage.escrow.ask(ClaimRequest(batch, signature), stage.seller.key)))


@case(Code.WRONG_ESCROW, "escrow")
async def a_batch_for_another_escrow(stage: Stage) -> Seen:
    hold = await _sold(stage)
    return Seen(await rejected(claimed(stage, claim_on(stage, hold), escrow=stage.payee.key)))


async def _release(stage: Stage, signer: Any, hold: Signed[Hold], paid: int, account: bytes | None = None) -> Any:
    release = sign(signer, Release(hold.body.terms.id(), paid))
    return await stage.escrow.ask(release, account or stage.seller.key)


@case(Code.BAD_SIGNATURE, "escrow")
async def a_release_that_the_payer_signed(stage: Stage) -> Seen:
    return Seen(await rejected(_release(stage, stage.secret, await _sold(stage), 0)))


@case(Code.UNAUTHORIZED, "escrow")
async def a_release_for_the_payers_account(stage: Stage) -> Seen:
    return Seen(await rejected(_release(stage, stage.seller, await _sold(stage), 0, stage.secret.key)))


@case(Code.RELEASE_MISMATCH, "escrow")
async def a_release_of_another_sum(stage: Stage) -> Seen:
    return Seen(await rejected(_release(stage, stage.seller, await _sold(stage), 1)), 0, 1)


@case(Code.HOLD_RELEASED, "escrow")
async def a_top_up_after_the_release(stage: Stage) -> Seen:
    hold = await _sold(stage)
    claim = claim_on(stage, hold)
    receipt = await claimed(stage, claim)
    fee = 2 * hold.body.terms.fee.of(FACE)
    assert isinstance(receipt.body, Receipt), receipt
    assert chain.settles(claim, receipt, chain.judge(claim, hold.body)) and receipt.body.fee == fee
    assert await claimed(stage, claim) == receipt, "a repeat gets the same receipt"
    released = await _release(stage, stage.seller, hold, 2 * FACE)
    assert isinstance(released, Released) and released.returned == 8 * FACE, released
    assert (await _refused(stage, hold, claim_on(stage, hold), 2 * FACE)).reject.code is Code.HOLD_RELEASED
    assert await claimed(stage, claim) == receipt, "also after the release"
    top_up = TopUpHold(stage.escrow.header(), hold.body.terms.id(), 0, 20_000_000)
    return Seen(await rejected(stage.escrow.ask(top_up)))
