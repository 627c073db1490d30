"""Customers and accounts as a file at the desk: export, upload, what it would do, the word for it.

A file is kept from its upload to the word; the page between the two says each bad cell. The id of
the file is in the address, so a reload and a second click import it once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal
from uuid import UUID, uuid4

from fastapi import APIRouter, Request, Response
from starlette.datastructures import UploadFile

from headend.domain.problems import Problem
from headend.services import account_files, account_sheets
from headend.services.account_files import Plan
from headend.services.services import Services
from headend.store import account_files as stored
from headend.store.account_files import KeptFile
from headend.web import desk
from headend.web.api_accounts import NAME_MAX, exported
from headend.web.common import Asked
from headend.web.desk import Form, PageProblem, Seller, Visitor
from headend.web.told import said

router = APIRouter(include_in_schema=False)

# A page with more of them is read by nobody.
MISTAKES_SHOWN = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadView:
    """The form for a file."""

    form: Form = field(default_factory=Form)
    bytes_max: int = account_sheets.FILE_BYTES_MAX
    rows_max: int = account_sheets.ROWS_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class FileView:
    """A file that was sent: what it would do (`plan`), or what it did (`kept`)."""

    kept: KeptFile
    plan: Plan | None
    form: Form = field(default_factory=Form)
    shown_max: int = MISTAKES_SHOWN


@router.get("/account-files")
async def start(services: Asked, seller: Seller) -> Response:
    """Export, and the form for a file."""
    return desk.show("account_files.html", seller, services, UploadView())


@router.get("/account-files/export/{kind}")
async def export(seller: Seller, services: Asked, kind: Literal["csv", "xlsx"]) -> Response:
    """The file of everything inside the scope."""
    return await exported(services, seller.scope, kind, seller.language)


@router.post("/account-files")
async def upload(request: Request, services: Asked, seller: Seller) -> Response:
    """Keep the file and go on to what it would do. One that cannot be read is not kept."""
    data = await request.form()
    form, sent = desk.form_of(data), data.get("file")
    content, name = b"", ""
    if isinstance(sent, UploadFile):
        content = await sent.read(account_sheets.FILE_BYTES_MAX + 1)
        name = "".join(sign for sign in sent.filename or "" if sign.isprintable())[-NAME_MAX:]
    await data.close()
    try:
        await account_sheets.read(content)
    except Problem as problem:
        form.wrong("file", said(problem, seller.language))
        view = UploadView(form=form)
        return desk.show("account_files.html", seller, services, view, status=422)
    file_id = uuid4()
    async with services.database.transaction() as tx:
        await stored.keep(
            tx,
            file_id,
            name or "accounts",
            content,
            by=seller.operator_id,
            at=services.clock.now(),
        )
    return desk.go(f"/account-files/{file_id}")


@router.get("/account-files/{file_id}")
async def look(services: Asked, seller: Seller, file_id: UUID) -> Response:
    """What this file would do now, with each bad cell; once it was imported, what it did."""
    return await _show(services, seller, file_id, Form())


async def _show(
    services: Services, seller: Visitor, file_id: UUID, form: Form, *, status: int = 200
) -> Response:
    async with services.database.transaction() as tx:
        kept = await stored.kept(tx, file_id, by=seller.operator_id)
    if kept is None:
        raise PageProblem(seller, Problem("accounts-file-gone"))
    plan = None
    if kept.content is not None:
        sheet = await account_sheets.read(kept.content)
        plan = await account_files.dry_run(services, sheet, seller.scope)
    view = FileView(kept=kept, plan=plan, form=form)
    return desk.show("account_file.html", seller, services, view, status=status)


@router.post("/account-files/{file_id}")
async def confirm(services: Asked, seller: Seller, file_id: UUID) -> Response:
    """Import it, whole and once."""
    form = Form()
    try:
        async with services.database.transaction() as tx:
            kept = await stored.kept(tx, file_id, by=seller.operator_id, lock=True)
            if kept is None:
                raise PageProblem(seller, Problem("accounts-file-gone"))
            if kept.content is not None:
                done = await account_files.carry_out(
                    tx,
                    services,
                    await account_sheets.read(kept.content),
                    seller.scope,
                    file_id=file_id,
                    name=kept.name,
                    operator_id=seller.operator_id,
                )
                await stored.imported(
                    tx,
                    file_id,
                    at=services.clock.now(),
                    opened=done.opened,
                    changed=done.changed,
                    same=done.same,
                )
    except Problem as problem:
        form.wrong("form", said(problem, seller.language))
        return await _show(services, seller, file_id, form, status=422)
    return desk.go(f"/account-files/{file_id}")
