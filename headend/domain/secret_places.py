"""Where a secret lies. A site file names the place and never holds the secret: it is committed,
mailed around and shown on screens."""

from __future__ import annotations

import re
from dataclasses import dataclass

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class BadSecretPlace(ValueError):
    """A site file says wrongly where a secret lies: one clause, without what it said, which may be
    the secret itself."""


@dataclass(frozen=True, slots=True)
class SecretPlace:
    """A file or a variable of the machine that runs the head-end."""

    kind: str  # "file" or "env"
    where: str


def parse_secret_place(text: str) -> SecretPlace:
    """Read "file:/etc/headend/gateway-D.secret" or "env:GATEWAY_D_SECRET". Raises
    BadSecretPlace."""
    kind, _, where = text.partition(":")
    if kind == "file" and where.startswith("/"):
        return SecretPlace(kind, where)
    if kind == "env" and _VARIABLE.fullmatch(where):
        return SecretPlace(kind, where)
    raise BadSecretPlace(
        "must say where the secret lies, file:/absolute/path or env:VARIABLE, never the secret"
    )
