"""The seal objects to every change, by whomever, and names the first bad row."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

import pytest

from headend.domain.problems import Problem
from headend.domain.seals import Anchor, DaySeal, VerifyReport, canonical, next_link
from headend.services import seals
from headend.store.database import Database
from tests.headend.house import TestClock
from tests.headend.ledger.shop import Shop, as_attacker

DAY = date(2026, 3, 20)
NEXT_DAY = DAY + timedelta(days=1)
SEAL_ENTRY = "DELETE FROM seal_entry WHERE source = 'transfer' AND "


async def two_sealed_days(shop: Shop) -> tuple[DaySeal, DaySeal]:
    """Transfers 1 to 6 belong to the first day, 7 to 9 to the second."""
    clock = TestClock()
    for _ in range(2):
        await shop.pay(5_000)
        await shop.post(await shop.reserve(3_000))
    first = await seals.seal_day(shop.database, DAY, clock)
    await shop.pay(700)
    await shop.pay(800)
    await shop.pay(900)
    clock.instant += timedelta(days=1)
    return first, await seals.seal_day(shop.database, NEXT_DAY, clock)


async def exported(database: Database) -> str:
    file = io.StringIO()
    await seals.export(database, file)
    return file.getvalue()


async def both_ways(shop: Shop, anchor: Anchor | None = None) -> VerifyReport:
    """The report of the database, after its export has told the same."""
    report = await seals.verify_database(shop.database, anchor)
    offline = seals.verify_export(io.StringIO(await exported(shop.database)), anchor)
    assert offline == report
    return report


async def test_sound_books_are_sound(shop: Shop) -> None:
    assert (await both_ways(shop)).is_sound, "before anything was booked"
    first, second = await two_sealed_days(shop)
    await shop.pay(100)
    report = await both_ways(shop)
    assert report.is_sound
    assert (report.transfers, report.seals, report.unsealed) == (10, 2, 1)
    assert (report.last_day, report.last_seal_sha256) == (NEXT_DAY, second.seal_sha256)
    assert (first.transfers, second.transfers) == (6, 3)
    assert second.previous_sha256 == first.seal_sha256


async def test_a_day_is_sealed_once_and_late_bookings_belong_to_the_next(shop: Shop) -> None:
    await shop.pay(100)
    clock = TestClock()
    first = await seals.seal_day(shop.database, DAY, clock)
    await shop.pay(200)
    clock.instant += timedelta(hours=1)
    assert await seals.seal_day(shop.database, DAY, clock) == first
    assert await seals.seal_day(shop.database, DAY - timedelta(days=3), clock) == first
    assert (await seals.seal_day(shop.database, NEXT_DAY, clock)).transfers == 1
    assert (await both_ways(shop)).is_sound


async def test_chaining_by_the_minute_ends_in_the_same_seal_as_chaining_at_once(
    shop: Shop,
) -> None:
    for amount in (100, 200, 300):
        await shop.pay(amount)
        assert await seals.chain(shop.database) == 1
    assert await seals.chain(shop.database) == 0
    by_the_minute = await seals.seal_day(shop.database, DAY, TestClock())
    async with shop.transaction() as tx:
        rows = await tx.rows("SELECT chain_sha256 FROM seal_entry ORDER BY position")
    assert by_the_minute.chain_sha256 == rows[-1][0]
    assert (await both_ways(shop)).is_sound


async def test_what_commits_after_a_higher_number_was_chained_is_chained_too(shop: Shop) -> None:
    await shop.pay(100)
    till, customer = await shop.till(), await shop.customer()
    async with shop.transaction() as slow:
        await slow.execute(
            "INSERT INTO transfer (transfer_id, phase, operation, debit, credit, amount_fen,"
            " operator_id, reason, at)"
            " VALUES (gen_random_uuid(), 'direct', 'payment', %s, %s, 50, %s, '', %s)",
            till.account_id,
            customer.account_id,
            shop.cashier,
            shop.now(),
        )
        await shop.pay(200)  # a higher number, committed first
        assert await seals.chain(shop.database) == 2
    assert await seals.chain(shop.database) == 1
    await seals.seal_day(shop.database, DAY, TestClock())
    assert (await both_ways(shop)).is_sound


ATTACKS: Sequence[tuple[str, Sequence[str], str]] = (
    (
        "an amount is changed",
        ["UPDATE transfer SET amount_fen = 1 WHERE entry_no = 4"],
        "transfer 4 (sealed with the day 2026-03-20) was changed or moved",
    ),
    (
        "a reason is added years later",
        ["UPDATE transfer SET reason = 'agreed by phone' WHERE entry_no = 9"],
        "transfer 9 (sealed with the day 2026-03-21) was changed or moved",
    ),
    (
        "a row is deleted",
        ["DELETE FROM transfer WHERE entry_no = 2"],
        "transfer 2 (sealed with the day 2026-03-20) was deleted",
    ),
    (
        "a row is deleted together with its chain value",
        ["DELETE FROM transfer WHERE entry_no = 2", SEAL_ENTRY + "entry_no = 2"],
        "transfer 3 (sealed with the day 2026-03-20) stands at position 3 of the chain, "
        "where position 2 is due",
    ),
    (
        "two rows change places",
        [
            "ALTER TABLE transfer ALTER entry_no SET GENERATED BY DEFAULT",
            "UPDATE transfer SET entry_no = -entry_no WHERE entry_no IN (7, 8)",
            "UPDATE transfer SET entry_no = 15 + entry_no WHERE entry_no < 0",
        ],
        "transfer 7 (sealed with the day 2026-03-21) was changed or moved",
    ),
    (
        "two chain values change places",
        [
            "UPDATE seal_entry SET position = -position WHERE position IN (7, 8)",
            "UPDATE seal_entry SET position = 15 + position WHERE position < 0",
        ],
        "transfer 8 (sealed with the day 2026-03-21) was changed or moved",
    ),
    (
        "everything is truncated",
        ["TRUNCATE transfer CASCADE"],
        "transfer 1 (sealed with the day 2026-03-20) was deleted",
    ),
    (
        "the end is cut off with its chain",
        ["DELETE FROM transfer WHERE entry_no > 8", SEAL_ENTRY + "entry_no > 8"],
        "day_seal 2026-03-21 (sealed with the day 2026-03-21) covers positions up to 9, "
        "but the chain ends at 8: everything from position 9 was cut off",
    ),
    (
        "the books and their chain are emptied",
        ["TRUNCATE transfer CASCADE", "TRUNCATE seal_entry"],
        "day_seal 2026-03-20 (sealed with the day 2026-03-20) covers positions up to 6",
    ),
    (
        "a seal is deleted",
        ["DELETE FROM day_seal WHERE day = '2026-03-20'"],
        "day_seal 2026-03-21 (sealed with the day 2026-03-21) does not follow",
    ),
    (
        "a seal tells another day",
        ["UPDATE day_seal SET day = '2026-03-22' WHERE day = '2026-03-21'"],
        "day_seal 2026-03-22 (sealed with the day 2026-03-22) was changed",
    ),
    (
        "a seal counts less",
        ["UPDATE day_seal SET transfers = 2 WHERE day = '2026-03-21'"],
        "day_seal 2026-03-21 (sealed with the day 2026-03-21) does not say what the chain",
    ),
    (
        "money is posted a second time around the rules",
        [
            "ALTER TABLE transfer DROP CONSTRAINT a_pending_transfer_is_resolved_once",
            "INSERT INTO transfer (transfer_id, phase, operation, debit, credit, amount_fen,"
            " pending_id, operator_id, reason, at) SELECT gen_random_uuid(), phase, operation,"
            " debit, credit, amount_fen, pending_id, operator_id, reason, at"
            " FROM transfer WHERE entry_no = 3",
        ],
        "transfer 10 (not sealed with a day yet) resolves what was not reserved",
    ),
)


@pytest.mark.parametrize(
    ("statements", "sentence"),
    [attack[1:] for attack in ATTACKS],
    ids=[attack[0] for attack in ATTACKS],
)
async def test_the_first_bad_row_is_named(
    shop: Shop, statements: Sequence[str], sentence: str
) -> None:
    await two_sealed_days(shop)
    as_attacker(shop.database.conninfo, *statements)
    report = await both_ways(shop)
    assert not report.is_sound
    assert str(report.fault).startswith(sentence)


async def test_a_tail_cut_off_with_its_seals_needs_the_seal_kept_elsewhere(shop: Shop) -> None:
    _, second = await two_sealed_days(shop)
    anchor = seals.parse_anchor(f"{NEXT_DAY}:{second.seal_sha256.hex()}")
    assert (await both_ways(shop, anchor)).is_sound
    as_attacker(
        shop.database.conninfo,
        "DELETE FROM transfer WHERE entry_no > 6",
        "DELETE FROM seal_entry WHERE position > 6",
        "DELETE FROM day_seal WHERE day = '2026-03-21'",
    )
    assert (await both_ways(shop)).is_sound, "nothing is left that could tell"
    report = await both_ways(shop, anchor)
    assert "day_seal 2026-03-21" in str(report.fault)
    assert "is missing" in str(report.fault)


async def test_books_written_anew_meet_the_seal_kept_elsewhere(shop: Shop) -> None:
    first, _ = await two_sealed_days(shop)
    as_attacker(
        shop.database.conninfo,
        "UPDATE transfer SET amount_fen = 1 WHERE entry_no = 9",
        "TRUNCATE seal_entry",
        "TRUNCATE day_seal",
    )
    await seals.seal_day(shop.database, DAY, TestClock())
    assert (await both_ways(shop)).is_sound
    report = await both_ways(shop, Anchor(DAY, first.seal_sha256))
    assert "the books were written anew" in str(report.fault)


async def test_an_export_cut_short_or_of_something_else_is_refused(shop: Shop) -> None:
    await two_sealed_days(shop)
    lines = (await exported(shop.database)).splitlines(keepends=True)
    for broken in ([], lines[:-1], lines[1:], ["{}\n"], lines[:3] + ["[]\n"] + lines[3:], ["\n"]):
        with pytest.raises(Problem, match="export"):
            seals.verify_export(io.StringIO("".join(broken)))


async def test_an_edited_export_names_its_bad_row(shop: Shop) -> None:
    await two_sealed_days(shop)
    text = (await exported(shop.database)).replace('"amount_fen":3000', '"amount_fen":30000', 1)
    assert "transfer 2 " in str(seals.verify_export(io.StringIO(text)).fault)


async def test_a_row_of_today_that_was_doubled_is_named(shop: Shop) -> None:
    """No chain covers it yet: its number does."""
    await two_sealed_days(shop)
    await shop.pay(900)
    lines = (await exported(shop.database)).splitlines(keepends=True)
    assert seals.verify_export(io.StringIO("".join(lines))).is_sound
    (today,) = [line for line in lines if '"chain_sha256":null' in line and "transfer" in line]
    doubled = io.StringIO("".join([*lines[:-1], today, lines[-1]]))
    assert "stands there twice" in str(seals.verify_export(doubled).fault)


async def test_the_program_of_the_documentation_agrees(shop: Shop, tmp_path: Path) -> None:
    _, second = await two_sealed_days(shop)
    manual = (Path(__file__).parents[3] / "docs" / "ledger-seal.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", manual, re.DOTALL)
    file = tmp_path / "books.jsonl"
    file.write_text(await exported(shop.database), encoding="utf-8")
    assert _run(code, file).stdout == f"sound up to {second.seal_sha256.hex()}\n"
    file.write_text(file.read_text(encoding="utf-8").replace('"amount_fen":700', '"amount_fen":7'))
    assert "AssertionError: transfer 7" in _run(code, file).stderr


def _run(code: str, file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, file], capture_output=True, text=True, check=False
    )


def test_the_canonical_bytes_are_those_of_the_documentation() -> None:
    entry = {"b": 1, "a": None, "reason": '房租 "押金"\n'}
    expected = '["transfer",{"a":null,"b":1,"reason":"房租 \\"押金\\"\\n"}]'.encode()
    assert canonical("transfer", entry) == expected
    link = next_link(bytes(32), "transfer", {})
    assert link.hex() == "c09ebc6b3b87a9caf25d1edf95b871b65fbb56f272318682fba8fcf0e201d9ea"


@pytest.mark.parametrize("text", ["", "2026-03-20", "2026-03-20:abc", "2026-03-20:" + "00" * 31])
def test_an_anchor_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(Problem):
        seals.parse_anchor(text)
