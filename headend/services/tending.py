"""Looking after alarms and work orders: one rule for the desk, the API and the command line."""

from __future__ import annotations

from dataclasses import dataclass

from headend.domain.alarms import AlarmState
from headend.domain.clock import Clock
from headend.domain.problems import Problem
from headend.domain.roles import Operator, Permission, Scope
from headend.store import alarms, people, work_orders
from headend.store.alarms import Alarm
from headend.store.database import Transaction
from headend.store.work_orders import WorkOrder


@dataclass(frozen=True, slots=True)
class Tending:
    """Somebody who looks after alarms. Every way in raises Problem with nothing changed."""

    operator: Operator
    clock: Clock

    async def alarm(self, tx: Transaction, alarm_id: int) -> Alarm:
        """One alarm of their scope."""
        found = await alarms.find(tx, alarm_id, self.operator.scope)
        if found is None:
            raise Problem("no-such-alarm", alarm=alarm_id)
        return found

    async def work_order(self, tx: Transaction, work_order_id: int) -> WorkOrder:
        """One work order of their scope."""
        found = await work_orders.find(tx, work_order_id, self.operator.scope)
        if found is None:
            raise Problem("no-such-work-order", work_order=work_order_id)
        return found

    async def acknowledge(
        self, tx: Transaction, alarm_id: int, note: str, version: int | None
    ) -> Alarm:
        """It was seen. Once more changes nothing."""
        found = await self._open_alarm(tx, alarm_id, version)
        if found.state is AlarmState.RAISED:
            _done(
                await alarms.acknowledge(
                    tx,
                    alarm_id,
                    self.operator.operator_id,
                    note,
                    self.clock.now(),
                    version=found.version,
                )
            )
        return await self.alarm(tx, alarm_id)

    async def assign_alarm(
        self, tx: Transaction, alarm_id: int, to: str, note: str, version: int | None
    ) -> Alarm:
        """Give it to somebody; "" is nobody."""
        found = await self._open_alarm(tx, alarm_id, version)
        owner = await self._owner(tx, to, found.site_id, found.building_id)
        _done(await alarms.assign(tx, alarm_id, owner, note, version=found.version))
        return await self.alarm(tx, alarm_id)

    async def close_alarm(
        self, tx: Transaction, alarm_id: int, reason: str, version: int | None
    ) -> Alarm:
        """End it for a reason. Its cause, if it stands, raises it anew after a day."""
        found = await self._open_alarm(tx, alarm_id, version)
        _done(
            await alarms.close(
                tx,
                alarm_id,
                self.operator.operator_id,
                reason,
                self.clock.now(),
                version=found.version,
            )
        )
        return await self.alarm(tx, alarm_id)

    async def open_from_alarm(
        self, tx: Transaction, alarm_id: int, title: str, to: str
    ) -> WorkOrder:
        """A work order about what an alarm is about."""
        found = await self._open_alarm(tx, alarm_id, None)
        if found.site_id is None:
            raise Problem("cannot-be-assigned", operator=to or "–")
        return await self.open_order(
            tx,
            site_id=found.site_id,
            title=title,
            to=to,
            meter_id=found.meter_id,
            gateway_id=found.gateway_id,
            alarm_id=alarm_id,
            building_id=found.building_id,
        )

    async def open_order(
        self,
        tx: Transaction,
        *,
        site_id: int,
        title: str,
        to: str,
        meter_id: int | None = None,
        gateway_id: int | None = None,
        alarm_id: int | None = None,
        building_id: int | None = None,
    ) -> WorkOrder:
        """A work order by hand, or for an alarm. `building_id`: where its meter is."""
        number = await work_orders.open_order(
            tx,
            site_id=site_id,
            title=title,
            by=self.operator.operator_id,
            at=self.clock.now(),
            meter_id=meter_id,
            gateway_id=gateway_id,
            alarm_id=alarm_id,
            assigned_to=await self._owner(tx, to, site_id, building_id),
        )
        if number is None:
            raise Problem("has-work-order", alarm=alarm_id)
        return await self.work_order(tx, number)

    async def assign_order(
        self, tx: Transaction, work_order_id: int, to: str, version: int | None
    ) -> WorkOrder:
        """Give it to somebody; "" is nobody."""
        found = await self._open_order(tx, work_order_id, version)
        owner = await self._owner(tx, to, found.site_id, found.building_id)
        by, at = self.operator.operator_id, self.clock.now()
        _done(
            await work_orders.assign(
                tx, work_order_id, owner, to, by=by, at=at, version=found.version
            )
        )
        return await self.work_order(tx, work_order_id)

    async def comment(self, tx: Transaction, work_order_id: int, text: str) -> WorkOrder:
        """Say something about it."""
        found = await self.work_order(tx, work_order_id)
        by, at = self.operator.operator_id, self.clock.now()
        await work_orders.comment(tx, work_order_id, text, by=by, at=at)
        return found

    async def close_order(
        self, tx: Transaction, work_order_id: int, reason: str, version: int | None
    ) -> WorkOrder:
        """What was done, or why nothing is."""
        found = await self._open_order(tx, work_order_id, version)
        by, at = self.operator.operator_id, self.clock.now()
        _done(
            await work_orders.close(tx, work_order_id, reason, by=by, at=at, version=found.version)
        )
        return await self.work_order(tx, work_order_id)

    async def _open_alarm(self, tx: Transaction, alarm_id: int, version: int | None) -> Alarm:
        found = await self.alarm(tx, alarm_id)
        _same(version, found.version)
        if found.closed_at is not None:
            raise Problem("ended-already")
        return found

    async def _open_order(self, tx: Transaction, number: int, version: int | None) -> WorkOrder:
        found = await self.work_order(tx, number)
        _same(version, found.version)
        if found.closed_at is not None:
            raise Problem("ended-already")
        return found

    async def _owner(
        self, tx: Transaction, name: str, site_id: int | None, building_id: int | None
    ) -> int | None:
        if not name:
            return None
        owner = await people.find_operator(tx, name)
        if owner is None or not may_own(owner, site_id, building_id):
            raise Problem("cannot-be-assigned", operator=name)
        return owner.operator_id


def may_own(operator: Operator, site_id: int | None, building_id: int | None) -> bool:
    """Whether somebody can be given an alarm or a work order of this place (None: of none)."""
    if operator.disabled_at is not None or Permission.TEND not in operator.permissions:
        return False
    if site_id is None:
        return operator.sites is None
    return operator.scope.holds(site_id, building_id)


def may_own_some(operator: Operator, scope: Scope) -> bool:
    """Whether somebody may look after alarms in this scope: a list to choose from, no more."""
    if operator.disabled_at is not None or Permission.TEND not in operator.permissions:
        return False
    if operator.sites is None or scope.sites is None or scope.buildings:
        return True
    return bool(operator.buildings) or not operator.sites.isdisjoint(scope.sites)


def _same(asked: int | None, version: int) -> None:
    if asked is not None and asked != version:
        raise Problem("changed-meanwhile")


def _done(changed: bool) -> None:
    """Between the look and the change of one transaction somebody else was quicker."""
    if not changed:
        raise Problem("changed-meanwhile")
