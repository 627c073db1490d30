"""An evidence pack: a signed archive about one meter's account, and how anybody verifies it. Pure.

A pack is a ZIP of plain files. `manifest.json` names each with its SHA-256; `signature.json` signs
the manifest's bytes with the installation's Ed25519 key. The same facts give the same bytes. What a
verification proves, and what it cannot, is in docs/evidence.md.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import struct
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from headend.domain.seals import BEGINNING, DaySeal, next_link, seal_digest

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
SIGNATURE: Final = "signature.json"
#: What every pack holds, in the order of the archive.
MEMBERS: Final = (
    "summary.en.html",
    "summary.zh.html",
    "account.json",
    "ledger.json",
    "seals.json",
    "commands.json",
    "readings.json",
    "operators.json",
    "software.json",
)
_ORDER: Final = (*MEMBERS, MANIFEST, SIGNATURE)
# A pack of a year of a busy meter is 2 MB. What is larger is no pack of ours.
PACK_BYTES_MAX: Final = 64 << 20
# The instant every member carries: a pack says when it was made in its manifest.
_ZIP_DATE: Final = (1980, 1, 1, 0, 0, 0)
_PLAIN_NAME: Final = re.compile(r"[a-z]+(\.[a-z]+){1,2}")
_SIGNED_PREFIX: Final = b"headend evidence pack 1\0"  # a signature means this and nothing else


class BadPack(ValueError):
    """The first thing that is wrong with a pack, as one clause."""

    def __init__(self, member: str, what: str) -> None:
        self.member = member
        self.what = what
        super().__init__(f"{member} {what}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PackReport:
    """What a sound pack says about itself."""

    made_at: str
    meter: str
    customer: str
    since: str
    until: str
    fingerprint: str
    lines: int
    commands: int
    readings: int
    chained: int  # ledger lines with a chain value
    last_seal: str | None  # as `headend verify-ledger --anchor` takes it


def fingerprint(public_key: bytes) -> str:
    """What people compare: SHA-256 of the key's 32 bytes, in groups of four hex digits."""
    digest = hashlib.sha256(public_key).hexdigest()
    return "-".join(digest[at : at + 4] for at in range(0, 64, 4))


def same_fingerprint(one: str, other: str) -> bool:
    """Whether two are one, however people wrote them down."""
    return re.sub(r"[^0-9a-f]", "", one.lower()) == re.sub(r"[^0-9a-f]", "", other.lower())


def as_json(value: object) -> bytes:
    """The bytes of a member: sorted keys, one indent, UTF-8 unescaped, a line end."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, indent=1)
    return text.encode() + b"\n"


def packed(members: Mapping[str, bytes], facts: Mapping[str, Any], key: Ed25519PrivateKey) -> bytes:
    """The archive: each member, the manifest over them, the signature over the manifest."""
    assert set(members) == set(MEMBERS), "a pack holds what it always holds"
    manifest = as_json(
        {
            "format": FORMAT,
            **facts,
            "members": {
                name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
                for name, data in members.items()
            },
        }
    )
    public = key.public_key().public_bytes_raw()
    signature = as_json(
        {
            "algorithm": "Ed25519",
            "public_key": public.hex(),
            "fingerprint": fingerprint(public),
            "signature": key.sign(_SIGNED_PREFIX + manifest).hex(),
        }
    )
    return _archive({**members, MANIFEST: manifest, SIGNATURE: signature})


def _archive(members: Mapping[str, bytes]) -> bytes:
    """The one archive these members make. Stored and not deflated: what a compressor makes differs
    from machine to machine, and what is not packed cannot burst."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name in _ORDER:
            info = zipfile.ZipInfo(name, _ZIP_DATE)
            info.create_system = 3  # whatever machine makes it
            info.external_attr = 0o444 << 16
            archive.writestr(info, members[name])
    return file.getvalue()


def verify(pack: bytes, key: str | None = None) -> PackReport:
    """What a sound pack says. Raises BadPack with the first thing that is wrong.

    `key`: the fingerprint somebody got from the company by another road; without it the pack proves
    that it is whole, and not by whom it was made.
    """
    members = _unpacked(pack)
    manifest, used = _signed(members, key)
    for name in MEMBERS:
        told = manifest["members"].get(name)
        data = members[name]
        if not isinstance(told, dict) or told.get("sha256") != hashlib.sha256(data).hexdigest():
            raise BadPack(name, "is not as it was signed")
        if told.get("bytes") != len(data):
            raise BadPack(name, "has another length than was signed")
    if set(manifest["members"]) != set(MEMBERS):
        raise BadPack(MANIFEST, "lists other members than a pack has")
    if _archive(members) != pack:
        raise BadPack("the file", "holds bytes around its members that nobody signed")
    try:
        return _judged(members, manifest, used)
    except BadPack:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise BadPack(MANIFEST, f"was signed over members that are no evidence ({error})") from None


def _unpacked(pack: bytes) -> dict[str, bytes]:
    """Every member in memory, nothing on disk; no member is larger than the file it came in."""
    if len(pack) > PACK_BYTES_MAX:
        raise BadPack("the file", f"is larger than {PACK_BYTES_MAX >> 20} MiB: no pack is")
    try:
        with zipfile.ZipFile(io.BytesIO(pack)) as archive:
            infos = archive.infolist()
            _check_names(infos)
            members = {info.filename: _read(archive, info) for info in infos}
    except BadPack:
        raise
    except (
        zipfile.BadZipFile, struct.error, NotImplementedError, RuntimeError, EOFError, OSError,
        ValueError, OverflowError, UnicodeDecodeError,
    ) as error:  # fmt: skip
        raise BadPack("the file", f"is no whole archive ({error})") from None
    return members


