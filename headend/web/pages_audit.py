"""The audit: who did what, and whether the books are as they were sealed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fastapi import APIRouter, Response
from pydantic import AwareDatetime

from headend.domain.problems import Problem
from headend.services.seals import verify_database
from headend.services.services import Services
from headend.store import desk_days, people
from headend.store.desk_days import Did
from headend.web import desk
from headend.web.common import Asked
from headend.web.desk import Auditor, PageProblem, Visitor

router = APIRouter(include_in_schema=False)

PAGE: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditView:
    """One page of deeds; `verdict`: the books were just verified."""

    did: Sequence[Did]
    operators: Sequence[str]
    operator: str
    older: str | None
    verdict: str = ""
    whole: bool = False


@router.get("/audit")
async def audit(
    services: Asked, auditor: Auditor, operator: str = "", before: AwareDatetime | None = None
) -> Response:
    """Orders, money, bulk jobs, sign-ins: newest first."""
    _everything(auditor)
    view = await _view(services, operator, before)
    return desk.show("audit.html", auditor, services, view)


@router.post("/audit/verify")
async def verify(services: Asked, auditor: Auditor) -> Response:
    """Recompute every link and every seal where they lie. It only reads."""
    _everything(auditor)
    say = desk.gettext(auditor)
    report = await verify_database(services.database)
    view = await _view(services, "", None)
    whole = report.is_sound
    verdict = (
        say("The books are whole: %s rows and %s sealed days, each link as it was made.")
        % (report.transfers + report.events, report.seals)
        if whole
        else str(report.fault)
    )
    shown = AuditView(
        did=view.did,
        operators=view.operators,
        operator="",
        older=view.older,
        verdict=verdict,
        whole=whole,
    )
    return desk.show("audit.html", auditor, services, shown)


def _everything(auditor: Visitor) -> None:
    """The chain runs through all properties: who may see some of them may not see it."""
    if auditor.sites is not None:
        raise PageProblem(auditor, Problem("no-such-page"))


async def _view(services: Services, operator: str, before: AwareDatetime | None) -> AuditView:
    async with services.database.transaction() as tx:
        names = [one.name for one in await people.list_operators(tx)]
        asked = operator if operator in names else None
        did = await desk_days.who_did_what(
            tx, before=before or services.clock.now(), operator=asked, limit=PAGE
        )
    older = did[-1].at.isoformat() if len(did) == PAGE else None
    return AuditView(did=did, operators=names, operator=asked or "", older=older)
