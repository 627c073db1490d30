"""Operators and their API tokens.

A token is 256 random bits, shown once. Only its SHA-256 is stored: a slow hash protects what people
can remember, and nobody can guess this. Look-up is by the hash, so no comparison leaks its length.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from headend.domain.roles import ROLES, Caller, Operator, Permission, Role
from headend.store.database import Row, Transaction

TOKEN_BYTES = 32
TOKEN_HEAD = "he_"  # so that a leaked token is recognised by people and scanners
PREFIX_CHARS = 9  # of the token, kept to tell tokens apart: 36 of 256 bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token as people see it afterwards: never its secret."""

    token_id: int
    operator: str
    name: str
    prefix: str
    permissions: frozenset[Permission]
    expires_at: datetime
    revoked_at: datetime | None


async def add_operator(
    tx: Transaction,
    name: str,
    role: Role,
    *,
    at: datetime,
    person: str | None = None,
    sites: Collection[int] | None = None,
    created_by: int | None = None,
) -> Operator | None:
    """A new operator; None when the name is taken. `person`: who it is in flesh, default the name.

    `sites`: what it may touch; None: all.
    """
    operator_id = await tx.value(
        """
        INSERT INTO operator (name, person, role, all_sites, created_at, created_by)
        VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (name) DO NOTHING RETURNING operator_id""",
        name,
        person or name,
        role.value,
        sites is None,
        at,
        created_by,
    )
    if operator_id is None:
        return None
    for site_id in sites or ():
        await tx.execute(
            "INSERT INTO operator_site (operator_id, site_id) VALUES (%s, %s)", operator_id, site_id
        )
    return await find_operator(tx, name)


# A site of which single buildings are named is not touched as a whole: whatever knows sites only
# shows nothing of it.
_OPERATOR = """
    operator.operator_id, operator.name, person, role,
    CASE WHEN all_sites THEN NULL ELSE ARRAY(
        SELECT site_id FROM operator_site WHERE operator_site.operator_id = operator.operator_id
            AND NOT EXISTS (SELECT FROM operator_building JOIN building USING (building_id)
                WHERE operator_building.operator_id = operator.operator_id
                    AND building.site_id = operator_site.site_id))
    END, disabled_at,
    ARRAY(SELECT building_id FROM operator_building
        WHERE operator_building.operator_id = operator.operator_id)"""


async def find_operator(tx: Transaction, name: str) -> Operator | None:
    """The operator of that name, disabled or not."""
    row = await tx.row(f"SELECT {_OPERATOR} FROM operator WHERE name = %s", name)
    return _operator(row) if row else None


async def operator(tx: Transaction, operator_id: int) -> Operator | None:
    """The operator of that number, disabled or not."""
    row = await tx.row(f"SELECT {_OPERATOR} FROM operator WHERE operator_id = %s", operator_id)
    return _operator(row) if row else None


async def is_same_person(tx: Transaction, one: int, other: int) -> bool:
    """Whether two operators are one person, who may have two accounts."""
    persons = await tx.value(
        "SELECT count(DISTINCT person) FROM operator WHERE operator_id IN (%s, %s)", one, other
    )
    return bool(persons < 2)


async def list_operators(tx: Transaction) -> list[Operator]:
    """All of them, by name."""
    return [
        _operator(row) for row in await tx.rows(f"SELECT {_OPERATOR} FROM operator ORDER BY name")
    ]


async def disable_operator(tx: Transaction, operator_id: int, at: datetime) -> bool:
    """From now on none of its tokens works. False when it was disabled already."""
    touched = await tx.execute(
        "UPDATE operator SET disabled_at = %s WHERE operator_id = %s AND disabled_at IS NULL",
        at,
        operator_id,
    )
    return touched == 1


def _operator(row: Row) -> Operator:
    operator_id, name, person, role, sites, disabled_at, buildings = row
    return Operator(
        operator_id=operator_id,
        name=name,
        person=person,
        role=Role(role),
        sites=None if sites is None else frozenset(sites),
        disabled_at=disabled_at,
        buildings=frozenset(buildings),
    )


async def buildings_called(
    tx: Transaction, site_ids: Collection[int], names: Collection[str]
) -> dict[str, int]:
    """The living buildings of these names on these sites; a name that is none is left out."""
    rows = await tx.rows(
        "SELECT name, building_id FROM building"
        " WHERE site_id = ANY(%s) AND name = ANY(%s) AND retired_at IS NULL",
        list(site_ids),
        list(names),
    )
    return dict(rows)


