"""The rules that payee and escrow judge by, as far as the invalid vectors ask for them (X-04)."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field

from . import chain
from .codec import encode
from .codes import Code, Refused, must
from .messages import (
    EscrowRequest,
    HoldRequest,
    OpenBook,
    OpenHold,
    ReceiptEvidence,
    Resubmit,
    Share,
    TopUpHold,
    Transfer,
    Withdraw,
)
from .objects import (
    MS_PER_H,
    Asset,
    Claim,
    Delegation,
    Fee,
    Hold,
    HoldState,
    HoldTerms,
    Phase,
    QuoteTerms,
    Receipt,
    Release,
    Signed,
    Ticket,
    check_face,
    tag,
)

_ENDED = {HoldState.RELEASED: Code.HOLD_RELEASED, HoldState.EXPIRED: Code.HOLD_EXPIRED}


def check_open(state: HoldState) -> None:
    """H-05: ended holds refuse."""
    if state in _ENDED:
        raise Refused(_ENDED[state])


def check_in_time(terms_expire: int, now: int) -> None:
    """C-03."""
    last = max(0, terms_expire - 60_000)
    must(now <= last, Code.HOLD_EXPIRED, now, last)


def reveal_of(secret: bytes, terms: QuoteTerms) -> bytes:
    """Q-03."""
    return hmac.digest(secret, tag("quote") + encode(QuoteTerms, terms), "sha256")


@dataclass
class OpenedBook:
    """A payee's state of a book."""

    request: OpenBook
    reveal: bytes
    through: int = 0
    winners: int = 0


@dataclass
class Payee:
    """A payee that has just been started, with one escrow secret and no store before `store_since`."""

    key: bytes
    epoch_secret: bytes
    fee_max: Fee
    redeem_window_min: int
    store_since: int
    opened: set[bytes] = field(default_factory=set)
    holds: dict[bytes, Hold] = field(default_factory=dict)

    def open_book(self, request: OpenBook, now: int) -> OpenedBook:
        """B-04 and B-05."""
        quote, hold, book = request.quote.terms, request.hold.body, request.book.body
        terms = hold.terms
        must(now <= quote.expires_at, Code.QUOTE_EXPIRED, now, quote.expires_at)
        reveal = reveal_of(self.epoch_secret, quote)
        must(chain.commitment(reveal) == request.quote.commitment, Code.QUOTE_ALTERED)
        must(quote.quote_id not in self.opened, Code.COMMITMENT_REUSED)
        must(terms.escrow in quote.escrows, Code.WRONG_ESCROW)
        must(terms.asset == quote.asset, Code.WRONG_ASSET)
        must(terms.payee == self.key, Code.HOLD_NOT_FOR_ME)
        terms.check_rules()
        check_in_time(terms.expires_at, now)
        window = terms.redeem_by - terms.expires_at
        must(window >= self.redeem_window_min, Code.REDEEM_WINDOW_SHORT, self.redeem_window_min, window)
        terms.fee.check_within(self.fee_max)
        book.check_against(terms)
        must(book.commitment == request.quote.commitment, Code.COMMITMENT_MISMATCH)
        must(book.length <= quote.book_length_max, Code.BOOK_TOO_LONG, quote.book_length_max, book.length)
        check_face(book.face_value, quote.face_value_min, quote.face_value_max)
        must(quote.ticket_price <= book.face_value, Code.BAD_TERMS, quote.ticket_price, book.face_value)
        expected = chain.expected(book.face_value, book.threshold)
        is_covered = chain.covers(book.face_value, book.threshold, quote.ticket_price)
        must(is_covered, Code.ODDS_TOO_LOW, quote.ticket_price, expected)
        request.hold.verify(terms.escrow)
        request.book.verify(terms.signer)
        must(terms.opened_at >= self.store_since + 10 * 60_000, Code.HOLD_UNCHECKED)
        self.opened.add(quote.quote_id)
        self.holds[terms.id()] = hold
        return OpenedBook(request, reveal)

    def present_hold(self, hold: Signed[Hold]) -> None:
        """P-06."""
        must(hold.body.terms.id() in self.holds, Code.HOLD_UNKNOWN)
        hold.verify(hold.body.terms.escrow)

    def take_ticket(self, book: OpenedBook, ticket: Ticket, now: int) -> None:
        """B-07; without room for a winner it is `hold_exhausted` (B-11)."""
        body, hold = book.request.book.body, book.request.hold.body
        must(ticket.index >= 1, Code.INDEX_ZERO)
        must(ticket.index <= body.length, Code.INDEX_PAST_END, body.length, ticket.index)
        if ticket.index <= book.through:
            return
        check_in_time(hold.terms.expires_at, now)
        jump, limit = ticket.index - book.through, book.request.quote.terms.jump_max
        must(jump <= limit, Code.JUMP_TOO_LONG, limit, jump)
        values = [ticket.preimage]
        for index in range(ticket.index, 0, -1):
            values.append(chain.step(values[-1], index))
        must(values[-1] == body.anchor, Code.CHAIN_BROKEN)
        values.reverse()
        for index in range(book.through + 1, ticket.index + 1):
            room = hold.cap - book.winners * body.face_value
            must(room >= body.face_value, Code.HOLD_EXHAUSTED, body.face_value, room)
            number = chain.draw(body.id(), book.reveal, index, values[index])
            book.winners += number <= body.threshold
            book.through = index


