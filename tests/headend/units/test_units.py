"""Units are found, examined and watched; the kit catches each fault we know how to make."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from headend.units import check as check_module
from headend.units.check import Examination
from headend.units.check_cards import AREA, KitKeys, on_reader
from headend.units.closed import ClosedUnit, closed_unit
from headend.units.finding import find_units
from headend.units.golden import GOLDEN
from headend.units.unit_process import FAILURES_MAX, UnitDown, UnitFailed, UnitProcess
from protocols.card_apdu import Apdu, CardConversation, Issuer, ask_keys, transmit_ok
from protocols.card_desk import CardSeen, Seal
from protocols.card_image import CardKind, CardRecord
from protocols.catalog import load_meter_types
from protocols.exchange import Effect
from protocols.key_call import Operation, Purpose
from protocols.open_unit import OpenUnit
from protocols.security_unit import (
    API_VERSION,
    Channel,
    Manifest,
    SecurityUnit,
    UnitError,
    UnitRegister,
)
from protocols.units.hanhe import UNITS
from simulators.cards import VirtualCard
from tests.headend.units.programs import PROGRAMS

CLOSED = Path(__file__).parents[3] / "simulators" / "closed_units"
RECORD = GOLDEN["hanhe_rf"][0][0]
NEEDS_NAMESPACES = pytest.mark.skipif(
    os.geteuid() != 0, reason="namespaces without root may be off"
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole kit ran on each unit by hand; here a tenth of its repetitions."""
    monkeypatch.setattr(check_module, "ROUND_TRIPS", 100)
    monkeypatch.setattr(check_module, "CALLS", 1000)


def broken(unit: SecurityUnit, folder: Path | None = None) -> dict[str, str]:
    return {one.rule: one.detail for one in Examination(unit, folder).run() if not one.kept}


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_each_open_unit_keeps_the_kits_rules(name: str) -> None:
    assert broken(find_units().units[name]) == {}


@NEEDS_NAMESPACES
def test_the_closed_unit_keeps_the_kits_rules_alone_and_as_nobody() -> None:
    unit = closed_unit(CLOSED / "nanfeng")
    try:
        assert broken(unit, CLOSED / "nanfeng") == {}
        status = Path(f"/proc/{unit.process.pid}/status").read_text()
        assert "Uid:\t65534\t65534" in status
        assert unit.process.starts == 1
    finally:
        unit.stop()
    assert unit.process.pid is None


# --- units with one fault each ---


class AcceptsAll(OpenUnit):
    """Never looks at a MAC."""

    def parse(self, image: bytes) -> CardConversation[tuple[CardRecord, Seal] | None]:
        told = yield from super().parse(image)
        return None if told is None else (told[0], Seal.GOOD)


class Counts(OpenUnit):
    """Makes other bytes each time."""

    times = 0

    def image(self, record: CardRecord) -> CardConversation[bytes]:
        self.times += 1
        return (
            yield from super().image(replace(record, issue_number=record.issue_number ^ self.times))
        )


class WritesWithoutAsking(OpenUnit):
    """Writes on whatever lies there."""

    def read(self) -> CardConversation[CardSeen]:
        yield from transmit_ok(Apdu("choose", b"\xff\xa4\0\0\x01\x06"))
        yield from transmit_ok(Apdu("code", b"\xff\x20\0\0\x03\xff\xff\xff", Effect.WRITE))
        return (yield from super().read())


class OneCopy(OpenUnit):
    """Takes the old record off before it writes the new one."""

    def write(self, record: CardRecord) -> CardConversation[CardSeen]:
        yield from self.clear()
        return (yield from super().write(record))


class Grows(OpenUnit):
    """Forgets nothing."""

    kept: list[bytes] = []  # noqa: RUF012

    def image(self, record: CardRecord) -> CardConversation[bytes]:
        self.kept.append(bytes(4000))
        return (yield from super().image(record))


class Talks(OpenUnit):
    """Puts the secret of a card into the log."""

    def write(self, record: CardRecord) -> CardConversation[CardSeen]:
        import logging

        call = self._issuer.call(Operation.MAC, Purpose.CARD_ACCESS, record.serial, b"x")
        secret = yield from ask_keys(call)
        logging.getLogger("maker").debug("code %s", secret.value[:6].hex())
        return (yield from super().write(record))


class PhonesHome(OpenUnit):
    """Tells its maker."""

    def write(self, record: CardRecord) -> CardConversation[CardSeen]:
        import contextlib
        import socket

        with contextlib.suppress(OSError):
            socket.socket().close()
        return (yield from super().write(record))


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (AcceptsAll, "changed byte"),
        (Counts, "same bytes"),
        (WritesWithoutAsking, "not touched"),
        (OneCopy, "never mixed"),
        (Grows, "without growth"),
        (Talks, "no secret"),
        (PhonesHome, "no network"),
    ],
    ids=lambda given: getattr(given, "__name__", ""),
)
def test_the_kit_catches_each_fault(kind: type[OpenUnit], told: str) -> None:
    good = UNITS[2]  # on a logic-encrypted card
    bad = kind(good.manifest, good._format)
    bad.for_issuer = lambda issuer: kind(good.manifest, good._format, issuer)  # type: ignore[method-assign]
    assert any(told in rule for rule in broken(bad))


# --- the register ---


def manifest(**other: object) -> Manifest:
    made = Manifest(
        name="one",
        maker="A",
        version="1",
        api_version=API_VERSION,
        type_codes=("type_a*",),
        medium="rf_card",
        reader_family="pcsc",
        keys=frozenset(),
        channels=frozenset({Channel.CARD}),
        kinds=frozenset({CardKind.PURCHASE}),
    )
    return replace(made, **other)  # type: ignore[arg-type]


