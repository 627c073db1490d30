"""The conversations of DDSY1352 and DTSY1352 meters, which differ only in what they have to tell.

Every look begins with the live block: its first register is the maker's type code, so that a meter
of another type at this address can never pass for this one.
"""

from __future__ import annotations

from datetime import datetime

from protocols.acrel_blocks import (
    LIVE_AT,
    LIVE_REGISTERS,
    LIVE_WORDS_4_RATES,
    LIVE_WORDS_8_RATES,
    PREPAID_AT,
    PREPAID_REGISTERS,
    PREPAID_WORDS,
    Live,
    decode_live,
    decode_prepaid,
    scale_money,
)
from protocols.acrel_cipher import enciphered
from protocols.acrel_controls import Tables, direct_block
from protocols.acrel_orders import AcrelOrders, evidence_of
from protocols.acrel_settings import Block, BlockSetting, PrepaidSetting, prepaid_groups
from protocols.acrel_tables import MONTH_DAY_TABLE, TABLE_DAY_MONTH
from protocols.acrel_write import (
    CLOSE_WORDS,
    FORCED_AT,
    RELEASE_WORDS,
    TRIP_WORDS,
    clock,
    prepaid_settings,
    purchase,
)
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
from protocols.meter_type import Address, Frozen, Identity, Options, Recharge, Supply
from protocols.modbus import read_registers, write_registers
from protocols.numbers import bcd_digits
from protocols.options import Option, choose, take_site_key
from protocols.reading import Quantity, Values
from protocols.registers import REFUSED_FOR_GOOD
from protocols.settings import DayTable

Q = Quantity

# Spec acrel.md 2.4.
TYPE_NAMES = {5: "DTSY1352", 7: "DDSY1352", 10: "ADF300L/400L"}
METER_NUMBER_AT, METER_NUMBER_WORDS = 0x0043, 3
HARDWARE_AT = 0x0022

RATES_HELP = '4 (default), 8 (firmware with deep valley, 144-byte live block) or "auto"'
MONEY_HELP = "fen in one step of the money registers: 1 (default), 10 or 100; check on the display"

ENCRYPTION_HELP = "true: purchases and prepaid settings go out enciphered with the site's key"
DATE_PLAN_HELP = (
    f'order inside a date zone: "{TABLE_DAY_MONTH}" (default) or "{MONTH_DAY_TABLE}"; '
    f"check on the display"
)

OPTIONS: dict[str, tuple[Option, ...]] = {
    "rates": (4, 8, "auto"),
    "money_step_fen": (1, 10, 100),
    "encryption": (False, True),
    "date_plan_order": (TABLE_DAY_MONTH, MONTH_DAY_TABLE),
}
OPTION_HELP = {
    "rates": RATES_HELP,
    "money_step_fen": MONEY_HELP,
    "encryption": ENCRYPTION_HELP,
    "date_plan_order": DATE_PLAN_HELP,
}
FOUR_RATES = 4

LIVE_QUANTITIES = frozenset(register.quantity for register in LIVE_REGISTERS)
PREPAID_QUANTITIES = frozenset(register.quantity for register in PREPAID_REGISTERS)
ONLY_PREPAID = PREPAID_QUANTITIES - LIVE_QUANTITIES

ENCRYPTED_WRITES = 0x20  # of the hardware word
SUPPLY_WORDS = {
    Supply.TRIP: TRIP_WORDS,
    Supply.CLOSE: CLOSE_WORDS,
    Supply.RELEASE: RELEASE_WORDS,
}

# Bits of the hardware word 0x0022, low byte (spec acrel.md 1): text when 0, text when 1.
HARDWARE_BITS = (
    (0, "single rate", "multi-rate"),
    (3, "internal relay", "external control"),
    (4, "", "RF card reader"),
    (5, "", "encrypted writes"),
    (7, "", "three wires"),
)