# The escrow


def judge_claim(claim: Claim, claimant: bytes, hold: Hold, state: HoldState, paid: int) -> None:
    """R-12, no claim of the book being there."""
    must(claimant == hold.terms.payee, Code.WRONG_PAYEE)
    check_open(state)
    gross, room = chain.judge(claim, hold).gross, hold.cap - paid
    must(gross <= room, Code.CLAIM_OVER_CAP, gross, room)


@dataclass(frozen=True)
class EscrowLimits:
    """What an escrow asks of new holds (R-04)."""

    fee: Fee
    face_value_min: int
    cap_min: int


def open_hold(terms: HoldTerms, request: HoldRequest, limits: EscrowLimits, open_holds: int, balance: int) -> None:
    """H-06 on the terms that the hold would have."""
    terms.check_rules()
    low = limits.face_value_min
    must(terms.face_value_min >= low, Code.FACE_OUT_OF_RANGE, low, terms.face_value_min)
    latest = terms.opened_at + 400 * 24 * MS_PER_H
    must(terms.redeem_by <= latest, Code.TIME_OUT_OF_RANGE, latest, terms.redeem_by)
    least = max(1, limits.cap_min)
    must(request.cap >= least, Code.CAP_OUT_OF_RANGE, least, request.cap)
    limits.fee.check_within(request.fee_max)
    must(open_holds < 1_000, Code.BUSY, 1_000, open_holds)
    must(request.cap <= balance, Code.INSUFFICIENT_FUNDS, request.cap, balance)


def top_up(hold: Hold, state: HoldState, revision: int, cap: int, balance: int) -> None:
    """H-08."""
    check_open(state)
    must(revision == hold.revision, Code.REVISION_STALE, hold.revision, revision)
    must(cap > hold.cap, Code.CAP_OUT_OF_RANGE, hold.cap, cap)
    must(cap - hold.cap <= balance, Code.INSUFFICIENT_FUNDS, cap - hold.cap, balance)


def release(signed: Signed[Release], hold: Hold, state: HoldState, paid: int) -> None:
    """H-07."""
    signed.verify(hold.terms.payee)
    must(signed.body.paid == paid, Code.RELEASE_MISMATCH, paid, signed.body.paid)
    must(state != HoldState.EXPIRED, Code.HOLD_EXPIRED)


def check_issued_at(issued_at: int, now: int) -> None:
    """R-02."""
    oldest, latest = max(0, now - 24 * MS_PER_H), now + 5 * 60_000
    must(issued_at >= oldest, Code.REQUEST_EXPIRED, oldest, issued_at)
    must(issued_at <= latest, Code.REQUEST_IN_FUTURE, latest, issued_at)


def withdraw(amount: int, balance: int, destination: str, payout_fee: int, payout_min: int) -> None:
    """R-20."""
    must(amount > 0, Code.AMOUNT_ZERO)
    _check_payout_size(amount, payout_fee, payout_min)
    must(destination != "", Code.BAD_TERMS, 1, 0)
    must(amount <= balance, Code.INSUFFICIENT_FUNDS, amount, balance)


def _check_payout_size(amount: int, fee: int, smallest: int) -> None:
    least = max(smallest, fee + 1)
    must(amount >= least, Code.PAYOUT_TOO_SMALL, least, amount)


def check_payout(threshold: int, every_ms: int, destination: str, payout_fee: int, payout_min: int) -> None:
    """R-21."""
    must(threshold > 0 or every_ms > 0, Code.BAD_TERMS)
    must(every_ms == 0 or every_ms >= MS_PER_H, Code.TIME_OUT_OF_RANGE, MS_PER_H, every_ms)
    if threshold:
        _check_payout_size(threshold, payout_fee, payout_min)
    must(destination != "", Code.BAD_TERMS, 1, 0)


