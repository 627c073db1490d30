"""Acrel ADF300L and ADF400L: cabinets of 12 to 36 circuits, each circuit a meter of its own.

The live block (type code 10) carries relays, alarms and the clock; purchases, frequency and the
rest come from the manual's own maps. A firmware without the live block is read from the maps alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from protocols.acrel_adf_maps import (
    MONTHS_AT,
    MONTHS_MAX,
    PURCHASE,
    RECHARGES_AT,
    RECHARGES_MAX,
    RECORD_WORDS,
    SINGLE_PHASE,
    THREE_PHASE,
    decode_month,
    decode_recharge,
)
from protocols.acrel_blocks import (
    LIVE_AT,
    LIVE_REGISTERS,
    LIVE_WORDS_4_RATES,
    Live,
    decode_live,
    sane,
    scale_money,
)
from protocols.acrel_cabinet import BadCabinet, Circuit, CircuitKind, circuits, read_cabinet
from protocols.acrel_driver import MONEY_HELP, check_counts, check_type, evidence_of
from protocols.exchange import Conversation, Evidence, Refused, Reply, WrongMeter, ask
from protocols.meter_type import (
    Address,
    Driver,
    Frozen,
    Identity,
    Keeps,
    MeterType,
    Options,
    Recharge,
)
from protocols.modbus import read_registers
from protocols.options import Option, choose
from protocols.reading import Quantity as Q
from protocols.reading import Values
from protocols.registers import REFUSED_FOR_GOOD, MapMemory, read_map

__all__ = [
    "CABINETS",
    "METER_TYPES",
    "BadCabinet",
    "Circuit",
    "CircuitKind",
    "circuits",
    "read_cabinet",
]

TYPE_CODE = 10
STATES = frozenset({Q.RELAY_CLOSED, Q.ALARMS, Q.CONTROLS, Q.CLOCK})
# Of the live block, what a single-phase user has: the rest is in its map under the same names.
LIVE_ONLY = STATES | {Q.PT_RATIO, Q.CT_RATIO}
PURCHASE_QUANTITIES = frozenset(r.quantity for r in SINGLE_PHASE if r.group == PURCHASE)

OPTIONS: dict[str, tuple[Option, ...]] = {
    "money_step_fen": (1, 10, 100),
    # Byte 95 of the live block tells a three-phase user from a single-phase one; one source only.
    "check_phases": (True, False),
}
OPTION_HELP = {
    "money_step_fen": MONEY_HELP,
    "check_phases": "true (default): refuse a unit that says it is wired with other phases",
}


class AdfDriver:
    """One user of a cabinet."""

    __slots__ = (
        "_check_phases",
        "_has_live",
        "_map",
        "_memory",
        "_phases",
        "_quantities",
        "_step_fen",
    )

    def __init__(self, phases: int, options: Options) -> None:
        chosen = choose(options, OPTIONS)
        self._phases = phases
        self._map = SINGLE_PHASE if phases == 1 else THREE_PHASE
        self._quantities = _quantities(phases)
        self._step_fen = int(chosen["money_step_fen"])
        self._check_phases = bool(chosen["check_phases"])
        # Learnt from the meter.
        self._has_live = True
        self._memory = MapMemory()

    def read(self, at: Address, wanted: frozenset[Q]) -> Conversation[Values]:
        live = yield from self._live(at)
        wanted = wanted & self._quantities
        values = {q: v for q, v in live.values.items() if q in wanted} if live else {}
        missing = wanted - values.keys()
        if missing & PURCHASE_QUANTITIES:
            missing |= wanted & PURCHASE_QUANTITIES  # all of them in one look
        values |= yield from self._from_map(at, missing)
        if wanted and not values:
            raise Refused(f"read unit {at.unit}", 2)
        return scale_money(values, self._step_fen)

    def identify(self, at: Address) -> Conversation[Identity]:
        live = yield from self._live(at)
        if live is None:
            raise Refused(f"read type code of unit {at.unit}", 2)
        size = f"cabinet of {live.circuits}, " if live.circuits else ""
        wired = "single-phase" if live.single_phase else "three-phase"
        return Identity(type_code=live.type_code, note=f"{size}{wired} user")

    def evidence(self, at: Address) -> Conversation[Evidence]:
        live = yield from self._live(at)
        money = yield from self._from_map(at, PURCHASE_QUANTITIES)
        seen = live.values if live else {}
        check_counts(seen, money)
        return evidence_of(scale_money(seen | money, self._step_fen))

    def frozen(self, at: Address) -> Conversation[tuple[Frozen, ...]]:
        yield from self._live(at)
        records = yield from self._records(at, MONTHS_AT, MONTHS_MAX)
        months = [month for record in records if (month := decode_month(record))]
        return tuple(sorted(months, key=lambda month: month.dial))

    def recharges(self, at: Address) -> Conversation[tuple[Recharge, ...]]:
        yield from self._live(at)
        records = yield from self._records(at, RECHARGES_AT, RECHARGES_MAX)
        found = [r for record in records if (r := decode_recharge(record, self._step_fen))]
        return tuple(sorted(found, key=lambda r: (r.dial, r.purchase_count), reverse=True))

    def _live(self, at: Address) -> Conversation[Live | None]:
        """The live block, its type and wiring checked; None from a firmware without one."""
        if not self._has_live:
            return None
        request = read_registers(at.unit, LIVE_AT, LIVE_WORDS_4_RATES)
        answer = yield from ask(request)
        if not isinstance(answer, Reply):
            if answer.code not in REFUSED_FOR_GOOD:
                raise Refused(request.label, answer.code)
            self._has_live = False
            return None
        live = decode_live(answer.payload, phases=self._phases)
        check_type(live, TYPE_CODE)
        if self._check_phases and live.single_phase != (self._phases == 1):
            raise WrongMeter(
                f"unit {at.unit} is a {'single' if live.single_phase else 'three'}-phase user; "
                f"correct the numbers of users of its cabinet"
            )
        return live

    def _from_map(self, at: Address, wanted: frozenset[Q]) -> Conversation[Values]:
        """Quantities from the user's map; a purchase quantity brings its group with it."""
        asked = wanted | PURCHASE_QUANTITIES if wanted & PURCHASE_QUANTITIES else wanted
        registers = [register for register in self._map if register.quantity in asked]
        found = sane((yield from read_map(at.unit, registers, self._memory)))
        return {q: v for q, v in found.items() if q in wanted}

    def _records(self, at: Address, address: int, count: int) -> Conversation[list[bytes]]:
        """A list of records up to the first one the meter does not have."""
        records: list[bytes] = []
        for index in range(address, address + count):
            request = read_registers(at.unit, index, RECORD_WORDS)
            answer = yield from ask(request)
            if isinstance(answer, Reply):
                records.append(answer.payload)
            elif answer.code in REFUSED_FOR_GOOD:
                break
            else:
                raise Refused(request.label, answer.code)
        return records


