"""How long things take on a wire: characters, silences, time-outs."""

from __future__ import annotations

from dataclasses import dataclass

# Modbus over serial line V1.02, 2.5.1.1: frames are kept apart by 3.5 characters; above 19200 baud
# a fixed 1.75 ms, because no timer is finer than that.
SILENCE_CHARS = 3.5
FIXED_SILENCE_ABOVE_BAUD = 19200
FIXED_SILENCE_S = 0.00175

# A wired meter answers within some 100 ms, the slowest known within 500; a box on a mobile network
# adds up to seconds of it.
WIRED_REPLY_TIMEOUT_S = 1.0
MOBILE_REPLY_TIMEOUT_S = 3.0

# How long after a request its answer may still appear. A DTU that lost the network parks bytes.
WIRED_REPLY_LATE_S_MAX = 2.0
MOBILE_REPLY_LATE_S_MAX = 30.0

READ_TRIES = 2


def character_s(baud: int, parity: str = "N", stop_bits: int = 1) -> float:
    """Time of one character: start bit, eight data bits, parity bit if any, stop bits."""
    assert baud > 0
    assert parity in ("N", "E", "O")
    assert stop_bits in (1, 2)
    return (9 + (parity != "N") + stop_bits) / baud


@dataclass(frozen=True, slots=True, kw_only=True)
class LineTiming:
    """The patience of one line. All in seconds.

    `reply_timeout_s` counts from the moment the request has left the wire, the wire time of its
    longest answer comes on top. `reply_late_s_max` counts from the same moment: until then a meter
    that did not answer is left alone, since its answer may still come.
    """

    reply_timeout_s: float = WIRED_REPLY_TIMEOUT_S
    reply_late_s_max: float = WIRED_REPLY_LATE_S_MAX
    char_s: float = 0.0  # 0: the wire time is not ours to know
    silence_s: float = 0.0  # kept before each request, since the last byte in either direction
    turnaround_s: float = 0.0  # on top of it, for slow 485 adapters
    read_tries: int = READ_TRIES

    # A new process does not know what the old one asked, so it leaves each meter alone for this
    # long, once. None: reply_late_s_max. 0 is safe only where nobody asked before.
    start_quiet_s: float | None = None

    def __post_init__(self) -> None:
        assert 0 < self.reply_timeout_s <= self.reply_late_s_max, "late begins after the time-out"
        assert min(self.char_s, self.silence_s, self.turnaround_s) >= 0
        assert self.read_tries >= 1
        assert self.start_quiet_s is None or self.start_quiet_s >= 0

    @classmethod
    def serial(
        cls,
        *,
        baud: int,
        parity: str = "N",
        stop_bits: int = 1,
        reply_timeout_s: float | None = None,
        reply_late_s_max: float | None = None,
        turnaround_s: float = 0.0,
        start_quiet_s: float | None = None,
    ) -> LineTiming:
        """A port of this machine: we keep the silence between frames."""
        char_s = character_s(baud, parity, stop_bits)
        silence_s = SILENCE_CHARS * char_s
        if baud > FIXED_SILENCE_ABOVE_BAUD:
            silence_s = FIXED_SILENCE_S
        timeout_s = reply_timeout_s or WIRED_REPLY_TIMEOUT_S
        return cls(
            reply_timeout_s=timeout_s,
            reply_late_s_max=reply_late_s_max or max(WIRED_REPLY_LATE_S_MAX, 2 * timeout_s),
            char_s=char_s,
            silence_s=silence_s,
            turnaround_s=turnaround_s,
            start_quiet_s=start_quiet_s,
        )

    @classmethod
    def network(
        cls,
        *,
        mobile: bool,
        baud: int | None = None,
        parity: str = "N",
        stop_bits: int = 1,
        reply_timeout_s: float | None = None,
        reply_late_s_max: float | None = None,
        turnaround_s: float = 0.0,
        start_quiet_s: float | None = None,
    ) -> LineTiming:
        """A converter or DTU: it keeps the silence; with `baud` its wire time is allowed for."""
        usual_s = MOBILE_REPLY_TIMEOUT_S if mobile else WIRED_REPLY_TIMEOUT_S
        usual_late_s = MOBILE_REPLY_LATE_S_MAX if mobile else WIRED_REPLY_LATE_S_MAX
        timeout_s = reply_timeout_s or usual_s
        return cls(
            reply_timeout_s=timeout_s,
            reply_late_s_max=reply_late_s_max or max(usual_late_s, 2 * timeout_s),
            char_s=0.0 if baud is None else character_s(baud, parity, stop_bits),
            turnaround_s=turnaround_s,
            start_quiet_s=start_quiet_s,
        )
