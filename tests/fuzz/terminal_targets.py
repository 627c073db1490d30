"""What the fuzzer does to a recharge terminal's stream, to the ear of a 645 search, to enciphered
answers and to messages of MQTT gateways."""

from __future__ import annotations

from functools import partial

from gateways.mqtt_link import FRAME_BYTES_MAX, Payload
from protocols.acrel_cipher import CipherReplyReader
from protocols.dlt645 import ANY_METER, READ
from protocols.dlt645_search import Ear, fits
from protocols.exchange import Refusal, Reply
from protocols.keys import GatewaySecret, SiteKey
from protocols.modbus import read_registers
from protocols.stream import Answer, Bytes, Named, Said, TurnedAway
from protocols.terminal import BODY_BYTES_MAX, FrameType, frame, message
from protocols.terminal_island import login_mac
from protocols.terminal_stream import BYTES_BEFORE_NAME_MAX, TerminalStream

TYPES = tuple(FrameType)
SECRET = b"0123456789abcdef"
NONCE = "00112233445566aa"
KNOWN = {"T1": ("desk", GatewaySecret(SECRET.decode))}


def _terminal() -> TerminalStream:
    return TerminalStream(KNOWN, lambda: NONCE)


def terminal(data: bytes) -> None:
    """Pieces cut by a byte: as they are to a stranger, and each as the body of a good frame to one
    that has proved itself. Only that one is carried, and it is named once."""
    stranger = _terminal()
    for piece in data.split(b"\xfe"):
        for event in stranger.receive(piece):
            assert not isinstance(event, Named | Bytes | Said), "nobody has proved anything"
    assert len(stranger.sample) <= BYTES_BEFORE_NAME_MAX
    known, is_over = _logged_in(), False
    for piece in data.split(b"\xfe"):
        kind = TYPES[piece[0] % len(TYPES)] if piece else FrameType.ALIVE
        for event in known.receive(piece + frame(kind, 1, piece[1:][:BODY_BYTES_MAX])):
            assert not is_over, "whoever was turned away is not listened to"
            assert not isinstance(event, Named)
            is_over |= isinstance(event, TurnedAway)


def _logged_in() -> TerminalStream:
    stream = _terminal()
    (challenge,) = stream.receive(message(FrameType.HELLO, 1, name="T1", nonce=NONCE))
    assert isinstance(challenge, Answer)
    mac = login_mac(SECRET, b"terminal", "T1", NONCE, NONCE)
    assert Named("desk") in stream.receive(message(FrameType.PROOF, 2, mac=mac))
    return stream


def dlt645_ear(data: bytes) -> None:
    """Whatever is on a line, only meters that fit are heard, each once."""
    ear = Ear()
    for piece in data.split(b"\xff"):
        ear.receive_data(piece)
        assert ear.next_event() is None
    for pattern in (ANY_METER, "AAAAAAAAAA07"):
        heard = ear.heard(pattern, READ)
        assert len(set(heard.addresses)) == len(heard.addresses)
        assert all(fits(address, pattern) for address in heard.addresses)
        assert heard.is_crowded or len(heard.addresses) <= 1


def ciphered(data: bytes) -> None:
    """Bytes in pieces to the reader of an enciphered answer: at most one answer."""
    plain = read_registers(1, 0, 2)
    key = SiteKey(lambda: (1, 2, 3, 4))
    new_reader = partial(CipherReplyReader, plain.new_reader, b"\x01\x20", 13)
    reader, answers = new_reader(key), 0
    for piece in data.split(b"\xff"):
        reader.receive_data(piece)
        if (answer := reader.next_event()) is not None:
            assert isinstance(answer, Reply | Refusal)
            answers += 1
    assert answers <= 1


def mqtt_payload(data: bytes) -> None:
    """A message is bytes for the line or nothing; what we say comes back as it was."""
    for payload in Payload:
        found = payload.decode(data)
        assert found is None or 0 < len(found) <= FRAME_BYTES_MAX
        said = data[:FRAME_BYTES_MAX] or b"x"
        assert payload.decode(payload.encode(said)) == said
