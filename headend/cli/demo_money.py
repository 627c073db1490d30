"""The second half of the demonstration: sell, cut and restore, and ask the meters themselves.

Rooms that ran out of credit and rooms that somebody cut are sold fifty yuan; a cut one gets its
light back in the same transaction that books the money. Then some meters are cut. The verdict comes
from the simulated meters' own books, over their control socket, past everything we believe.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import uuid4

from headend.domain.commands import FINAL, Accepted, Command, CommandKind, CommandState
from headend.domain.friendly_hours import Calendar
from headend.domain.roles import Operator, Role
from headend.services.orders import SwitchOrder
from headend.services.reconcile import reconcile_all
from headend.services.seals import verify_database
from headend.services.selling import SaleWish, sell
from headend.services.services import Services
from headend.store import commands, people, supply

AMOUNT_FEN = 5000
# Every order is proved within seconds on these lines; a loaded machine may need more.
SETTLE_S_MAX = 120.0
LOOK_S = 0.2


@dataclass(slots=True)
class Deals:
    """What was ordered, and what became of it."""

    topups: Counter[str] = field(default_factory=Counter)
    cuts: Counter[str] = field(default_factory=Counter)
    restores: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    topped_up: list[str] = field(default_factory=list)  # meters whose top-up was confirmed
    cut_off: list[str] = field(default_factory=list)  # meters whose cut was
    verified: bool = False
    differences: int = 0
    faults: list[str] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """As promised by `headend demo --once --json`."""
        return {
            "topups": {
                "confirmed": self.topups["confirmed"],
                "refused": self.refused,
                "unknown": self.topups["unknown"],
            },
            "cuts": dict(self.cuts),
            "restores": dict(self.restores),
            "ledger": {"verified": self.verified, "differences": self.differences},
        }


async def deal(services: Services, site: str, truth: dict[str, Any]) -> Deals:
    """Sell, cut and restore; every meter's own books are compared at the end."""
    deals = Deals()
    began_at = services.clock.now()
    cashier, manager = await _people(services, site)
    moneyed = {line["name"] for line in truth["lines"] if line["money"]}
    paid = [m["name"] for m in truth["meters"] if (m["dark"] or m["cut"]) and m["line"] in moneyed]
    # Where no money is, somebody who was cut is restored by an order of its own.
    lit = [m["name"] for m in truth["meters"] if m["cut"] and m["line"] not in moneyed]
    cut = _one_of_each_road(truth, paid + lit)
    before = {name: await _witness(truth, name) for name in paid + cut}

    for name in paid:
        if not await _sell(services, name, cashier):
            deals.faults.append(f"{name} was refused its top-up")
    # One that must be refused: nothing was ever read there, so its next count is not known.
    silent = next(m["name"] for m in truth["meters"] if m["gap"] == "meter_silent")
    deals.refused = int(not await _sell(services, silent, cashier))
    for name in cut:
        await _switch(services, name, manager, CommandKind.CUT)
    for name in lit:
        await _switch(services, name, manager, CommandKind.RESTORE)

    ended = await _settled(services, began_at)
    for command in ended:
        {
            CommandKind.TOP_UP: deals.topups,
            CommandKind.CUT: deals.cuts,
            CommandKind.RESTORE: deals.restores,
        }.get(command.kind, Counter())[command.state.value] += 1
    _who(services, deals, ended)
    await _judge(deals, truth, before, paid, cut)
    for name in lit:
        if not (await _witness(truth, name))["relay_closed"]:
            deals.faults.append(f"{name} was restored and is still cut")
    await _books(services, deals, paid + cut + lit)
    if deals.refused != 1:
        deals.faults.append(f"{silent} was sold to without its purchase count")
    return deals


def _one_of_each_road(truth: dict[str, Any], but: Collection[str]) -> list[str]:
    """The last healthy meter of each road, on a line where orders are obeyed."""
    lines = {line["name"]: line for line in truth["lines"] if line["sold"]}
    chosen = {
        lines[m["line"]]["road"]: m["name"]
        for m in truth["meters"]
        if m["line"] in lines and m["gap"] is None and m["name"] not in but
    }
    return list(chosen.values())


def _who(services: Services, deals: Deals, ended: Iterable[Command]) -> None:
    """The meters of confirmed top-ups and cuts."""
    names = {CommandKind.TOP_UP: deals.topped_up, CommandKind.CUT: deals.cut_off}
    for command in ended:
        if command.state is CommandState.CONFIRMED and command.kind in names:
            names[command.kind].append(services.lines.by_id[command.meter_id].known.name)


