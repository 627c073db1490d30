"""The card at a terminal: its identity is proved, not read.

A serial can be copied by anybody. So the head-end speaks with the card itself, through the terminal
and with keys the key service derives from that serial: as at a desk, the terminal carries commands
and answers and holds no key. A card that has other keys than its serial says is refused, counted
and told to a person as an alarm.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from gateways.key_client import KeysAway
from headend.domain.alarms import AlarmKind
from headend.domain.cards import CardWhy
from headend.domain.clock import Clock
from headend.domain.problems import Problem
from headend.services.card_sessions import Reader, problem_of
from headend.services.cards import CardDesk
from headend.services.looks import MeterAtWork
from headend.store import alarms, terminal_looks
from headend.store.database import Database
from protocols.card_apdu import CardConversation, CardError, CardRefused, Issuer, NotOurCard
from protocols.card_desk import CardSeen
from protocols.card_note import LandingNote
from protocols.key_call import KeyCall, KeyResult
from protocols.security_unit import NotingUnit, SecurityUnit, UnitRegister
from protocols.stream import Said
from protocols.terminal import FrameType, message

T = TypeVar("T")
log = logging.getLogger(__name__)

# A tenant holds his card there for a moment; a terminal that is silent for so long has lost it.
ANSWER_S_MAX = 5.0

AskKeys = Callable[[KeyCall], Awaitable[KeyResult]]
Say = Callable[[str, bytes], bool]


@dataclass
class _AtReader:
    """One card at one terminal: which words of the terminal it is about, and how far it is."""

    about: int  # the sequence of its TAP, BUY or ASK_RECHARGES
    reader: Reader
    step: int = 0


class TerminalCards:
    """Everybody's card readers; one card at a time at each terminal."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        desk: CardDesk,
        units: UnitRegister,
        ask: AskKeys | None,
        *,
        say: Say,
        scope: str,
        area: bytes,
    ) -> None:
        """`ask`: the way to the key service. Without one no card can prove anything."""
        self._database = database
        self._clock = clock
        self._desk = desk
        self._units = units
        self._ask = ask
        self._say = say
        self._scope = scope
        self._area = area
        self._at: dict[str, _AtReader] = {}

    def answered(self, gateway: str, said: Said) -> None:
        """What a card said, from the listener; an answer nobody waits for is nothing."""
        at = self._at.get(gateway)
        fields = said.fields
        if at is None or (fields.get("about"), fields.get("step")) != (at.about, at.step):
            return
        raw: bytes | None = None
        if fields.get("gone") is not True:
            with contextlib.suppress(ValueError):
                raw = bytes.fromhex(str(fields.get("answer")))
        with contextlib.suppress(asyncio.QueueFull):
            at.reader.answer(raw)

    async def proved(self, gateway: str, said: Said, serial: bytes, meter_type: str) -> CardSeen:
        """The card with this serial is there, and what lies on it, taken in as at a desk.

        Raises Problem: it is another one, it is gone, it carries what is not to be used.
        """
        if self._ask is None:
            raise Problem("cards-off")
        unit = self._unit(meter_type)
        if unit is None:
            raise Problem("terminal-card-unknown")
        try:
            seen = await self._converse(gateway, said, unit.read(), self._ask)
        except (NotOurCard, CardRefused) as error:
            await self._false(gateway, serial, str(error))
            raise Problem("terminal-card-false") from error
        except (CardError, KeysAway) as error:
            raise problem_of(error) from error
        if seen.serial != serial:
            await self._false(gateway, serial, f"it is card {seen.serial.hex()}")
            raise Problem("terminal-card-false")
        async with self._database.transaction() as tx:
            looked = await self._desk.look(tx, seen)
        if looked.no is not None:
            if looked.no.why is CardWhy.BAD_SEAL:
                await self._false(gateway, serial, "what lies on it was not sealed by us")
                raise Problem("terminal-card-false")
            raise Problem(looked.no.why.value, detail=looked.no.detail)
        return seen

    async def noted(
        self, gateway: str, said: Said, note: LandingNote, meter: MeterAtWork
    ) -> CardSeen:
        """The landing lies on the card that was tapped, which proves itself once more meanwhile.

        Raises CardError, KeysAway: it does not, or (CardUnsettled) nobody knows.
        """
        unit = self._unit(meter.known.meter_type)
        assert self._ask is not None, "asked before"
        assert isinstance(unit, NotingUnit), "asked before"
        return await self._converse(gateway, said, unit.note(note), self._ask)

    def _unit(self, meter_type: str) -> SecurityUnit | None:
        unit = self._units.for_type(meter_type)
        if unit is None:
            return None
        return unit.for_issuer(Issuer(self._scope, self._area, secrets.token_bytes(8)))

    async def _converse(
        self, gateway: str, said: Said, conversation: CardConversation[T], ask: AskKeys
    ) -> T:
        at = self._at[gateway] = _AtReader(said.sequence, Reader(ask, ANSWER_S_MAX))
        carrying = asyncio.create_task(self._carry(gateway, at), name=f"card at {gateway}")
        try:
            return await at.reader.converse(conversation)
        finally:
            carrying.cancel()
            if self._at.get(gateway) is at:
                del self._at[gateway]

    async def _carry(self, gateway: str, at: _AtReader) -> None:
        while True:
            command = await at.reader.next_command()
            at.step += 1
            fields = {"about": at.about, "step": at.step, "apdu": command.command.hex()}
            if not self._say(gateway, message(FrameType.CARD_COMMAND, at.about, **fields)):
                at.reader.answer(None)  # the terminal is away, and the card with it

    async def _false(self, gateway: str, serial: bytes, why: str) -> None:
        """A person hears of it; each further one counts."""
        detail = f"a card at terminal {gateway} says it is {serial.hex()}: {why}"
        log.warning("%s", detail)
        async with self._database.transaction() as tx:
            gateway_id = await terminal_looks.gateway_id(tx, gateway)
            await alarms.raise_alarm(
                tx,
                AlarmKind.FALSE_CARD,
                None,
                detail,
                self._clock.now(),
                gateway_id=gateway_id,
            )