def _check_names(infos: Sequence[zipfile.ZipInfo]) -> None:
    names = [info.filename for info in infos]
    for name in names:
        if _PLAIN_NAME.fullmatch(name) is None or name not in _ORDER:
            raise BadPack(repr(name), "is no member of a pack")
        if names.count(name) > 1:
            raise BadPack(name, "is there twice")
    for name in _ORDER:
        if name not in names:
            raise BadPack(name, "is missing")
    if tuple(names) != _ORDER:
        raise BadPack("the file", "has its members in another order")


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits:
        raise BadPack(info.filename, "is stored in a way no pack is")
    if info.file_size != info.compress_size or info.file_size > PACK_BYTES_MAX:
        raise BadPack(info.filename, "claims another length than it has")
    with archive.open(info) as member:
        return member.read()


def _signed(members: Mapping[str, bytes], key: str | None) -> tuple[dict[str, Any], str]:
    """The manifest, once its signature holds, and the fingerprint of its key."""
    try:
        told = json.loads(members[SIGNATURE])
        public = bytes.fromhex(told["public_key"])
        signature = bytes.fromhex(told["signature"])
        shown = told["fingerprint"]
        checker = Ed25519PublicKey.from_public_bytes(public)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadPack(SIGNATURE, f"cannot be read ({error})") from None
    used = fingerprint(public)
    if told != {
        "algorithm": "Ed25519",
        "public_key": public.hex(),
        "fingerprint": used,
        "signature": signature.hex(),
    }:
        raise BadPack(SIGNATURE, f"shows the fingerprint {shown!r} for another key")
    if key is not None and not same_fingerprint(key, used):
        raise BadPack(SIGNATURE, f"is by the key {used}, and not by {key}")
    try:
        checker.verify(signature, _SIGNED_PREFIX + members[MANIFEST])
    except InvalidSignature:
        raise BadPack(MANIFEST, "is not as it was signed") from None
    try:
        manifest = json.loads(members[MANIFEST])
        if manifest["format"] != FORMAT or not isinstance(manifest["members"], dict):
            raise ValueError("another format")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadPack(MANIFEST, f"cannot be read ({error})") from None
    return manifest, used


def _judged(members: Mapping[str, bytes], manifest: Mapping[str, Any], used: str) -> PackReport:
    """What the members say together: chain values recomputed, seals following one another."""
    loaded = {name: json.loads(data) for name, data in members.items() if name.endswith(".json")}
    lines = loaded["ledger.json"]["lines"]
    chained = check_chain(lines)
    last = check_seals(loaded["seals.json"])
    return PackReport(
        made_at=manifest["made_at"],
        meter=manifest["meter"],
        customer=loaded["account.json"]["customer"]["name"],
        since=manifest["since"],
        until=manifest["until"],
        fingerprint=used,
        lines=len(lines),
        commands=len(loaded["commands.json"]),
        readings=len(loaded["readings.json"]),
        chained=chained,
        last_seal=None if last is None else f"{last.day}:{last.seal_sha256.hex()}",
    )


def check_chain(lines: Sequence[Mapping[str, Any]]) -> int:
    """Each line hashes from the link before it to its own; how many are chained. Raises BadPack."""
    chained = 0
    at: tuple[int, bytes] | None = None
    for line in lines:
        if line["position"] is None:
            continue
        entry = line["entry"]
        number = entry["entry_no"] if line["table"] == "transfer" else entry["event_id"]
        row = f"ledger.json, {line['table']} {number},"
        before, after = bytes.fromhex(line["before_sha256"]), bytes.fromhex(line["chain_sha256"])
        if at is not None and line["position"] <= at[0]:
            raise BadPack(row, "does not stand in the order of the chain")
        if at is not None and line["position"] == at[0] + 1 and before != at[1]:
            raise BadPack(row, "does not follow the line before it")
        if line["position"] == 1 and before != BEGINNING:
            raise BadPack(row, "does not stand at the beginning of the chain")
        if next_link(before, line["table"], entry) != after:
            raise BadPack(row, "does not give its value of the chain")
        at = (line["position"], after)
        chained += 1
    return chained


def check_seals(seals: Sequence[Mapping[str, Any]]) -> DaySeal | None:
    """Each seal is made of what it says and of the seal before it. Raises BadPack."""
    last: DaySeal | None = None
    for told in seals:
        entry = told["entry"]
        seal = DaySeal(
            day=date.fromisoformat(entry["day"]),
            last_position=entry["last_position"],
            transfers=entry["transfers"],
            events=entry["events"],
            chain_sha256=bytes.fromhex(entry["chain_sha256"]),
            previous_sha256=bytes.fromhex(entry["previous_sha256"]),
            sealed_at=datetime.fromisoformat(entry["sealed_at"]),
            seal_sha256=bytes.fromhex(told["seal_sha256"]),
        )
        row = f"seals.json, day {seal.day},"
        if last is not None and seal.previous_sha256 != last.seal_sha256:
            raise BadPack(row, "does not follow the seal before it")
        if seal_digest(seal) != seal.seal_sha256:
            raise BadPack(row, "does not say what it was made of")
        last = seal
    return last
