"""The conversations of one user of an ADF300L or ADF400L cabinet.

The live block (type code 10) carries relays, alarms and the clock; purchases, frequency and the
rest come from the manual's own maps. A firmware without the live block is read from the maps alone.
Prices, amounts and tables are written by register, as the manual has it; what it does not name
(overdraft, the account, forced control) by masked write.
"""

from __future__ import annotations

from datetime import datetime

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
from protocols.acrel_adf_settings import TABLES, controls_block, register_requests
from protocols.acrel_blocks import (
    LIVE_AT,
    LIVE_REGISTERS,
    LIVE_WORDS_4_RATES,
    Live,
    decode_live,
    sane,
    scale_money,
)
from protocols.acrel_cabinet import CLOCK_AT, base_unit
from protocols.acrel_cipher import enciphered
from protocols.acrel_controls import tariff_block
from protocols.acrel_driver import (
    DATE_PLAN_HELP,
    ENCRYPTION_HELP,
    FOUR_RATES,
    MONEY_HELP,
    check_counts,
    check_type,
)
from protocols.acrel_orders import AcrelOrders, evidence_of
from protocols.acrel_settings import Block, BlockSetting, PrepaidSetting, prepaid_groups
from protocols.acrel_tables import MONTH_DAY_TABLE, TABLE_DAY_MONTH, words_of
from protocols.acrel_write import (
    clock,
    clock_bytes,
    forced_by_phase,
    prepaid_settings,
    purchase,
    purchase_registers,
)
from protocols.exchange import (
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
    Frozen,
    Identity,
    Options,
    Recharge,
    Supply,
    Write,
)
from protocols.modbus import read_registers, write_registers
from protocols.options import Option, choose, take_site_key
from protocols.reading import Control, Values
from protocols.reading import Quantity as Q
from protocols.registers import REFUSED_FOR_GOOD, MapMemory, read_map
from protocols.settings import DatePlan, DayTable, OpenAccount

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
    "clock_path": ("masked", "registers"),
    "date_plan_order": (TABLE_DAY_MONTH, MONTH_DAY_TABLE),
    # The maker's tool and the manual disagree about which of the two tables is which.
    "time_tables": ("rest_first", "working_first"),
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
    "clock_path": '"masked" (default) or "registers": how the clock is set',
    "date_plan_order": DATE_PLAN_HELP,
    "time_tables": '"rest_first" (default) or "working_first"; check on the display',
}
SWITCH_AT = {1: 0x0500, 3: 0x0536}  # prepaid switch, by phases
NEW_PURCHASE_AT = {1: 0x050D, 3: 0x0543}


