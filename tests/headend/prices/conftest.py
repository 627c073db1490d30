from __future__ import annotations

import pytest_asyncio

from headend.store.database import Database
from tests.headend.prices.estate import Estate, open_estate


@pytest_asyncio.fixture
async def estate(database: Database) -> Estate:
    return await open_estate(database)
