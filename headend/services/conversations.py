"""What is said to a meter for each kind of command, and what it proved.

Pure like the drivers: generators that yield requests, run by the line. Whoever answers is made sure
of before anything is written, when the site file says who should.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from headend.domain.clock import Clock
from headend.domain.commands import Command, CommandKind
from headend.services.looks import MeterAtWork
from protocols.evidence import Verdict
from protocols.exchange import (
    Conversation,
    Effect,
    Evidence,
    Intent,
    KeyWork,
    ProtocolError,
    Reply,
    Request,
    Silence,
    WrongMeter,
)
from protocols.meter_type import Supply, SupplyLook, TopUp
from protocols.settings import from_record

T = TypeVar("T")

SUPPLIES = {
    CommandKind.CUT: Supply.TRIP,
    CommandKind.RESTORE: Supply.CLOSE,
    CommandKind.RELEASE: Supply.RELEASE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What one conversation with a write in it proved."""

    verdict: Verdict
    after: Evidence | None
    refusal: int | None = None  # the meter's own code, when it said no


def order(meter: MeterAtWork, command: Command, clock: Clock) -> Conversation[Done]:
    """Carry out one command. Raises what the driver raises."""
    at, driver = meter.address, meter.driver
    if command.kind in (CommandKind.TOP_UP, CommandKind.BURN):
        bought = yield from driver.top_up(at, purchase_of(meter, command))
        return Done(verdict=bought.verdict, after=bought.after, refusal=bought.refusal)
    yield from check_number(meter)
    if command.kind is CommandKind.CONFIGURE:
        setting = from_record(command.details)
        held = yield from driver.configure(at, setting, dial_of(meter, clock))
        return Done(verdict=_held(held), after=None)
    switched = yield from driver.set_supply(at, SUPPLIES[command.kind])
    return Done(
        verdict=_held(switched.held), after=_as_evidence(switched.look), refusal=switched.refusal
    )


def purchase_of(meter: MeterAtWork, command: Command) -> TopUp:
    """The purchase of a command: the same count and the same amount each time it is sent."""
    assert command.purchase_count is not None, "the schema asks for it"
    assert command.amount_fen is not None, "the schema asks for it"
    return TopUp(
        purchase_count=command.purchase_count,
        amount_fen=command.amount_fen,
        meter_number=meter.known.meter_number,
    )


def look(meter: MeterAtWork, command: Command, clock: Clock) -> Conversation[Evidence | bool]:
    """Look whether a command was carried out: evidence, or of a setting whether it holds."""
    at, driver = meter.address, meter.driver
    yield from check_number(meter)
    if command.kind in (CommandKind.TOP_UP, CommandKind.BURN):
        return (yield from driver.evidence(at))
    if command.kind is CommandKind.CONFIGURE:
        setting = from_record(command.details)
        return (yield from driver.holds(at, setting, dial_of(meter, clock)))
    return _as_evidence((yield from driver.supply(at)))


def check_number(meter: MeterAtWork) -> Conversation[None]:
    """Raises WrongMeter when another meter answers than the site file says."""
    expected = meter.known.meter_number
    if expected is None:
        return
    identity = yield from meter.driver.identify(meter.address)
    if identity.meter_number is not None and identity.meter_number != expected:
        raise WrongMeter(f"meter number {identity.meter_number} answers, not {expected}")


def stands_as_ordered(kind: CommandKind, seen: Evidence) -> bool:
    """Whether the relay is where this order wanted it."""
    if kind is CommandKind.CUT:
        return seen.relay_closed_bits == 0 and bool(seen.forced)
    if kind is CommandKind.RESTORE:
        return bool(seen.relay_closed_bits)
    return seen.forced is False


def dial_of(meter: MeterAtWork, clock: Clock) -> Callable[[], datetime]:
    """The wall clock of the meter's site, naive as a dial is."""
    return lambda: clock.now().astimezone(meter.known.time_zone).replace(tzinfo=None)


def _held(held: bool) -> Verdict:
    return Verdict.APPLIED if held else Verdict.NOT_APPLIED


def _as_evidence(seen: SupplyLook) -> Evidence:
    return Evidence(relay_closed_bits=seen.relay_closed_bits, forced=seen.forced)


@dataclass(slots=True)
class Trace:
    """Keeps every frame of a conversation with its instant, for whoever has to judge it later."""

    clock: Clock
    frames: list[dict[str, Any]]
    wrote: Request | None = None  # the last write that was yielded

    def follow(self, conversation: Conversation[T]) -> Conversation[T]:
        """The same conversation, kept."""
        try:
            step = conversation.send(None)
            while True:
                if isinstance(step, Intent):
                    yield step
                    step = conversation.send(None)
                    continue
                if isinstance(step, KeyWork):
                    try:
                        done = yield step
                    except ProtocolError as error:
                        step = conversation.throw(error)
                    else:
                        step = conversation.send(done)
                    continue
                self._out(step)
                try:
                    answer = yield step
                except Silence as silence:
                    self._note(silence=str(silence))
                    step = conversation.throw(silence)
                    continue
                if isinstance(answer, Reply):
                    self._note(**{"in": answer.payload.hex()})
                elif answer is not None:
                    self._note(refused=answer.code)
                step = conversation.send(answer)
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            conversation.close()

    def take(self) -> list[dict[str, Any]]:
        """The frames kept since the last call."""
        taken, self.frames = self.frames, []
        return taken

    def _out(self, request: Request) -> None:
        if request.effect is Effect.WRITE:
            self.wrote = request
        self._note(out=request.frame.hex(), label=request.label)

    def _note(self, **facts: Any) -> None:
        self.frames.append({"at": self.clock.now().isoformat(), **facts})
