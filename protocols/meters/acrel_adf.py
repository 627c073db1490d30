"""Acrel ADF300L and ADF400L: cabinets of 12 to 36 circuits, each circuit a meter of its own.

The live block (type code 10) carries relays, alarms and the clock; purchases, frequency and the
rest come from the manual's own maps. A firmware without the live block is read from the maps alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
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
from protocols.acrel_cipher import enciphered
from protocols.acrel_driver import (
    ENCRYPTION_HELP,
    MONEY_HELP,
    check_counts,
    check_type,
    evidence_of,
)
from protocols.acrel_orders import buy, steps_of, supply_look, switch
from protocols.acrel_write import forced_by_phase, purchase, purchase_registers
from protocols.exchange import (
    BadAnswer,
    Conversation,
    Evidence,
    NotReady,
    Refused,
    Reply,
    Request,
    WrongMeter,
    ask,
    ask_reply,
)
from protocols.meter_type import (
    Address,
    BadOption,
    Driver,
    Frozen,
    Identity,
    Keeps,
    MeterType,
    Options,
    Recharge,
    Supply,
    SupplyLook,
    SupplyOutcome,
    TopUp,
    TopUpOutcome,
    Write,
)
from protocols.modbus import read_registers
from protocols.options import Option, choose, take_site_key
from protocols.reading import Control, Values
from protocols.reading import Quantity as Q
from protocols.registers import REFUSED_FOR_GOOD, MapMemory, read_map
from protocols.settings import Setting

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
    "encryption": (False, True),
    # By register: read and write according to the manual, but never seen used.
    "top_up_path": ("masked", "registers"),
    # The maker's tool labels state 1 "open", the keypad menu says 0 disconnects: tried on one
    # circuit first, and until then no relay of a cabinet is forced.
    "forced_open_state": ("unproven", 0, 1),
}
OPTION_HELP = {
    "money_step_fen": MONEY_HELP,
    "check_phases": "true (default): refuse a unit that says it is wired with other phases",
    "encryption": ENCRYPTION_HELP,
    "top_up_path": '"masked" (default) or "registers": how purchases are written',
    "forced_open_state": (
        "state (0 or 1) that opens the relay under forced control, once tried on one circuit; "
        '"unproven" (default): trips and closes are refused'
    ),
}
SWITCH_AT = {1: 0x0500, 3: 0x0536}  # prepaid switch, by phases
NEW_PURCHASE_AT = {1: 0x050D, 3: 0x0543}
WRITES = frozenset({Write.TOP_UP, Write.BURN, Write.SWITCH})


class AdfDriver:
    """One user of a cabinet."""

    __slots__ = (
        "_by_registers",
        "_check_phases",
        "_encryption",
        "_has_live",
        "_map",
        "_memory",
        "_open_state",
        "_phases",
        "_quantities",
        "_site_key",
        "_step_fen",
    )

    def __init__(self, phases: int, options: Options) -> None:
        self._site_key, options = take_site_key(options)
        chosen = choose(options, OPTIONS)
        self._phases = phases
        self._map = SINGLE_PHASE if phases == 1 else THREE_PHASE
        self._quantities = _quantities(phases)
        self._step_fen = int(chosen["money_step_fen"])
        self._check_phases = bool(chosen["check_phases"])
        self._encryption = bool(chosen["encryption"])
        self._by_registers = chosen["top_up_path"] == "registers"
        if self._encryption and self._by_registers:
            raise BadOption("option encryption is for masked writes; top_up_path must be masked")
        open_state = chosen["forced_open_state"]
        self._open_state = open_state if isinstance(open_state, int) else None
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
        evidence, _prepaid = yield from self._look(at)
        return evidence

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

    def top_up(self, at: Address, order: TopUp) -> Conversation[TopUpOutcome]:
        """A circuit has no number of its own: `order.meter_number` is not compared."""
        steps = steps_of(order.amount_fen, self._step_fen, "a purchase")
        before, prepaid = yield from self._look(at)
        if prepaid is None:
            prepaid = yield from self._prepaid_register(at)
        if not prepaid:
            raise NotReady("the circuit's prepaid switch is off; open its account first")
        request = self._purchase(at, steps, order.purchase_count)
        return (yield from buy(order, before, request, lambda: self.evidence(at)))

    def supply(self, at: Address) -> Conversation[SupplyLook]:
        live = yield from self._live(at)
        look = supply_look(evidence_of(live.values)) if live else None
        if look is None:
            raise BadAnswer("the circuit does not tell its relay now; look again")
        return look

    def set_supply(self, at: Address, supply: Supply) -> Conversation[SupplyOutcome]:
        live = yield from self._live(at)
        before = evidence_of(scale_money(live.values, self._step_fen)) if live else Evidence()
        if supply_look(before) is None:
            raise NotReady("the circuit does not tell its relay, so no switching could be proved")
        request = self._forced(at, supply)
        return (yield from switch(supply, self._phases, before, request, lambda: self.supply(at)))

    def configure(
        self, at: Address, setting: Setting, dial_now: Callable[[], datetime]
    ) -> Conversation[bool]:
        yield from ()
        raise NotReady(f"{type(setting).__name__} cannot be written to this meter type")

    def holds(
        self, at: Address, setting: Setting, dial_now: Callable[[], datetime]
    ) -> Conversation[bool]:
        yield from ()
        raise NotReady(f"{type(setting).__name__} cannot be read from this meter type")

    def _look(self, at: Address) -> Conversation[tuple[Evidence, bool | None]]:
        """Evidence, and whether the prepaid switch is on; None when only its register can tell."""
        live = yield from self._live(at)
        money = yield from self._from_map(at, PURCHASE_QUANTITIES)
        seen = live.values if live else {}
        check_counts(seen, money)
        controls = seen.get(Q.CONTROLS)
        prepaid = None if controls is None else bool(controls & Control.PREPAID)
        return evidence_of(scale_money(seen | money, self._step_fen)), prepaid

    def _prepaid_register(self, at: Address) -> Conversation[bool]:
        payload = yield from ask_reply(read_registers(at.unit, SWITCH_AT[self._phases], 1))
        return any(payload)

    def _purchase(self, at: Address, steps: int, count: int) -> Request:
        if self._by_registers:
            return purchase_registers(at.unit, NEW_PURCHASE_AT[self._phases], steps, count)
        return self._money(purchase(at.unit, steps, count))

    def _money(self, request: Request) -> Request:
        """A purchase or a prepaid setting as this cabinet takes it."""
        return enciphered(request, self._site_key) if self._encryption else request

    def _forced(self, at: Address, supply: Supply) -> Request:
        if supply is Supply.RELEASE:
            return forced_by_phase(at.unit, self._phases, force=False, state=0)
        if self._open_state is None:
            raise NotReady(
                "which state opens this cabinet's relays is not proven; try it on one circuit, "
                "then set option forced_open_state to 0 or 1"
            )
        opens = supply is Supply.TRIP
        state = self._open_state if opens else 1 - self._open_state
        return forced_by_phase(at.unit, self._phases, force=True, state=state)

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
        writes=WRITES,
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
