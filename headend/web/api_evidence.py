"""Evidence packs for programs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import AwareDatetime

from headend.domain.problems import Problem
from headend.web.auth import Auditor, meter_for
from headend.web.common import Asked
from headend.web.pages_evidence import as_file

router = APIRouter(prefix="/api/v1", tags=["evidence"])


@router.post("/meters/{meter}/evidence", summary="A signed pack about one account")
async def make(
    services: Asked,
    auditor: Auditor,
    meter: str,
    since: Annotated[AwareDatetime | None, Query(description="default: 93 days before")] = None,
    until: Annotated[AwareDatetime | None, Query(description="default: now")] = None,
    account_id: Annotated[int | None, Query(description="an earlier account of the meter")] = None,
) -> Response:
    """A ZIP that `headend verify-evidence` verifies without any database.

    `account_id`: who lived there before; without it whose meter it is now, or was last.
    """
    known = meter_for(services, auditor, meter).known
    if services.evidence is None:
        raise Problem("no-such-page")
    pack = await services.evidence.make(
        known.meter_id,
        known.name,
        account_id=account_id,
        since=since,
        until=until,
        made_by=auditor.operator.operator_id,
    )
    return as_file(pack)


@router.get("/evidence/key", summary="The fingerprint of the key that signs packs")
async def key(services: Asked, auditor: Auditor) -> dict[str, str]:
    """For paper: whoever verifies gets it by another road than the pack."""
    if services.evidence is None:
        raise Problem("no-such-page")
    return {"fingerprint": services.evidence.fingerprint()}
