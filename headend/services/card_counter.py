"""The work of a card desk, step by step: read, make, sell and write, replace, take back, clear."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid5

from headend.domain.books import NotBooked
from headend.domain.card_issues import CardIssue
from headend.domain.cards import CardNo
from headend.domain.clock import Clock
from headend.domain.commands import Rejected
from headend.domain.problems import Problem
from headend.services import books
from headend.services.books import Wish
from headend.services.card_bearers import BearerWish, CardBearers
from headend.services.card_returns import CardReturns
from headend.services.card_sessions import AskKeys, CardSessions, Reader
from headend.services.card_work import CardWorks
from headend.services.cards import CardDesk, CardSale, Looked
from headend.store import cards, sales
from headend.store.database import Database, Transaction
from protocols.card_apdu import BlankCard, Issuer
from protocols.card_desk import CardSeen
from protocols.card_image import BEARER_KINDS, CardKind
from protocols.key_call import KeyCall, Operation, Purpose
from protocols.security_unit import SecurityUnit, UnitRegister

Work = Callable[[Reader], Awaitable[dict[str, Any]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class AtDesk:
    """Who works, and for which meter."""

    operator_id: int
    approver_id: int | None
    meter_id: int
    meter: str
    meter_type: str


class CardCounter:
    """Puts units, keys and books together. One for each head-end."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        desk: CardDesk,
        units: UnitRegister,
        keys: AskKeys,
        *,
        scope: str,
        area: bytes,
        clones_are_taken_back: bool = False,
    ) -> None:
        """`clones_are_taken_back`: see CardReturns."""
        self.sessions = CardSessions(keys)
        self.works = CardWorks(self.sessions, clock)
        self.desk = desk
        self.returns = CardReturns(clock, desk, clones_are_taken_back=clones_are_taken_back)
        self.bearers = CardBearers(clock, desk)
        self._database = database
        self._clock = clock
        self._units = units
        self._keys = keys
        self._scope = scope
        self._area = area

    def takes_back(self, meter_type: str) -> bool:
        """Whether an unused card of such a meter is taken back at the desk."""
        unit = self._units.for_type(meter_type)
        return unit is not None and self.returns.takes_back(unit)

    def read(self, at: AtDesk) -> Work:
        """What lies there, and what follows from it."""

        async def work(reader: Reader) -> dict[str, Any]:
            seen, looked = await self._look(reader, self._unit(at))
            return _shown(seen, looked)

        return work

    def make(self, at: AtDesk) -> Work:
        """A blank card becomes ours, and comes into the books."""

        async def work(reader: Reader) -> dict[str, Any]:
            serial = await self._made(reader, self._unit(at), at)
            return {"serial": serial.hex()}

        return work

    def sell(self, at: AtDesk, wish: CardSale, *, from_balance: bool, new_card: bool) -> Work:
        """Take the money, number the card, write it, read it back."""

        async def work(reader: Reader) -> dict[str, Any]:
            unit = self._unit(at)
            serial = await self._usable(reader, unit, at, new_card=new_card)
            version = await self._version(wish.kind)
            chosen = replace(wish, serial=serial, key_version=version)
            async with self._database.transaction() as tx:
                # First the meter, then its accounts, as everybody who orders.
                await sales.lock_meter(tx, wish.meter_id)
                known = await cards.find(tx, wish.issue_id)
                if known is None and not from_balance:
                    await self._pay(tx, chosen)
                issue = _told(await self.desk.sell(tx, chosen), at)
            return await self._written(reader, unit, issue)

        return work

    def finished(self, at: AtDesk) -> Work:
        """A card that was pulled while it was written: the same is written again."""

        async def work(reader: Reader) -> dict[str, Any]:
            unit = self._unit(at)
            _, looked = await self._look(reader, unit)
            if looked.issue is None:
                raise Problem("card-not-given", detail="nothing was begun for this card")
            return await self._written(reader, unit, looked.issue)

        return work

    def replaced(self, at: AtDesk, wish: CardSale) -> Work:
        """A new card for a lost one; the new one lies on the reader, blank or ours."""

        async def work(reader: Reader) -> dict[str, Any]:
            unit = self._unit(at)
            serial = await self._made(reader, unit, at, or_ours=True)
            version = await self._version(CardKind.REPLACEMENT)
            async with self._database.transaction() as tx:
                chosen = replace(wish, serial=serial, key_version=version)
                issue = _told(await self.returns.replace(tx, chosen), at)
            return await self._written(reader, unit, issue)

        return work

    def taken_back(self, at: AtDesk, reason: str) -> Work:
        """The only copy of a sale, unused on the reader: wiped, and its money free again."""

        async def work(reader: Reader) -> dict[str, Any]:
            unit = self._unit(at)
            seen = await reader.converse(unit.read())
            async with self._database.transaction() as tx:
                issue = _told(await self.returns.begin_taking_back(tx, seen), at)
            empty = await reader.converse(unit.clear())
            async with self._database.transaction() as tx:
                done = await self.returns.taken_back(
                    tx,
                    issue.issue_id,
                    empty,
                    operator_id=at.operator_id,
                    reason=reason,
                    approver_id=at.approver_id,
                )
            return issue_record(_told(done, at))

        return work

    def cleared(self, at: AtDesk) -> Work:
        """A card whose sale has ended is emptied; never one that is still worth something."""

        async def work(reader: Reader) -> dict[str, Any]:
            unit = self._unit(at)
            _, looked = await self._look(reader, unit)
            if looked.issue is not None:
                raise Problem(
                    "card-not-given",
                    detail=f"card number {looked.issue.issue_number} on it is "
                    f"{looked.issue.state.value}: take it back or let the meter read it",
                )
            seen = await reader.converse(unit.clear())
            return _shown(seen, looked)

        return work

    def bearer(self, at: AtDesk, wish: BearerWish) -> Work:
        """A numbered card for a meter, or for the whole area."""

        async def work(reader: Reader) -> dict[str, Any]:
            unit = self._unit(at)
            serial = await self._made(reader, unit, at, or_ours=True)
            version = await self._version(wish.kind)
            async with self._database.transaction() as tx:
                chosen = replace(wish, serial=serial, key_version=version)
                issue = _told(await self.bearers.issue(tx, chosen), at)
            return await self._written(reader, unit, issue)

        return work

    # ---- steps ------------------------------------------------------------------------------

    def _unit(self, at: AtDesk) -> SecurityUnit:
        unit = self._units.for_type(at.meter_type)
        if unit is None:
            raise Problem("meter-cannot", meter=at.meter, detail="no security unit makes its cards")
        return unit.for_issuer(Issuer(self._scope, self._area, secrets.token_bytes(8)))

    async def _look(self, reader: Reader, unit: SecurityUnit) -> tuple[CardSeen, Looked]:
        seen = await reader.converse(unit.read())
        async with self._database.transaction() as tx:
            return seen, await self.desk.look(tx, seen)

    async def _usable(
        self, reader: Reader, unit: SecurityUnit, at: AtDesk, *, new_card: bool
    ) -> bytes:
        try:
            seen, looked = await self._look(reader, unit)
        except BlankCard:
            if not new_card:
                raise
            return await self._made(reader, unit, at)
        if looked.no is not None:
            raise Problem(looked.no.why.value, detail=looked.no.detail)
        if looked.meter_id not in (None, at.meter_id):
            raise Problem("card-wrong-meter", detail="it was given for another meter")
        return seen.serial

    async def _made(
        self, reader: Reader, unit: SecurityUnit, at: AtDesk, *, or_ours: bool = False
    ) -> bytes:
        """A CPU card comes with its keys: reading it is all there is to make."""
        if or_ours or unit.manifest.medium == "cpu_card":
            try:
                serial = (await reader.converse(unit.read())).serial
            except BlankCard:
                serial = await reader.converse(unit.personalise(secrets.token_bytes(8)))
        else:
            serial = await reader.converse(unit.personalise(secrets.token_bytes(8)))
        async with self._database.transaction() as tx:
            await cards.add_card(
                tx,
                serial,
                unit.manifest.name,
                made_by=at.operator_id,
                at=self._clock.now(),
            )
        return serial

    async def _version(self, kind: CardKind) -> int:
        purpose = Purpose.PARAMETERS if kind in BEARER_KINDS else Purpose.RECHARGE
        call = KeyCall(operation=Operation.KCV, purpose=purpose, scope=self._scope)
        return (await self._keys(call)).version

    async def _pay(self, tx: Transaction, wish: CardSale) -> None:
        paid = await books.payment(
            tx,
            Wish(
                transfer_id=uuid5(wish.issue_id, "payment"),
                amount_fen=wish.amount_fen,
                operator_id=wish.operator_id,
                reason=wish.reason,
            ),
            self._clock,
            meter_id=wish.meter_id,
        )
        if isinstance(paid, NotBooked):
            raise Problem(paid.why.value, meter="", detail=paid.detail)

    async def _written(
        self, reader: Reader, unit: SecurityUnit, issue: CardIssue
    ) -> dict[str, Any]:
        async with self._database.transaction() as tx:
            record = await self.desk.record_of(tx, issue)
        seen = await reader.converse(unit.write(record))
        async with self._database.transaction() as tx:
            done = await self.desk.written(tx, issue.issue_id, seen)
        if isinstance(done, CardNo):
            raise Problem(done.why.value, detail=done.detail)
        return issue_record(done)


