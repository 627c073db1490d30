"""A closed unit: a manifest and a program with keys of its own, which never come to us.

The program makes the commands for the card; we carry them to the reader and back. It returns amount
and count in clear, and the head-end compares them: a bad unit can fail a sale, not invent one.
"""

from __future__ import annotations

import threading
import tomllib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Final, TypeVar

from headend.units.unit_messages import BadUnitMessage, record_message, record_of, seen_of
from headend.units.unit_process import UnitDown, UnitFailed, UnitProcess, command_of
from headend.units.users import own_user
from protocols.card_apdu import (
    Apdu,
    BlankCard,
    CardConversation,
    CardError,
    CardGone,
    CardRefused,
    CardSpent,
    Issuer,
    NotOurCard,
    transmit,
)
from protocols.card_desk import CardSeen, Seal
from protocols.card_image import CardKind, CardRecord
from protocols.exchange import Effect
from protocols.security_unit import API_VERSION, Channel, Manifest, SecurityUnit, UnitError

T = TypeVar("T")

MANIFEST: Final = "unit.toml"
COMMANDS_MAX: Final = 400  # of one call; an RF card takes about a hundred
# Cards at one time; a desk and a terminal that come later are told so.
PROGRAMS_MAX: Final = 8
_FAILS: Final[dict[str, type[CardError]]] = {
    "blank": BlankCard,
    "not-ours": NotOurCard,
    "spent": CardSpent,
    "gone": CardGone,
}


