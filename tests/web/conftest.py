"""A shop that several tests share, where none of them changes anything."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.conftest import TEMPLATE, fresh_database
from tests.web.shop import Shop, open_shop


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop_of_wrongs(
    server: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Shop]:
    """Everything that is asked of it is refused, or only looked at."""
    folder: Path = tmp_path_factory.mktemp("shop")
    with fresh_database(server, TEMPLATE) as dsn:
        async with open_shop(dsn, folder) as shop:
            yield shop
