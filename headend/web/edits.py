"""Edits over HTTP: cursors for lists, and versions so that nobody overwrites what they never saw.

A list is cut at `limit`; `Link: <…>; rel="next"` leads on, and is absent at the end: `after` in it
is the list's own word for where it stopped, to be sent back as it is. A thing that can be edited
has an ETag; an edit with `If-Match` is made only if the thing is still that one, and is answered
with 412 if it is not. Without the header the newest one is edited, except where nobody may write
over what they never saw: there its lack is answered with 428.
"""

from __future__ import annotations

import bisect
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar
from urllib.parse import urlencode
from uuid import UUID

from fastapi import Depends, Header, Query, Request, Response

from headend.domain.problems import Problem

T = TypeVar("T")

# What fits a bigint of the database.
NUMBER_MAX = 2**63 - 1
PAGE_MAX = 500

After = Annotated[
    int, Query(ge=0, le=NUMBER_MAX, description="the number of the last row of the page before")
]
#: The same for lists that are not in the order of a number: its word for where it stopped.
AfterText = Annotated[
    str, Query(max_length=200, description='as the page before gave it in its Link: rel="next"')
]
Limit = Annotated[int, Query(ge=1, le=PAGE_MAX)]
_ETAG = re.compile(r'(?:W/)?"(\d{1,18})"')


def cut(
    request: Request, response: Response, found: Sequence[T], last: int | str | None, limit: int
) -> list[T]:
    """The first `limit` of `found`, which holds one more where there is a next page.

    `last`: the cursor of the last row that is given out.
    """
    if len(found) > limit and last is not None:
        query = dict(request.query_params) | {"after": str(last), "limit": str(limit)}
        response.headers["link"] = f'<{request.url.path}?{urlencode(query)}>; rel="next"'
    return list(found[:limit])


def paged(
    request: Request,
    response: Response,
    found: Iterable[T],
    *,
    key: Callable[[T], str],
    after: str,
    limit: int,
) -> list[T]:
    """One page of what is in memory as a whole, in the order of `key`, which tells rows apart."""
    rows = sorted(found, key=key)
    begin = bisect.bisect_right(rows, after, key=key) if after else 0
    shown = rows[begin : begin + limit + 1]
    last = key(shown[limit - 1]) if len(shown) > limit else None
    return cut(request, response, shown, last, limit)


class Paging:
    """Where a page of a list in memory begins and how long it is, asked for and answered."""

    def __init__(
        self, request: Request, response: Response, after: AfterText = "", limit: Limit = PAGE_MAX
    ) -> None:
        self._request, self._response = request, response
        self.after, self.limit = after, limit

    def of(self, found: Iterable[T], key: Callable[[T], str]) -> list[T]:
        """This page of it, in the order of `key`, which tells rows apart."""
        return paged(
            self._request, self._response, found, key=key, after=self.after, limit=self.limit
        )


#: For lists that are in memory as a whole.
Page = Annotated[Paging, Depends(Paging)]


def newest_first(at: datetime) -> str:
    """A key in whose order the newest comes first."""
    return f"{_FAR_US - int(at.timestamp() * 1_000_000):018}"


_FAR_US = 10**17  # after the year 5000


def numbered(after: str) -> int:
    """A cursor that is a number; nothing is 0. Raises Problem("bad-request")."""
    if not after:
        return 0
    if not (after.isascii() and after.isdecimal() and int(after[:20]) <= NUMBER_MAX):
        raise Problem("bad-request", detail=BAD_CURSOR)
    return int(after)


BAD_CURSOR = "after is no cursor of this list: begin without it"


def cursor(at: datetime, number: UUID | int | str) -> str:
    """Where a list by instant stopped, when several rows may have the same."""
    return f"{at.astimezone(UTC).isoformat()}~{number}"


def instant_and_id(after: str) -> tuple[datetime, UUID] | None:
    """The inverse of cursor(); None: from the beginning. Raises Problem("bad-request")."""
    if not after:
        return None
    at, _, number = after.partition("~")
    try:
        instant, found = datetime.fromisoformat(at), UUID(number)
    except ValueError as error:
        raise Problem("bad-request", detail=BAD_CURSOR) from error
    if instant.tzinfo is None:
        raise Problem("bad-request", detail=BAD_CURSOR)
    return instant, found


def _version(
    if_match: Annotated[
        str | None, Header(description="an ETag: edit only if it is still that one, else 412")
    ] = None,
) -> int | None:
    if if_match is None or if_match.strip() == "*":
        return None
    understood = _ETAG.fullmatch(if_match.strip())
    if understood is None:
        raise Problem("bad-request", detail='If-Match is an ETag of ours, such as "3"')
    return int(understood[1])


#: The version an edit is about; None: the newest.
IfMatch = Annotated[int | None, Depends(_version)]


def tag(response: Response, version: int) -> None:
    """Say which version this is."""
    response.headers["etag"] = f'"{version}"'


def same(asked: int | None, version: int) -> int:
    """The version to edit. Raises Problem("changed-meanwhile") when it is not the one asked for."""
    if asked is not None and asked != version:
        raise Problem("changed-meanwhile")
    return version


VERSION_NEEDED = "the ETag of what is edited, as it was read; without it 428"


def _seen(if_match: Annotated[str | None, Header(description=VERSION_NEEDED)] = None) -> int:
    asked = _version(if_match)
    if asked is None:
        raise Problem("version-needed")
    return asked


#: The version an edit is about, where nobody may edit without having looked.
SeenVersion = Annotated[int, Depends(_seen)]


def fingerprint(record: Any) -> int:
    """The version of a thing that counts none: a number made of all that an edit may change."""
    text = json.dumps(record, ensure_ascii=False, sort_keys=True, default=str)
    # 59 bits: what an ETag of ours has room for. Who forges one only edits without looking.
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 5