def unit(**other: object) -> OpenUnit:
    return OpenUnit(manifest(**other), UNITS[0]._format)


def test_a_type_has_one_unit_or_none() -> None:
    register = UnitRegister([unit()], ["type_a1"])
    found = register.for_type("type_a2")
    assert found is not None
    assert found.manifest.name == "one"
    assert register.for_type("type_b") is None, "never a default"
    with pytest.raises(UnitError, match="one and two are both for meters of type type_a1"):
        UnitRegister([unit(), unit(name="two", type_codes=("*_a1",))], ["type_a1"])
    late = UnitRegister([unit(), unit(name="two", type_codes=("*_a1",))], ["type_x"])
    with pytest.raises(UnitError, match="both"):
        late.for_type("type_a1")
    with pytest.raises(UnitError, match="rename one"):
        UnitRegister([unit(), unit()], [])


def test_what_is_shipped_lives_together() -> None:
    register = find_units([CLOSED], type_codes=load_meter_types())
    assert set(register.units) == {"hanhe_rf", "hanhe_cpu", "hanhe_logic", "beichen", "nanfeng"}
    assert len({one.manifest.maker for one in register.units.values()}) == 3
    found = register.for_type("acrel_dtsy1352")
    assert found is not None
    assert found.manifest.name == "hanhe_rf"


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "No Name"},
        {"api_version": 2},
        {"medium": "punched_card"},
        {"type_codes": ()},
        {"kinds": frozenset()},
    ],
)
def test_no_manifest(wrong: dict[str, object]) -> None:
    with pytest.raises(UnitError):
        manifest(**wrong)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "garbage" + text,
        lambda text: text.replace('"card"', '"pigeon"'),
        lambda text: text + "more = 1\n",
        lambda text: text.replace("api_version = 1", "api_version = 9"),
        lambda text: text.replace("command =", "# command ="),
    ],
)
def test_a_wrong_manifest_stops_the_start(change: Callable[[str], str], tmp_path: Path) -> None:
    folder = tmp_path / "bad"
    folder.mkdir()
    text = (CLOSED / "nanfeng" / "unit.toml").read_text()
    (folder / "unit.toml").write_text(change(text))
    with pytest.raises(UnitError):
        find_units([tmp_path])


# --- closed programs that misbehave ---


@pytest.fixture
def closed() -> Iterator[Callable[[str], ClosedUnit]]:
    made: list[ClosedUnit] = []
    # A folder that nobody may read, unlike pytest's own.
    with tempfile.TemporaryDirectory() as beside:
        Path(beside).chmod(0o755)

        def start(how: str) -> ClosedUnit:
            folder = Path(beside) / how
            folder.mkdir(mode=0o755)
            (folder / "unit.py").write_text(PROGRAMS[how])
            command = ["/usr/bin/python3", "-I", "unit.py"]
            process = UnitProcess(how, command, folder, reply_s_max=5.0)
            made.append(ClosedUnit(manifest(name=how), process, API_VERSION))
            return made[-1]

        yield start
        for one in made:
            one.stop()


@NEEDS_NAMESPACES
def test_an_answer_that_nobody_asked_for_is_never_the_next_ones(
    closed: Callable[[str], ClosedUnit],
) -> None:
    one = closed("answers_twice")
    assert use(one) == bytes(48)
    with pytest.raises(UnitFailed, match="without being asked"):
        use(one)


def use(one: ClosedUnit) -> bytes:
    return on_reader(one.image(RECORD), None, KitKeys())


@NEEDS_NAMESPACES
@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("floods", "it floods"),
        ("dies", "it ended"),
        ("babbles", "no message"),
        ("nonsense", "an answer that is none"),
        ("endless", "more than 400 commands"),
    ],
)
def test_a_program_that_misbehaves_is_stopped_and_started_anew(
    closed: Callable[[str], ClosedUnit], how: str, told: str
) -> None:
    one = closed(how)
    for time in range(FAILURES_MAX):
        with pytest.raises(UnitFailed, match=told):
            on_reader(one.read(), _AnyCard(), KitKeys()) if how == "endless" else use(one)
        assert one.process.pid is None
        assert one.process.starts == time + 1
    with pytest.raises(UnitDown, match="stays down"):
        use(one)


@NEEDS_NAMESPACES
def test_a_program_that_hangs_is_late(closed: Callable[[str], ClosedUnit]) -> None:
    one = closed("hangs")
    one.process._reply_s_max = 0.3
    with pytest.raises(UnitFailed, match=r"within 0\.3 s"):
        use(one)


@NEEDS_NAMESPACES
def test_a_program_that_lies_about_what_it_wrote_is_caught(
    closed: Callable[[str], ClosedUnit],
) -> None:
    with pytest.raises(UnitFailed, match="wrote something else"):
        on_reader(closed("lies").write(RECORD), None, KitKeys())


@NEEDS_NAMESPACES
def test_a_program_sees_no_network_and_is_nobody(closed: Callable[[str], ClosedUnit]) -> None:
    told = use(closed("looks")).decode()
    assert told == "65534 unreachable denied"


def test_an_issuer_is_not_a_closed_units_affair() -> None:
    one = closed_unit(CLOSED / "nanfeng")
    assert one.for_issuer(Issuer("site", AREA)) is one


class _AnyCard(VirtualCard):
    """Answers everything."""

    def reset(self) -> None:
        pass

    def handle(self, command: bytes, *, torn: bool) -> bytes:
        return b"\x90\x00"
