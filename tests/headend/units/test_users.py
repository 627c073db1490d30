"""Each closed unit is a user of its own, where the system knows such users."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path

import pytest

from headend.units import users
from headend.units.check_cards import KitKeys, on_reader
from headend.units.closed import ClosedUnit
from headend.units.finding import find_units
from tests.headend.units.test_units import CLOSED, NEEDS_NAMESPACES


def copied(folder: Path, *names: str) -> None:
    """The shipped closed unit under other names, for other meter types."""
    for name in names:
        shutil.copytree(CLOSED / "nanfeng", folder / name)
        manifest = folder / name / "unit.toml"
        text = re.sub(r'name = "nanfeng"', f'name = "{name}"', manifest.read_text())
        text = re.sub(r"type_codes = .*", f'type_codes = ["{name}_*"]', text)
        manifest.write_text(text)


@NEEDS_NAMESPACES
def test_each_closed_unit_is_a_user_of_its_own() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        copied(Path(folder), "one", "two")
        register = find_units([Path(folder)], uid_first=1_900_000_000)
        uids = set()
        for name in ("one", "two"):
            unit = register.units[name]
            assert isinstance(unit, ClosedUnit)
            try:
                on_reader(unit.parse(bytes(48)), None, KitKeys())
                status = Path(f"/proc/{unit.process.pid}/status").read_text()
                found = re.search(r"Uid:\t(\d+)\t(\d+)\t(\d+)\t(\d+)", status)
                group = re.search(r"Gid:\t(\d+)\t(\d+)\t(\d+)\t(\d+)", status)
                assert found is not None
                assert group is not None
                assert len({*found.groups(), *group.groups()}) == 1
                uids.add(int(found[1]))
            finally:
                unit.stop()
    assert len(uids) == 2
    assert 65534 not in uids
    assert 0 not in uids


def test_a_unit_keeps_its_user_whatever_is_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = 100_000
    everything, little = tmp_path / "all", tmp_path / "little"
    everything.write_text("0 0 4294967295\n")
    little.write_text("0 100000 65536\n")  # as a container without privileges has it
    monkeypatch.setattr(users, "_MAP", everything)
    alone = users.own_user("nanfeng", first)
    assert first <= alone < first + users.USERS
    assert users.own_user("nanfeng", first, {first, first + 1}) == alone
    assert users.own_user("beichen", first) != alone
    assert users.own_user("nanfeng", first, {alone}) not in (alone, users.NOBODY)
    assert users.own_user("nanfeng", 0) == users.NOBODY
    monkeypatch.setattr(users, "_MAP", little)
    assert users.own_user("nanfeng", first) == users.NOBODY