def closed_unit(folder: Path, *, uid_first: int = 0, taken: Collection[int] = ()) -> ClosedUnit:
    """The unit of a folder with a unit.toml. Raises UnitError.

    Its program runs as a user of its own in the range that begins at `uid_first`, none of `taken`.
    """
    try:
        table = tomllib.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        command = table.pop("command")
        manifest = Manifest(
            name=table.pop("name"),
            maker=table.pop("maker"),
            version=str(table.pop("version")),
            api_version=table.pop("api_version"),
            type_codes=tuple(table.pop("type_codes")),
            medium=table.pop("medium"),
            reader_family=table.pop("reader_family"),
            keys=frozenset(),
            channels=frozenset(Channel(name) for name in table.pop("channels")),
            kinds=frozenset(CardKind[name.upper()] for name in table.pop("kinds")),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnitError(f"{folder / MANIFEST} cannot be used: {error}") from error
    if table or not isinstance(command, list) or not command:
        unknown = ", ".join(table) or "command"
        raise UnitError(f"{folder / MANIFEST} cannot be used: {unknown}")
    uid = own_user(manifest.name, uid_first, taken)
    process = UnitProcess(manifest.name, command_of(command, folder), folder, uid=uid)
    return ClosedUnit(manifest, process, API_VERSION)


class ClosedUnit:
    """The SecurityUnit of a program."""

    def __init__(self, manifest: Manifest, process: UnitProcess, api_version: int) -> None:
        assert manifest.api_version == api_version
        self._manifest = manifest
        self.process = process  # the first; a second card at the same time has one of its own
        self._programs = [process]
        self._idle = [process]
        self._lock = threading.Lock()

    @property
    def manifest(self) -> Manifest:
        """What it is for."""
        return self._manifest

    def for_issuer(self, issuer: Issuer) -> SecurityUnit:
        """The same: its keys are its own."""
        return self

    def read(self) -> CardConversation[CardSeen]:
        """What is on the card."""
        return (yield from self._call({"call": "read"}, seen_of))

    def write(self, record: CardRecord) -> CardConversation[CardSeen]:
        """Put a record on the card; what it reads back must be that record."""
        message = {"call": "write", "record": record_message(record)}
        return (yield from self._call(message, seen_of, wrote=record))

    def clear(self) -> CardConversation[CardSeen]:
        """Take the records off."""
        return (yield from self._call({"call": "clear"}, seen_of))

    def personalise(self, new_serial: bytes) -> CardConversation[bytes]:
        """A blank card becomes one of the unit's."""
        message = {"call": "personalise", "serial": new_serial.hex()}
        return (yield from self._call(message, _serial_of))

    def image(self, record: CardRecord) -> CardConversation[bytes]:
        """The maker's bytes."""
        message = {"call": "image", "record": record_message(record)}
        return (yield from self._call(message, _image_of))

    def parse(self, image: bytes) -> CardConversation[tuple[CardRecord, Seal] | None]:
        """What those bytes say."""
        return (yield from self._call({"call": "parse", "image": image.hex()}, _parsed_of))

    def stop(self) -> None:
        """End its programs."""
        for process in self._programs:
            process.stop()

    def _borrowed(self) -> UnitProcess:
        """A program that works on no card."""
        with self._lock:
            if self._idle:
                return self._idle.pop()
            if len(self._programs) >= PROGRAMS_MAX:
                raise UnitFailed(f"the unit {self._manifest.name} works on too many cards at once")
            self._programs.append(self.process.another())
            return self._programs[-1]

    def _call(
        self,
        message: dict[str, Any],
        meaning: Callable[[Any], T],
        *,
        wrote: CardRecord | None = None,
    ) -> CardConversation[T]:
        process = self._borrowed()
        ended = False
        try:
            process.say(message)
            for _ in range(COMMANDS_MAX):
                told = process.hear()
                if "apdu" not in told:
                    ended = True
                    return self._end(process, told, meaning, wrote)
                yield from self._carry(process, told)
            raise process.nonsense(f"more than {COMMANDS_MAX} commands in one call")
        except (UnitFailed, UnitDown):
            ended = True
            raise
        finally:
            if not ended:
                process.stop()  # whoever ran us went away in the middle
            with self._lock:
                self._idle.append(process)

    def _carry(self, process: UnitProcess, told: dict[str, Any]) -> CardConversation[None]:
        try:
            command = Apdu(
                f"{self._manifest.name}: a command",
                bytes.fromhex(told["apdu"]),
                Effect.WRITE if told.get("write", True) else Effect.READ,
            )
        except (ValueError, TypeError):
            raise process.nonsense("a command that is none") from None
        if len(command.command) < 4:
            raise process.nonsense("a command that is none")
        try:
            answer = yield from transmit(command)
        except CardGone:
            process.say({"gone": True})
            return
        raw = answer.data + answer.status.to_bytes(2, "big")
        process.say({"answer": raw.hex()})

    def _end(
        self,
        process: UnitProcess,
        told: dict[str, Any],
        meaning: Callable[[Any], T],
        wrote: CardRecord | None,
    ) -> T:
        if "fail" in told:
            detail = str(told.get("detail", ""))[:200]
            if told["fail"] == "refused":
                raise CardRefused(detail or self._manifest.name, 0x6F00)
            raise _FAILS.get(str(told["fail"]), UnitFailed)(detail or str(told["fail"])[:40])
        try:
            meant = meaning(told["done"])
        except (BadUnitMessage, KeyError) as error:
            raise process.nonsense("an answer that is none") from error
        if wrote is not None:
            assert isinstance(meant, CardSeen), "a write ends in what lies on the card"
            if meant.record != wrote or meant.seal is not Seal.GOOD:
                raise process.nonsense("it says it wrote something else")
        return meant


def _serial_of(told: Any) -> bytes:
    try:
        return bytes.fromhex(told)
    except (ValueError, TypeError) as error:
        raise BadUnitMessage("no serial") from error


def _image_of(told: Any) -> bytes:
    return _serial_of(told)


def _parsed_of(told: Any) -> tuple[CardRecord, Seal] | None:
    if told is None:
        return None
    try:
        return record_of(told["record"]), Seal(told["seal"])
    except (KeyError, TypeError, ValueError) as error:
        raise BadUnitMessage("no parsed record") from error
