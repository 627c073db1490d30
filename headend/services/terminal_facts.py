"""What people are shown of recharge terminals: by the API, the command line and the desk alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from headend.domain.places import Gateway, GatewayKind
from headend.domain.problems import Problem
from headend.domain.roles import Caller
from headend.services.gateway_health import gateway_records
from headend.services.services import Services
from headend.store import terminal_looks, terminals
from headend.store.terminal_looks import Tap
from headend.store.terminals import IssuedCap, StandingClash, TakenSale


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalFacts:
    """One terminal as it is now."""

    name: str
    place: Gateway
    site: str
    online: bool
    last_seen_at: datetime | None  # None: not since this program started
    last_tap_at: datetime | None
    records: int  # the number of the last record of its own log that was taken over
    clashes: int  # that nobody has settled
    false_cards: int
    cap: IssuedCap | None  # its newest, while that is good


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalDetails:
    """One terminal with its last words."""

    facts: TerminalFacts
    caps: Sequence[IssuedCap]
    log: Sequence[TakenSale]
    taps: Sequence[Tap]
    clashes: Sequence[StandingClash]


def terminal_places(services: Services, caller: Caller) -> list[tuple[Gateway, str]]:
    """The terminals this person may see and their sites, by name."""
    found = {
        at_work.known.gateway.name: (at_work.known.gateway, at_work.known.site)
        for at_work in services.lines.lines.values()
        if at_work.known.gateway.kind is GatewayKind.TERMINAL
        and caller.may_touch(at_work.known.site_id)
    }
    return [found[name] for name in sorted(found)]


def terminal_place(services: Services, caller: Caller, terminal: str) -> tuple[Gateway, ZoneInfo]:
    """One of them and its site's time. Raises Problem("no-such-terminal")."""
    for place, site in terminal_places(services, caller):
        if place.name == terminal:
            return place, services.lines.sites[site].place.time_zone
    raise Problem("no-such-terminal", terminal=terminal)


async def terminal_facts(services: Services, caller: Caller) -> list[TerminalFacts]:
    """Every terminal this person may see."""
    places = terminal_places(services, caller)
    names = [place.name for place, _ in places]
    sessions = {one["gateway"] for one in services.lines.dial_ins.sessions()}
    seen = {
        row["gateway"]: row["last_seen_at"]
        for row in gateway_records(services.lines, services.facts, services.clock)
    }
    now_s = services.clock.now().timestamp()
    facts = []
    async with services.database.transaction() as tx:
        tapped = await terminal_looks.last_taps(tx, names)
        false = await terminal_looks.false_cards(tx, names)
        for place, site in places:
            log_name = place.registration or ""
            last, _ = await terminals.end_of_log(tx, log_name)
            caps = await terminals.caps(tx, log_name, limit=1)
            told = seen.get(place.name)
            facts.append(
                TerminalFacts(
                    name=place.name,
                    place=place,
                    site=site,
                    online=place.name in sessions,
                    last_seen_at=None if told is None else datetime.fromisoformat(told),
                    last_tap_at=tapped.get(place.name),
                    records=last,
                    clashes=len(await terminals.clashes(tx, log_name)),
                    false_cards=false.get(place.name, 0),
                    cap=caps[0] if caps and caps[0].cap.valid_until_s > now_s else None,
                )
            )
    return facts


async def terminal_details(services: Services, caller: Caller, terminal: str) -> TerminalDetails:
    """One of them with its caps, records, taps and clashes. Raises Problem("no-such-terminal")."""
    place, _ = terminal_place(services, caller, terminal)
    facts = next(one for one in await terminal_facts(services, caller) if one.name == place.name)
    log_name = place.registration or ""
    async with services.database.transaction() as tx:
        return TerminalDetails(
            facts=facts,
            caps=await terminals.caps(tx, log_name),
            log=await terminals.log_of(tx, log_name),
            taps=await terminal_looks.taps(tx, place.name),
            clashes=await terminals.clashes(tx, log_name),
        )


async def forget_terminal(services: Services, caller: Caller, terminal: str) -> None:
    """Take it out of the places. Raises Problem while meters hang behind it."""
    terminal_place(services, caller, terminal)
    async with services.database.transaction() as tx:
        left = await terminal_looks.forget(tx, terminal)
    if left:
        raise Problem("terminal-in-use", terminal=terminal, meters=", ".join(left[:5]))
