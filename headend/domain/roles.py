"""Who may do what: roles and permissions. The whole truth is the table below.

A token carries permissions of its own, at most those of its operator's role. Where two persons are
needed, they are two persons in flesh (Operator.person), not two accounts.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


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
        }
    ),
    Role.CASHIER: frozenset({P.SEE, P.READ_METER, P.SELL, P.TAKE_BACK}),
    Role.TECHNICIAN: frozenset({P.SEE, P.READ_METER, P.CONFIGURE, P.LOCK_OUT}),
    Role.AUDITOR: frozenset({P.SEE, P.AUDIT}),
    # Never the second person: approval is a human's.
    Role.INTEGRATOR: frozenset({P.SEE, P.READ_METER, P.SELL, P.TAKE_BACK, P.SWITCH}),
}
assert set(ROLES) == set(Role)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """Somebody who may ask for things."""

    operator_id: int
    name: str
    person: str  # who it is in flesh
    role: Role
    #: sites it may touch; None: all
    sites: frozenset[int] | None
    disabled_at: datetime | None

    @property
    def permissions(self) -> frozenset[Permission]:
        """What the role may do."""
        return ROLES[self.role]


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
        """Whether the operator's scope holds this site."""
        return self.operator.sites is None or site_id in self.operator.sites
