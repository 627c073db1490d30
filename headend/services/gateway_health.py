"""How each gateway does: what it says of itself, and what its lines went through.

Kept in memory: boxes say the same again with every call, counters begin with the process.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from gateways.health import LineSnapshot
from headend.domain.clock import Clock
from headend.services.lines import LineAtWork, LineBook


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkFacts:
    """What a box said of itself, the newest of each fact, and when it last said something."""

    told_at: datetime
    iccid: str | None = None
    rssi_dbm: int | None = None
    firmware: str | None = None
    interval_s: int | None = None  # how often it sends readings by itself


class FactsBook:
    """The facts of every gateway that told some."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._of: dict[str, LinkFacts] = {}

    def keep(self, gateway: str, facts: Mapping[str, str | int]) -> None:
        """The on_facts of a LineBook. What is not told this time stays; unknown keys are left."""
        before = self._of.get(gateway) or LinkFacts(told_at=self._clock.now())
        self._of[gateway] = LinkFacts(
            told_at=self._clock.now(),
            iccid=_text(facts, "iccid", before.iccid),
            rssi_dbm=_number(facts, "rssi_dbm", before.rssi_dbm),
            firmware=_text(facts, "firmware", before.firmware),
            interval_s=_number(facts, "interval_s", before.interval_s),
        )

    def of(self, gateway: str) -> LinkFacts | None:
        """What this gateway said, or None: nothing yet, or its kind says nothing."""
        return self._of.get(gateway)

    def follow(self, gateways: Iterable[str]) -> None:
        """Forget every gateway that is not among these."""
        known = set(gateways)
        self._of = {name: facts for name, facts in self._of.items() if name in known}


def _text(facts: Mapping[str, str | int], key: str, before: str | None) -> str | None:
    told = facts.get(key)
    return before if told is None else str(told)


def _number(facts: Mapping[str, str | int], key: str, before: int | None) -> int | None:
    told = facts.get(key)
    return told if isinstance(told, int) else before


def gateway_records(
    lines: LineBook, facts: FactsBook, clock: Clock, *, site_ids: frozenset[int] | None = None
) -> list[dict[str, Any]]:
    """Every gateway for JSON, in the order of the site files; `site_ids`: only of these sites."""
    carried: dict[str, list[LineAtWork]] = {}
    for at_work in lines.lines.values():
        if site_ids is None or at_work.known.site_id in site_ids:
            carried.setdefault(at_work.known.gateway.name, []).append(at_work)
    sessions = {row["gateway"]: row for row in lines.dial_ins.sessions()}
    facts.follow(at_work.known.gateway.name for at_work in lines.lines.values())
    now = clock.now()
    return [
        _record(name, its_lines, sessions.get(name), facts.of(name), now)
        for name, its_lines in carried.items()
    ]


def _record(
    name: str,
    its_lines: list[LineAtWork],
    session: Mapping[str, Any] | None,
    facts: LinkFacts | None,
    now: datetime,
) -> dict[str, Any]:
    seen = [at_work.line.snapshot() for at_work in its_lines]
    down = [one for one in seen if not one.is_up]
    exchanges = sum(one.recent_exchanges for one in seen)
    silences = sum(one.recent_silences for one in seen)
    garbled = sum(one.recent_garbled for one in seen)
    return {
        "gateway": name,
        "site": its_lines[0].site,
        "kind": its_lines[0].known.gateway.kind.value,
        "state": "down" if len(down) == len(seen) else "partly" if down else "up",
        "detail": (down or seen)[0].down_reason or (down or seen)[0].link,
        "lines": [one.line for one in seen],
        "meters": sum(len(at_work.meters) for at_work in its_lines),
        "silent_meters": sum(party.isolated for one in seen for party in one.parties),
        "reconnects": max((max(0, one.links - 1) for one in seen), default=0),
        "last_fall_reason": next(filter(None, (one.last_fall_reason for one in seen)), None),
        "last_seen_at": _last_seen(seen, session, now),
        "exchanges": sum(one.exchanges for one in seen),
        "error_permille": round(1000 * (silences + garbled) / exchanges) if exchanges else None,
        "error_reason": _error_reason(silences, garbled),
        "bytes_in": sum(one.bytes_in for one in seen),
        "bytes_out": sum(one.bytes_out for one in seen),
        "rssi_dbm": facts.rssi_dbm if facts else None,
        "iccid": facts.iccid if facts else None,
        "firmware": facts.firmware if facts else None,
        "interval_s": facts.interval_s if facts else None,
        "told_at": facts.told_at.isoformat() if facts else None,
    }


def _error_reason(silences: int, garbled: int) -> str | None:
    """What most of the recent errors were; None without errors."""
    if not silences + garbled:
        return None
    return "silent" if silences >= garbled else "garbled"


def _last_seen(
    seen: list[LineSnapshot], session: Mapping[str, Any] | None, now: datetime
) -> str | None:
    """When bytes last came: an answer on one of its lines, or anything of a box that dials in."""
    instants = [
        datetime.fromtimestamp(one.last_answer_at_s, UTC)
        for one in seen
        if one.last_answer_at_s is not None
    ]
    if session is not None:
        instants.append(now - timedelta(seconds=session["heard_s_ago"]))
    return max(instants).isoformat() if instants else None


def meter_records(at_work: LineAtWork) -> list[dict[str, Any]]:
    """How each meter of a line answers; one that was not asked yet has only zeros."""
    parties = {party.party: party for party in at_work.line.snapshot().parties}
    rows = []
    for meter in at_work.meters:
        party = parties.get(meter.address)
        last_s = party.last_answer_at_s if party else None
        rows.append(
            {
                "meter": meter.known.name,
                "line": at_work.name,
                "address": str(meter.address),
                "answers": party.answers if party else 0,
                "silences": party.silences if party else 0,
                "silences_in_a_row": party.silences_in_a_row if party else 0,
                "left_alone": bool(party and party.isolated),
                "last_answer_at": (
                    None if last_s is None else datetime.fromtimestamp(last_s, UTC).isoformat()
                ),
            }
        )
    return rows
