"""Who may do what: roles and permissions. The whole truth is the table below.

A token carries permissions of its own, at most those of its operator's role. Where two persons are
needed, they are two persons in flesh (Operator.person), not two accounts.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeAlias


class Permission(enum.Enum):
    """One kind of thing a call may do; the value is what a token lists."""

    SEE = "see"  # places, readings, nights, commands, books
    READ_METER = "read-meter"  # ask a meter now, scan a line
    SELL = "sell"  # take money, top up
    TAKE_BACK = "take-back"  # cancel, reverse, burn, refund
    SWITCH = "switch"  # cut, restore, stop; plan bulk jobs
    APPROVE = "approve"  # be the second person
    DECIDE = "decide"  # end an escalated command, thaw sales, correct the books
    CONFIGURE = "configure"  # prices, tables, alarm amounts, clocks
    PROTECT = "protect"  # protection, calendars
    LOCK_OUT = "lock-out"  # work on a circuit
    REPORT = "report"  # have reports made by schedule, into a folder or by mail
    SUBSCRIBE = "subscribe"  # webhooks: have events told to other programs
    TEND = "tend"  # alarms and work orders: acknowledge, assign, close
    AUDIT = "audit"  # seals, evidence
    ADMINISTER = "administer"  # operators and tokens


P = Permission


class Role(enum.Enum):
    """What somebody does in a property company."""

    ADMIN = "admin"  # operators and tokens; neither sells nor switches
    MANAGER = "manager"
    CASHIER = "cashier"
    TECHNICIAN = "technician"
    AUDITOR = "auditor"  # sees all, changes nothing
    INTEGRATOR = "integrator"  # a program: what its token lists


ROLES: Mapping[Role, frozenset[Permission]] = {
    Role.ADMIN: frozenset({P.SEE, P.ADMINISTER}),
    Role.MANAGER: frozenset(
        {
            P.SEE,
            P.READ_METER,
            P.SELL,
            P.TAKE_BACK,
            P.SWITCH,
            P.APPROVE,
            P.DECIDE,
            P.CONFIGURE,
            P.PROTECT,
            P.LOCK_OUT,
            P.REPORT,
            P.TEND,
            P.SUBSCRIBE,
        }
    ),
    Role.CASHIER: frozenset({P.SEE, P.READ_METER, P.SELL, P.TAKE_BACK}),
    Role.TECHNICIAN: frozenset({P.SEE, P.READ_METER, P.CONFIGURE, P.LOCK_OUT, P.TEND}),
    Role.AUDITOR: frozenset({P.SEE, P.AUDIT}),
    # Never the second person: approval is a human's.
    Role.INTEGRATOR: frozenset({P.SEE, P.READ_METER, P.SELL, P.TAKE_BACK, P.SWITCH, P.SUBSCRIBE}),
}
assert set(ROLES) == set(Role)


class Located(Protocol):
    """Something with a place in the property tree."""

    @property
    def site_id(self) -> int:
        """Its site."""

    @property
    def building_id(self) -> int | None:
        """Its building; None: it is in none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """The branch of the property tree somebody may touch: whole sites, and single buildings."""

    sites: frozenset[int] | None = None  # as a whole; None: all
    buildings: frozenset[int] = frozenset()  # of other sites

    def holds(self, site_id: int, building_id: int | None) -> bool:
        """Whether a place is in it; what stands in no building belongs to its whole site."""
        return self.sites is None or site_id in self.sites or building_id in self.buildings

    def named(self) -> dict[str, list[int] | None]:
        """As the parameters `sites` and `buildings` of a statement."""
        return {
            "sites": None if self.sites is None else sorted(self.sites),
            "buildings": sorted(self.buildings),
        }


#: what a statement is bounded by: a scope, or whole sites (None: all)
Whose: TypeAlias = Scope | Collection[int] | None


def scope_of(whose: Whose) -> Scope:
    """A scope from what a statement is bounded by."""
    if isinstance(whose, Scope):
        return whose
    return Scope(sites=None if whose is None else frozenset(whose))


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """Somebody who may ask for things."""

    operator_id: int
    name: str
    person: str  # who it is in flesh
    role: Role
    #: sites it may touch as a whole; None: all
    sites: frozenset[int] | None
    disabled_at: datetime | None
    #: single buildings of sites that it may not touch as a whole
    buildings: frozenset[int] = frozenset()

    @property
    def permissions(self) -> frozenset[Permission]:
        """What the role may do."""
        return ROLES[self.role]

    @property
    def scope(self) -> Scope:
        """What it may touch."""
        return Scope(sites=self.sites, buildings=self.buildings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """An operator behind a token: who asks, and what this token lets them."""

    operator: Operator
    token_id: int
    permissions: frozenset[Permission]

    def may(self, permission: Permission) -> bool:
        """Whether this call may do that."""
        return permission in self.permissions

    def may_touch(self, site_id: int) -> bool:
        """Whether the operator's scope holds this site as a whole."""
        return self.operator.sites is None or site_id in self.operator.sites

    def may_touch_meter(self, place: Located) -> bool:
        """Whether the operator's scope holds a meter; one in no room is of the whole site."""
        return self.operator.scope.holds(place.site_id, place.building_id)
