"""Each safety rule of the sender, switched off by its name. A check that never failed is a hope."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from types import MappingProxyType

from headend.services.sender import Rules

# A rule that no seed of so many misses is not needed, or not looked at: both are faults.
SEEDS_TO_CATCH = 400

MUTATIONS: Mapping[str, Rules] = MappingProxyType(
    {
        field.name: replace(Rules(), **{field.name: False})
        for field in fields(Rules)
        if field.default is True
    }
)
