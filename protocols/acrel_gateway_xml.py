"""The XML an Acrel gateway speaks: login, time, reports (spec acrel.md 4.2).

Parsed by defusedxml, which refuses every document type declaration: no entities that unfold, none
that fetch a file. Depth costs nothing here, since nothing walks the tree by recursion.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from xml.etree.ElementTree import Element, ParseError
from xml.sax.saxutils import escape

from defusedxml.ElementTree import fromstring  # type: ignore[import-untyped]

# Of a report, inflated.
XML_BYTES_MAX = 512 * 1024
WORD_CHARS_MAX = 64  # of a building, a gateway, a function: more than any maker's tool takes

_TIME = re.compile(r"[0-9]{14}")
_METER = re.compile(r"([0-9]{2})([0-9]{3})")  # port and address


class BadXml(ValueError):
    """A document that is not what its frame promises. The text is one clause."""


@dataclass(frozen=True, slots=True)
class Login:
    """A step of the login. `operation` is "request" or "md5"; `md5` belongs to the latter."""

    building: str
    gateway: str
    operation: str
    md5: str

    @property
    def registration(self) -> str:
        """Who says so, as it is written in a site file."""
        return f"{self.building}/{self.gateway}"


@dataclass(frozen=True, slots=True)
class ReportedMeter:
    """One meter of a report: the texts of its functions by their id, as they came."""

    port: int
    unit: int
    functions: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Report:
    """What a gateway has read by itself. `dial` is its own clock."""

    gateway: str
    operation: str
    dial: datetime
    meters: tuple[ReportedMeter, ...]
    nameless: tuple[str, ...]  # meter ids that are no port and address


def read_login(data: bytes) -> Login:
    """A step of the login. Raises BadXml."""
    root = _parse(data)
    step = root.find("id_validate")
    if step is None:
        raise BadXml("a login without id_validate")
    building, gateway = _text(root, "common/building_id"), _text(root, "common/gateway_id")
    if not gateway:
        raise BadXml("a login without a gateway number")
    return Login(building, gateway, step.get("operation", ""), _text(step, "md5"))


def read_report(data: bytes) -> Report:
    """A report in the clear. Raises BadXml."""
    root = _parse(data)
    body = root.find("data")
    if body is None:
        raise BadXml("a report without data")
    meters, nameless = [], []
    for meter in body.iterfind("meter"):
        if found := _METER.fullmatch(meter.get("id", "")):
            meters.append(ReportedMeter(int(found[1]), int(found[2]), _functions(meter)))
        else:
            nameless.append(_word(meter.get("id", "")))
    return Report(
        gateway=_text(root, "common/gateway_id"),
        operation=body.get("operation", ""),
        dial=_dial(_text(body, "time")),
        meters=tuple(meters),
        nameless=tuple(nameless),
    )


def sequence_answer(building: str, gateway: str, sequence: str) -> bytes:
    """Prove who you are with this sequence."""
    return _login_answer(building, gateway, "sequence", sequence)


def result_answer(building: str, gateway: str, *, passed: bool) -> bytes:
    """What we think of the proof."""
    return _login_answer(building, gateway, "result", "pass" if passed else "fail")


def time_answer(building: str, gateway: str, dial: datetime) -> bytes:
    """The answer to a heartbeat, by which a gateway sets its clock."""
    assert dial.tzinfo is None, "a gateway keeps local time"
    return (
        f'<?xml version="1.0"?><root>{_common(building, gateway, "heart_beat")}'
        f'<heart_beat operation="time"><time>{dial:%Y%m%d%H%M%S}</time></heart_beat></root>'
    ).encode()


def _login_answer(building: str, gateway: str, word: str, value: str) -> bytes:
    return (
        f'<?xml version="1.0" encoding="utf-8"?><root>{_common(building, gateway, "id_validate")}'
        f'<id_validate operation="{word}" version="2"><{word}>{value}</{word}></id_validate></root>'
    ).encode()


def _common(building: str, gateway: str, kind: str) -> str:
    return (
        f"<common><building_id>{escape(building)}</building_id>"
        f"<gateway_id>{escape(gateway)}</gateway_id><type>{kind}</type></common>"
    )


def _parse(data: bytes) -> Element:
    if len(data) > XML_BYTES_MAX:
        raise BadXml(f"more than {XML_BYTES_MAX} bytes of XML")
    try:
        # As text, so that no declared encoding chooses a decoder for us.
        root: Element = fromstring(data.decode(), forbid_dtd=True)
    except (ParseError, ValueError) as error:  # defusedxml and bad UTF-8 are ValueErrors
        raise BadXml(f"XML that is refused: {type(error).__name__}") from None
    return root


def _functions(meter: Element) -> tuple[tuple[str, str], ...]:
    return tuple(
        (_word(function.get("id", "")), _word(function.text or ""))
        for function in meter.iterfind("function")
    )


def _text(at: Element, path: str) -> str:
    return _word(at.findtext(path) or "")


def _word(text: str) -> str:
    return text.strip()[:WORD_CHARS_MAX]


def _dial(text: str) -> datetime:
    try:
        if _TIME.fullmatch(text):
            return datetime.strptime(text, "%Y%m%d%H%M%S")  # noqa: DTZ007  a dial has no time zone
    except ValueError:
        pass
    raise BadXml("a report without a time")
