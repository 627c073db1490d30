"""The four stages everybody knows: paid, sent, in meter, light on. Pure."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from headend.domain.commands import FINAL, Command, CommandState
from headend.store.command_events import CommandEvent
from headend.web.texts import N_
from protocols.exchange import Evidence

NAMES: Final = {
    "paid": N_("Paid"),
    "sent": N_("Sent"),
    "in_meter": N_("In meter"),
    "light_on": N_("Light on"),
}


class Step(enum.Enum):
    """How a stage stands; the value is its class on the page."""

    DONE = "done"
    NOW = "now"  # this one is waited for
    LATER = "later"
    OFF = "off"  # it ended here
    DOUBT = "doubt"  # nobody knows yet


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One of the four. `note` is a text of the catalogue."""

    code: str
    name: str
    step: Step
    at: datetime | None
    note: str = ""


_WAS_ON: Final = N_("it was on")


_STILL_BELOW: Final = N_("the credit is not above zero")


def stages(
    command: Command, events: Sequence[CommandEvent], after: Evidence | None = None
) -> tuple[Stage, ...]:
    """How far a top-up and the restore that follows from it have come.

    `after`: the look that proved it. A meter that had cut itself closes by itself once it has the
    money: no restore follows, and that look is the proof of the light.
    """
    reached = _reached(command, events)
    light_at, note = _light(command, events, after, reached.get("in_meter"))
    if light_at is not None:
        reached.setdefault("light_on", light_at)
    no_light = note == _STILL_BELOW and "light_on" not in reached
    found: list[Stage] = []
    waits = True
    for code, name in NAMES.items():
        step = Step.LATER
        if code in reached:
            step = Step.DONE
        elif waits:
            step, waits = Step.OFF if no_light else _waiting(command, code), False
        found.append(
            Stage(
                code=code,
                name=name,
                step=step,
                at=reached.get(code),
                note=note if code == "light_on" and (light_at or no_light) else "",
            )
        )
    return tuple(found)


def _reached(command: Command, events: Sequence[CommandEvent]) -> dict[str, datetime]:
    reached: dict[str, datetime] = {"paid": command.ordered_at}
    for event in events:
        if event.stage is not None:
            reached.setdefault(event.stage, event.at)
    if command.state is not CommandState.CONFIRMED:
        reached.pop("in_meter", None)
    return reached


def _light(
    command: Command,
    events: Sequence[CommandEvent],
    after: Evidence | None,
    in_meter_at: datetime | None,
) -> tuple[datetime | None, str]:
    """When the light was on without a restore of ours, None while nobody saw it; and a note."""
    if in_meter_at is None or _restored(events):
        return None, ""
    if not in_the_dark(command, events):
        return in_meter_at, _WAS_ON
    if after is None:
        return None, ""
    if after.relay_closed_bits:
        return in_meter_at, ""
    below = after.remaining_credit_fen is not None and after.remaining_credit_fen <= 0
    return None, _STILL_BELOW if below else ""


def in_the_dark(command: Command, events: Sequence[CommandEvent]) -> bool:
    """Whether its tenant had no light when the money came: the restore clock runs for those."""
    return bool(command.details.get("dark")) or _restored(events)


def _restored(events: Sequence[CommandEvent]) -> bool:
    """Whether a restore was ordered with the money."""
    return any(event.kind == "restore" for event in events)


def _waiting(command: Command, code: str) -> Step:
    if code == "light_on":
        return Step.NOW
    if command.state in (CommandState.UNKNOWN, CommandState.ESCALATED):
        return Step.DOUBT
    return Step.OFF if command.state in FINAL else Step.NOW


def ended(command: Command, steps: Sequence[Stage]) -> bool:
    """Whether nothing more will come by itself."""
    if command.state in FINAL and command.state is not CommandState.CONFIRMED:
        return True
    return all(stage.step in (Step.DONE, Step.OFF) for stage in steps)
