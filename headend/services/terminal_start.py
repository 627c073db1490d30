"""Puts the service behind terminals together, from the parts of a head-end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from headend.domain.clock import Clock
from headend.services.card_returns import CardReturns
from headend.services.cards import CardDesk
from headend.services.island_merge import IslandMerge
from headend.services.lines import LineBook
from headend.services.nights import NightService
from headend.services.orders import Orders
from headend.services.terminal_backs import TerminalBacks
from headend.services.terminal_caps import CapOffice
from headend.services.terminal_cards import TerminalCards
from headend.services.terminals import Terminals
from headend.store.database import Database
from protocols.key_call import KeyCall, KeyResult
from protocols.security_unit import UnitRegister


def terminals_of(
    database: Database,
    book: LineBook,
    orders: Orders,
    *,
    nights: NightService,
    clock: Clock,
    units: UnitRegister,
    ask: Callable[[KeyCall], Awaitable[KeyResult]] | None,
    scope: str,
    area: bytes,
) -> Terminals:
    """`ask`: the way to the key service; without one no card is proved and no cap issued."""
    desk = CardDesk(clock, orders, units)
    cards_there = TerminalCards(
        database, clock, desk, units, ask, say=book.dial_ins.say, scope=scope, area=area
    )
    made = Terminals(
        database,
        book,
        orders,
        returns=CardReturns(clock, desk),
        merge=IslandMerge(database, book, desk, nights, clock),
        caps=CapOffice(database, clock, ask, scope=scope, area=area),
        cards_there=cards_there,
        backs=TerminalBacks(database, units, ask, cards_there, scope=scope),
        clock=clock,
    )
    book.dial_ins.on_said = made.take
    return made
