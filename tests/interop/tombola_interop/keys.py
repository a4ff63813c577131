"""Keys and signatures with the one acceptance rule (K-01 to K-04), and addresses (N-03)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from . import bech32m
from .codes import Code, Refused, must

_P = 2**255 - 19
_L = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, -1, _P) % _P
_SQRT_MINUS_1 = pow(2, (_P - 1) // 4, _P)

_Point = tuple[int, int, int, int]  # x = X/Z, y = Y/Z, T = XY/Z
_IDENTITY: _Point = (0, 1, 1, 0)


def _decode(data: bytes) -> _Point | None:
    """The point that 32 bytes say, also where y is not reduced."""
    number = int.from_bytes(data, "little")
    y, sign = (number & (1 << 255) - 1) % _P, number >> 255
    u, v = (y * y - 1) % _P, (_D * y * y + 1) % _P
    x = u * v**3 * pow(u * v**7, (_P - 5) // 8, _P) % _P
    if v * x * x % _P != u:
        x = x * _SQRT_MINUS_1 % _P
    if v * x * x % _P != u:
        return None
    if x & 1 != sign:
        x = -x % _P
    return (x, y, 1, x * y % _P)


def _encode(point: _Point) -> bytes:
    inverse = pow(point[2], -1, _P)
    x, y = point[0] * inverse % _P, point[1] * inverse % _P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def _add(a: _Point, b: _Point) -> _Point:
    c, d = 2 * a[3] * b[3] * _D % _P, 2 * a[2] * b[2] % _P
    e_1, e_2 = (a[1] - a[0]) * (b[1] - b[0]) % _P, (a[1] + a[0]) * (b[1] + b[0]) % _P
    e, f, g, h = e_2 - e_1, d - c, d + c, e_2 + e_1
    return (e * f % _P, g * h % _P, f * g % _P, e * h % _P)


def _times(scalar: int, point: _Point) -> _Point:
    sum_ = _IDENTITY
    while scalar:
        if scalar & 1:
            sum_ = _add(sum_, point)
        point, scalar = _add(point, point), scalar >> 1
    return sum_


def _is_identity(point: _Point) -> bool:
    return point[0] % _P == 0 and (point[1] - point[2]) % _P == 0


def _is_small(point: _Point) -> bool:
    return _is_identity(_times(8, point))


@lru_cache(maxsize=4096)
def is_key(key: bytes) -> bool:
    """K-02."""
    point = _decode(key)
    if point is None or _encode(point) != key:
        return False
    return not _is_small(point) and _is_identity(_times(_L, point))


def check_key(key: bytes) -> None:
    """K-02, or `bad_key`."""
    must(is_key(key), Code.BAD_KEY)


def verify(key: bytes, message: bytes, signature: bytes) -> None:
    """K-02 and K-04. OpenSSL compares the encoding of [s]B - [k]A with R and wants s < l; what it lacks is added."""
    check_key(key)
    point = _decode(signature[:32])
    must(int.from_bytes(signature[32:], "little") < _L, Code.BAD_SIGNATURE)
    must(point is not None and not _is_small(point), Code.BAD_SIGNATURE)
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        raise Refused(Code.BAD_SIGNATURE) from None


class Secret:
    """An Ed25519 key with its seed."""

    def __init__(self, seed: bytes) -> None:
        self.private = Ed25519PrivateKey.from_private_bytes(seed)
        self.key = self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    def sign(self, message: bytes) -> bytes:
        """K-03."""
        return self.private.sign(message)


@dataclass(frozen=True)
class Address:
    """N-03: who, where, and what there."""

    key: bytes
    host: str
    port: int
    path: str | None = None

    @classmethod
    def parse(cls, text: str) -> Address:
        """An address, or ValueError."""
        match = re.fullmatch(r"tombola://([^@/]+)@(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._-]{1,253}):([0-9]{1,5})(/.*)?", text)
        if match is None:
            raise ValueError(f"{text!r} is not tombola://KEY@HOST:PORT")
        key, port = bech32m.decode("tom", match[1]), int(match[3])
        if not is_key(key):
            raise ValueError(f"{match[1]} is not a key")
        if not 1 <= port <= 65535:
            raise ValueError(f"{port} is not a port")
        return cls(key, match[2].strip("[]"), port, match[4])
