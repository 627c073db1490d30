"""Operators and tokens: who gets in, and how far."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

import pytest

from headend.domain.roles import ROLES, Caller, Permission, Role
from headend.store import people
from headend.store.errors import DatabaseRefused
from tests.headend.ledger.shop import MORNING, Shop

P = Permission
YEAR = timedelta(days=365)


async def issue(shop: Shop, permissions: Collection[Permission] | None = None) -> str:
    async with shop.transaction() as tx:
        owner = await people.operator(tx, shop.cashier)
        assert owner is not None
        return await people.add_token(
            tx,
            owner,
            "counter 1",
            at=MORNING,
            expires_at=MORNING + YEAR,
            permissions=permissions,
        )


async def caller_of(shop: Shop, secret: str, at: datetime = MORNING) -> Caller | None:
    async with shop.transaction() as tx:
        return await people.caller_of(tx, secret, at)


async def test_a_token_lets_its_operator_in_and_is_stored_nowhere(shop: Shop) -> None:
    secret = await issue(shop)
    caller = await caller_of(shop, secret)
    async with shop.transaction() as tx:
        everything = str(await tx.rows("SELECT t::text FROM api_token AS t"))
        (token,) = await people.list_tokens(tx)
    assert caller is not None
    assert caller.operator.operator_id == shop.cashier
    assert caller.permissions == ROLES[Role.CASHIER]
    assert secret.startswith(token.prefix)
    assert secret not in everything
    assert secret[len(token.prefix) :] not in everything
    assert len(secret) >= 43, "256 bits"


async def test_two_tokens_are_never_the_same(shop: Shop) -> None:
    assert len({await issue(shop) for _ in range(5)}) == 5


async def test_expired_revoked_and_unknown_open_nothing(shop: Shop) -> None:
    secret = await issue(shop)
    assert await caller_of(shop, secret, MORNING + YEAR - timedelta(seconds=1))
    assert await caller_of(shop, secret, MORNING + YEAR) is None
    assert await caller_of(shop, secret + "x") is None
    assert await caller_of(shop, "") is None
    async with shop.transaction() as tx:
        (token,) = await people.list_tokens(tx)
        assert await people.revoke_token(tx, token.token_id, MORNING)
        assert not await people.revoke_token(tx, token.token_id, MORNING)
    assert await caller_of(shop, secret) is None


async def test_who_is_disabled_gets_in_by_no_token(shop: Shop) -> None:
    secret = await issue(shop)
    async with shop.transaction() as tx:
        assert await people.disable_operator(tx, shop.cashier, MORNING)
        assert not await people.disable_operator(tx, shop.cashier, MORNING)
    assert await caller_of(shop, secret) is None


async def test_a_token_that_never_lives_is_refused(shop: Shop) -> None:
    async with shop.transaction() as tx:
        owner = await people.operator(tx, shop.cashier)
    assert owner is not None
    with pytest.raises(DatabaseRefused, match="lives_before_it_expires"):
        async with shop.transaction() as tx:
            await people.add_token(tx, owner, "x", at=MORNING, expires_at=MORNING)


async def test_a_token_allows_what_both_it_and_the_role_allow(shop: Shop) -> None:
    caller = await caller_of(shop, await issue(shop, {P.SELL, P.SWITCH}))
    assert caller is not None
    assert caller.may(P.SELL)
    assert not caller.may(P.SWITCH), "a cashier does not switch, whatever the token says"
    assert not caller.may(P.TAKE_BACK), "the token does not list it"


async def test_a_role_that_shrinks_takes_its_tokens_along(shop: Shop) -> None:
    secret = await issue(shop)
    async with shop.transaction() as tx:
        await tx.execute(
            "UPDATE operator SET role = 'auditor' WHERE operator_id = %s", shop.cashier
        )
    caller = await caller_of(shop, secret)
    assert caller is not None
    assert caller.may(P.SEE)
    assert not caller.may(P.SELL)


async def test_scope_and_names(shop: Shop) -> None:
    async with shop.transaction() as tx:
        site_id = await tx.value("SELECT site_id FROM site")
        one = await people.add_operator(tx, "zhao", Role.TECHNICIAN, at=MORNING, sites=[site_id])
        taken = await people.add_operator(tx, "zhao", Role.MANAGER, at=MORNING)
        nowhere = await people.add_operator(tx, "new", Role.CASHIER, at=MORNING, sites=[])
        assert await people.find_operator(tx, "zhao") == one
        names = [found.name for found in await people.list_operators(tx)]
    assert names == sorted(["kiosk", "li", "li2", "new", "wang", "zhao"])
    assert taken is None
    assert one is not None
    assert nowhere is not None
    for found, sites in ((one, {site_id}), (nowhere, set())):
        caller = Caller(operator=found, token_id=0, permissions=frozenset())
        assert caller.may_touch(site_id) is (site_id in sites)
        assert not caller.may_touch(site_id + 1)


async def test_the_roles_of_the_table_are_those_of_the_program(shop: Shop) -> None:
    async with shop.transaction() as tx:
        for role in Role:
            added = await people.add_operator(tx, f"a {role.value}", role, at=MORNING)
            assert added is not None
            assert added.role is role


def test_who_hands_out_rights_has_neither_money_nor_switches() -> None:
    assert not ROLES[Role.ADMIN] & {P.SELL, P.TAKE_BACK, P.SWITCH, P.APPROVE, P.DECIDE}
    assert not ROLES[Role.AUDITOR] - {P.SEE, P.AUDIT}, "whoever checks changes nothing"
    assert P.APPROVE not in ROLES[Role.INTEGRATOR], "a program is no second person"
