"""Prices on their way into the meters: limits, the stop, cabinets, and meters that come back."""

from __future__ import annotations

from datetime import timedelta

import pytest

from headend.domain.commands import CommandKind, CommandState
from headend.domain.tariffs import Rate, Terms
from headend.services.orders import Orders
from headend.services.tariff_push import (
    CANARY,
    ON_THEIR_WAY_MAX,
    TariffPushes,
    go_on,
    in_flight_max,
    stop,
    why_stop,
)
from headend.services.tariffs import change_permille, needs_second_person, push_id_of
from headend.store import commands, tariff_places, tariff_pushes, tariffs
from protocols.catalog import load_meter_types
from tests.headend.house import TestClock
from tests.headend.prices.estate import FIRST, FLAT, Estate, end_of


@pytest.mark.parametrize(
    ("counts", "stops"),
    [
        ({}, False),
        ({"refused": 1, "holds": 3}, False),  # too few to mean anything
        ({"refused": 1, "holds": 4}, False),
        ({"refused": 2, "holds": 3}, True),
        ({"unknown": 2, "holds": 3}, True),
        ({"unknown": 1, "refused": 1, "holds": 8}, False),
        ({"cannot": 50, "waiting": 50}, False),
    ],
)
def test_too_many_that_refuse_or_give_no_proof_stop_the_rest(
    counts: dict[str, int], stops: bool
) -> None:
    assert (why_stop(counts) is not None) == stops


def test_five_first() -> None:
    assert in_flight_max(0) == in_flight_max(CANARY - 1) == CANARY
    assert in_flight_max(CANARY) == ON_THEIR_WAY_MAX


def test_who_has_to_be_asked() -> None:
    dearer = Terms(prices_x4={Rate.FLAT: 6000})
    assert change_permille(FLAT, FLAT) == 0
    assert change_permille(FLAT, dearer) == 531 * 1000 // 5469
    assert change_permille(None, FLAT) == 1000
    assert not needs_second_person(0, 1000)
    assert not needs_second_person(5, 100)
    assert needs_second_person(6, 0)
    assert needs_second_person(1, 101)


async def running(estate: Estate) -> tuple[TariffPushes, TestClock, int]:
    """A version in force for the whole site, whose push has begun; nobody carries orders out."""
    tariff_id = await estate.tariff(FLAT)
    clock = TestClock(end_of(FIRST))
    types = load_meter_types()
    pushes = TariffPushes(estate.database, Orders(clock, types), clock, types)
    async with estate.transaction() as tx:
        (version,) = await tariffs.versions(tx, tariff_id)
        push_id = push_id_of(version.version_id)
        await tariff_pushes.add(tx, push_id, version.version_id, at=clock.now(),
                                by=estate.shop.manager)  # fmt: skip
    await pushes.look()
    return pushes, clock, version.version_id


async def counts(estate: Estate, version_id: int) -> dict[str, int]:
    async with estate.transaction() as tx:
        return await tariff_pushes.counts(tx, push_id_of(version_id))


async def carried_out(estate: Estate, state: CommandState) -> None:
    """Somebody else's part: the orders end so."""
    async with estate.transaction() as tx:
        for one in await commands.listing(tx, kinds={CommandKind.CONFIGURE}):
            if one.state is CommandState.QUEUED:
                at = one.ordered_at
                await commands.move(tx, one.command_id, CommandState.QUEUED,
                                    CommandState.CLAIMED, at)  # fmt: skip
                if state is not CommandState.REFUSED:
                    await commands.move(tx, one.command_id, CommandState.CLAIMED,
                                        CommandState.SENT, at)  # fmt: skip
                    await commands.move(tx, one.command_id, CommandState.SENT, state, at)
                else:
                    await commands.move(tx, one.command_id, CommandState.CLAIMED, state, at,
                                        outcome="the meter says no")  # fmt: skip


async def test_a_meter_holds_it_once_its_order_was_proved(estate: Estate) -> None:
    pushes, _, version_id = await running(estate)
    assert await counts(estate, version_id) == {"ordered": 2}
    for _ in range(2):
        await pushes.look()
    async with estate.transaction() as tx:
        given = await commands.listing(tx, kinds={CommandKind.CONFIGURE})
    assert len(given) == 2, "looked at again, ordered once"
    await carried_out(estate, CommandState.CONFIRMED)
    await pushes.look()
    assert await counts(estate, version_id) == {"holds": 2}
    async with estate.transaction() as tx:
        push = await tariff_pushes.of_version(tx, version_id)
    assert push is not None
    assert push.state == "done"


async def test_a_stop_takes_back_what_has_not_left_and_going_on_asks_anew(
    estate: Estate,
) -> None:
    pushes, clock, version_id = await running(estate)
    async with estate.transaction() as tx:
        done = await stop(tx, push_id_of(version_id), by=estate.shop.manager, reason="wrong",
                          at=clock.now())  # fmt: skip
        assert done
        assert not await stop(tx, push_id_of(version_id), by=1, reason="again", at=clock.now())
    await pushes.look()
    assert await counts(estate, version_id) == {"waiting": 2}
    await pushes.look()
    assert await counts(estate, version_id) == {"waiting": 2}, "nothing new leaves"
    async with estate.transaction() as tx:
        assert await go_on(tx, push_id_of(version_id), by=estate.shop.manager, at=clock.now())
    await pushes.look()
    assert await counts(estate, version_id) == {"ordered": 2}


async def test_a_refusal_is_kept_with_its_reason_until_somebody_tries_again(
    estate: Estate,
) -> None:
    pushes, clock, version_id = await running(estate)
    await carried_out(estate, CommandState.REFUSED)
    await pushes.look()
    async with estate.transaction() as tx:
        items = await tariff_pushes.items(tx, push_id_of(version_id), None)
        assert {one.detail for one in items} == {"the meter says no"}
        assert await tariff_pushes.items(tx, push_id_of(version_id), []) == []
        assert await go_on(tx, push_id_of(version_id), by=estate.shop.manager, at=clock.now())
    await pushes.look()
    assert await counts(estate, version_id) == {"ordered": 2}


async def test_a_meter_that_goes_to_another_tariff_and_comes_back_is_told_anew(
    estate: Estate,
) -> None:
    pushes, clock, version_id = await running(estate)
    await carried_out(estate, CommandState.CONFIRMED)
    await pushes.look()
    for _, terms in enumerate((Terms(prices_x4={Rate.FLAT: 9000}), None)):
        clock.instant += timedelta(days=1)
        today = FIRST + timedelta(days=(clock.instant - end_of(FIRST)).days + 1)
        if terms is not None:
            other = await estate.tariff(terms, today)
            async with estate.transaction() as tx:
                (version,) = await tariffs.versions(tx, other)
                await tariff_pushes.add(tx, push_id_of(version.version_id), version.version_id,
                                        at=clock.now(), by=estate.shop.manager)  # fmt: skip
        else:
            async with estate.transaction() as tx:
                first = await tariffs.version(tx, version_id)
                assert first is not None
                await tariff_places.assign(
                    tx, first.tariff_id, "site", estate.site_id, from_day=today, reason="back",
                    by=estate.shop.manager, at=clock.now(),
                )  # fmt: skip
        await pushes.look()
        await carried_out(estate, CommandState.CONFIRMED)
        await pushes.look()
    async with estate.transaction() as tx:
        given = await commands.listing(tx, kinds={CommandKind.CONFIGURE})
    prices = [one.details["flat_fen"] for one in reversed(given)]
    assert prices == [55, 55, 90, 90, 55, 55]
    assert await counts(estate, version_id) == {"holds": 2}
