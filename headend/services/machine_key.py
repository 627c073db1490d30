"""The key of this machine: whoever runs the head-end looks without a token of their own.

Made anew at each start and kept for as long as the program runs, in a file that only its user can
read. It opens what changes nothing: places, nights, lines, a look at a meter. Money and switching
ask who you are.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

from headend.domain.roles import Caller, Operator, Permission, Role

#: what the key opens; never money, a relay or a setting
PERMISSIONS = frozenset({Permission.SEE, Permission.READ_METER})

_CALLER = Caller(
    operator=Operator(
        operator_id=0,  # of nobody: nothing that is kept is done under this key
        name="this machine",
        person="",
        role=Role.INTEGRATOR,
        sites=None,
        disabled_at=None,
    ),
    token_id=0,
    permissions=PERMISSIONS,
)


class MachineKey:
    """The key of one running head-end."""

    def __init__(self) -> None:
        self.text = secrets.token_urlsafe(32)

    def caller(self, given: str) -> Caller | None:
        """Who calls with this text; None: it is another one."""
        return _CALLER if hmac.compare_digest(given.encode(), self.text.encode()) else None


@contextlib.contextmanager
def machine_key(port: int) -> Iterator[MachineKey]:
    """A key for the head-end at this port, its file kept for as long as the block runs. Where no
    file can be kept, the key opens nothing and everybody needs a token."""
    key = MachineKey()
    path: Path | None = None
    try:
        path = _file(port)
        part = path.with_suffix(f".{os.getpid()}.part")
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(key.text)
        part.replace(path)
    except OSError:
        path = None
    try:
        yield key
    finally:
        if path is not None and key_of(port) == key.text:
            path.unlink(missing_ok=True)


def key_of(port: int) -> str | None:
    """The key of the head-end that this user runs at this port; None: there is none to be read."""
    try:
        return _file(port).read_text() or None
    except (OSError, UnicodeDecodeError):
        return None


def _file(port: int) -> Path:
    """In a folder of this user alone. Raises OSError where there is none."""
    given = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(given) if given else Path(tempfile.gettempdir()) / f"headend-{os.geteuid()}"
    if not given:
        folder.mkdir(mode=0o700, exist_ok=True)
        seen = folder.lstat()
        # Anybody may make a folder of this name in /tmp, and would read what is put there.
        if seen.st_uid != os.geteuid() or seen.st_mode & 0o077 or folder.is_symlink():
            raise PermissionError(f"{folder} is not this user's alone")
    return folder / f"headend-{port}.key"
