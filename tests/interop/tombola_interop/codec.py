"""Encoding and decoding by type hints (E-01 to E-06), and what values look like in the vectors.

A type is an annotated int, bytes or str, an IntEnum (u32), a bool, `T | None`, a list, a dataclass (its fields in
order), or a union annotated with `Variants` (an enum with fields).
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
import unicodedata
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import Annotated, Any

from . import bech32m
from .codes import Code, Refused

MESSAGE_BYTES_MAX = 65_536


@dataclass(frozen=True)
class Int:
    """An unsigned integer; `text` ones are amounts, which the vectors write as decimals in quotes."""

    size: int
    text: bool = False


@dataclass(frozen=True)
class Fixed:
    """So many bytes as they are; people read them as hex or, with a prefix, as bech32m (K-05)."""

    size: int
    prefix: str | None = None


@dataclass(frozen=True)
class Text:
    """A text of at most so many bytes (E-06)."""

    limit: int


@dataclass(frozen=True)
class Items:
    """A list of at most so many items (E-06)."""

    limit: int


class Variants:
    """A union's members are numbered in their order. One is named as its class, a signed one as what is signed, unless
    it is given another name here."""

    def __init__(self, *, lower: bool = False, **names: str) -> None:
        self.lower, self.names = lower, names

    def name(self, member: Any) -> str:
        name: str = (*typing.get_args(member), member)[0].__name__
        if name in self.names:
            return self.names[name]
        return re.sub("(?<=[a-z])(?=[A-Z])", "_", name).lower() if self.lower else name


@dataclass(frozen=True)
class Short:
    """An IntEnum in two bytes: the error code."""


U8 = Annotated[int, Int(1)]
U32 = Annotated[int, Int(4)]
U64 = Annotated[int, Int(8)]
Amount = Annotated[int, Int(8, text=True)]


class Reader:
    """Takes bytes from the front."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, size: int) -> bytes:
        if size > len(self.data) - self.at:
            raise Refused(Code.MALFORMED)
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")


def _parts(hint: Any) -> tuple[Any, Any]:
    """A hint without its annotation, and the annotation."""
    if typing.get_origin(hint) is Annotated:
        inner, mark, *_ = typing.get_args(hint)
        return inner, mark
    return hint, None


@cache
def _fields(hint: Any) -> tuple[tuple[str, Any], ...]:
    """Names and hints of a dataclass, with the parameters of a generic one filled in."""
    origin = typing.get_origin(hint) or hint
    hints = typing.get_type_hints(origin, include_extras=True)
    filled = dict(zip(getattr(origin, "__parameters__", ()), typing.get_args(hint), strict=False))
    return tuple((f.name, filled.get(hints[f.name], hints[f.name])) for f in dataclasses.fields(origin))


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (types.UnionType, typing.Union)


def _is_of(value: Any, hint: Any) -> bool:
    """Whether a value is of a union's member; members may be one generic class of different parameters."""
    origin = typing.get_origin(hint) or hint
    if type(value) is not origin:
        return False
    arguments = typing.get_args(hint)
    return not arguments or type(value.body) is arguments[0]


def _variant(value: Any, members: tuple[Any, ...]) -> int:
    return next(number for number, member in enumerate(members) if _is_of(value, member))


def encode(hint: Any, value: Any) -> bytes:
    """The one encoding of a value (E-01)."""
    hint, mark = _parts(hint)
    match mark:
        case Int(size):
            return int(value).to_bytes(size, "little")
        case Short():
            return int(value).to_bytes(2, "little")
        case Fixed(size):
            assert len(value) == size
            return bytes(value)
        case Text():
            data = value.encode()
            return len(data).to_bytes(8, "little") + bytes(data)
        case Items():
            (item,) = typing.get_args(hint)
            return len(value).to_bytes(8, "little") + b"".join(encode(item, each) for each in value)
        case Variants():
            members = typing.get_args(hint)
            number = _variant(value, members)
            return number.to_bytes(4, "little") + encode(members[number], value)
    if _is_union(hint):
        return b"\0" if value is None else b"\1" + encode(typing.get_args(hint)[0], value)
    if hint is bool:
        return bytes([value])
    if isinstance(hint, type) and issubclass(hint, IntEnum):
        return int(value).to_bytes(4, "little")
    return b"".join(encode(kind, getattr(value, name)) for name, kind in _fields(hint))