class AdfDriver(AcrelOrders):
    """One user of a cabinet."""

    __slots__ = (
        "_by_registers",
        "_check_phases",
        "_clock_by_registers",
        "_date_order",
        "_encryption",
        "_has_live",
        "_map",
        "_memory",
        "_open_state",
        "_quantities",
        "_rest_first",
        "_site_key",
    )

    def __init__(self, phases: int, options: Options) -> None:
        self._site_key, options = take_site_key(options)
        chosen = choose(options, OPTIONS)
        self._phases = phases
        self._map = SINGLE_PHASE if phases == 1 else THREE_PHASE
        self._quantities = quantities_of(phases)
        self._step_fen = int(chosen["money_step_fen"])
        self._check_phases = bool(chosen["check_phases"])
        self._encryption = bool(chosen["encryption"])
        self._by_registers = chosen["top_up_path"] == "registers"
        if self._encryption and self._by_registers:
            raise BadOption("option encryption is for masked writes; top_up_path must be masked")
        self._clock_by_registers = chosen["clock_path"] == "registers"
        self._date_order = str(chosen["date_plan_order"])
        self._rest_first = chosen["time_tables"] == "rest_first"
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

    def _states(self, at: Address) -> Conversation[Values]:
        live = yield from self._live(at)
        return scale_money(live.values, self._step_fen) if live else {}

    def evidence(self, at: Address) -> Conversation[Evidence]:
        """Count, total and credit from the map in one look; relay from the live block."""
        _live, evidence = yield from self._witnesses(at)
        return evidence

    def _look(self, at: Address) -> Conversation[tuple[Evidence, bool | None]]:
        live, evidence = yield from self._witnesses(at)
        controls = live.values.get(Q.CONTROLS) if live else None
        if controls is not None:
            return evidence, bool(controls & Control.PREPAID)
        payload = yield from ask_reply(read_registers(at.unit, SWITCH_AT[self._phases], 1))
        return evidence, any(payload)

    def _witnesses(self, at: Address) -> Conversation[tuple[Live | None, Evidence]]:
        live = yield from self._live(at)
        money = yield from self._from_map(at, PURCHASE_QUANTITIES)
        seen = live.values if live else {}
        check_counts(seen, money)
        return live, evidence_of(scale_money(seen | money, self._step_fen))

    def _check_money(self, at: Address, meter_number: str | None) -> Conversation[None]:
        """A circuit has no number of its own: there is nothing to compare."""
        yield from ()

    def _shows_number(self, at: Address, number: str) -> Conversation[bool]:
        yield from ()
        return False

    def _purchase(self, at: Address, steps: int, count: int) -> Request:
        if self._by_registers:
            return purchase_registers(at.unit, NEW_PURCHASE_AT[self._phases], steps, count)
        return self._money(purchase(at.unit, steps, count))

    def _prepaid_requests(self, at: Address, setting: PrepaidSetting) -> tuple[Request, ...]:
        if isinstance(setting, OpenAccount) and setting.meter_number is not None:
            raise NotReady("a circuit of a cabinet has no number of its own; leave it out")
        groups = prepaid_groups(setting, self._step_fen)
        by_register = register_requests(at.unit, SWITCH_AT[self._phases], groups)
        return by_register or (self._money(prepaid_settings(at.unit, groups)),)

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

    def _block(self, at: Address, setting: BlockSetting) -> Conversation[Block]:
        if isinstance(setting, DayTable | DatePlan):
            yield from self._check_base(at)
            if isinstance(setting, DayTable) and any(s.rate > FOUR_RATES for s in setting.slots):
                raise NotReady("a cabinet has four rates; leave deep valley out of its day table")
            return tariff_block(at.unit, TABLES, setting, self._date_order)
        if self._phases != 1:
            raise NotReady("how a three-phase circuit counts its phases here is not published")
        return controls_block(at.unit, setting, rest_first=self._rest_first)

    def _clock(self, at: Address, dial: datetime) -> Conversation[Request]:
        yield from self._check_base(at)
        if self._clock_by_registers:
            data = clock_bytes(dial) + b"\0"
            return write_registers(at.unit, CLOCK_AT, words_of(data))
        return clock(at.unit, dial)

    def _check_base(self, at: Address) -> Conversation[None]:
        """Raises NotReady unless this is the unit that answers for the cabinet."""
        live = yield from self._live(at)
        if live is None or live.circuits is None:
            raise NotReady("the cabinet does not tell its size, so its base address is not known")
        base = base_unit(at.unit, live.circuits)
        if at.unit != base:
            raise NotReady(
                f"clock and tables belong to the whole cabinet: order them of unit {base}"
            )

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


def quantities_of(phases: int) -> frozenset[Q]:
    """What a user with so many phases can tell."""
    in_map = {register.quantity for register in (SINGLE_PHASE if phases == 1 else THREE_PHASE)}
    in_live = {register.quantity for register in LIVE_REGISTERS} if phases == 3 else set()
    return frozenset(in_map | in_live | LIVE_ONLY)


def writes_of(phases: int) -> frozenset[Write]:
    """What such a user takes. Of three phases, how the switch words of time and load control count
    them is not published."""
    unproven = frozenset() if phases == 1 else {Write.TIME_CONTROL, Write.LOAD_CONTROL}
    return frozenset(Write) - unproven