def _quantities(phases: int) -> frozenset[Q]:
    in_map = {register.quantity for register in (SINGLE_PHASE if phases == 1 else THREE_PHASE)}
    in_live = {register.quantity for register in LIVE_REGISTERS} if phases == 3 else set()
    return frozenset(in_map | in_live | LIVE_ONLY)


def _meter_type(model: str, kind: CircuitKind) -> MeterType:
    phases = 1 if kind is CircuitKind.SINGLE_PHASE else 3
    wired = {
        CircuitKind.CT: "three-phase user by CT",
        CircuitKind.THREE_PHASE: "three-phase user",
        CircuitKind.SINGLE_PHASE: "single-phase user",
    }[kind]

    def new_driver(options: Options) -> Driver:
        return AdfDriver(phases, options)

    return MeterType(
        name=CABINETS[f"acrel_{model}"][kind],
        maker="Acrel",
        title=f"Acrel {model.upper()}, {wired}",
        phases=phases,
        quantities=_quantities(phases),
        new_driver=new_driver,
        manual="ADF400L manual V1.2/V1.8; live block: spec acrel.md 2.4; maps: 2.10 and 2.11",
        keeps=frozenset({Keeps.MONTHLY, Keeps.RECHARGES}),
        type_codes=frozenset({TYPE_CODE}),
        option_help=MappingProxyType(OPTION_HELP),
    )


MODELS = ("adf300l", "adf400l")

# Cabinet type of a site file -> meter type of each kind of circuit.
CABINETS: Mapping[str, Mapping[CircuitKind, str]] = MappingProxyType(
    {
        f"acrel_{model}": MappingProxyType(
            {kind: f"acrel_{model}_{kind.value}" for kind in CircuitKind}
        )
        for model in MODELS
    }
)

METER_TYPES = tuple(_meter_type(model, kind) for model in MODELS for kind in CircuitKind)
