"""Who is on a DL/T 645 line: an address with wildcards is answered by every meter it fits.

The high bytes of an address may be AA, and an answer carries the true address (spec
field_protocols.md A1). Where several answer at once their bytes are damaged, which is an answer,
too: more than one is here, so the next lower digits are asked one after the other. So nothing here
ends an exchange early: whoever listens hears the line out. Only reads are sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from protocols import dlt645 as wire
from protocols.exchange import Answer, Request

WILD = "AA"
ENERGY_2007, ENERGY_1997 = 0x00010000, 0x9010  # every meter has it, and anybody may read it
# Adapters make such bytes when the line turns round; FE is a preamble.
QUIET_BYTES = b"\xfe\xff\x00"
REPLY_BYTES_MAX = 40


@dataclass(frozen=True, slots=True)
class Heard:
    """What one question brought."""

    addresses: tuple[str, ...]  # of sound answers, each once
    is_crowded: bool  # several answered: more than one is sound, or bytes are damaged


class Ear:
    """A ReplyReader that never has an answer: it keeps everything until the time is over."""

    __slots__ = ("_bytes",)

    def __init__(self) -> None:
        self._bytes = bytearray()

    def receive_data(self, data: bytes) -> None:
        self._bytes += data

    def next_event(self) -> Answer | None:
        return None

    def heard(self, pattern: str, function: int) -> Heard:
        """Whose answers these are. Never raises; an echo of the question is nobody's."""
        found: dict[str, None] = {}
        rest, is_damaged = bytes(self._bytes), False
        while rest:
            frame, after = wire.take_frame(rest)
            if frame is None:
                # What is announced does not come any more: look behind its first byte.
                is_damaged |= bool(rest.strip(QUIET_BYTES))
                rest = after[1:]
                continue
            before = rest[: len(rest) - len(after) - wire.FRAME_BYTES_MIN - len(frame.data)]
            is_damaged |= bool(before.strip(QUIET_BYTES))
            if frame.from_meter and frame.function == function and fits(frame.address, pattern):
                found[frame.address] = None
            rest = after
        return Heard(tuple(found), is_damaged or len(found) > 1)


def fits(address: str, pattern: str) -> bool:
    """Whether a meter of this address answers to this pattern."""
    known = pattern.lstrip("A")
    return address.isdecimal() and address.endswith(known)


def narrower(pattern: str) -> Iterator[str]:
    """The pattern with its lowest wildcard byte spelt out, a hundred ways; none for a whole one."""
    at = pattern.rfind(WILD)
    if at < 0:
        return
    for digits in range(100):
        yield f"{pattern[:at]}{digits:02d}{pattern[at + 2 :]}"


def question(pattern: str, *, old: bool, ear: Ear) -> Request:
    """Read the energy of whoever fits the pattern, by the standard of 2007 or 1997."""
    make = wire.read_item_1997 if old else wire.read_item
    asked = make(pattern, ENERGY_1997 if old else ENERGY_2007)
    return replace(
        asked,
        label=f"who is {pattern}",
        new_reader=lambda: ear,
        reply_bytes_max=REPLY_BYTES_MAX,
    )