def check_type(live: Live, allowed: int) -> None:
    """Raises WrongMeter when the type code is another type's, BadAnswer when it is nobody's."""
    code = live.type_code
    if code == allowed:
        return
    if code in (0, 0xFFFF):
        raise BadAnswer(f"the meter tells no type code ({code:#06x}); look again, then check it")
    raise WrongMeter(
        f"{TYPE_NAMES.get(code, 'an unknown meter')} (type code {code}) answers where "
        f"{TYPE_NAMES[allowed]} is expected; correct the type or the address"
    )


def check_counts(live: Values, money: Values) -> None:
    """Two registers hold the purchase count. Raises BadAnswer unless they agree."""
    first, second = live.get(Q.PURCHASE_COUNT), money.get(Q.PURCHASE_COUNT)
    if first is not None and second is not None and first != second:
        raise BadAnswer(
            f"the purchase count reads {first} and then {second}; a purchase is just landing, "
            f"or the register map is not this meter's: look again"
        )


class AcrelDriver(AcrelOrders):
    """One DDSY1352 or DTSY1352 meter."""

    __slots__ = (
        "_cipher_agreed",
        "_date_order",
        "_encryption",
        "_has_prepaid",
        "_live_words",
        "_quantities",
        "_rates",
        "_site_key",
        "_tables",
        "_type_code",
    )

    def __init__(
        self,
        type_code: int,
        phases: int,
        quantities: frozenset[Q],
        tables: Tables,
        options: Options,
    ) -> None:
        self._site_key, options = take_site_key(options)
        chosen = choose(options, OPTIONS)
        self._type_code = type_code
        self._phases = phases
        self._quantities = quantities
        self._tables = tables
        self._rates = chosen["rates"]
        self._date_order = str(chosen["date_plan_order"])
        self._step_fen = int(chosen["money_step_fen"])
        self._encryption = bool(chosen["encryption"])
        # Learnt from the meter: how long its live block is, whether it has the prepaid block, and
        # that it takes enciphered or plain purchases as its options say.
        self._cipher_agreed = False
        self._live_words = LIVE_WORDS_4_RATES if self._rates == 4 else LIVE_WORDS_8_RATES
        self._has_prepaid = True

    def read(self, at: Address, wanted: frozenset[Q]) -> Conversation[Values]:
        values = (yield from self._live(at)).values
        if wanted & ONLY_PREPAID & self._quantities:
            # All money from one block: a purchase may land between the two.
            values = values | (yield from self._prepaid(at))
        chosen = wanted & self._quantities
        return scale_money({q: v for q, v in values.items() if q in chosen}, self._step_fen)

    def identify(self, at: Address) -> Conversation[Identity]:
        live = yield from self._live(at)
        number = yield from self._optional(at, METER_NUMBER_AT, METER_NUMBER_WORDS)
        hardware = yield from self._optional(at, HARDWARE_AT, 1)
        return Identity(
            type_code=live.type_code,
            meter_number=bcd_digits(number) if number else None,
            note=hardware_note(hardware[1]) if hardware else "",
        )

    def frozen(self, at: Address) -> Conversation[tuple[Frozen, ...]]:
        """None: where these meters keep their 48 months is not published (spec acrel.md 2.8)."""
        yield from ()
        return ()

    def recharges(self, at: Address) -> Conversation[tuple[Recharge, ...]]:
        """None: as `frozen`."""
        yield from ()
        return ()

    def _states(self, at: Address) -> Conversation[Values]:
        return scale_money((yield from self._live(at)).values, self._step_fen)

    def _look(self, at: Address) -> Conversation[tuple[Evidence, bool | None]]:
        """Evidence, and whether the prepaid switch is on; None without a prepaid block."""
        live = (yield from self._live(at)).values
        payload = yield from self._prepaid_payload(at)
        money = decode_prepaid(payload) if payload is not None else {}
        check_counts(live, money)
        evidence = evidence_of(scale_money(live | money, self._step_fen))
        return evidence, None if payload is None else any(payload[:2])

    def _check_money(self, at: Address, meter_number: str | None) -> Conversation[None]:
        if meter_number is not None:
            number = yield from self._number(at)
            if number != meter_number:
                raise WrongMeter(
                    f"meter {number or 'without a number'} answers where {meter_number} is "
                    f"expected; correct the number or the address"
                )
        yield from self._agree_on_cipher(at)

    def _number(self, at: Address) -> Conversation[str | None]:
        payload = yield from self._optional(at, METER_NUMBER_AT, METER_NUMBER_WORDS)
        return bcd_digits(payload) if payload else None

    def _shows_number(self, at: Address, number: str) -> Conversation[bool]:
        return (yield from self._number(at)) == number

    def _agree_on_cipher(self, at: Address) -> Conversation[None]:
        """Raises NotReady when the meter's hardware word and the site file disagree."""
        if self._cipher_agreed:
            return
        payload = yield from self._optional(at, HARDWARE_AT, 1)
        if payload is not None and bool(payload[1] & ENCRYPTED_WRITES) != self._encryption:
            takes = "plain" if self._encryption else "enciphered"
            wanted = str(not self._encryption).lower()
            raise NotReady(
                f"the meter takes {takes} purchases; set its option encryption to {wanted}"
            )
        self._cipher_agreed = True

    def _purchase(self, at: Address, steps: int, count: int) -> Request:
        return self._money(purchase(at.unit, steps, count))

    def _prepaid_requests(self, at: Address, setting: PrepaidSetting) -> tuple[Request, ...]:
        groups = prepaid_groups(setting, self._step_fen)
        return (self._money(prepaid_settings(at.unit, groups)),)

    def _forced(self, at: Address, supply: Supply) -> Request:
        return write_registers(at.unit, FORCED_AT, SUPPLY_WORDS[supply])

    def _block(self, at: Address, setting: BlockSetting) -> Conversation[Block]:
        yield from ()
        if (
            isinstance(setting, DayTable)
            and self._rates == 4
            and any(slot.rate > FOUR_RATES for slot in setting.slots)
        ):
            raise NotReady("this meter has four rates; leave deep valley out of its day table")
        return direct_block(at.unit, self._phases, self._tables, setting, self._date_order)

    def _clock(self, at: Address, dial: datetime) -> Conversation[Request]:
        yield from ()
        return clock(at.unit, dial)

    def _money(self, request: Request) -> Request:
        """A purchase or a prepaid setting as this meter takes it."""
        return enciphered(request, self._site_key) if self._encryption else request

    def _live(self, at: Address) -> Conversation[Live]:
        request = read_registers(at.unit, LIVE_AT, self._live_words)
        answer = yield from ask(request)
        if isinstance(answer, Reply):
            live = decode_live(
                answer.payload, phases=self._phases, trust_8_rate_clock=self._rates == 8
            )
            check_type(live, self._type_code)
            return live
        undecided = self._rates == "auto" and self._live_words == LIVE_WORDS_8_RATES
        if undecided and answer.code in REFUSED_FOR_GOOD:
            self._live_words = LIVE_WORDS_4_RATES
            return (yield from self._live(at))
        raise Refused(request.label, answer.code)

    def _prepaid(self, at: Address) -> Conversation[Values]:
        payload = yield from self._prepaid_payload(at)
        return decode_prepaid(payload) if payload is not None else {}

    def _prepaid_payload(self, at: Address) -> Conversation[bytes | None]:
        """The prepaid block; None from a meter without one (DDSF, or no prepaid firmware)."""
        if not self._has_prepaid:
            return None
        payload = yield from self._optional(at, PREPAID_AT, PREPAID_WORDS)
        self._has_prepaid = payload is not None
        return payload

    def _optional(self, at: Address, address: int, count: int) -> Conversation[bytes | None]:
        """Registers a meter may lack. Raises Refused for any other refusal."""
        try:
            return (yield from ask_reply(read_registers(at.unit, address, count)))
        except Refused as refused:
            if refused.code in REFUSED_FOR_GOOD:
                return None
            raise


def hardware_note(word: int) -> str:
    """The hardware word's low byte in words a technician uses."""
    said = (one if word >> bit & 1 else zero for bit, zero, one in HARDWARE_BITS)
    return ", ".join(text for text in said if text)
