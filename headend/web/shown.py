"""Domain values as JSON records: the same words everywhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from headend.domain.bulk import Job
from headend.domain.commands import Command
from headend.services.lines import LineBook
from headend.store.attempts import Attempt
from headend.store.command_events import CommandEvent


def command_record(lines: LineBook, command: Command) -> dict[str, Any]:
    """A command as the API and the CLI show it."""
    meter = lines.by_id.get(command.meter_id)
    return {
        "command_id": str(command.command_id),
        "meter": meter.known.name if meter else None,
        "kind": command.kind.value,
        "state": command.state.value,
        "amount_fen": command.amount_fen,
        "purchase_count": command.purchase_count,
        "reason": command.reason,
        "outcome": command.outcome,
        "ordered_at": command.ordered_at.isoformat(),
        "expires_at": command.expires_at.isoformat(),
        "look_again_at": command.look_again_at.isoformat() if command.look_again_at else None,
        "attempts": command.attempts,
        "bulk_id": str(command.bulk_id) if command.bulk_id else None,
    }


def event_record(event: CommandEvent) -> dict[str, Any]:
    """One change of a command; `stage` is one of the four everybody knows, or null."""
    return {
        "event_id": event.event_id,
        "command_id": str(event.command_id),
        "kind": event.kind,
        "from": event.old_state,
        "to": event.new_state,
        "stage": event.stage,
        "at": event.at.isoformat(),
        "note": event.note,
        "cause_id": str(event.cause_id) if event.cause_id else None,
    }


def attempt_records(attempts: Sequence[Attempt]) -> list[dict[str, Any]]:
    """Each try with what the meter showed before and after, and the frames."""
    return [
        {
            "attempt_no": one.attempt_no,
            "sent_at": one.sent_at.isoformat(),
            "ended_at": one.ended_at.isoformat() if one.ended_at else None,
            "before": dataclasses.asdict(one.before),
            "after": dataclasses.asdict(one.after) if one.after else None,
            "looks": list(one.looks),
            "frames": list(one.frames),
            "outcome": one.outcome,
        }
        for one in attempts
    ]


def job_record(job: Job) -> dict[str, Any]:
    """A bulk job; `sha256` is what a second person approves."""
    return {
        "bulk_id": str(job.bulk_id),
        "action": job.action.value,
        "state": job.state.value,
        "reason": job.reason,
        "planned_at": job.planned_at.isoformat(),
        "sha256": job.sha256,
        "needs_approval": job.needs_approval,
        "approved": job.approved_by is not None,
        "damage": dataclasses.asdict(job.damage),
        "batch": job.batch,
        "undo_of": str(job.undo_of) if job.undo_of else None,
        "halt_reason": job.halt_reason,
    }
