"""A checked site file into the database."""

from __future__ import annotations

from headend.domain.places import Site
from headend.domain.problems import Problem
from headend.store.database import Database
from headend.store.places import Clash, import_site


async def import_into(database: Database, site: Site) -> str:
    """Import all or nothing; a running head-end is notified. The answer counts what changed.

    Raises Problem("import-clash") when something of it already belongs to another site.
    """
    async with database.transaction() as tx:
        outcome = await import_site(tx, site)
        if isinstance(outcome, Clash):
            raise Problem("import-clash", detail=str(outcome))
    return str(outcome)
