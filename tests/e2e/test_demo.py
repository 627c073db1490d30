"""The demonstration that must never stumble."""

from __future__ import annotations

import json

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
    assert result["cuts"] == {"confirmed": 3}
    assert result["restores"] == {"confirmed": result["topups"]["confirmed"] // 2}
    assert result["ledger"] == {"verified": True, "differences": 0}