def _told(outcome: CardIssue | Rejected | CardNo, at: AtDesk) -> CardIssue:
    if isinstance(outcome, CardIssue):
        return outcome
    if isinstance(outcome, CardNo):
        raise Problem(outcome.why.value, detail=outcome.detail)
    raise Problem(outcome.why.value, meter=at.meter, detail=outcome.detail)


def issue_record(issue: CardIssue) -> dict[str, Any]:
    """An issued card for the API."""
    return {
        "issue_id": str(issue.issue_id),
        "number": issue.issue_number,
        "serial": issue.serial.hex(),
        "kind": issue.kind.name.lower(),
        "state": issue.state.value,
        "meter_id": issue.meter_id,
        "amount_fen": issue.amount_fen,
        "purchase_count": issue.purchase_count,
        "valid_until": None if issue.valid_until is None else issue.valid_until.isoformat(),
        "begun_at": issue.begun_at.isoformat(),
        "reason": issue.reason,
        "note": issue.note,
    }


def _shown(seen: CardSeen, looked: Looked) -> dict[str, Any]:
    back, note = seen.back, seen.note
    return {
        "serial": seen.serial.hex(),
        "meter_id": looked.meter_id,
        "kind": None if seen.record is None else seen.record.kind.name.lower(),
        "amount_fen": None if seen.record is None else seen.record.amount_fen,
        "purchase_count": None if seen.record is None else seen.record.purchase_count,
        "seal": None if seen.seal is None else seen.seal.value,
        "taken": seen.is_taken,
        "old": looked.is_old,
        "refused": None if looked.no is None else looked.no.why.value,
        "refused_detail": "" if looked.no is None else looked.no.detail,
        "issue": None if looked.issue is None else issue_record(looked.issue),
        "landed_fen": None if looked.landed is None else looked.landed.amount_fen,
        "landed_sale_id": None if looked.landed is None else str(looked.landed.sale_id),
        "meter": None
        if back is None
        else {
            "remaining_credit_fen": back.remaining_credit_fen,
            "total_purchased_fen": back.total_purchased_fen,
            "purchase_count": back.purchase_count,
            "reason": back.reason.name.lower(),
        },
        "terminal": None
        if note is None or seen.witness is not note
        else {
            "amount_fen": note.amount_fen,
            "total_purchased_fen": note.total_purchased_fen,
            "purchase_count": note.purchase_count,
        },
    }
