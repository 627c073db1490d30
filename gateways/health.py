"""What a line went through, in counters cheap enough to keep for every exchange."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass

# Percentiles are taken over this many of the last replies: minutes of a busy line.
REPLY_TIMES_KEPT = 256

# The error rate is told over this many of the last exchanges: minutes of a busy line.
OUTCOMES_KEPT = 256

# How busy the bus is, is told over whole spans of this length.
BUSY_SPAN_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PartyHealth:
    """One meter as its line sees it."""

    party: Hashable
    answers: int
    silences: int  # garbled ones included
    silences_in_a_row: int
    isolated: bool  # polls fail at once for now
    last_answer_at_s: float | None  # seconds since 1970


@dataclass(frozen=True, slots=True, kw_only=True)
class LineSnapshot:
    """The counters at one moment; `dataclasses.asdict` makes JSON of it."""

    line: str
    is_up: bool
    link: str | None  # name of the link of the moment
    down_reason: str | None
    down_since_s: float | None  # seconds since 1970
    exchanges: int  # requests that left
    answers: int  # good ones, refusals included
    refusals: int
    silences: int  # nothing came
    garbled: int  # bytes came, none of them a good answer
    late: int  # answers that came after their time: the reply time-out may be too short
    cut_off: int  # the link broke, or the asker was cancelled, with a request on its way
    unsettled: int  # conversations that ended between a write and its proof
    silences_in_a_row: int  # over all parties
    links: int  # how often a link came up; all but the first were reconnects
    last_fall_reason: str | None  # why the newest link that is gone went away
    recent_exchanges: int  # the last exchanges that came to an end, at most OUTCOMES_KEPT …
    recent_silences: int  # … and how many of them brought nothing …
    recent_garbled: int  # … or no good answer
    bytes_out: int
    bytes_in: int
    stray_bytes: int  # came when nothing was asked
    last_answer_at_s: float | None  # seconds since 1970
    busy_share: float  # of the last whole minute, 0 to 1
    reply_ms_p50: float | None  # from handing over the request to the whole answer
    reply_ms_p95: float | None
    parties: tuple[PartyHealth, ...]


class LineHealth:
    """Counters of one line. The line writes them directly; read them through a snapshot."""

    __slots__ = (
        "_busy_s",
        "_busy_share",
        "_outcomes",
        "_reply_s",
        "_span_began_s",
        "answers",
        "bytes_in",
        "bytes_out",
        "cut_off",
        "exchanges",
        "garbled",
        "last_answer_at_s",
        "last_fall_reason",
        "late",
        "links",
        "refusals",
        "silences",
        "silences_in_a_row",
        "stray_bytes",
        "unsettled",
    )

    def __init__(self) -> None:
        self.exchanges = self.answers = self.refusals = 0
        self.silences = self.garbled = self.late = self.silences_in_a_row = 0
        self.cut_off = self.unsettled = 0
        self.bytes_out = self.bytes_in = self.stray_bytes = 0
        self.last_answer_at_s: float | None = None
        self.links = 0
        self.last_fall_reason: str | None = None
        # True: answered; False: bytes, but no good answer; None: nothing came.
        self._outcomes: deque[bool | None] = deque(maxlen=OUTCOMES_KEPT)
        self._reply_s: deque[float] = deque(maxlen=REPLY_TIMES_KEPT)
        self._span_began_s = 0.0
        self._busy_s = 0.0
        self._busy_share = 0.0

    def took(self, now_s: float, exchange_s: float) -> None:
        """An exchange, answered or not, kept the bus for this long."""
        if now_s - self._span_began_s >= BUSY_SPAN_S:
            self._close_span(now_s)
        self._busy_s += exchange_s

    def answered(self, at_s: float, reply_s: float) -> None:
        """A good answer came at the instant `at_s` (since 1970), `reply_s` after the request."""
        self.answers += 1
        self.silences_in_a_row = 0
        self.last_answer_at_s = at_s
        self._reply_s.append(reply_s)
        self._outcomes.append(True)

    def unanswered(self, *, heard: bool) -> None:
        """The time for an answer is over; `heard`: bytes came, but no good answer."""
        if heard:
            self.garbled += 1
        else:
            self.silences += 1
        self.silences_in_a_row += 1
        self._outcomes.append(False if heard else None)

    def busy_share(self, now_s: float) -> float:
        """Share of the last whole span in which an exchange was under way."""
        if now_s - self._span_began_s >= BUSY_SPAN_S:
            self._close_span(now_s)
        return self._busy_share

    def reply_ms(self, share: float) -> float | None:
        """The time within which `share` (0 to 1) of the last replies came."""
        if not self._reply_s:
            return None
        ranked = sorted(self._reply_s)
        return round(1000 * ranked[min(int(share * len(ranked)), len(ranked) - 1)], 3)

    def snapshot(
        self,
        now_s: float,
        *,
        line: str,
        link: str | None,
        down_reason: str | None,
        down_since_s: float | None,
        parties: tuple[PartyHealth, ...],
    ) -> LineSnapshot:
        """The counters as they are now, with what only the line knows."""
        return LineSnapshot(
            line=line,
            is_up=link is not None,
            link=link,
            down_reason=down_reason,
            down_since_s=down_since_s,
            exchanges=self.exchanges,
            answers=self.answers,
            refusals=self.refusals,
            silences=self.silences,
            garbled=self.garbled,
            late=self.late,
            cut_off=self.cut_off,
            unsettled=self.unsettled,
            links=self.links,
            last_fall_reason=self.last_fall_reason,
            recent_exchanges=len(self._outcomes),
            recent_silences=self._outcomes.count(None),
            recent_garbled=self._outcomes.count(False),
            silences_in_a_row=self.silences_in_a_row,
            bytes_out=self.bytes_out,
            bytes_in=self.bytes_in,
            stray_bytes=self.stray_bytes,
            last_answer_at_s=self.last_answer_at_s,
            busy_share=self.busy_share(now_s),
            reply_ms_p50=self.reply_ms(0.50),
            reply_ms_p95=self.reply_ms(0.95),
            parties=parties,
        )

    def _close_span(self, now_s: float) -> None:
        self._busy_share = min(1.0, self._busy_s / (now_s - self._span_began_s))
        self._span_began_s = now_s
        self._busy_s = 0.0
