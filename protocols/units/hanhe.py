"""Hanhe (a made-up maker): our own card format, docs/card-format.md, on three media. Open."""

from __future__ import annotations

from protocols.card_image import MONEY_KINDS, STANDARD, CardKind
from protocols.key_call import Purpose
from protocols.open_unit import OpenUnit
from protocols.security_unit import API_VERSION, Channel, Manifest

_KEYS = frozenset(
    {
        Purpose.RECHARGE,
        Purpose.PARAMETERS,
        Purpose.WRITE_BACK,
        Purpose.TERMINAL_WRITE_BACK,
        Purpose.CARD_ACCESS,
    }
)
_CPU_KEYS = frozenset({Purpose.CARD_EXTERNAL, Purpose.CARD_INTERNAL, Purpose.CARD_UPDATE})
_ALL = frozenset(CardKind)


def _unit(
    name: str,
    medium: str,
    reader_family: str,
    type_codes: tuple[str, ...],
    kinds: frozenset[CardKind] = _ALL,
) -> OpenUnit:
    return OpenUnit(
        Manifest(
            name=name,
            maker="Hanhe",
            version="1",
            api_version=API_VERSION,
            type_codes=type_codes,
            medium=medium,
            reader_family=reader_family,
            keys=_KEYS | (_CPU_KEYS if medium == "cpu_card" else frozenset()),
            channels=frozenset(Channel),
            kinds=kinds,
        ),
        STANDARD,
    )


UNITS = (
    # The Acrel meters that can be ordered with a slot. Their factory format is not published
    # (spec acrel.md, open questions): cards and readers of ours, never the maker's.
    _unit("hanhe_rf", "rf_card", "pcsc", ("acrel_dtsy1352", "acrel_ddsy1352", "acrel_adf*")),
    _unit("hanhe_cpu", "cpu_card", "pcsc", ("hanhe_cpu*",)),
    _unit("hanhe_logic", "logic_card", "acs", ("hanhe_logic*",), MONEY_KINDS),
)
