"""The rules of a trial, what its boxes do, and what is broken in it on purpose."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from headend.services.sender import Rules


@dataclass(frozen=True, slots=True)
class Patch:
    """One thing of the product that is another one for the length of a seed."""

    owner: Any  # a module or a class
    name: str
    instead: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrangement:
    """What a seed is lived through with."""

    rules: Rules = field(default_factory=Rules)
    #: answers come at once or never, and only writes are parked: lines need no patience then
    only_writes_are_late: bool = False
    #: boxes park on every day of the trial, not on some
    much_is_parked: bool = False
    #: a line loses its network for hours
    long_outages: bool = False
    #: whether a list is cut at once; None: on some days
    has_bulk: bool | None = None
    #: whether tenants have cards; None: on some days
    has_cards: bool | None = None
    #: whether the site takes back cards that can be cloned; None: at some sites
    clones_are_taken_back: bool | None = None
    #: the program often dies right after a frame has left
    dies_mid_air: bool = False
    #: a meter is exchanged on every day, not on some
    exchanges: bool = False
    patches: tuple[Patch, ...] = ()
    #: rules of the database that are taken out; a database so broken is used for nothing else
    sql: tuple[str, ...] = ()


USUAL = Arrangement()


@contextmanager
def applied(patches: Iterable[Patch]) -> Iterator[None]:
    """The product with these things changed."""
    before = [Patch(one.owner, one.name, getattr(one.owner, one.name)) for one in patches]
    for one in patches:
        setattr(one.owner, one.name, one.instead)
    try:
        yield
    finally:
        for one in before:
            setattr(one.owner, one.name, one.instead)
