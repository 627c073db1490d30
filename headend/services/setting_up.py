"""A property set up step by step: each step is a piece of its site file, checked with the whole.

What a step adds is parsed together with everything that is stored, so that a step knows no rule of
its own: an address used twice, a gateway that dials nobody, a room in no building are said as they
are for a file.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from headend.domain.places import Site
from headend.domain.problems import Problem
from headend.domain.site_file import parse_site_file
from headend.domain.site_writer import site_file_text
from headend.services.lines import LineBook
from headend.store.database import Database, Transaction
from headend.store.places import Clash, KnownSite, import_site, lock_places, site_id
from headend.store.places_whole import load_whole_site
from protocols.meter_type import MeterType

__all__ = ["add_to_property", "found_property", "property_file", "until_known", "until_open"]

# A line that was just added is opened by the head-end as soon as it hears of it.
OPEN_S_MAX = 6.0
_LOOK_S = 0.05


async def found_property(
    database: Database, tables: str, meter_types: Mapping[str, MeterType]
) -> str:
    """A new property from the text of its first tables; its name.

    Raises SiteFileError, Problem("site-exists") and Problem("import-clash").
    """
    site = parse_site_file(tables, "the property", meter_types)
    async with database.transaction() as tx:
        await lock_places(tx)
        if await site_id(tx, site.name) is not None:
            raise Problem("site-exists", site=site.name)
        await _import(tx, site)
    return site.name


async def add_to_property(
    database: Database, known: KnownSite, tables: str, meter_types: Mapping[str, MeterType]
) -> None:
    """More tables to what is stored, all or nothing; a running head-end follows.

    Raises SiteFileError (its line counts in the whole text) and Problem("import-clash").
    """
    async with database.transaction() as tx:
        await lock_places(tx)
        whole = site_file_text(await load_whole_site(tx, known))
        await _import(tx, parse_site_file(f"{whole}\n{tables}", "the property", meter_types))


async def property_file(tx: Transaction, known: KnownSite) -> str:
    """What is stored, as the text of its site file."""
    return site_file_text(await load_whole_site(tx, known))


async def _import(tx: Transaction, site: Site) -> None:
    outcome = await import_site(tx, site)
    if isinstance(outcome, Clash):
        raise Problem("import-clash", detail=str(outcome))


async def until_known(book: LineBook, site: str, wait_s: float = OPEN_S_MAX) -> bool:
    """Wait a moment until the head-end follows a new property; False: it does not yet."""
    for _ in range(int(wait_s / _LOOK_S)):
        if site in book.sites:
            return True
        await asyncio.sleep(_LOOK_S)
    return False


async def until_open(book: LineBook, line: str, wait_s: float = OPEN_S_MAX) -> bool:
    """Wait a moment for a line that was just added; False: it is not up yet."""
    for _ in range(int(wait_s / _LOOK_S)):
        if line in book.lines:
            return await book.lines[line].wait_up(wait_s)
        await asyncio.sleep(_LOOK_S)
    return False
