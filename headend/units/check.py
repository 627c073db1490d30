"""The conformance kit: what every security unit must do, tried on emulated cards.

It examines a unit from outside, open or closed alike, with keys of its own and cards of
simulators/cards.py. A unit that passes may still be wrong about the maker's real meters: golden
images from the maker say more than any round trip.
"""

from __future__ import annotations

import json
import logging
import socket
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Final, TypeVar

from headend.domain.cards import CardKnown, CardWhy, judge_card
from headend.units.broken import Broken
from headend.units.check_cards import AREA, KitKeys, foreign_card, fresh_card, on_reader
from headend.units.check_notes import examine_notes
from headend.units.closed import ClosedUnit
from headend.units.golden import GOLDEN
from headend.units.unit_messages import record_of
from protocols.card_apdu import BlankCard, CardConversation, CardError, CardGone, Issuer, NotOurCard
from protocols.card_desk import Seal
from protocols.card_image import BEARER_KINDS, CardKind, CardRecord
from protocols.security_unit import SecurityUnit
from simulators.cards import LogicCard, VirtualCard

T = TypeVar("T")

ROUND_TRIPS: Final = 1_000
CALLS: Final = 10_000
GROWTH_BYTES_MAX: Final = 1 << 20
COMMANDS_MAX: Final = 400


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule of the kit and whether the unit keeps it."""

    rule: str
    kept: bool
    detail: str = ""


class Examination:
    """All rules over one unit."""

    def __init__(self, unit: SecurityUnit, folder: Path | None = None, seed: int = 1) -> None:
        self._keys = KitKeys()
        self._unit = unit.for_issuer(Issuer("site", AREA, b"12345678"))
        self._raw = unit
        self._folder = folder
        self._chance = Random(seed)
        self._log = _Heard()

    def run(self) -> Iterator[Finding]:
        """Every rule in turn."""
        rules: tuple[tuple[str, Callable[[], str]], ...] = (
            ("golden images parse and are made again", self._golden),
            ("1,000 random records come back from their bytes", self._round_trips),
            ("the same purchase is the same bytes", self._same_bytes),
            ("a changed byte is never good", self._bad_mac),
            ("wrong meter, wrong customer and counts 0, -1, +2 are told", self._contexts),
            ("a blank card is told, a foreign card is not touched", self._strangers),
            ("pulled at every command, old or new, never mixed", self._pulled),
            ("what a terminal writes is on its own card, whole or not at all", self._notes),
            ("10,000 calls without growth", self._growth),
            ("no network", self._network),
            ("no secret in a log", self._secrets),
        )
        root = logging.getLogger()
        level = root.level
        root.addHandler(self._log)
        root.setLevel(logging.DEBUG)
        try:
            for name, rule in rules:
                try:
                    yield Finding(name, True, rule())
                except Broken as broken:
                    yield Finding(name, False, str(broken))
                except CardError as error:
                    yield Finding(name, False, f"{type(error).__name__}: {error}")
        finally:
            root.removeHandler(self._log)
            root.setLevel(level)

    # --- bytes ---

    def _golden(self) -> str:
        golden = self._golden_images()
        if not golden:
            raise Broken("the unit brings none")
        for record, image in golden:
            if self._do(self._unit.parse(image)) != (record, Seal.GOOD):
                raise Broken(f"image {image.hex()[:16]}… is read as something else")
            if self._do(self._unit.image(record)) != image:
                raise Broken(f"image {image.hex()[:16]}… is made otherwise")
        return f"{len(golden)} images"

    def _golden_images(self) -> list[tuple[CardRecord, bytes]]:
        if self._folder is None:
            known = GOLDEN.get(self._unit.manifest.name, ())
            return [(record, bytes.fromhex(image)) for record, image in known]
        file = self._folder / "golden.json"
        if not file.exists():
            return []
        told = json.loads(file.read_text(encoding="utf-8"))
        return [(record_of(one["record"]), bytes.fromhex(one["image"])) for one in told]

    def _round_trips(self) -> str:
        for _ in range(ROUND_TRIPS):
            record = self._record()
            image = self._do(self._unit.image(record))
            if self._do(self._unit.parse(image)) != (record, Seal.GOOD):
                raise Broken(f"a {record.kind.name.lower()} record comes back as another")
        return f"{ROUND_TRIPS} records"

    def _same_bytes(self) -> str:
        record = self._record()
        first = self._do(self._unit.image(record))
        if self._do(self._unit.image(record)) != first:
            raise Broken("two images of one record differ")
        other = replace(record, amount_fen=record.amount_fen + 1)
        if self._do(self._unit.image(other)) == first:
            raise Broken("two amounts have one image")
        return ""

    def _bad_mac(self) -> str:
        record = self._record()
        image = self._do(self._unit.image(record))
        for at in range(len(image)):
            changed = bytearray(image)
            changed[at] ^= 1 << self._chance.randrange(8)
            told = self._do(self._unit.parse(bytes(changed)))
            if told is not None and told[1] is Seal.GOOD and told[0] != record:
                raise Broken(f"byte {at} was changed, and its record is called good")
        return f"{len(image)} bytes"

    # --- cards ---

    def _contexts(self) -> str:
        card, serial = self._ours()
        record = replace(self._record(), serial=serial, purchase_count=6)
        seen = self._do(self._unit.write(record), card)
        known = CardKnown(
            meter_number=record.meter_number,
            customer_number=record.customer_number,
            serial=serial,
            purchase_count=6,
        )
        other = "999999999999"
        for wish, told in (
            (known, None),
            (replace(known, meter_number=other), CardWhy.WRONG_METER),
            (replace(known, customer_number=other), CardWhy.WRONG_CUSTOMER),
            (replace(known, serial=b"OTHERONE"), CardWhy.NOT_ISSUED),
            (replace(known, purchase_count=7), None),  # an old sale on it
            (replace(known, purchase_count=4), CardWhy.AHEAD),
        ):
            no = judge_card(seen, wish)
            if (None if no is None else no.why) is not told:
                raise Broken(f"{told} expected, {no} found")
        return ""

    def _strangers(self) -> str:
        blank, foreign = self._fresh(), foreign_card(self._unit.manifest.medium)
        calls = (self._unit.read, self._unit.clear, lambda: self._unit.write(self._record()))
        for call in calls:
            for card, expected in ((blank, BlankCard), (foreign, NotOurCard)):
                if card is None:
                    continue  # a CPU card comes with its keys
                try:
                    self._do(call(), card)
                except expected:
                    card.inserted_again()
                else:
                    raise Broken("a card that is not the unit's was used")
        for card in (blank, foreign):
            if card is not None and card.writes:
                raise Broken("a card that is not the unit's was written")
            if isinstance(card, LogicCard) and card.tries_min < 2:
                raise Broken("a card has fewer than two tries left")
        return ""

    def _pulled(self) -> str:
        card, serial = self._ours()
        old = replace(self._record(), serial=serial, purchase_count=1)
        new = replace(self._record(), serial=serial, purchase_count=2)
        self._do(self._unit.write(old), card)
        states = set()
        for at in range(COMMANDS_MAX):
            card.inserted_again()
            card.tear_at = at
            try:
                self._do(self._unit.write(new), card)
            except CardGone:
                card.inserted_again()
                seen = self._do(self._unit.read(), card)
                if seen.record not in (old, new) or seen.seal is not Seal.GOOD:
                    raise Broken(f"pulled at command {at}, neither is there") from None
                states.add(seen.record == new)
                if self._do(self._unit.write(new), card).record != new:
                    raise Broken(f"pulled at command {at}, it is not finished") from None
                self._do(self._unit.write(old), card)
            else:
                card.inserted_again()
                if isinstance(card, LogicCard) and card.tries_min < 2:
                    raise Broken("a card has fewer than two tries left")
                if states != {True, False}:
                    raise Broken("no command decides between old and new")
                return f"{at} commands"
        raise Broken(f"more than {COMMANDS_MAX} commands for one write")

    def _notes(self) -> str:
        return examine_notes(self._unit, self._do, self._ours, self._record(), self._card_of)

    # --- the program ---

    def _growth(self) -> str:
        record = self._record()

        def calls(count: int) -> None:
            for _ in range(count):
                self._do(self._unit.parse(self._do(self._unit.image(record))))
                self._keys.asked.clear()

        calls(200)
        if isinstance(self._raw, ClosedUnit):
            before = _resident_bytes(self._raw.process.pid)
            calls(CALLS // 2)
            grown = _resident_bytes(self._raw.process.pid) - before
        else:
            tracemalloc.start()
            try:
                before = tracemalloc.get_traced_memory()[0]
                calls(CALLS // 2)
                grown = tracemalloc.get_traced_memory()[0] - before
            finally:
                tracemalloc.stop()
        if grown > GROWTH_BYTES_MAX:
            raise Broken(f"it grew by {grown} bytes")
        return f"{max(grown, 0) // 1024} KiB"

    def _network(self) -> str:
        if not isinstance(self._raw, ClosedUnit):
            self._without_sockets()
            return "it opens no socket"
        self._do(self._unit.parse(bytes(48)))
        pid = self._raw.process.pid
        if Path(f"/proc/{pid}/ns/net").readlink() == Path("/proc/self/ns/net").readlink():
            raise Broken("its program shares our network")
        return "its program has a network of its own, with nothing in it"

    def _without_sockets(self) -> None:
        opened = []

        def tripwire(*given: object, **named: object) -> None:
            opened.append(given)
            raise OSError(0, "no network in here")

        kept, socket.socket = socket.socket, tripwire  # type: ignore[assignment,misc]
        try:
            card, serial = self._ours()
            self._do(self._unit.write(replace(self._record(), serial=serial)), card)
        finally:
            socket.socket = kept  # type: ignore[misc]
        if opened:
            raise Broken("it opens a socket")

    def _secrets(self) -> str:
        secrets = [key.hex() for key in self._keys.roots.values()] + self._keys.made
        for line in self._log.lines:
            if any(secret in line for secret in secrets):
                raise Broken("a log line holds a secret")
        return f"{len(self._log.lines)} lines"

    # --- tools ---

    def _do(self, conversation: CardConversation[T], card: VirtualCard | None = None) -> T:
        return on_reader(conversation, card, self._keys)

    def _fresh(self) -> VirtualCard | None:
        medium = self._unit.manifest.medium
        return None if medium == "cpu_card" else fresh_card(medium, self._keys)

    def _ours(self) -> tuple[VirtualCard, bytes]:
        card = self._card_of(self._chance.randbytes(8))
        serial = self._do(self._unit.read(), card).serial
        card.inserted_again()
        return card, serial

    def _card_of(self, serial: bytes) -> VirtualCard:
        """One of the unit's own; of this serial where the chip has none of its own."""
        card = fresh_card(self._unit.manifest.medium, self._keys)
        if self._unit.manifest.medium != "cpu_card":
            self._do(self._unit.personalise(serial), card)
        card.inserted_again()
        return card

    def _record(self) -> CardRecord:
        chance = self._chance
        kinds = sorted(self._unit.manifest.kinds - BEARER_KINDS - {CardKind.REFUND}, key=_by_value)
        return CardRecord(
            kind=chance.choice(kinds),
            key_version=1,
            meter_number=f"{chance.randrange(10**12):012d}",
            customer_number=f"{chance.randrange(10**12):012d}",
            serial=chance.randbytes(8),
            issue_number=chance.randrange(1, 2**32),
            amount_fen=chance.randrange(1, 99_999_998),
            purchase_count=chance.randrange(1, 65535),
        )


def _by_value(kind: CardKind) -> int:
    return kind.value


def _resident_bytes(pid: int | None) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096


class _Heard(logging.Handler):
    """Every log line while a unit is examined."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
