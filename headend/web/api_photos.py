"""Photographs that prove a case, for programs: the bytes in, the same bytes out."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from fastapi import Path as InPath

from headend.domain import photos
from headend.domain.problems import Problem
from headend.store import account_cases
from headend.store.account_cases import Photo
from headend.web.api_cases import Worker, case_for
from headend.web.auth import Viewer
from headend.web.common import Asked
from headend.web.edits import NUMBER_MAX

router = APIRouter(prefix="/api/v1", tags=["accounts"])

TITLE_MAX: Final = 80
_BYTES: Final = {"schema": {"type": "string", "format": "binary"}}
_PICTURE: Final = {
    "requestBody": {"required": True, "content": {"application/octet-stream": _BYTES}}
}


def photo_record(photo: Photo) -> dict[str, Any]:
    """A photograph without its bytes. `sha256`: by which the case knows them."""
    return {
        "number": photo.photo_id,
        "title": photo.title,
        "media_type": photo.media_type,
        "size_bytes": photo.size_bytes,
        "sha256": photo.sha256,
        "added_at": photo.added_at.isoformat(),
        "added_by": photo.added_by,
    }


@router.post(
    "/cases/{case_id}/photos", summary="A photograph that proves a case", openapi_extra=_PICTURE
)
async def add(
    request: Request,
    services: Asked,
    worker: Worker,
    case_id: UUID,
    title: Annotated[str, Query(max_length=TITLE_MAX, description="what is seen on it")] = "",
) -> dict[str, Any]:
    """A JPEG, PNG or WebP of at most 5 MB, as the body; its content decides what it is. The same
    bytes again are the same photograph."""
    await case_for(services, worker, case_id, to_work=True)
    content = await _body(request)
    media_type = photos.media_type_of(content)
    if (why := photos.refused(content)) or media_type is None:
        raise Problem("photo-refused", detail=why)
    async with services.database.transaction() as tx:
        await account_cases.add_photo(
            tx,
            case_id,
            content,
            media_type=media_type,
            title="".join(sign for sign in title if sign.isprintable()),
            by=worker.operator.operator_id,
            at=services.clock.now(),
        )
        kept = await account_cases.photos(tx, case_id)
    digest = hashlib.sha256(content).hexdigest()
    return photo_record(next(one for one in kept if one.sha256 == digest))


async def _body(request: Request) -> bytes:
    """As many bytes as a photograph may have, and one more to know that there are more."""
    content = bytearray()
    async for piece in request.stream():
        content += piece
        if len(content) > photos.PHOTO_BYTES_MAX:
            break
    return bytes(content)


@router.get(
    "/cases/{case_id}/photos/{number}",
    summary="The bytes of a photograph, as they came",
    response_class=Response,
    responses={200: {"content": dict.fromkeys(("image/jpeg", "image/png", "image/webp"), _BYTES)}},
)
async def content(
    services: Asked,
    viewer: Viewer,
    case_id: UUID,
    number: Annotated[int, InPath(ge=0, le=NUMBER_MAX)],
) -> Response:
    """`number` as the case lists it."""
    await case_for(services, viewer, case_id)
    async with services.database.transaction() as tx:
        found = await account_cases.photo(tx, case_id, number)
    if found is None:
        raise Problem("no-such-photo", detail=number)
    media_type, picture = found
    headers = {"x-content-type-options": "nosniff", "cache-control": "no-store"}
    return Response(picture, media_type=media_type, headers=headers)
