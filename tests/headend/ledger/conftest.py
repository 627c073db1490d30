from __future__ import annotations

import pytest_asyncio

from headend.store.database import Database
from tests.headend.ledger.shop import Shop, open_shop


@pytest_asyncio.fixture
async def shop(database: Database) -> Shop:
    return await open_shop(database)
