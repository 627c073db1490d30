"""Operators and their tokens, made on the machine itself by whoever may enter its database."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from rich.table import Table

from headend.app import open_database
from headend.cli.console import out, say
from headend.domain.clock import SystemClock
from headend.domain.problems import Problem
from headend.domain.roles import Permission, Role
from headend.domain.sign_in import bad_password
from headend.services import sign_in
from headend.settings import Settings
from headend.store import people, places
from headend.store.database import Transaction


def add_operator(
    settings: Settings,
    name: str,
    role: Role,
    person: str | None,
    sites: list[str],
    *,
    password: str | None = None,
) -> None:
    """`headend operator NAME --role … [--password]`"""
    if password is not None:
        _refuse_bad(password, name)

    async def work() -> None:
        async with open_database(settings) as opened, opened.database.transaction() as tx:
            numbers = [await _site(tx, site) for site in sites]
            made = await people.add_operator(
                tx,
                name,
                role,
                at=SystemClock().now(),
                person=person,
                sites=numbers or None,
            )
            if made is None:
                raise Problem("name-taken", name=name)
            if password is not None:
                await sign_in.set_password(tx, made, password, SystemClock(), by=None)

    asyncio.run(work())
    out.print(say(f"已建操作员 {name}（{role.value}）。", f"Operator {name} ({role.value}) made."))


def operator(
    settings: Settings,
    name: str,
    role: Role,
    person: str | None,
    sites: list[str],
    *,
    password: str | None,
) -> None:
    """Whoever is there already gets the password; whoever is not is made."""
    if password is None or not set_password(settings, name, password):
        add_operator(settings, name, role, person, sites, password=password)


def set_password(settings: Settings, name: str, password: str) -> bool:
    """A new password for an operator who is there; False: there is none of that name.

    Ends their sessions and a lock after wrong tries; the second factor stays.
    """
    _refuse_bad(password, name)

    async def work() -> bool:
        async with open_database(settings) as opened, opened.database.transaction() as tx:
            known = await people.find_operator(tx, name)
            if known is None:
                return False
            await sign_in.set_password(tx, known, password, SystemClock(), by=None)
            return True

    done = asyncio.run(work())
    if done:
        out.print(say(f"已为 {name} 设置密码。", f"The password of {name} is set."))
    return done


def _refuse_bad(password: str, name: str) -> None:
    bad = bad_password(password, name)
    if bad is not None:
        raise Problem("bad-password", detail=bad.value)


async def _site(tx: Transaction, name: str) -> int:
    number = await places.site_id(tx, name)
    if number is None:
        raise Problem("no-such-site", site=name)
    return number


def list_operators(settings: Settings) -> None:
    """`headend operator`"""

    async def work() -> None:
        async with open_database(settings) as opened, opened.database.transaction() as tx:
            table = Table("operator", "person", "role", "sites", "", box=None, pad_edge=False)
            for one in await people.list_operators(tx):
                scope = "all" if one.sites is None else str(len(one.sites))
                table.add_row(
                    one.name, one.person, one.role.value, scope, "disabled" * bool(one.disabled_at)
                )
            out.print(table)

    asyncio.run(work())


def add_token(
    settings: Settings, operator: str, name: str, days: int, permissions: list[Permission]
) -> None:
    """`headend token OPERATOR`: prints the token, this once."""

    async def work() -> str:
        async with open_database(settings) as opened, opened.database.transaction() as tx:
            owner = await people.find_operator(tx, operator)
            if owner is None:
                raise Problem("no-such-operator", operator=operator)
            at = SystemClock().now()
            return await people.add_token(
                tx,
                owner,
                name,
                at=at,
                expires_at=at + timedelta(days=days),
                permissions=permissions or None,
            )

    # Alone on standard output, so that a script can keep it: HEADEND_TOKEN=$(headend token …)
    out.print(asyncio.run(work()), markup=False, soft_wrap=True)


def revoke_token(settings: Settings, token_id: int) -> None:
    """`headend token --revoke NUMBER`"""

    async def work() -> bool:
        async with open_database(settings) as opened, opened.database.transaction() as tx:
            return await people.revoke_token(tx, token_id, SystemClock().now())

    if not asyncio.run(work()):
        raise Problem("no-such-token", token=token_id)
    out.print(say(f"令牌 {token_id} 已吊销。", f"Token {token_id} is revoked."))


def list_tokens(settings: Settings) -> None:
    """`headend token`"""

    async def work() -> None:
        async with open_database(settings) as opened, opened.database.transaction() as tx:
            table = Table("no", "operator", "name", "begins", "expires", "", box=None)
            for one in await people.list_tokens(tx):
                table.add_row(
                    str(one.token_id),
                    one.operator,
                    one.name,
                    one.prefix,
                    f"{one.expires_at:%Y-%m-%d}",
                    "revoked" * bool(one.revoked_at),
                )
            out.print(table)

    asyncio.run(work())
