"""Which roads carried what in the demonstration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from headend.cli.console import out, say
from headend.cli.demo_money import Deals, asked
from headend.domain.nights import Cell, CellState
from headend.domain.places import GatewayKind
from headend.domain.problems import Problem
from headend.domain.roles import Caller, Role
from headend.services.services import Services
from headend.store import people

TECHNICIAN = "demo technician"

Roads = Mapping[str, Mapping[str, int]]


def roads_record(cells: Sequence[Cell], deals: Deals, truth: Mapping[str, Any]) -> Roads:
    """By road: meters read, top-ups and cuts that were confirmed."""
    road_of_line = {line["name"]: line["road"] for line in truth["lines"]}
    road_of = {meter["name"]: road_of_line[meter["line"]] for meter in truth["meters"]}
    roads: dict[str, dict[str, int]] = {
        line["road"]: {"read": 0, "topups": 0, "cuts": 0} for line in truth["lines"]
    }
    for cell in cells:
        roads[road_of[cell.meter]]["read"] += cell.state is CellState.READ
    for key, names in (("topups", deals.topped_up), ("cuts", deals.cut_off)):
        for name in names:
            roads[road_of[name]][key] += 1
    return roads


def faults_of_roads(roads: Roads, truth: Mapping[str, Any]) -> list[str]:
    """Each road carries a night, a cut and, where its meters know money, a top-up, or the
    demonstration has failed."""
    moneyed = {line["road"] for line in truth["lines"] if line["money"]}
    return [
        f"the road {road} carried no {what}"
        for road, counts in roads.items()
        for what, count in counts.items()
        if not count and (what != "topups" or road in moneyed)
    ]


async def give_access(services: Services, truth: Mapping[str, Any]) -> None:
    """Each MQTT gateway of the property is given its password, as a technician types it in."""
    lines = [line for line in truth["lines"] if line["kind"] == GatewayKind.MQTT.value]
    if not lines:
        return
    at = services.clock.now()
    async with services.database.transaction() as tx:
        await people.add_operator(tx, TECHNICIAN, Role.TECHNICIAN, at=at)
        technician = await people.find_operator(tx, TECHNICIAN)
    assert technician is not None
    caller = Caller(operator=technician, token_id=0, permissions=technician.permissions)
    for line in lines:
        _, password = await services.mqtt.users.give(caller, line["gateway"])
        wish = {"do": "access", "line": line["name"], "password": password}
        answer = await asked(truth, wish)
        if not answer["ok"]:
            raise Problem("simulator-failed", detail=answer["error"])


def show_roads(roads: Roads) -> None:
    """One row a road."""
    table = Table(box=None, pad_edge=False)
    for chinese, english in (
        ("通道", "road"),
        ("已抄", "read"),
        ("充值", "top-ups"),
        ("停电", "cuts"),
    ):
        table.add_column(say(chinese, english))
    for road, counts in roads.items():
        table.add_row(road, *(str(counts[what]) for what in ("read", "topups", "cuts")))
    out.print(table)
