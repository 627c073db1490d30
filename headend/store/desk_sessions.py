"""What the desk keeps about people: secrets, tries to sign in, sessions, and what they did.

A session's cookie and its row are tied by a plain SHA-256: the cookie is 256 random bits, which
nobody guesses. Passwords are hashed by services/sign_in.py.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from headend.domain.roles import Operator
from headend.domain.sign_in import SESSION_IDLE, SESSION_LONGEST
from headend.store import people
from headend.store.database import Transaction

SESSION_BYTES: Final = 32
# A page is not worth a write each time: being seen is kept to the minute.
SEEN_EVERY: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """What an operator signs in with."""

    operator_id: int
    password_argon2: str
    totp_secret: str | None
    totp_since: datetime | None  # None: not in force
    totp_last_step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A signed-in browser."""

    operator: Operator
    csrf: str
    began_at: datetime
    expires_at: datetime


async def secret_of(tx: Transaction, operator_id: int) -> Secret | None:
    """None: nobody signs in under this operator yet."""
    row = await tx.row(
        "SELECT operator_id, password_argon2, totp_secret, totp_since, totp_last_step"
        " FROM operator_secret WHERE operator_id = %s",
        operator_id,
    )
    if row is None:
        return None
    return Secret(
        operator_id=row[0],
        password_argon2=row[1],
        totp_secret=row[2],
        totp_since=row[3],
        totp_last_step=row[4],
    )


async def set_password(tx: Transaction, operator_id: int, argon2: str, at: datetime) -> None:
    """A new password: every session of the operator ends with it."""
    await tx.execute(
        """
        INSERT INTO operator_secret (operator_id, password_argon2, password_set_at)
        VALUES (%s, %s, %s) ON CONFLICT (operator_id) DO UPDATE
        SET password_argon2 = EXCLUDED.password_argon2,
            password_set_at = EXCLUDED.password_set_at""",
        operator_id,
        argon2,
        at,
    )
    await end_sessions(tx, operator_id, at)


async def offer_totp(tx: Transaction, operator_id: int, secret: str) -> None:
    """Keep a second factor that is not in force yet; one that is in force is not touched."""
    await tx.execute(
        "UPDATE operator_secret SET totp_secret = %s WHERE operator_id = %s AND totp_since IS NULL",
        secret,
        operator_id,
    )


async def begin_totp(tx: Transaction, operator_id: int, step: int, at: datetime) -> None:
    """The first right code came: from now on one is asked for."""
    await tx.execute(
        "UPDATE operator_secret SET totp_since = %s, totp_last_step = %s WHERE operator_id = %s",
        at,
        step,
        operator_id,
    )


async def end_totp(tx: Transaction, operator_id: int) -> None:
    """No code is asked for any more."""
    await tx.execute(
        "UPDATE operator_secret SET totp_secret = NULL, totp_since = NULL WHERE operator_id = %s",
        operator_id,
    )


async def use_totp_step(tx: Transaction, operator_id: int, step: int) -> bool:
    """A code works once: False when this one, or a later one, was used already."""
    touched = await tx.execute(
        "UPDATE operator_secret SET totp_last_step = %s"
        " WHERE operator_id = %s AND totp_last_step < %s",
        step,
        operator_id,
        step,
    )
    return touched == 1


async def begin_try(tx: Transaction, name: str, address: str, at: datetime) -> int:
    """A try to sign in, a failure until `try_succeeded`; returns its number."""
    number: int = await tx.value(
        "INSERT INTO sign_in_try (name, address, at) VALUES (%s, %s, %s) RETURNING try_id",
        name.lower(),
        address,
        at,
    )
    return number


async def try_succeeded(tx: Transaction, try_id: int) -> None:
    """It was the right person."""
    await tx.execute("UPDATE sign_in_try SET succeeded = true WHERE try_id = %s", try_id)


async def failures(tx: Transaction, name: str, address: str, since: datetime) -> tuple[int, int]:
    """Failed tries of a name after its last success, and all of an address."""
    row = await tx.row(
        """
        SELECT
            (SELECT count(*) FROM sign_in_try WHERE name = %(name)s AND NOT succeeded
                AND at > greatest(%(since)s, (SELECT max(at) FROM sign_in_try
                    WHERE name = %(name)s AND succeeded))),
            (SELECT count(*) FROM sign_in_try WHERE address = %(address)s AND NOT succeeded
                AND at > %(since)s)""",
        named={"name": name.lower(), "address": address, "since": since},
    )
    assert row is not None
    return row[0], row[1]


async def forgive(tx: Transaction, name: str) -> None:
    """A person with the right to it sets somebody free: their wrong tries no longer count."""
    await tx.execute(
        "UPDATE sign_in_try SET succeeded = true WHERE name = %s AND NOT succeeded", name.lower()
    )


async def begin_session(tx: Transaction, operator_id: int, address: str, at: datetime) -> str:
    """A new session; returns the cookie, which is nowhere else."""
    cookie = secrets.token_urlsafe(SESSION_BYTES)
    await tx.execute(
        """
        INSERT INTO desk_session
            (sha256, operator_id, csrf, address, began_at, seen_at, expires_at)
        VALUES (%s, %s, %s, %s, %s, %s, %s)""",
        _digest(cookie),
        operator_id,
        secrets.token_urlsafe(SESSION_BYTES),
        address,
        at,
        at,
        at + SESSION_LONGEST,
    )
    return cookie


async def session_of(tx: Transaction, cookie: str, now: datetime) -> Session | None:
    """Whose browser this is; None when it is nobody's any more."""
    row = await tx.row(
        """
        SELECT operator_id, csrf, began_at, expires_at, seen_at FROM desk_session
        WHERE sha256 = %s AND ended_at IS NULL AND expires_at > %s AND seen_at > %s""",
        _digest(cookie),
        now,
        now - SESSION_IDLE,
    )
    if row is None:
        return None
    operator = await people.operator(tx, row[0])
    if operator is None or operator.disabled_at is not None:
        return None
    if now - row[4] > SEEN_EVERY:
        await tx.execute(
            "UPDATE desk_session SET seen_at = %s WHERE sha256 = %s", now, _digest(cookie)
        )
    return Session(operator=operator, csrf=row[1], began_at=row[2], expires_at=row[3])


async def end_session(tx: Transaction, cookie: str, at: datetime) -> None:
    """Signed out."""
    await tx.execute(
        "UPDATE desk_session SET ended_at = %s WHERE sha256 = %s AND ended_at IS NULL",
        at,
        _digest(cookie),
    )


async def end_sessions(tx: Transaction, operator_id: int, at: datetime) -> None:
    """Signed out everywhere."""
    await tx.execute(
        "UPDATE desk_session SET ended_at = %s WHERE operator_id = %s AND ended_at IS NULL",
        at,
        operator_id,
    )


async def tell(
    tx: Transaction, action: str, *, at: datetime, operator_id: int | None, subject: str = ""
) -> None:
    """Keep what somebody did; `action` is one of the table's words."""
    await tx.execute(
        "INSERT INTO desk_event (at, operator_id, action, subject) VALUES (%s, %s, %s, %s)",
        at,
        operator_id,
        action,
        subject,
    )


def _digest(cookie: str) -> bytes:
    return hashlib.sha256(cookie.encode()).digest()
