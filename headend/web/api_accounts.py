"""Customers and accounts as a file, for programs: the same columns go out and come in."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import uuid4

from fastapi import APIRouter, Query, Request, Response

from headend.domain.problems import Problem
from headend.domain.roles import Scope
from headend.services import account_files, account_sheets
from headend.services.account_files import Done, Plan
from headend.services.report_files import MEDIA_TYPES
from headend.services.services import Services
from headend.store import account_files as stored
from headend.web.auth import Seller, Viewer
from headend.web.common import Asked
from headend.web.told import said

router = APIRouter(prefix="/api/v1/accounts", tags=["accounts"])

# More mistakes than this are one mistake: the wrong file.
MISTAKES_SHOWN = 1_000
NAME_MAX = 120

_FILE = {
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


async def body_of(request: Request) -> bytes:
    """The bytes of a request, as many as a file may have. Raises Problem."""
    content = bytearray()
    async for piece in request.stream():
        content += piece
        if len(content) > account_sheets.FILE_BYTES_MAX:
            limit = account_sheets.FILE_BYTES_MAX // 1024 // 1024
            raise Problem("accounts-file-too-big", detail=f"{limit} MB")
    return bytes(content)


@router.post("/import", summary="Customers and accounts from a file", openapi_extra=_FILE)
async def import_(
    request: Request,
    services: Asked,
    seller: Seller,
    dry_run: Annotated[bool, Query(description="only say what it would do")] = False,
    name: Annotated[str, Query(max_length=NAME_MAX, description="of the file")] = "accounts",
) -> dict[str, Any]:
    """A CSV (UTF-8 or GB18030) or XLSX with the columns of the export, as the body.

    A dry run names each bad cell. An import is all or nothing; a row that says what is so already
    changes nothing, so the same file may be sent again. No money moves.
    """
    sheet = await account_sheets.read(await body_of(request))
    scope = seller.operator.scope
    if dry_run:
        return plan_record(await account_files.dry_run(services, sheet, scope))
    async with services.database.transaction() as tx:
        done = await account_files.carry_out(
            tx,
            services,
            sheet,
            scope,
            file_id=uuid4(),
            name="".join(sign for sign in name if sign.isprintable()),
            operator_id=seller.operator.operator_id,
        )
    return done_record(done)


def plan_record(plan: Plan) -> dict[str, Any]:
    """What an import would do, and each bad cell."""
    return {
        "opens": len(plan.openings),
        "changes": len(plan.changes),
        "same": plan.same,
        "empty": plan.empty,
        "mistakes": [
            {
                "row": one.row,
                "column": one.column,
                "code": one.problem.code,
                "text_en": said(one.problem, "en"),
                "text_zh": said(one.problem, "zh"),
            }
            for one in plan.mistakes[:MISTAKES_SHOWN]
        ],
        "mistake_count": len(plan.mistakes),
    }


def done_record(done: Done) -> dict[str, Any]:
    """What an import did."""
    return {"opened": done.opened, "changed": done.changed, "same": done.same}


@router.get(
    "/export",
    summary="Customers and accounts as a file",
    response_class=Response,
    responses={
        200: {
            "content": {
                MEDIA_TYPES["csv"]: {"schema": {"type": "string"}},
                MEDIA_TYPES["xlsx"]: {"schema": {"type": "string", "format": "binary"}},
            }
        }
    },
)
async def export(
    services: Asked,
    viewer: Viewer,
    format: Literal["csv", "xlsx"] = "csv",  # noqa: A002  # the word of the address
    language: Literal["en", "zh"] = "en",
) -> Response:
    """A row for each meter inside the scope, with who pays for it; empty where nobody does."""
    return await exported(services, viewer.operator.scope, format, language)


async def exported(
    services: Services, scope: Scope, kind: Literal["csv", "xlsx"], language: str
) -> Response:
    """The accounts of a scope as a file to be kept."""
    headers = {
        "content-disposition": f'attachment; filename="accounts.{kind}"',
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
    }
    async with services.database.transaction() as tx:
        found = stored.everything(tx, scope)
        if kind == "xlsx":
            made = await account_sheets.xlsx_file(found, language)
        else:
            made = await account_sheets.csv_file(found, language)
    return Response(made, media_type=MEDIA_TYPES[kind], headers=headers)
