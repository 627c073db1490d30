"""What can go wrong with storage, each as one sentence a person can act on.

All of them are Problems, so the CLI and the API show them as they are. Nothing above the store
sees an error of the database library.
"""

from __future__ import annotations

from pathlib import Path

from headend.domain.problems import Problem


class StoreError(Problem):
    """Base of everything the store raises."""


class DatabaseAway(StoreError):
    """The database cannot be reached now. What was being stored may be stored again later."""

    def __init__(self, detail: str) -> None:
        super().__init__("database-away", detail=detail)


class DatabaseRefused(StoreError):
    """The database answered, and the answer is no: trying again does not help."""

    def __init__(self, detail: str) -> None:
        super().__init__("database", detail=detail)


class MigrationRefused(DatabaseRefused):
    """The tables of this database are not the ones this program can work with."""


class FolderBusy(StoreError):
    """Another head-end owns this data folder."""

    def __init__(self, folder: Path, owner: str) -> None:
        super().__init__(
            "data-folder-busy",
            detail=f"The data folder {folder} is in use by the head-end with process id {owner}; "
            "stop that one or choose another folder.",
        )


class FolderUnusable(StoreError):
    """The folder cannot be read, written or entered."""

    def __init__(self, folder: Path, detail: str) -> None:
        super().__init__("folder-unusable", folder=folder, detail=detail)


class DiskFull(StoreError):
    """No space left. Nothing that was committed is lost."""

    def __init__(self, folder: Path | str) -> None:
        super().__init__("disk-full", folder=folder)
