"""Wrong codes that the security chips of meters have counted, kept where no restart loses them.

A chip locks after some wrong codes, however long ago they were and whoever sent them. So each
refused code becomes an event of its command before anything else is said to that chip; a proved
purchase clears them, or a person who accepts the meter. At two nothing more is asked of the chip
and nothing more is sold to the meter. A program that dies between the refusal and its commit loses
one: chips lock at three or later.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from gateways.line import Line, no_intent
from gateways.turns import Priority
from headend.domain.clock import Clock
from headend.domain.commands import Command
from headend.services.looks import MeterAtWork
from headend.store import command_events, sales
from headend.store.database import Transact
from headend.store.errors import StoreError
from protocols.exchange import Conversation, Evidence
from protocols.keys import CODES_REFUSED_MAX, CountsCodes

log = logging.getLogger(__name__)
T = TypeVar("T")

FROZEN = "its chip refused two codes of ours: find out which key it holds, then accept the meter"


class Chips:
    """Runs the conversations of commands, and keeps count for meters with a chip."""

    def __init__(self, transaction: Transact, clock: Clock) -> None:
        self._transaction = transaction
        self._clock = clock
        self._unsaved: dict[int, list[tuple[UUID, datetime, str]]] = {}  # by meter

    async def converse(
        self,
        line: Line,
        meter: MeterAtWork,
        command: Command,
        conversation: Conversation[T],
        *,
        record_intent: Callable[[Evidence], Awaitable[None]] = no_intent,
    ) -> T:
        """Line.converse for a command. Raises what that raises, and StoreError."""
        try:
            await self._recall(meter)
        except BaseException:
            conversation.close()
            raise

        async def refused(label: str) -> None:
            await self._refused(meter, command, label)

        return await line.converse(
            meter.address,
            conversation,
            priority=Priority.COMMAND,
            record_intent=record_intent,
            record_wrong_code=refused,
            read_tries=1,  # a repeat would wait out the quarantine and hold up the line's others
        )

    async def _recall(self, meter: MeterAtWork) -> None:
        """Before anything is said: the driver knows what stands against its meter."""
        driver, meter_id = meter.driver, meter.known.meter_id
        if not isinstance(driver, CountsCodes):
            return
        await self._save(meter_id)
        async with self._transaction() as tx:
            driver.codes_refused = await command_events.wrong_codes(tx, meter_id)

    async def _refused(self, meter: MeterAtWork, command: Command, label: str) -> None:
        meter_id = meter.known.meter_id
        log.warning("meter %s: its chip refused a code (%s)", meter.known.name, label)
        said = (command.command_id, self._clock.now(), f"{label}: the chip refused our code")
        self._unsaved.setdefault(meter_id, []).append(said)
        try:
            await self._save(meter_id)
        except StoreError as error:
            # The conversation may have written already, so it goes on; nothing is asked of this
            # chip by another before the database has this.
            log.warning("a refused code is stored later: %s", error)

    async def _save(self, meter_id: int) -> None:
        waiting = self._unsaved.get(meter_id)
        if not waiting:
            return
        async with self._transaction() as tx:
            for command_id, at, note in waiting:
                await command_events.tell_wrong_code(tx, command_id, at, note)
            if await command_events.wrong_codes(tx, meter_id) >= CODES_REFUSED_MAX:
                await sales.freeze(tx, meter_id, FROZEN, self._clock.now())
        del self._unsaved[meter_id]
