"""A recharge terminal in the demonstration: a tenant without a phone taps, the meter proves it.

The terminal stands in the town and shares no code with ours. One card carries a purchase, one
buys out of the balance, and one is a blank card with the serial of the first.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from headend.app import HeadEnd
from headend.cli.console import out, say
from headend.cli.demo_cards import AMOUNT_FEN, CardWalks, Tenant, ask_town, served
from headend.domain.problems import Problem
from headend.services.reconcile import reconcile_all
from simulators.cards import RfCard


@dataclass(slots=True)
class TerminalDeals:
    """What was done at the terminal, and what became of it."""

    taps: int = 0  # with a purchase on the card
    bought: int = 0  # out of the balance
    in_meter: int = 0  # by the meter's own registers
    false_cards: int = 0  # refused
    differences: int = 0

    def record(self) -> dict[str, int]:
        """As promised by `headend demo --once --json`."""
        return asdict(self)


@dataclass(slots=True)
class TerminalWalk:
    """The result and what was not as it must be."""

    deals: TerminalDeals = field(default_factory=TerminalDeals)
    faults: list[str] = field(default_factory=list)


async def tap_cards(head_end: HeadEnd, truth: dict[str, Any], keys: Path) -> TerminalWalk:
    """Sell at the desk, tap at the terminal, look into the meter; a copy of the card is refused."""
    walk = TerminalWalk()
    line, meter = _at_the_terminal(truth)
    services = head_end.services
    async with served(head_end, keys) as http:
        desk = CardWalks()
        tenant = Tenant(meter["name"], desk, http, truth["control"], 0x70)
        before = await ask_town(truth["control"], do="meter", name=meter["name"])
        card = tenant.new_card()
        done = await tenant.at_desk(card, "purchase", amount_fen=AMOUNT_FEN, new_card=True)

        async def tapped(memory: bytearray, **more: Any) -> str:
            told = await ask_town(
                truth["control"], do="tap", line=line, serial=done["serial"],
                meter_number=meter["meter_number"], memory=memory.hex(), **more,
            )  # fmt: skip
            memory[:] = bytes.fromhex(told["memory"])
            verdict: str = told["verdict"]
            return verdict

        walk.deals.false_cards += "could not prove" in await tapped(RfCard().memory)
        walk.deals.taps += await tapped(card.memory) == "in_meter"
        await _pay(http, meter["name"])
        walk.deals.bought += await tapped(card.memory, buy_fen=AMOUNT_FEN) == "in_meter"
        after = await ask_town(truth["control"], do="meter", name=meter["name"])
        walk.deals.in_meter = after["purchase_count"] - before["purchase_count"]
        credited_fen = after["total_purchased_fen"] - before["total_purchased_fen"]
    await services.nights.read_now(services.lines.find_meter(meter["name"]))
    await services.sink.flush()
    compared = await reconcile_all(services.database, services.clock)
    walk.deals.differences = len(compared.differences)
    wanted = TerminalDeals(taps=1, bought=1, in_meter=2, false_cards=1)
    if walk.deals != wanted or credited_fen != 2 * AMOUNT_FEN:
        walk.faults.append(f"terminal: credited {credited_fen} fen, {walk.deals.record()}")
    return walk


def _at_the_terminal(truth: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    lines = [line["name"] for line in truth["lines"] if line["kind"] == "terminal"]
    for meter in truth["meters"]:
        healthy = meter["gap"] is None and not (meter["dark"] or meter["cut"])
        if meter["line"] in lines and healthy:
            return meter["line"], meter
    raise Problem("demo-failed", detail="this town has no terminal")


async def _pay(http: httpx.AsyncClient, meter: str) -> None:
    """Money over the counter that waits as balance."""
    answer = await http.post(
        "/api/v1/payments",
        json={"meter": meter, "amount_fen": AMOUNT_FEN, "reason": "demonstration"},
        headers={"idempotency-key": str(uuid4())},
    )
    if answer.is_error:
        raise Problem("demo-failed", detail=f"{meter}: {answer.text}")


def show_terminal(walk: TerminalWalk) -> None:
    """One line."""
    told = ", ".join(f"{name.replace('_', ' ')} {n}" for name, n in walk.deals.record().items())
    out.print(f"{say('充值终端', 'terminal')}: {told}")
