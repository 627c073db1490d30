"""Signing in: Argon2id passwords, one-time codes, lock-out, sessions.

Every try is stored as a failure before anything is compared, so that a hundred guesses at once are
counted as a hundred. Who has no password costs the same time as who has: a name is not told.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import pyotp
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from headend.domain.clock import Clock
from headend.domain.roles import Operator
from headend.domain.sign_in import (
    LOCKED_FOR,
    TRIES_MAX,
    TRIES_OF_AN_ADDRESS_MAX,
    BadPassword,
    NotSignedIn,
    bad_password,
)
from headend.store import desk_sessions, people
from headend.store.database import Database, Transaction
from headend.store.desk_sessions import Secret

# RFC 9106, second recommended option: 64 MiB, three passes.
_HASHER: Final = PasswordHasher()
# Each hash takes 64 MiB and a core: two at a time, however many ask.
_AT_ONCE: Final = 2
TOTP_STEP_S: Final = 30
_STEPS_OFF: Final = (0, -1, 1)  # a telephone's clock may be half a minute off

_hashing: dict[asyncio.AbstractEventLoop, asyncio.Semaphore] = {}


@dataclass(frozen=True, slots=True)
class SignedIn:
    """The person is known; the cookie is the session."""

    operator: Operator
    cookie: str


async def hash_password(password: str) -> str:
    """Argon2id with its parameters and salt, as text."""
    async with _turn():
        return await asyncio.to_thread(_HASHER.hash, password)


async def _fits(argon2: str, password: str) -> bool:
    def compare() -> bool:
        try:
            return _HASHER.verify(argon2, password)
        except (VerificationError, InvalidHashError):
            return False

    async with _turn():
        return await asyncio.to_thread(compare)


def _turn() -> asyncio.Semaphore:
    loop = asyncio.get_running_loop()
    for ended in [one for one in _hashing if one.is_closed()]:
        del _hashing[ended]
    return _hashing.setdefault(loop, asyncio.Semaphore(_AT_ONCE))


async def sign_in(
    database: Database, clock: Clock, *, name: str, password: str, code: str, address: str
) -> SignedIn | NotSignedIn:
    """Let somebody in, or say why not."""
    now = clock.now()
    known = await recognise(
        database, clock, name=name, password=password, code=code, address=address
    )
    if isinstance(known, NotSignedIn):
        return known
    async with database.transaction() as tx:
        cookie = await desk_sessions.begin_session(tx, known.operator_id, address, now)
        await desk_sessions.tell(
            tx, "signed-in", at=now, operator_id=known.operator_id, subject=address
        )
    return SignedIn(known, cookie)


async def recognise(
    database: Database, clock: Clock, *, name: str, password: str, code: str, address: str
) -> Operator | NotSignedIn:
    """Who this is, without letting them in: also the second person at somebody else's browser.

    Every try that does not end well counts; a forgotten code too, or it would wash guessed ones
    away.
    """
    now = clock.now()
    async with database.transaction() as tx:
        of_name, of_address = await desk_sessions.failures(tx, name, address, now - LOCKED_FOR)
        if of_name >= TRIES_MAX or of_address >= TRIES_OF_AN_ADDRESS_MAX:
            return NotSignedIn.LOCKED
        try_id = await desk_sessions.begin_try(tx, name, address, now)
        operator = await people.find_operator(tx, name)
        secret = None
        if operator is not None:
            secret = await desk_sessions.secret_of(tx, operator.operator_id)
    fits = await _fits(secret.password_argon2 if secret else await _nobodys(), password)
    if operator is None or secret is None or not fits or operator.disabled_at is not None:
        if of_name + 1 >= TRIES_MAX and operator is not None:
            async with database.transaction() as tx:
                await desk_sessions.tell(
                    tx, "locked", at=now, operator_id=operator.operator_id, subject=address
                )
        return NotSignedIn.WRONG
    async with database.transaction() as tx:
        refused = await _code_refused(tx, secret, code, now)
        if refused is None:
            await desk_sessions.try_succeeded(tx, try_id)
    return refused or operator


_nobody: list[str] = []


async def _nobodys() -> str:
    """A hash no password fits, made once: who does not exist takes as long as who does."""
    if not _nobody:
        _nobody.append(await hash_password(pyotp.random_base32()))
    return _nobody[0]


async def _code_refused(
    tx: Transaction, secret: Secret, code: str, now: datetime
) -> NotSignedIn | None:
    if secret.totp_since is None or secret.totp_secret is None:
        return None
    if not code.strip():
        return NotSignedIn.CODE_NEEDED
    step = right_step(secret.totp_secret, code, now)
    if step is None or not await desk_sessions.use_totp_step(tx, secret.operator_id, step):
        return NotSignedIn.WRONG_CODE
    return None


def right_step(totp_secret: str, code: str, now: datetime) -> int | None:
    """The 30-second step this code belongs to, around now; None: it is wrong."""
    totp = pyotp.TOTP(totp_secret, interval=TOTP_STEP_S)
    given = code.replace(" ", "")
    at_s = int(now.timestamp())
    for off in _STEPS_OFF:
        if pyotp.utils.strings_equal(totp.at(at_s + off * TOTP_STEP_S), given):
            return at_s // TOTP_STEP_S + off
    return None


async def set_password(
    tx: Transaction, operator: Operator, password: str, clock: Clock, *, by: int | None
) -> BadPassword | None:
    """A new password for this operator, whose sessions all end; or why it is not taken.

    `by` None: on the machine itself. Wrong tries so far are forgiven.
    """
    bad = bad_password(password, operator.name)
    if bad is not None:
        return bad
    at = clock.now()
    argon2 = await hash_password(password)
    await desk_sessions.set_password(tx, operator.operator_id, argon2, at)
    await desk_sessions.forgive(tx, operator.name)
    await desk_sessions.tell(tx, "password-set", at=at, operator_id=by, subject=operator.name)
    return None


async def knows_password(database: Database, operator: Operator, password: str) -> bool:
    """Whether this is the operator's password, asked once more before something grave."""
    async with database.transaction() as tx:
        secret = await desk_sessions.secret_of(tx, operator.operator_id)
    return secret is not None and await _fits(secret.password_argon2, password)


def new_totp_secret() -> str:
    """160 random bits as Base32, for an authenticator."""
    return pyotp.random_base32()


def totp_uri(operator: Operator, totp_secret: str) -> str:
    """What the QR code says to an authenticator."""
    return pyotp.TOTP(totp_secret).provisioning_uri(name=operator.name, issuer_name="Head-end")
