"""Bech32m (BIP 350) without its length limit (K-05)."""

from __future__ import annotations

CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_BECH32M = 0x2BC830A3
_SIZES = {"tom": 32, "tomhold": 32, "tombook": 32, "tomquote": 16, "tomreq": 16}


def _polymod(values: list[int]) -> int:
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate(_GENERATOR):
            check ^= generator if top >> bit & 1 else 0
    return check


def _expand(prefix: str) -> list[int]:
    return [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix]


def encode(prefix: str, data: bytes) -> str:
    """The text of a key or an id."""
    bits = len(data) * 8
    pad = -bits % 5
    number = int.from_bytes(data, "big") << pad
    values = [number >> shift & 31 for shift in range(bits + pad - 5, -1, -5)]
    check = _polymod(_expand(prefix) + values + [0] * 6) ^ _BECH32M
    values += [check >> shift & 31 for shift in range(25, -1, -5)]
    return prefix + "1" + "".join(CHARSET[value] for value in values)


def decode(prefix: str, text: str) -> bytes:
    """The bytes of a text with this prefix; ValueError for any other."""
    head, _, tail = text.rpartition("1")
    if head != prefix:
        raise ValueError(f"{text!r} does not begin with {prefix}1")
    if len(tail) < 6 or any(c not in CHARSET for c in tail):
        raise ValueError(f"{text!r} is not bech32m in lower case")
    values = [CHARSET.index(c) for c in tail]
    if _polymod(_expand(prefix) + values) != _BECH32M:
        raise ValueError(f"{text!r} has a wrong checksum")
    number = 0
    for value in values[:-6]:
        number = number << 5 | value
    bits = 5 * (len(values) - 6)
    size = _SIZES[prefix]
    pad = bits - 8 * size
    if not 0 <= pad < 5 or number & (1 << pad) - 1:
        raise ValueError(f"{text!r} does not hold {size} bytes")
    return (number >> pad).to_bytes(size, "big")