def decode(hint: Any, data: bytes) -> Any:
    """The whole input as one value, or `malformed` (E-02)."""
    if len(data) > MESSAGE_BYTES_MAX:
        raise Refused(Code.TOO_LARGE, MESSAGE_BYTES_MAX, len(data))
    reader = Reader(data)
    value = read(hint, reader)
    if reader.at != len(data):
        raise Refused(Code.MALFORMED, reader.at, len(data))
    return value


def read(hint: Any, reader: Reader) -> Any:
    """One value from the front."""
    hint, mark = _parts(hint)
    match mark:
        case Int(size):
            return reader.number(size)
        case Short():
            return _member(hint, reader.number(2))
        case Fixed(size):
            return reader.take(size)
        case Text(limit):
            return _text(reader, limit)
        case Items(limit):
            count = reader.number(8)
            if count > limit:
                raise Refused(Code.MALFORMED)
            (item,) = typing.get_args(hint)
            return [read(item, reader) for _ in range(count)]
        case Variants():
            members, number = typing.get_args(hint), reader.number(4)
            if number >= len(members):
                raise Refused(Code.MALFORMED)
            return read(members[number], reader)
    if _is_union(hint):
        return read(typing.get_args(hint)[0], reader) if _flag(reader) else None
    if hint is bool:
        return _flag(reader)
    if isinstance(hint, type) and issubclass(hint, IntEnum):
        return _member(hint, reader.number(4))
    return (typing.get_origin(hint) or hint)(**{name: read(kind, reader) for name, kind in _fields(hint)})


def _flag(reader: Reader) -> bool:
    byte = reader.number(1)
    if byte > 1:
        raise Refused(Code.MALFORMED)
    return byte == 1


def _member(hint: Any, number: int) -> Any:
    try:
        return hint(number)
    except ValueError:
        raise Refused(Code.MALFORMED) from None


def _text(reader: Reader, limit: int) -> str:
    size = reader.number(8)
    if size > limit:
        raise Refused(Code.MALFORMED)
    try:
        text = reader.take(size).decode()
    except UnicodeDecodeError:
        raise Refused(Code.MALFORMED) from None
    if any(unicodedata.category(character) == "Cc" for character in text):
        raise Refused(Code.MALFORMED)
    return text


def show(hint: Any, value: Any) -> Any:
    """A value as the vectors write it (X-05)."""
    hint, mark = _parts(hint)
    match mark:
        case Int(text=text):
            return str(value) if text else value
        case Short():
            return value.name.lower()
        case Fixed(prefix=prefix):
            return value.hex() if prefix is None else bech32m.encode(prefix, value)
        case Text():
            return value
        case Items():
            (item,) = typing.get_args(hint)
            return [show(item, each) for each in value]
        case Variants():
            members = typing.get_args(hint)
            member = members[_variant(value, members)]
            name, inner = mark.name(member), _shown_variant(member, value)
            return name if inner == {} else {name: inner}
    if _is_union(hint):
        return None if value is None else show(typing.get_args(hint)[0], value)
    if hint is bool:
        return value
    if isinstance(hint, type) and issubclass(hint, IntEnum):
        return value.name.lower()
    if hasattr(value, "show"):
        return value.show()
    return {name.rstrip("_"): show(kind, getattr(value, name)) for name, kind in _fields(hint)}


def _shown_variant(hint: Any, value: Any) -> Any:
    """A variant of one nameless field is shown as that field."""
    if getattr(hint, "NAMELESS", False):
        ((name, kind),) = _fields(hint)
        return show(kind, getattr(value, name))
    return show(hint, value)