async def scope_names(tx: Transaction, found: Operator) -> list[str] | None:
    """What an operator may touch, by name: sites, and buildings as "site / building"; None: all."""
    if found.sites is None:
        return None
    rows = await tx.rows(
        """
        SELECT name FROM site WHERE site_id = ANY(%(sites)s)
        UNION ALL
        SELECT site.name || ' / ' || building.name FROM building JOIN site USING (site_id)
        WHERE building_id = ANY(%(buildings)s) ORDER BY 1""",
        named=found.scope.named(),
    )
    return [name for (name,) in rows]


async def keep_to_buildings(
    tx: Transaction, operator_id: int, building_ids: Collection[int]
) -> None:
    """Narrow the sites these buildings stand on to them; sites without one stay whole.

    Only for an operator who is kept to sites: that of each building is among them.
    """
    await tx.execute(
        """
        INSERT INTO operator_building (operator_id, building_id)
        SELECT operator_id, building_id FROM building JOIN operator_site USING (site_id)
        WHERE operator_id = %s AND building_id = ANY(%s) ON CONFLICT DO NOTHING""",
        operator_id,
        list(building_ids),
    )


async def add_token(
    tx: Transaction,
    owner: Operator,
    name: str,
    *,
    at: datetime,
    expires_at: datetime,
    permissions: Collection[Permission] | None = None,
    created_by: int | None = None,
) -> str:
    """A new token, given back this once. Its permissions: the role's, or those of them named."""
    allowed = ROLES[owner.role]
    listed = allowed if permissions is None else allowed & frozenset(permissions)
    secret = TOKEN_HEAD + secrets.token_urlsafe(TOKEN_BYTES)
    await tx.execute(
        """
        INSERT INTO api_token
            (operator_id, name, prefix, sha256, permissions, created_at, created_by, expires_at)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s)""",
        owner.operator_id,
        name,
        secret[:PREFIX_CHARS],
        _digest(secret),
        sorted(permission.value for permission in listed),
        at,
        created_by,
        expires_at,
    )
    return secret


async def caller_of(tx: Transaction, secret: str, now: datetime) -> Caller | None:
    """Who sends this token; None when it is unknown, expired or revoked, or they are disabled."""
    row = await tx.row(
        f"""
        SELECT token_id, permissions, {_OPERATOR}
        FROM api_token JOIN operator USING (operator_id)
        WHERE sha256 = %s AND revoked_at IS NULL AND expires_at > %s AND disabled_at IS NULL""",
        _digest(secret),
        now,
    )
    if row is None:
        return None
    owner = _operator(row[2:])
    # A role that lost a permission takes it from every token made before.
    listed = frozenset(Permission(name) for name in row[1] if name in _KNOWN)
    return Caller(operator=owner, token_id=row[0], permissions=listed & owner.permissions)


_KNOWN = frozenset(permission.value for permission in Permission)


_TOKEN = """
    SELECT token_id, operator.name, api_token.name, prefix, permissions, expires_at, revoked_at
    FROM api_token JOIN operator USING (operator_id)"""


async def list_tokens(tx: Transaction) -> list[Token]:
    """Every token, the newest first."""
    return _tokens(await tx.rows(f"{_TOKEN} ORDER BY token_id DESC"))


async def tokens_of(
    tx: Transaction, operator_id: int, *, before: int | None = None, limit: int
) -> list[Token]:
    """The newest tokens of one operator; `before`: with numbers below it."""
    return _tokens(
        await tx.rows(
            f"""
            {_TOKEN} WHERE operator_id = %s AND token_id < coalesce(%s::bigint, 9223372036854775807)
            ORDER BY token_id DESC LIMIT %s""",
            operator_id,
            before,
            limit,
        )
    )


def _tokens(rows: Sequence[Row]) -> list[Token]:
    return [
        Token(
            token_id=token_id,
            operator=owner,
            name=name,
            prefix=prefix,
            permissions=frozenset(Permission(p) for p in permissions if p in _KNOWN),
            expires_at=expires_at,
            revoked_at=revoked_at,
        )
        for token_id, owner, name, prefix, permissions, expires_at, revoked_at in rows
    ]


async def revoke_token(tx: Transaction, token_id: int, at: datetime) -> bool:
    """From now on it does not work. False when there is none or it was revoked already."""
    touched = await tx.execute(
        "UPDATE api_token SET revoked_at = %s WHERE token_id = %s AND revoked_at IS NULL",
        at,
        token_id,
    )
    return touched == 1


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
