"""The four stages where the light is the question, and stored clauses in the reader's language."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from headend.domain.commands import Command, CommandKind, CommandState
from headend.store.command_events import CommandEvent
from headend.web.stages import Step, ended, stages
from headend.web.told import CLAUSES, told
from protocols.catalog import load_meter_types
from protocols.exchange import Evidence

AT = datetime(2026, 3, 20, 2, 0, tzinfo=UTC)
THERE = AT + timedelta(seconds=4)


def sold(*, dark: bool) -> tuple[Command, list[CommandEvent]]:
    """A top-up that is proved, four seconds after the payment."""
    command = Command(
        command_id=uuid4(), meter_id=1, kind=CommandKind.TOP_UP, state=CommandState.CONFIRMED,
        amount_fen=5000, purchase_count=2, sale_id=uuid4(), details={"dark": True} if dark else {},
        ordered_by=1, approved_by=None, reason="", ordered_at=AT, not_before=AT, expires_at=AT,
        look_again_at=None, attempts=1, outcome="", bulk_id=None,
    )  # fmt: skip
    events = [
        CommandEvent(
            event_id=n, command_id=command.command_id, meter_id=1, kind="top_up", old_state="x",
            new_state=state, at=THERE, note="", cause_id=None,
        )
        for n, state in enumerate(("sent", "confirmed"))
    ]  # fmt: skip
    return command, events


@pytest.mark.parametrize(
    ("dark", "after", "light", "over"),
    [
        (False, None, Step.DONE, True),
        # It had cut itself and closed by itself: no restore follows.
        (True, Evidence(relay_closed_bits=1, remaining_credit_fen=4000), Step.DONE, True),
        (True, Evidence(relay_closed_bits=0, remaining_credit_fen=4000), Step.NOW, False),
        (True, Evidence(relay_closed_bits=0, remaining_credit_fen=-100), Step.OFF, True),
        (True, None, Step.NOW, False),
    ],
)
def test_light_is_on_when_somebody_saw_it(
    dark: bool, after: Evidence | None, light: Step, over: bool
) -> None:
    command, events = sold(dark=dark)
    steps = stages(command, events, after)
    assert [one.step for one in steps] == [Step.DONE] * 3 + [light]
    assert steps[-1].at == (THERE if light is Step.DONE else None)
    assert ended(command, steps) is over
    assert bool(steps[-1].note) is (not dark or light is Step.OFF)


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        ("remaining credit -3.05 yuan", "剩余金额 -3.05 元"),
        ("肺气肿, until 2026-12-31 16:31", "肺气肿，至 2026-12-31 16:31"),
        ("DTU 地下室: the other side hung up", "DTU 地下室：对方断开连接"),
        ("The bulk job halted: stopped at the desk", "批量任务已中止：在操作台停止"),
        ("张三: paid", "张三：paid"),
        ("whatever a person typed", "whatever a person typed"),
        ("", ""),
    ],
)
def test_a_stored_clause_is_said_in_chinese(stored: str, said: str) -> None:
    assert told(stored, "zh") == said
    assert told(stored, "en") == stored


def test_each_type_of_meter_has_its_title_in_both_languages() -> None:
    for one in load_meter_types().values():
        assert not told(one.title, "zh").isascii(), one.title


def test_no_clause_hides_behind_a_more_general_one() -> None:
    for clause in CLAUSES:
        bare = clause.replace("%(", "").replace(")s", "")
        assert told(bare, "zh") != bare, clause
