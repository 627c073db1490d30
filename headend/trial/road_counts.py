"""What each road carried in a seed and in a campaign, for the result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import psycopg

from headend.trial.world import World


@dataclass(frozen=True, slots=True, kw_only=True)
class RoadCounts:
    """Of one road: answers that went up, faults, and the orders confirmed over it."""

    seeds: int = 1
    answers: int = 0
    faults: int = 0
    topups: int = 0
    cuts: int = 0
    restores: int = 0  # releases among them
    unknown: int = 0  # tries that had to be looked at later
    broken: int = 0  # seeds that broke an invariant, on whichever of their roads

    def __add__(self, other: RoadCounts) -> RoadCounts:
        return RoadCounts(
            **{one.name: getattr(self, one.name) + getattr(other, one.name) for one in fields(self)}
        )


def carried(world: World, connection: psycopg.Connection[Any]) -> dict[str, RoadCounts]:
    """Of each road of one seed, with the judge's own look into the tables."""
    rows = connection.execute(
        "SELECT line.name, count(*) FILTER (WHERE kind = 'top_up' AND state = 'confirmed'),"
        " count(*) FILTER (WHERE kind = 'cut' AND state = 'confirmed'),"
        " count(*) FILTER (WHERE kind IN ('restore', 'release') AND state = 'confirmed'),"
        " coalesce(sum((SELECT count(*) FROM command_event"
        " WHERE command_event.command_id = command.command_id AND new_state = 'unknown')), 0)"
        " FROM command JOIN meter USING (meter_id) JOIN line USING (line_id) GROUP BY 1"
    ).fetchall()
    orders = {name: counts for name, *counts in rows}
    found = {}
    for name, box in world.boxes.items():
        topups, cuts, restores, unknown = orders.get(name, (0, 0, 0, 0))
        found[name] = RoadCounts(
            answers=box.carried,
            faults=sum(box.faults.values()),
            topups=topups,
            cuts=cuts,
            restores=restores,
            unknown=int(unknown),
        )
    return found


def summed(one: Mapping[str, RoadCounts], other: Mapping[str, RoadCounts]) -> dict[str, RoadCounts]:
    """Of both."""
    return {
        name: one[name] + other[name] if name in one and name in other else (one | other)[name]  # type: ignore[operator]
        for name in sorted(one.keys() | other.keys())
    }
