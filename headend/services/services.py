"""What the web and the CLI may ask for, in one place: no container, just the parts by name."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from headend.domain.clock import Clock
from headend.services.decisions import Decisions
from headend.services.lines import LineBook
from headend.services.nights import NightService
from headend.services.orders import Orders
from headend.services.sink import Sink
from headend.store.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The running parts of one head-end."""

    database: Database
    lines: LineBook
    nights: NightService
    sink: Sink
    orders: Orders
    decisions: Decisions
    clock: Clock
    started_at: datetime
    version: str
