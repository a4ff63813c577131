"""Error codes and rejections (X-01, X-02)."""

from __future__ import annotations

from enum import IntEnum


class Code(IntEnum):
    """X-01."""

    MALFORMED = 1
    TOO_LARGE = 2
    NOT_OFFERED = 3
    UNAUTHORIZED = 4
    BUSY = 5
    UNAVAILABLE = 6
    BAD_KEY = 7
    BAD_SIGNATURE = 8
    BAD_TERMS = 9
    REQUEST_ID_REUSED = 20
    REQUEST_EXPIRED = 21
    REQUEST_IN_FUTURE = 22
    REFERENCE_REUSED = 23
    QUOTE_EXPIRED = 30
    QUOTE_ALTERED = 31
    COMMITMENT_REUSED = 32
    COMMITMENT_MISMATCH = 33
    HOLD_UNKNOWN = 40
    HOLD_EXPIRED = 41
    HOLD_RELEASED = 42
    HOLD_UNCHECKED = 43
    HOLD_NOT_FOR_ME = 44
    WRONG_ESCROW = 45
    WRONG_ASSET = 46
    FEE_TOO_HIGH = 47
    SELF_HOLD = 48
    HOLD_MISMATCH = 49
    REDEEM_WINDOW_SHORT = 50
    HOLD_EXHAUSTED = 51
    REVISION_STALE = 52
    BOOK_UNKNOWN = 60
    FACE_OUT_OF_RANGE = 61
    BOOK_TOO_LONG = 62
    ODDS_TOO_LOW = 63
    INDEX_ZERO = 70
    INDEX_PAST_END = 71
    JUMP_TOO_LONG = 72
    CHAIN_BROKEN = 73
    BOOK_COMPLETE = 80
    BOOK_FINISHED = 81
    STREAM_LOST = 82
    BOOK_IDLE = 83
    BOOK_REDEEMED = 84
    DRAINING = 85
    SERVICE_UNKNOWN = 90
    UNIT_OUT_OF_RANGE = 91
    PRICE_MISMATCH = 92
    NOT_SELLING = 93
    INSUFFICIENT_FUNDS = 100
    CAP_OUT_OF_RANGE = 101
    TIME_OUT_OF_RANGE = 102
    ACCOUNT_UNKNOWN = 103
    RELEASE_MISMATCH = 104
    SUPPLY_EXCEEDED = 105
    AMOUNT_ZERO = 106
    PAYOUT_TOO_SMALL = 107
    WITHDRAWAL_UNKNOWN = 108
    WITHDRAWAL_SETTLED = 109
    CLAIM_DOES_NOT_WIN = 110
    CLAIM_OVER_CAP = 111
    WRONG_PAYEE = 112
    SHARES_OVER = 120
    SPLIT_TO_SELF = 121
    SHARE_REPEATED = 122
    RECOVERING = 130
    NOT_RECOVERING = 131
    RESUBMITTED_TOO_OLD = 132
    RECEIPT_MISMATCH = 133
    DELEGATION_STALE = 140
    DELEGATION_EXPIRED = 141
    DELEGATION_REVOKED = 142
    OVER_SPEND_MAX = 143
    PAYEE_NOT_ALLOWED = 144


class Refused(Exception):
    """A rule is broken: the code and the two numbers that were compared (X-02)."""

    def __init__(self, code: Code, need: int = 0, has: int = 0) -> None:
        super().__init__(f"{code.name.lower()} ({need}, {has})")
        self.code, self.need, self.has = code, need, has


def must(holds: bool, code: Code, need: int = 0, has: int = 0) -> None:
    """Refuses unless the rule holds."""
    if not holds:
        raise Refused(code, need, has)
