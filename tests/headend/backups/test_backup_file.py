"""The file of a backup: what went in comes out, and nothing else ever does."""

from __future__ import annotations

import io
import json
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from headend.domain.backups import last_due, made_at_of, name_of, not_kept
from headend.domain.problems import Problem
from headend.services.backup_file import BLOCK_BYTES, MAGIC, BackupReader, BackupWriter
from headend.services.restoring import unpack

MADE_AT = datetime(2026, 3, 20, 2, 0, tzinfo=UTC)
PASSPHRASE = b"a lamp in every window"
BIG = bytes(range(256)) * (BLOCK_BYTES // 128)  # two blocks and some


@pytest.fixture(scope="module")
def whole() -> bytes:
    file = io.BytesIO()
    writer = BackupWriter(file, PASSPHRASE, MADE_AT)
    writer.part("database.dump", iter([BIG, b"", b"end"]))
    writer.part("data/secrets/key", iter([b"\x00\x01"]), mode=0o600)
    writer.part("data/empty", iter([]))
    writer.end({"transfers": 3})
    return file.getvalue()


def read(data: bytes, passphrase: bytes = PASSPHRASE) -> tuple[dict[str, bytes], dict[str, int]]:
    reader = BackupReader(io.BytesIO(data), passphrase, "f")
    return {a["name"]: b"".join(pieces) for a, pieces in reader.parts()}, reader.facts


def refused(data: bytes, passphrase: bytes = PASSPHRASE) -> str:
    with pytest.raises(Problem) as problem:
        read(data, passphrase)
    return problem.value.code


def test_what_went_in_comes_out(whole: bytes) -> None:
    parts, facts = read(whole)
    assert parts == {
        "database.dump": BIG + b"end", "data/secrets/key": b"\x00\x01", "data/empty": b"",
    }  # fmt: skip
    assert facts == {"transfers": 3}
    assert b"secrets" not in whole, "nothing of it is readable"


def test_another_passphrase_is_said_to_be_that(whole: bytes) -> None:
    assert refused(whole, b"a lamp in every windov") == "backup-passphrase"


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.9999])
def test_a_part_of_it_is_said_to_be_a_part(whole: bytes, share: float) -> None:
    assert refused(whole[: int(len(whole) * share)]) == "backup-cut-short"


def blocks(data: bytes) -> tuple[bytes, list[bytes]]:
    at = data.index(b"\n", len(MAGIC)) + 1
    head, found = data[:at], []
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big") + 4
        found.append(data[at : at + size])
        at += size
    return head, found


def test_the_last_block_cannot_be_left_out_nor_any_moved_or_added(whole: bytes) -> None:
    head, found = blocks(whole)
    assert len(found) >= 3
    assert refused(head + b"".join(found[:-1])) == "backup-cut-short"
    assert refused(head + b"".join([found[1], found[0], *found[2:]])) == "backup-damaged"
    assert refused(whole + found[-1]) == "backup-damaged"


@pytest.mark.parametrize("share", [0.0005, 0.3, 0.6, 0.99999])
def test_one_flipped_bit_is_damage(whole: bytes, share: float) -> None:
    at = max(int(len(whole) * share), whole.index(b"\n", len(MAGIC)) + 5)
    flipped = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
    assert refused(flipped) == "backup-damaged"


def test_the_readable_lines_are_bound_in_too(whole: bytes) -> None:
    assert refused(whole.replace(b"2026-03-20", b"2026-03-21", 1)) == "backup-damaged"


@pytest.mark.parametrize(
    "foreign",
    [
        b"", b"PGDMP\x01", b"\x00" * 5000, MAGIC, MAGIC + b"{}\n", MAGIC + b"[]\n",
        MAGIC + b"\xff\n",
        MAGIC + json.dumps({"made_at": "2026", "kdf": {"time": 10**9, "memory_kib": 10**9,
                            "lanes": 1, "salt": ""}}).encode() + b"\n",
    ],
)  # fmt: skip
def test_another_file_is_said_to_be_another(foreign: bytes) -> None:
    assert refused(foreign) == "not-a-backup"


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "data/../../evil", "elsewhere/x"])
def test_a_name_never_leads_out_of_its_folder(tmp_path: Path, name: str) -> None:
    file = tmp_path / "x.backup"
    with file.open("wb") as target:
        writer = BackupWriter(target, PASSPHRASE, MADE_AT)
        writer.part(name, iter([b"evil"]))
        writer.end({})
    with pytest.raises(Problem) as problem:
        unpack(file, PASSPHRASE, tmp_path / "into")
    assert problem.value.code == "backup-damaged"
    assert not list(tmp_path.rglob("evil"))


def test_names_tell_their_instant_and_no_other_file_does() -> None:
    assert made_at_of(name_of(MADE_AT)) == MADE_AT
    for other in ("headend.backup", "headend-20261399T000000Z.backup", name_of(MADE_AT) + ".part"):
        assert made_at_of(other) is None


def test_a_week_of_days_and_a_year_of_weeks_are_kept() -> None:
    made = [MADE_AT - timedelta(hours=12 * n) for n in range(400)]
    kept = sorted(set(made) - not_kept(made, daily=7, weekly=4), reverse=True)
    assert kept[0] == MADE_AT, "the newest always stays"
    assert len({one.date() for one in kept[:7]}) == 7
    assert len({one.isocalendar()[:2] for one in kept}) == 4
    assert not_kept([MADE_AT], daily=0, weekly=0) == set()


def test_a_backup_is_due_once_a_day_on_the_wall_clock() -> None:
    shanghai = ZoneInfo("Asia/Shanghai")
    due = last_due(datetime(2026, 3, 20, 19, 0, tzinfo=UTC), time(3, 30), shanghai)
    assert due.date() == date(2026, 3, 20), "it is three in the morning: yesterday's"
    due = last_due(datetime(2026, 3, 20, 19, 31, tzinfo=UTC), time(3, 30), shanghai)
    assert due == datetime(2026, 3, 20, 19, 30, tzinfo=UTC)
