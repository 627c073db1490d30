"""What an Acrel gateway says, in its own XML and under its own cipher (spec acrel.md 4.2)."""

from __future__ import annotations

import enum
import hashlib
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from xml.etree import ElementTree as ET

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

from simulators.metering import W_MS_PER_WH, Look
from simulators.tariff import Rate

_MARK = b"\x1f\x1f"
_HEAD_BYTES = 7
_BLOCK = 16
_RATE_IDS = {
    Rate.SHARP: "PowerHigher",
    Rate.PEAK: "PowerHigh",
    Rate.FLAT: "PowerFlat",
    Rate.VALLEY: "PowerLow",
    Rate.DEEP_VALLEY: "EPISG",
}


class Type(enum.IntEnum):
    """The type byte."""

    LOGIN = 0x01
    HEARTBEAT = 0x02
    REPORT = 0x03
    PACKED_REPORT = 0x04
    ASK = 0xF1
    ANSWER = 0xF2


@dataclass(frozen=True, slots=True)
class MeterLine:
    """One meter in a report: where it is and what it shows."""

    port: int
    unit: int
    look: Look


def framed(kind: Type, data: bytes) -> bytes:
    return _MARK + bytes([kind]) + len(data).to_bytes(4, "big") + data


def take_frames(buffer: bytearray) -> Iterable[tuple[int, bytes]]:
    """The whole frames at the front of a buffer, taken out of it. The head-end sends no noise."""
    while len(buffer) >= _HEAD_BYTES:
        assert buffer[:2] == _MARK, f"not a frame: {bytes(buffer[:16]).hex()}"
        end = _HEAD_BYTES + int.from_bytes(buffer[3:7], "big")
        if len(buffer) < end:
            return
        kind, data = buffer[2], bytes(buffer[_HEAD_BYTES:end])
        del buffer[:end]
        yield kind, data


def lock(plain: bytes, secret: str) -> bytes:
    """AES-128-CBC under the secret, which is the first vector, too."""
    missing = _BLOCK - len(plain) % _BLOCK
    locking = Cipher(AES(secret.encode()), CBC(secret.encode())).encryptor()
    return locking.update(plain + bytes([missing]) * missing) + locking.finalize()


def unlock(locked: bytes, secret: str) -> bytes:
    unlocking = Cipher(AES(secret.encode()), CBC(secret.encode())).decryptor()
    plain = unlocking.update(locked) + unlocking.finalize()
    return plain[: -plain[-1]]


def login_request(building: str, number: str) -> bytes:
    return _document(building, number, "id_validate", "request")


def login_proof(building: str, number: str, secret: str, sequence: str) -> bytes:
    md5 = hashlib.md5((secret + sequence).encode(), usedforsecurity=False).hexdigest()
    return _document(building, number, "id_validate", "md5", ("md5", md5.upper()))


def heartbeat(building: str, number: str) -> bytes:
    return _document(building, number, "heart_beat", "notify")


def heard(data: bytes) -> dict[str, str]:
    """The texts of what the head-end says, by tag, and every "operation"."""
    said = {}
    for element in ET.fromstring(data).iter():
        if "operation" in element.attrib:
            said["operation"] = element.attrib["operation"]
        said[element.tag] = (element.text or "").strip()
    return said


def report(number: str, dial: datetime, meters: Iterable[MeterLine], *, stored: bool) -> bytes:
    """What its meters show, in kWh; `stored`: kept in its memory meanwhile."""
    root = ET.Element("root")
    common = ET.SubElement(root, "common")
    ET.SubElement(common, "gateway_id").text = number
    ET.SubElement(common, "type").text = "energy_data"
    data = ET.SubElement(root, "data", operation="continuous" if stored else "report")
    ET.SubElement(data, "time").text = f"{dial:%Y%m%d%H%M%S}"
    for line in meters:
        meter = ET.SubElement(data, "meter", id=f"{line.port:02}{line.unit:03}")
        for name, text in _functions(line.look):
            ET.SubElement(meter, "function", id=name).text = text
    return _written(root)


def packed(body: bytes) -> bytes:
    return zlib.compress(body)


def _written(root: ET.Element) -> bytes:
    return (
        b'<?xml version="1.0" encoding="utf-8"?>' + ET.tostring(root, encoding="unicode").encode()
    )


def _functions(look: Look) -> Iterable[tuple[str, str]]:
    yield "WPP", _kwh(look.total_w_ms)
    for rate, name in _RATE_IDS.items():
        if rate is not Rate.DEEP_VALLEY or look.energy_w_ms[rate - 1]:
            yield name, _kwh(look.energy_w_ms[rate - 1])
    volts, tenth = divmod(look.phases[0].voltage_dv, 10)
    yield "Ua", f"{volts}.{tenth}"  # not among the published ids: templates differ


def _kwh(w_ms: int) -> str:
    hundredths = w_ms // (10 * W_MS_PER_WH)
    return f"{hundredths // 100}.{hundredths % 100:02}"


def _document(
    building: str, number: str, kind: str, operation: str, word: tuple[str, str] | None = None
) -> bytes:
    root = ET.Element("root")
    common = ET.SubElement(root, "common")
    ET.SubElement(common, "building_id").text = building
    ET.SubElement(common, "gateway_id").text = number
    ET.SubElement(common, "type").text = kind
    step = ET.SubElement(root, kind, operation=operation)
    if word is not None:
        ET.SubElement(step, word[0]).text = word[1]
    return _written(root)
