"""When backups were made and rehearsed, and how that went."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from headend.store.database import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One backup, or one rehearsal of restoring one."""

    kind: str  # backup, drill
    file: str
    began_at: datetime
    ended_at: datetime
    bytes: int
    succeeded: bool
    detail: str


async def add(tx: Transaction, run: Run) -> None:
    """Keep how it went."""
    await tx.execute(
        "INSERT INTO backup_run (kind, file, began_at, ended_at, bytes, succeeded, detail)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s)",
        run.kind,
        run.file,
        run.began_at,
        run.ended_at,
        run.bytes,
        run.succeeded,
        run.detail,
    )


async def newest(tx: Transaction, kind: str, *, succeeded: bool | None = True) -> Run | None:
    """The newest run of a kind; `succeeded` None: however it went."""
    row = await tx.row(
        """
        SELECT kind, file, began_at, ended_at, bytes, succeeded, detail FROM backup_run
        WHERE kind = %(kind)s AND (%(succeeded)s::boolean IS NULL OR succeeded = %(succeeded)s)
        ORDER BY began_at DESC, run_id DESC LIMIT 1""",
        named={"kind": kind, "succeeded": succeeded},
    )
    if row is None:
        return None
    kind, file, began_at, ended_at, size, went_well, detail = row
    return Run(
        kind=kind,
        file=file,
        began_at=began_at,
        ended_at=ended_at,
        bytes=size,
        succeeded=went_well,
        detail=detail,
    )