def check_split(payee: bytes, shares: list[Share]) -> None:
    """R-22."""
    from .keys import check_key

    seen: set[bytes] = set()
    for share in shares:
        must(share.ppm >= 1, Code.BAD_TERMS, 1, 0)
        must(share.account != payee, Code.SPLIT_TO_SELF)
        must(share.account not in seen, Code.SHARE_REPEATED)
        seen.add(share.account)
    whole = sum(share.ppm for share in shares)
    must(whole <= 1_000_000, Code.SHARES_OVER, 1_000_000, whole)
    for share in shares:
        check_key(share.account)


def delegate(signed: Signed[Delegation], escrow: bytes, current: Signed[Delegation] | None) -> None:
    """A-04, the request's account being the Delegation's."""
    from .keys import check_key

    body = signed.body
    check_key(body.signer)
    signed.verify(body.account)
    must(body.escrow == escrow, Code.WRONG_ESCROW)
    must(body.signer != body.account, Code.BAD_TERMS)
    if current is not None and current != signed:
        serial = current.body.serial
        must(body.serial > serial, Code.DELEGATION_STALE, serial, body.serial)


def delegated_hold(
    request: HoldRequest, signer: bytes, delegation: Delegation | None, committed: int, now: int
) -> None:
    """A-05 at OpenHold."""
    if delegation is None:
        raise Refused(Code.UNAUTHORIZED)
    must(delegation.spend_max > 0, Code.DELEGATION_REVOKED)
    ends = delegation.expires_at
    must(now <= ends, Code.DELEGATION_EXPIRED, now, ends)
    must(request.signer == signer, Code.UNAUTHORIZED)
    must(request.expires_at <= ends, Code.DELEGATION_EXPIRED, request.expires_at, ends)
    must(not delegation.payees or request.payee in delegation.payees, Code.PAYEE_NOT_ALLOWED)
    face = delegation.face_value_max
    must(request.face_value_max <= face, Code.FACE_OUT_OF_RANGE, face, request.face_value_max)
    would_be = committed + request.cap
    must(would_be <= delegation.spend_max, Code.OVER_SPEND_MAX, delegation.spend_max, would_be)


def check_phase(request: EscrowRequest, phase: Phase) -> None:
    """R-24."""
    match request.command:
        case OpenHold() | TopUpHold():
            must(phase != Phase.RECOVERING, Code.RECOVERING)
            must(phase != Phase.DRAINING, Code.DRAINING)
        case Transfer() | Withdraw():
            must(phase != Phase.RECOVERING, Code.RECOVERING)
        case Resubmit():
            must(phase == Phase.RECOVERING, Code.NOT_RECOVERING)


def resubmit(
    evidence: Signed[Hold] | Signed[Release] | ReceiptEvidence,
    escrow: bytes,
    asset: Asset,
    known: Hold | None,
    restored_at: int,
    balance: int,
) -> None:
    """R-25 on one piece of evidence."""
    if isinstance(evidence, ReceiptEvidence):
        _resubmit_receipt(evidence.claim, evidence.receipt, escrow, known)
        return
    body = evidence.body
    if isinstance(body, Release):
        if known is None:
            raise Refused(Code.HOLD_UNKNOWN)
        evidence.verify(known.terms.payee)
        return
    terms = body.terms
    must(terms.escrow == escrow, Code.WRONG_ESCROW)
    must(terms.asset == asset, Code.WRONG_ASSET)
    evidence.verify(escrow)
    if known is None:
        must(terms.opened_at >= restored_at, Code.RESUBMITTED_TOO_OLD, restored_at, terms.opened_at)
        must(body.cap <= balance, Code.INSUFFICIENT_FUNDS, body.cap, balance)


def _resubmit_receipt(claim: Claim, receipt: Signed[Receipt], escrow: bytes, known: Hold | None) -> None:
    body = receipt.body
    if known is None or claim.book.body.hold != known.terms.id():
        raise Refused(Code.HOLD_UNKNOWN)
    must(body.escrow == escrow, Code.WRONG_ESCROW)
    is_same = body.book == claim.book.body.id() and body.through == claim.through
    must(is_same, Code.RECEIPT_MISMATCH, body.through, claim.through)
    receipt.verify(escrow)
    is_paid_as_drawn = chain.settles(claim, receipt, chain.judge(claim, known))
    must(is_paid_as_drawn, Code.RECEIPT_MISMATCH, body.through, claim.through)