async def _people(services: Services, site: str) -> tuple[Operator, Operator]:
    """A cashier and a manager; on this property cuts are allowed at any hour."""
    known = services.lines.sites[site]
    at = services.clock.now()
    async with services.database.transaction() as tx:
        for name, role in (("demo cashier", Role.CASHIER), ("demo manager", Role.MANAGER)):
            await people.add_operator(tx, name, role, at=at)
        cashier = await people.find_operator(tx, "demo cashier")
        manager = await people.find_operator(tx, "demo manager")
        assert cashier is not None
        assert manager is not None
        always = Calendar(time_zone=known.place.time_zone, friendly_hours=(), spare_weekends=False)
        await supply.set_calendar(tx, known.site_id, always, by=manager.operator_id, at=at)
    return cashier, manager


async def _sell(services: Services, name: str, cashier: Operator) -> bool:
    outcome = await sell(
        services.database,
        services.orders,
        services.clock,
        SaleWish(
            command_id=uuid4(),
            meter_id=services.lines.find_meter(name).known.meter_id,
            amount_fen=AMOUNT_FEN,
            operator_id=cashier.operator_id,
            reason="demonstration",
        ),
    )
    return isinstance(outcome, Accepted)


async def _switch(services: Services, name: str, manager: Operator, kind: CommandKind) -> None:
    async with services.database.transaction() as tx:
        await services.orders.switch(
            tx,
            SwitchOrder(
                command_id=uuid4(),
                meter_id=services.lines.find_meter(name).known.meter_id,
                kind=kind,
                operator_id=manager.operator_id,
                reason="demonstration",
            ),
        )


async def _settled(services: Services, since: datetime) -> list[Command]:
    """Every command of the demonstration, once none of them is open any more."""
    loop = asyncio.get_running_loop()
    until_s = loop.time() + SETTLE_S_MAX
    while True:
        async with services.database.transaction() as tx:
            found = await commands.listing(tx, since=since, limit=1000)
        if all(command.state in FINAL for command in found) or loop.time() > until_s:
            return found
        await asyncio.sleep(LOOK_S)


async def _judge(
    deals: Deals,
    truth: dict[str, Any],
    before: dict[str, dict[str, Any]],
    paid: Iterable[str],
    cut: Iterable[str],
) -> None:
    for name in paid:
        meter = await _witness(truth, name)
        credited = meter["total_purchased_fen"] - before[name]["total_purchased_fen"]
        if credited != AMOUNT_FEN:
            deals.faults.append(f"{name} was credited {credited} fen for {AMOUNT_FEN}")
        if not meter["relay_closed"]:
            deals.faults.append(f"{name} paid and is still dark")
        if meter["forced"] != "released":
            deals.faults.append(f"{name} stays {meter['forced']} by force")
    for name in cut:
        if (await _witness(truth, name))["relay_closed"]:
            deals.faults.append(f"{name} was cut and has light")
    for kind, counted in (("top-ups", deals.topups), ("cuts", deals.cuts)):
        if open_ones := set(counted) - {CommandState.CONFIRMED.value}:
            deals.faults.append(f"some {kind} are {', '.join(sorted(open_ones))}")


async def _books(services: Services, deals: Deals, names: Iterable[str]) -> None:
    # Each line takes its own in turn, all lines at once.
    meters = [services.lines.find_meter(name) for name in names]
    await asyncio.gather(*(services.nights.read_now(meter) for meter in meters))
    await services.sink.flush()
    compared = await reconcile_all(services.database, services.clock)
    deals.differences = len(compared.differences)
    report = await verify_database(services.database)
    deals.verified = report.is_sound
    if deals.differences or not deals.verified:
        found = [dataclasses.asdict(one) for one in compared.differences.values()]
        deals.faults.append(f"meters and books differ: {found} {report.fault or ''}")


async def _witness(truth: dict[str, Any], name: str) -> dict[str, Any]:
    """What the simulated meter itself says."""
    answer = await asked(truth, {"do": "meter", "name": name})
    meter: dict[str, Any] = answer.get("meter", answer)
    return meter


async def asked(truth: Mapping[str, Any], wish: Mapping[str, Any]) -> dict[str, Any]:
    """The answer of the property's control socket."""
    reader, writer = await asyncio.open_unix_connection(truth["control"])
    try:
        writer.write(json.dumps(wish).encode() + b"\n")
        answer: dict[str, Any] = json.loads(await reader.readline())
    finally:
        writer.close()
        await writer.wait_closed()
    return answer
