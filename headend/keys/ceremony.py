"""A root key from the components of its custodians: XOR, all of them needed (spec C.2).

Pure but for the secrets it overwrites. Each custodian knows one component and its check value; the
key has a check value that all of them sign. What Python copied on the way cannot be wiped, so the
ceremony is a program that ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from headend.keys.primitives import Algorithm, is_weak, kcv, wipe

COMPONENTS_MIN = 2
COMPONENTS_MAX = 5


class CeremonyError(ValueError):
    """The ceremony stops; one sentence without a component in it."""


@dataclass(slots=True)
class Component:
    """What one custodian typed."""

    custodian: str
    secret: bytearray = field(repr=False)

    def wipe(self) -> None:
        """Overwrite it."""
        wipe(self.secret)


def component_of(custodian: str, text: str, algorithm: Algorithm) -> Component:
    """A component as typed, hex with spaces wherever. Raises CeremonyError."""
    try:
        secret = bytearray.fromhex("".join(text.split()))
    except ValueError:
        raise CeremonyError(f"{custodian}: a component is hex digits") from None
    if len(secret) != algorithm.key_bytes:
        raise CeremonyError(
            f"{custodian}: a component of {algorithm.value} has {algorithm.key_bytes} bytes"
        )
    return Component(custodian, secret)


def component_kcv(component: Component, algorithm: Algorithm) -> bytes:
    """What its custodian compares with the slip of paper."""
    return kcv(algorithm, bytes(component.secret))


def combine(components: Sequence[Component], algorithm: Algorithm) -> bytearray:
    """The key. The caller wipes it and the components. Raises CeremonyError."""
    if not COMPONENTS_MIN <= len(components) <= COMPONENTS_MAX:
        raise CeremonyError(f"{COMPONENTS_MIN} to {COMPONENTS_MAX} components")
    names = [component.custodian.strip().casefold() for component in components]
    if len(set(names)) != len(names) or "" in names:
        raise CeremonyError("each component has a custodian of its own")
    secrets = [bytes(component.secret) for component in components]
    if len(set(secrets)) != len(secrets):
        raise CeremonyError("two components are equal: they would cancel each other out")
    if any(not any(secret) for secret in secrets):
        raise CeremonyError("a component is all zeros: its custodian holds nothing")
    key = bytearray(algorithm.key_bytes)
    for component in components:
        for index, byte in enumerate(component.secret):
            key[index] ^= byte
    weak = is_weak(algorithm, bytes(key))
    if weak is not None:
        wipe(key)
        raise CeremonyError(f"the assembled key may not be used: {weak}")
    return key
