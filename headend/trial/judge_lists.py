"""What must hold of settings and of lists that were cut at once; judged by own statements too.

A confirmed setting is in the meter's own registers. A list never touches a meter that it spared,
never goes beyond its size or its canary before somebody has looked, stands still once stopped, is
approved by another person as it is, and ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg

from headend.trial.bulk_office import BulkPromise
from headend.trial.settings import Shown
from protocols.settings import SetClock, from_record

ENDED = ("done", "halted", "cancelled")


@dataclass(frozen=True, slots=True)
class SettingRow:
    """A setting whose order was confirmed, in the order in which they left."""

    meter: str
    details: Mapping[str, Any]
    sent_at: datetime
    ended_at: datetime


@dataclass(frozen=True, slots=True)
class JobRow:
    """A bulk job as stored."""

    bulk_id: UUID
    action: str
    state: str
    planner: str
    approver: str | None
    needs_approval: bool
    undo_of: UUID | None


@dataclass(frozen=True, slots=True)
class SentRow:
    """One try of one order of a job: it left."""

    bulk_id: UUID
    meter: str
    sent_at: datetime
    planned: bool  # on the list, and spared by no rule when it was made or taken off it


@dataclass(frozen=True, slots=True)
class Lists:
    """Everything the database says about settings and jobs."""

    settings: list[SettingRow]
    jobs: list[JobRow]
    sent: list[SentRow]
    cut_by: dict[UUID, set[str]]  # meters whose order of a job left

    @classmethod
    def read(cls, connection: psycopg.Connection[Any]) -> Lists:
        """By statements of the judge's own."""
        settings = connection.execute(
            "SELECT meter.name, details, max(sent_at), max(changed_at) FROM command"
            " JOIN meter USING (meter_id) JOIN attempt USING (command_id)"
            " WHERE command.kind = 'configure' AND state = 'confirmed'"
            " GROUP BY command_id, meter.name, details ORDER BY max(sent_at)"
        ).fetchall()
        jobs = connection.execute(
            "SELECT bulk_id, action, bulk_job.state, planner.person, approver.person,"
            " needs_approval, undo_of FROM bulk_job"
            " JOIN operator AS planner ON planner.operator_id = planned_by"
            " LEFT JOIN operator AS approver ON approver.operator_id = approved_by"
        ).fetchall()
        sent = connection.execute(
            "SELECT command.bulk_id, meter.name, sent_at, EXISTS (SELECT FROM bulk_item AS item"
            "  WHERE item.bulk_id = command.bulk_id AND item.meter_id = command.meter_id"
            "  AND item.position IS NOT NULL AND item.command_id = command.command_id)"
            " FROM command JOIN meter USING (meter_id) JOIN attempt USING (command_id)"
            " WHERE command.bulk_id IS NOT NULL ORDER BY sent_at"
        ).fetchall()
        rows = [SentRow(*row) for row in sent]
        cut_by: dict[UUID, set[str]] = {}
        for row in rows:
            cut_by.setdefault(row.bulk_id, set()).add(row.meter)
        return cls([SettingRow(*r) for r in settings], [JobRow(*r) for r in jobs], rows, cut_by)


def judge_settings(shown: Mapping[str, Shown], settings: Iterable[SettingRow]) -> Iterator[str]:
    """The newest confirmed setting of each kind is what the meter has; each setting of a dial was
    made when it was ordered."""
    newest: dict[tuple[str, str], SettingRow] = {}
    for row in settings:
        if isinstance(from_record(row.details), SetClock):
            newest[row.meter, f"clock {row.sent_at}"] = row
        else:
            newest[row.meter, row.details["kind"]] = row
    for row in newest.values():
        if not shown[row.meter].holds(from_record(row.details), row.sent_at, row.ended_at):
            yield f"{row.meter}: {dict(row.details)} is confirmed, and the meter has something else"


def judge_lists(lists: Lists, promises: Iterable[BulkPromise]) -> Iterator[str]:
    """Every job against what was promised about it."""
    jobs = {job.bulk_id: job for job in lists.jobs}
    for job in lists.jobs:
        if job.needs_approval and job.approver == job.planner:
            yield f"bulk job: approved by {job.approver}, who planned it"
        began = lists.cut_by.get(job.bulk_id, set())
        if job.undo_of is not None:
            for name in sorted(began - lists.cut_by.get(job.undo_of, set())):
                yield f"bulk job: {name} was taken back, and had not been cut by it"
    for row in lists.sent:
        if not row.planned:
            yield f"bulk job: {row.meter} was switched, and is not on the list"
    for promise in promises:
        yield from _kept(promise, jobs, lists)


def _kept(promise: BulkPromise, jobs: Mapping[UUID, JobRow], lists: Lists) -> Iterator[str]:
    for accepted, what in (
        (promise.own_approval_accepted, "its planner could approve it"),
        (promise.changed_list_accepted, "a list that had changed was approved by its old hash"),
        (promise.too_long_accepted, "a list longer than its cap was planned"),
    ):
        if accepted:
            yield f"bulk job: {what}"
    job = jobs.get(promise.bulk_id)
    if job is None:
        return
    for one in filter(None, (job, jobs.get(promise.undo_id) if promise.undo_id else None)):
        if one.state not in ENDED and lists.cut_by.get(one.bulk_id):
            yield f"bulk job: {one.action} never ended: {one.state}"
    yield from _careful(promise, [row for row in lists.sent if row.bulk_id == job.bulk_id])


def _careful(promise: BulkPromise, sent: list[SentRow]) -> Iterator[str]:
    limits, went_on_at = promise.limits, promise.went_on_at
    if len({row.meter for row in sent}) > limits.size_max:
        yield f"bulk job: more than {limits.size_max} meters were switched"
    early = {row.meter for row in sent if went_on_at is None or row.sent_at < went_on_at}
    if limits.go_on_by_person and len(early) > limits.canary:
        yield f"bulk job: {len(early)} meters were switched before anybody said go on"
    for row in sent:
        if promise.stopped_at is not None and row.sent_at > promise.stopped_at:
            yield f"bulk job: {row.meter} was switched after the stop"
