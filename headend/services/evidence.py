"""Evidence packs made: the installation's signing key, the facts gathered, the archive signed.

The private key is a file in the data folder that its owner alone may read, made at the first use.
Whoever has it can sign packs that never were; its fingerprint belongs on paper, from the first day.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from headend.domain.clock import Clock
from headend.domain.evidence import as_json, fingerprint, packed
from headend.domain.problems import Problem
from headend.domain.seals import BookedRow, DaySeal, seal_entry
from headend.services.evidence_summary import summary
from headend.services.report_files import Say
from headend.store import evidence
from headend.store.database import Database
from headend.store.evidence import Lines, Subject
from protocols.explain import explain

KEY_FILE: Final = "evidence.key"
_KEY_HEX: Final = 64
# Without a beginning a pack tells this much; a dispute is about a bill or two.
USUAL: Final = timedelta(days=93)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """A pack ready to be handed over."""

    name: str
    data: bytes
    fingerprint: str


class EvidenceDesk:
    """Makes packs, signed with the key in this file."""

    def __init__(
        self, database: Database, clock: Clock, *, key_file: Path, version: str, say: Say
    ) -> None:
        self._database = database
        self._clock = clock
        self._key_file = key_file
        self._version = version
        self._say = say

    def fingerprint(self) -> str:
        """Of the key that signs; for paper. Raises Problem("evidence-key")."""
        return fingerprint(signing_key(self._key_file).public_key().public_bytes_raw())

    async def make(
        self,
        meter_id: int,
        meter: str,
        *,
        account_id: int | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        made_by: int | None,
    ) -> Pack:
        """The pack about whoever's meter this is, or was; kept in the list of packs.

        Raises Problem("no-evidence", "bad-request", "evidence-key").
        """
        key = signing_key(self._key_file)
        made_at = self._clock.now()
        until = until or made_at
        since = since or until - USUAL
        if since >= until:
            raise Problem("bad-request", detail="an evidence pack begins before it ends")
        async with self._database.transaction() as tx:
            await tx.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            about = await evidence.subject(tx, meter_id, account_id)
            if about is None:
                raise Problem("no-evidence", meter=meter)
            # What somebody else did before or after is none of this account's business.
            lived = (max(since, about.opened_at), min(until, about.closed_at or until))
            orders = await evidence.commands(tx, meter_id, *lived)
            ids = [UUID(order["command_id"]) for order in orders]
            lines = await evidence.lines(tx, about, since, until, ids)
            # The look at the meter at the handover belongs to both.
            looks = await evidence.looks(tx, meter_id, lived[0] - evidence.NEAR, lived[1])
            people = await evidence.operators(tx, _numbers(orders, lines, made_by))
        members = self._members(about, orders, lines, looks, people)
        facts = {
            "meter": meter,
            "account_id": about.account_id,
            "since": since.isoformat(),
            "until": until.isoformat(),
            "made_at": made_at.isoformat(),
            "made_by": made_by,
        }
        members |= await asyncio.to_thread(self._summaries, members, facts, key)
        data = await asyncio.to_thread(packed, members, facts, key)
        shown = fingerprint(key.public_key().public_bytes_raw())
        async with self._database.transaction() as tx:
            await evidence.keep_pack(
                tx,
                about,
                since=since,
                until=until,
                made_at=made_at,
                made_by=made_by,
                size=len(data),
                sha256=hashlib.sha256(data).digest(),
                fingerprint=shown,
            )
        # Names of meters may hold anything; a file's name holds what every system takes.
        plain = "".join(sign if sign.isalnum() or sign in "-_" else "-" for sign in meter)
        return Pack(name=f"evidence-{plain}-{made_at:%Y%m%d}.zip", data=data, fingerprint=shown)

    def _members(
        self,
        about: Subject,
        orders: list[dict[str, Any]],
        lines: Lines,
        looks: list[dict[str, Any]],
        people: list[dict[str, Any]],
    ) -> dict[str, bytes]:
        for order in orders:
            for one in order["tries"]:
                _explain(one["frames"])
        return {
            "account.json": as_json(about.record),
            "ledger.json": as_json(
                {
                    "lines": [_line(row, before) for row, before in lines.rows],
                    "accounts": {str(number): one for number, one in lines.accounts.items()},
                }
            ),
            "seals.json": as_json([_seal(seal) for seal in lines.seals]),
            "commands.json": as_json(orders),
            "readings.json": as_json(looks),
            "operators.json": as_json(people),
            "software.json": as_json({"program": "headend", "version": self._version}),
        }

    def _summaries(
        self, members: Mapping[str, bytes], facts: Mapping[str, Any], key: Ed25519PrivateKey
    ) -> dict[str, bytes]:
        shown = fingerprint(key.public_key().public_bytes_raw())
        return {
            f"summary.{language}.html": summary(members, facts, shown, language, self._say)
            for language in ("en", "zh")
        }


def signing_key(file: Path) -> Ed25519PrivateKey:
    """The key of this installation, made when there is none. Raises Problem("evidence-key")."""
    try:
        if not file.exists():
            _make_key(file)
        if file.stat().st_mode & 0o077:
            raise Problem("evidence-key", file=file, detail="others may read it: chmod 600")
        text = file.read_text(encoding="ascii").strip()
        if len(text) != _KEY_HEX:
            raise ValueError("it is not 64 hex digits")
        return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(text))
    except (OSError, ValueError) as error:
        detail = getattr(error, "strerror", None) or str(error)
        raise Problem("evidence-key", file=file, detail=detail) from error


def _make_key(file: Path) -> None:
    """Written whole under another name first: two programs at once make one key."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.{os.getpid()}")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        opened.write(Ed25519PrivateKey.generate().private_bytes_raw().hex() + "\n")
        opened.flush()
        os.fsync(opened.fileno())
    try:
        os.link(part, file)
    except FileExistsError:
        pass  # another one was quicker: its key is the key
    finally:
        part.unlink()


def _numbers(orders: Iterable[Mapping[str, Any]], lines: Lines, made_by: int | None) -> set[int]:
    """Every operator the pack names."""
    named: set[Any] = {made_by}
    for order in orders:
        named |= {order["ordered_by"], order["approved_by"]}
    for row, _ in lines.rows:
        if row.entry is not None:
            named |= {row.entry.get("operator_id"), row.entry.get("approver_id")}
    return {number for number in named if isinstance(number, int)}


def _line(row: BookedRow, before: bytes | None) -> dict[str, Any]:
    return {
        "table": row.source,
        "entry": row.entry,
        "position": row.position,
        "before_sha256": None if before is None else before.hex(),
        "chain_sha256": None if row.chain_sha256 is None else row.chain_sha256.hex(),
    }


def _seal(seal: DaySeal) -> dict[str, Any]:
    return {"entry": seal_entry(seal), "seal_sha256": seal.seal_sha256.hex()}


def _explain(frames: Iterable[dict[str, Any]]) -> None:
    """Say beside each frame what it means; an answer is understood by what was asked."""
    asked: bytes | None = None
    for frame in frames:
        text = frame.get("out") or frame.get("in")
        if not isinstance(text, str):
            continue
        try:
            data = bytes.fromhex(text)
        except ValueError:
            continue
        out = "out" in frame
        frame["meaning"] = explain(data, None if out else asked)
        asked = data if out else asked
