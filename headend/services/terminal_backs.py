"""The end of a tap: what landed is written back on the card that was tapped.

Only what the meter's registers have shown is written, and no money depends on it: a card that was
taken away is *unknown*, and the next tap writes it again. It is our word, under a key of its own,
which is never taken for the meter's.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable
from dataclasses import dataclass

from gateways.card_reader import CardUnsettled
from gateways.key_client import KeyRefused, KeysAway
from headend.domain.purchases import SaleState
from headend.services.looks import MeterAtWork
from headend.services.terminal_cards import AskKeys, TerminalCards
from headend.store import cards, sales
from headend.store.database import Database, Transaction
from protocols.card_apdu import CardError
from protocols.card_desk import CardSeen
from protocols.card_note import LandingNote
from protocols.key_call import KeyCall, Operation, Purpose
from protocols.security_unit import NotingUnit, UnitRegister
from protocols.stream import Said

log = logging.getLogger(__name__)

#: says the closing stage of a tap to its terminal
Tell = Callable[..., None]


class Back(enum.Enum):
    """How a write-back ended; the values are stages of docs/terminal-protocol.md."""

    WRITTEN = "written_back"  # the card tells it, now or since before
    UNKNOWN = "card_unknown"  # taken away while it was written: the old or the new lies there
    NOT_WRITTEN = "not_written"  # nothing was begun on it: taken away, another one, no key


@dataclass(frozen=True, slots=True)
class Bearer:
    """A card at a terminal that may be written on, until its tap is over."""

    gateway: str
    said: Said  # its TAP or BUY
    serial: bytes
    meter: MeterAtWork
    key_version: int  # of the key that seals
    seen: CardSeen | None  # as it proved itself; None: an earlier tap's, said again


class TerminalBacks:
    """Writes back, at every terminal."""

    def __init__(
        self,
        database: Database,
        units: UnitRegister,
        ask: AskKeys | None,
        cards_there: TerminalCards,
        *,
        scope: str,
    ) -> None:
        """`ask`: the way to the key service. Without one nothing is sealed."""
        self._database = database
        self._units = units
        self._ask = ask
        self._cards_there = cards_there
        self._scope = scope

    async def bearer(
        self, gateway: str, said: Said, serial: bytes, meter: MeterAtWork, seen: CardSeen | None
    ) -> Bearer | None:
        """This card, if it can be written back here; None: its unit or its site has no key for it,
        and its tap ends as it did before there was one."""
        unit = self._units.for_type(meter.known.meter_type)
        if self._ask is None or not isinstance(unit, NotingUnit):
            return None
        if Purpose.TERMINAL_WRITE_BACK not in unit.manifest.keys:
            return None
        try:
            told = await self._ask(
                KeyCall(
                    operation=Operation.KCV,
                    purpose=Purpose.TERMINAL_WRITE_BACK,
                    scope=self._scope,
                )
            )
        except (KeysAway, KeyRefused) as error:
            log.info("cards at %s are not written back: %s", gateway, error)
            return None
        return Bearer(gateway, said, serial, meter, told.version, seen)

    async def is_due(self, bearer: Bearer) -> bool:
        """Whether the last purchase of its meter has landed and the card did not tell so."""
        async with self._database.transaction() as tx:
            note = await _note(tx, bearer)
        if note is None:
            return False
        seen = bearer.seen
        return seen is None or not seen.tells(note.meter_number, note.purchase_count)

    async def write(self, bearer: Bearer, tell: Tell) -> None:
        """Write it, and say how that ended. The caller holds the terminal's one reader."""
        try:
            back, note = await self._written(bearer)
        except Exception:
            log.exception("card %s was not written back", bearer.serial.hex())
            tell(stage=Back.UNKNOWN.value)
            return
        fields = {} if note is None else _facts(note)
        tell(stage=back.value, **fields)

    async def _written(self, bearer: Bearer) -> tuple[Back, LandingNote | None]:
        async with self._database.transaction() as tx:
            note = await _note(tx, bearer)
        if note is None:
            return Back.NOT_WRITTEN, None
        try:
            await self._cards_there.noted(bearer.gateway, bearer.said, note, bearer.meter)
        except CardUnsettled:
            return Back.UNKNOWN, note
        except (CardError, KeysAway) as error:
            log.info("card %s at %s: %s", bearer.serial.hex(), bearer.gateway, error)
            return Back.NOT_WRITTEN, note
        return Back.WRITTEN, note


def _facts(note: LandingNote) -> dict[str, int]:
    return {
        "purchase_count": note.purchase_count,
        "amount_fen": note.amount_fen,
        "total_purchased_fen": note.total_purchased_fen,
    }


async def _note(tx: Transaction, bearer: Bearer) -> LandingNote | None:
    """The meter's newest purchase, if it has landed and its registers were seen after it."""
    meter_id, number = bearer.meter.known.meter_id, bearer.meter.known.meter_number
    landed = [
        sale
        for sale in await sales.of_these_registers(tx, meter_id)
        if sale.state is SaleState.LANDED and sale.closed_at is not None
    ]
    card = await cards.card(tx, bearer.serial)
    if not landed or number is None:
        return None
    if card is None or card.meter_id != meter_id or card.ended_at is not None:
        return None  # it was reported lost in this very moment
    sale = max(landed, key=lambda one: one.purchase_count)
    assert sale.closed_at is not None
    shown = await cards.evidence_at(tx, meter_id, sale.purchase_count)
    if shown.total_purchased_fen is None:
        return None
    try:
        return LandingNote(
            key_version=bearer.key_version,
            meter_number=number,
            serial=bearer.serial,
            amount_fen=sale.amount_fen,
            total_purchased_fen=shown.total_purchased_fen,
            purchase_count=sale.purchase_count,
            landed_at_s=int(sale.closed_at.timestamp()),
        )
    except ValueError:
        log.warning("the landing of sale %s fits no card", sale.sale_id)
        return None
