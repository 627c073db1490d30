"""How far a purchase at a terminal is: told to the terminal, stage by stage, as it goes on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from headend.domain.commands import FINAL, CommandState
from headend.domain.purchases import SaleState
from headend.store import commands, sales
from headend.store.database import Database

FOLLOWED_MAX = 200
FOLLOW_S, LOOK_S = 120.0, 0.1

_STAGES: Mapping[CommandState, str] = {
    CommandState.QUEUED: "paid",
    CommandState.CLAIMED: "paid",
    CommandState.SENT: "sent",
    CommandState.UNKNOWN: "unknown",
    CommandState.ESCALATED: "unknown",
    CommandState.CONFIRMED: "in_meter",
}

#: says the stage of one tap to its terminal
Tell = Callable[..., None]


class Stages:
    """Every purchase that is followed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._following: dict[UUID, asyncio.Task[None]] = {}

    def follow(
        self, tap_id: UUID, command_id: UUID, tell: Tell, landed: Callable[[], None] | None = None
    ) -> None:
        """Tell each stage; a new task for a tap that is said again. `landed` is called once it is
        in the meter, and the card is to be held until what it does is told."""
        old = self._following.pop(tap_id, None)
        if old is not None:
            old.cancel()
        if len(self._following) >= FOLLOWED_MAX:
            return  # the terminal asks again
        task = asyncio.create_task(self._told(tell, command_id, landed), name=f"follows {tap_id}")
        self._following[tap_id] = task
        task.add_done_callback(lambda _: self._forget(tap_id, task))

    def close(self) -> None:
        """Tell nothing more."""
        for task in tuple(self._following.values()):
            task.cancel()

    def _forget(self, tap_id: UUID, task: asyncio.Task[None]) -> None:
        if self._following.get(tap_id) is task:
            del self._following[tap_id]

    async def _told(self, tell: Tell, command_id: UUID, landed: Callable[[], None] | None) -> None:
        told = ""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FOLLOW_S):
                while True:
                    async with self._database.transaction() as tx:
                        command = await commands.find(tx, command_id)
                        assert command is not None
                        assert command.sale_id is not None
                        sale = await sales.find(tx, command.sale_id)
                    assert sale is not None, "a command keeps its sale"
                    stage = _STAGES.get(command.state, "refused")
                    if sale.state is SaleState.LANDED:
                        stage = "in_meter"  # by its order, or by another copy of the same sale
                    over = command.state in FINAL or stage == "in_meter"
                    held = landed if stage == "in_meter" else None
                    if stage != told:
                        told = stage
                        fields: dict[str, Any] = {
                            "stage": stage,
                            "purchase_count": sale.purchase_count,
                            "amount_fen": sale.amount_fen,
                        }
                        if held is not None:
                            fields["hold"] = True
                        tell(**fields)
                    if over:
                        if held is not None:
                            held()
                        return
                    await asyncio.sleep(LOOK_S)
