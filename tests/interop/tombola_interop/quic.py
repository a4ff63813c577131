"""Streams and frames over QUIC (section 13): a client that shows its key and checks the peer's."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, cast

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.packet import QuicProtocolVersion
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from .codec import MESSAGE_BYTES_MAX
from .keys import Address, Secret, is_key

ALPN = "tombola/1"
_SPKI_ED25519 = bytes.fromhex("302a300506032b6570032100")
_PING_S = 5
_PATIENCE_S = 120


class PeerError(Exception):
    """The peer is not who it should be, or broke the protocol."""


class Ended(Exception):
    """The peer reset a stream or closed the connection, with this number (N-05, N-06)."""

    def __init__(self, number: int) -> None:
        super().__init__(f"ended with {number}")
        self.number = number


def certificate(secret: Secret) -> x509.Certificate:
    """N-02: self-signed; nothing in it but the key counts."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tombola")])
    begin = datetime.datetime(2020, 1, 1)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).serial_number(1)
    builder = builder.public_key(secret.private.public_key())
    builder = builder.not_valid_before(begin).not_valid_after(begin + datetime.timedelta(days=36_500))
    return builder.sign(secret.private, None)


class Stream:
    """One bidirectional stream, opened by us."""

    def __init__(self, connection: Connection, number: int, reader: asyncio.StreamReader) -> None:
        self.connection, self.number, self.reader = connection, number, reader

    def send(self, data: bytes, end: bool = False) -> None:
        """Bare bytes."""
        self.connection.quic.send_stream_data(self.number, data, end)
        self.connection.transmit()

    def send_frame(self, message: bytes, end: bool = False) -> None:
        """N-04."""
        self.send(len(message).to_bytes(4, "little") + message, end)

    def reset(self, number: int = 0) -> None:
        """Gives the stream up, both sides."""
        self.reset_sending(number)
        self.connection.quic.stop_stream(self.number, number)
        self.connection.transmit()

    def reset_sending(self, number: int = 0) -> None:
        """Gives our side up; the peer may still say something."""
        self.connection.quic.reset_stream(self.number, number)
        self.connection.transmit()

    async def frame(self) -> bytes:
        """One message; EOFError where the stream ends before one."""
        size = int.from_bytes(await self.exactly(4), "little")
        if size > MESSAGE_BYTES_MAX:
            raise PeerError(f"a message of {size} bytes")
        return await self.exactly(size)

    async def exactly(self, size: int) -> bytes:
        """So many bare bytes."""
        async with asyncio.timeout(_PATIENCE_S):
            return await self.reader.readexactly(size)

    async def rest(self) -> bytes:
        """All bare bytes until the end."""
        async with asyncio.timeout(_PATIENCE_S):
            return await self.reader.read()


class Connection(QuicConnectionProtocol):
    """A connection to one peer, whose key was compared with its address."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ended: int | None = None
        # Not those of the base class: its writers end a stream when they are collected.
        self._readers: dict[int, asyncio.StreamReader] = {}

    @property
    def quic(self) -> Any:
        return self._quic

    def open(self) -> Stream:
        """A new stream."""
        if self.ended is not None:
            raise Ended(self.ended)
        number, reader = self.quic.get_next_available_stream_id(), asyncio.StreamReader()
        self._readers[number] = reader
        return Stream(self, number, reader)

    async def ask(self, message: bytes) -> bytes:
        """N-05: one request, one answer, and nothing after it."""
        stream = self.open()
        stream.send_frame(message, end=True)
        answer = await stream.frame()
        if await stream.rest():
            raise PeerError("bytes after an answer")
        return answer

    def peer_key(self) -> bytes:
        """N-02: the key of the peer's certificate."""
        shown = self.quic.tls._peer_certificate.public_key()
        spki = shown.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if spki[:12] != _SPKI_ED25519 or not is_key(spki[12:]):
            raise PeerError("the peer's certificate has no good Ed25519 key")
        return cast(bytes, spki[12:])

    def quic_event_received(self, event: events.QuicEvent) -> None:
        match event:
            case events.StreamDataReceived(data=data, end_stream=is_end, stream_id=number):
                reader = self._readers[number]
                reader.feed_data(data)
                if is_end:
                    reader.feed_eof()
            case events.StreamReset(error_code=code, stream_id=number):
                self._readers[number].set_exception(Ended(code))
            case events.ConnectionTerminated(error_code=code):
                self.ended = code
                for reader in self._readers.values():
                    if not reader.at_eof():
                        reader.set_exception(Ended(code))
        super().quic_event_received(_Nothing() if isinstance(event, events.StreamDataReceived) else event)


class _Nothing(events.QuicEvent):
    """What the base class has no business with."""


@asynccontextmanager
async def connected(address: Address, secret: Secret | None) -> AsyncGenerator[Connection, None]:
    """A connection to the node at an address. A payee asks for no certificate; an escrow demands one."""
    settings = QuicConfiguration(alpn_protocols=[ALPN], server_name="tombola", idle_timeout=20.0)
    settings.supported_versions = [QuicProtocolVersion.VERSION_1]
    settings.max_stream_data, settings.max_data = 8 << 20, 16 << 20
    # Trust comes from the address alone; the handshake's signature is checked all the same.
    settings.verify_mode = ssl.CERT_NONE
    if secret is not None:
        settings.certificate, settings.private_key = certificate(secret), secret.private
    async with connect(address.host, address.port, configuration=settings, create_protocol=Connection) as protocol:
        connection = cast(Connection, protocol)
        key = connection.peer_key()
        if key != address.key:
            raise PeerError(f"the node at {address.host}:{address.port} has the key {key.hex()}")
        pings = asyncio.create_task(_ping(connection))
        try:
            yield connection
        finally:
            pings.cancel()


async def _ping(connection: Connection) -> None:
    """N-07: pings are the client's."""
    while connection.ended is None:
        await asyncio.sleep(_PING_S)
        await connection.ping()
