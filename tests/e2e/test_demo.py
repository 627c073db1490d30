"""The demonstration that must never stumble."""

from __future__ import annotations

import json

from headend.domain.alarms import AlarmRules
from headend.store.broker import find_program
from tests.e2e.test_program import headend


def test_one_night_of_the_virtual_property() -> None:
    done = headend("demo", "--once", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    night, lines = result["night"], result["lines"]
    assert night["meters"] >= 150
    assert len(lines) >= 6
    dead = [line for line in lines if line["down"]]
    assert len(dead) == 1
    assert night["gaps"] == {"line_down": dead[0]["meters"], "meter_silent": 1, "wrong_meter": 1}
    assert night["read"] == night["meters"] - sum(night["gaps"].values())
    assert sum(line["read"] for line in lines) == night["read"]
    assert night["seconds"] > 0

    assert result["topups"]["confirmed"] > 5
    assert (result["topups"]["refused"], result["topups"]["unknown"]) == (1, 0)
    roads = result["roads"]
    assert roads.keys() >= {"serial", "tcp", "dtu", "ddp", "four_faith", "acrel_4g"}
    assert roads.keys() >= {"acrel_gateway", "modbus_tcp", "dlt645", "cjt188", "terminal"}
    assert ("mqtt" in roads) == (find_program() is not None)
    assert all(counts["read"] for counts in roads.values())
    assert [road for road, counts in roads.items() if not counts["topups"]] == ["cjt188"]
    assert {counts["cuts"] for counts in roads.values()} == {1}
    assert result["cuts"] == {"confirmed": len(roads)}
    cards = {"sold": 5, "landed": 3, "moved": 1, "lost_replaced": 1, "burned": 1, "differences": 0}
    assert result["cards"] == cards
    # By the meter behind the terminal: one purchase on a card, one out of the balance.
    assert result["terminal"] == {
        "taps": 1, "bought": 1, "in_meter": 2, "false_cards": 1, "differences": 0,
    }  # fmt: skip
    # Half of those who paid had been cut; the water that was restored had nothing to pay.
    assert result["restores"] == {"confirmed": result["topups"]["confirmed"] // 2 + 1}
    assert result["ledger"] == {"verified": True, "differences": 0}
    history = result["history"]
    assert (history["days_sealed"], history["nights"]) == (31, 31)
    assert history["sales"] > 300
    assert history["cuts"] > 5
    assert history["gaps"] > 20
    assert history["customers"] > 200
    # Somebody taps the feeder of one cabinet: 130 on every 1,130 that its master measures.
    (lost_permille,) = result["losses"]
    assert 105 <= lost_permille <= 125
    assert lost_permille > AlarmRules().loss_permille, "and the alarm speaks of it"
