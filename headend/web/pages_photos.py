"""Photographs that prove a case: kept with their digest, shown as pictures and nothing else."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from fastapi import APIRouter, Request, Response
from starlette.datastructures import UploadFile

from headend.domain import photos
from headend.domain.problems import Problem
from headend.store import account_cases
from headend.web import desk
from headend.web.common import Asked
from headend.web.desk import PageProblem, Viewer
from headend.web.pages_cases import MAY, case_shown, found_case
from headend.web.texts import N_
from headend.web.told import said

router = APIRouter(include_in_schema=False)

# What domain/photos.py says no with.
_REFUSED: Final = (
    N_("it is empty"),
    N_("it has more than 5 MB"),
    N_("it is no JPEG, PNG or WebP picture"),
)


@router.post("/cases/{case_id}/photos")
async def add_photo(request: Request, services: Asked, viewer: Viewer, case_id: UUID) -> Response:
    """A photograph that proves it. Its content decides what it is; it is kept with its digest."""
    data = await request.form()
    form = desk.form_of(data)
    case, _ = await found_case(services, viewer, case_id)
    desk.must(viewer, MAY[case.kind])
    upload = data.get("photo")
    content = b""
    if isinstance(upload, UploadFile):
        content = await upload.read(photos.PHOTO_BYTES_MAX + 1)
    await data.close()
    title = form.get("title")[:80]
    if why := photos.refused(content):
        told_why = desk.gettext(viewer)(why)
        form.wrong("photo", said(Problem("photo-refused", detail=told_why), viewer.language))
        return await case_shown(services, viewer, case_id, form, status=422)
    media_type = photos.media_type_of(content)
    assert media_type is not None, "or it had been refused"
    async with services.database.transaction() as tx:
        await account_cases.add_photo(
            tx,
            case_id,
            content,
            media_type=media_type,
            title=title,
            by=viewer.operator_id,
            at=services.clock.now(),
        )
    return desk.go(f"/cases/{case_id}")


@router.get("/cases/{case_id}/photos/{number}")
async def photo(services: Asked, viewer: Viewer, case_id: UUID, number: int) -> Response:
    """The bytes as they came, as a picture and nothing else: no script of it could run."""
    await found_case(services, viewer, case_id)
    async with services.database.transaction() as tx:
        found = await account_cases.photo(tx, case_id, number)
    if found is None:
        raise PageProblem(viewer, Problem("no-such-photo", detail=number))
    media_type, content = found
    extension = media_type.removeprefix("image/")
    return Response(
        content,
        media_type=media_type,
        headers={
            **desk.HEADERS,
            "content-security-policy": "default-src 'none'; sandbox",
            "content-disposition": f'inline; filename="photo-{number}.{extension}"',
        },
    )
