"""A prepaid DL/T 645 meter: what the plain one does, and money in its security chip.

A purchase is looked for first and last in the chip itself: its count is the only witness that
cannot be read from a stale copy (spec field_protocols.md A5). Two wrong codes, and this driver asks
the chip nothing more: a third could lock the meter. A session that opens clears nothing, since the
code of a purchase may be wrong all the same; a proved purchase does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from protocols import dlt645 as wire
from protocols import dlt645_items as items
from protocols import dlt645_prepaid as prepaid
from protocols.dlt645_driver import REFUSED_FOR_GOOD, REFUSED_NOW, Dlt645Driver, ask_data
from protocols.evidence import Verdict, judge
from protocols.exchange import (
    CodesRefused,
    Conversation,
    CountOutOfStep,
    Evidence,
    Intent,
    NotReady,
    Refusal,
    Refused,
    ask,
)
from protocols.keys import CODES_REFUSED_MAX, KeyHolder
from protocols.meter_type import Address, BadOption, Options, Recharge, TopUp, TopUpOutcome
from protocols.reading import Quantity, Values

Q = Quantity

KEY_HOLDER = "key_holder"  # the option that comes from the program
RECORDS_MAX = 10
REMAINING_DI, OVERDRAWN_DI = 0x00900200, 0x00900201
COUNT_DI, TOTAL_DI, RECORD_DI = 0x03330201, 0x03330601, 0x0333FF00
MONEY = frozenset({Q.REMAINING_CREDIT, Q.PURCHASE_COUNT, Q.TOTAL_PURCHASED})
RECORD_BYTES = 23


@dataclass(frozen=True, slots=True)
class _Purse:
    """The chip in a session, and what it held then."""

    session: prepaid.Session
    look: prepaid.PurseLook


class Dlt645PrepaidDriver(Dlt645Driver):
    """One prepaid meter of DL/T 645-2007."""

    __slots__ = ("_keys", "_numbers", "_operator", "codes_refused")

    def __init__(self, phases: int, options: Options) -> None:
        """Raises BadOption."""
        keys = options.get(KEY_HOLDER)
        if isinstance(keys, str | int | bool):
            raise BadOption("option key_holder is given by the program and never stands in a file")
        given = {name: value for name, value in options.items() if name != KEY_HOLDER}
        super().__init__(phases, given)
        self._keys: KeyHolder | None = keys  # type: ignore[assignment]  # a SiteKey has no calls
        self._operator = self._access.head[4:8]
        self.codes_refused = 0  # as CountsCodes has it
        self._numbers: dict[str, str] = {}  # by address: what the chip knows the meter as

    # ---- looking --------------------------------------------------------------------------------

    def read(self, at: Address, wanted: frozenset[Q]) -> Conversation[Values]:
        """As in Driver. Money as anybody may read it, without a session."""
        values = yield from super().read(at, wanted)
        if wanted & MONEY:
            values |= yield from self._money(at)
        return {quantity: value for quantity, value in values.items() if quantity in wanted}

    def evidence(self, at: Address) -> Conversation[Evidence]:
        """As in Driver: the count from the chip where keys are at hand, else from its records."""
        values = yield from self._states(at)
        values |= yield from self._money(at)
        evidence = self._evidence(values)
        if self._keys is None:
            return evidence
        purse = yield from self._look_into(at)
        return replace(evidence, purchase_count=purse.look.purchase_count)

    def recharges(self, at: Address) -> Conversation[tuple[Recharge, ...]]:
        """As in Driver: the last ten."""
        found: list[Recharge] = []
        for back in range(1, RECORDS_MAX + 1):
            try:
                data = yield from ask_data(wire.read_item(at.number, RECORD_DI + back))
            except Refused:
                break
            if (recharge := _recharge(data)) is not None:
                found.append(recharge)
        return tuple(sorted(found, key=lambda r: r.dial, reverse=True))

    # ---- orders ---------------------------------------------------------------------------------

    def top_up(self, at: Address, order: TopUp) -> Conversation[TopUpOutcome]:
        """As in Driver."""
        if self._keys is None:
            raise NotReady("no key holder is set up, so nothing can be sealed for this meter")
        values = yield from self._states(at)
        values |= yield from self._money(at)
        purse = yield from self._look_into(at)
        count = purse.look.purchase_count
        before = replace(self._evidence(values), purchase_count=count)
        if count != order.purchase_count - 1:
            raise CountOutOfStep(before, order.purchase_count - 1)
        if not order.amount_fen and before.total_purchased_fen is None:
            raise NotReady("the meter tells no total of purchases, so no burn could be proved")
        if order.meter_number not in (None, purse.session.meter_number):
            raise NotReady(f"the meter is number {purse.session.meter_number}, not the expected")
        request = yield from prepaid.credit(
            at.number,
            prepaid.TOP_UP,
            self._operator,
            purse.session,
            self._keys,
            amount_fen=order.amount_fen,
            purchase_count=order.purchase_count,
            customer=purse.look.customer,
        )
        yield Intent(before)
        answer = yield from ask(request)
        if isinstance(answer, Refusal) and answer.code & prepaid.BAD_MAC:
            self.codes_refused += 1
        after = yield from self.evidence(at)
        verdict = judge(before, after, order.amount_fen)
        if verdict is Verdict.APPLIED:
            self.codes_refused = 0
        return TopUpOutcome(
            verdict=verdict,
            before=before,
            after=after,
            refusal=_refusal(answer.code) if isinstance(answer, Refusal) else None,
        )

    # ---- parts ----------------------------------------------------------------------------------

    def _look_into(self, at: Address) -> Conversation[_Purse]:
        """A session and a look at the purse. Raises CodesRefused, Refused, KeysAway."""
        keys = self._keys
        assert keys is not None
        self._check_codes()
        number = yield from self._number(at)
        try:
            session = yield from prepaid.begin(at.number, self._operator, number, keys)
            look = yield from prepaid.query(at.number, self._operator, session, keys)
        except Refused as refused:
            if refused.code & prepaid.BAD_MAC:
                self.codes_refused += 1
                self._check_codes()
            raise
        return _Purse(session, look)

    def _check_codes(self) -> None:
        if self.codes_refused >= CODES_REFUSED_MAX:
            raise CodesRefused(
                "the meter's chip refused two codes; find out which key it holds before a third "
                "one locks it"
            )

    def _number(self, at: Address) -> Conversation[str]:
        """The meter number, which the chip knows itself by; it need not be the address."""
        if at.number not in self._numbers:
            identity = yield from self.identify(at)
            self._numbers[at.number] = identity.meter_number or at.number
        return self._numbers[at.number]

    def _money(self, at: Address) -> Conversation[Values]:
        """Remaining credit, count and total; a meter without a record was never bought for."""
        values: Values = {}
        remaining = yield from self._number_of(at, REMAINING_DI)
        overdrawn = yield from self._number_of(at, OVERDRAWN_DI)
        if remaining is not None:
            values[Q.REMAINING_CREDIT] = remaining - (overdrawn or 0)
            for quantity, di in ((Q.PURCHASE_COUNT, COUNT_DI), (Q.TOTAL_PURCHASED, TOTAL_DI)):
                told = yield from self._number_of(at, di)
                if told is not None and told >= 0:
                    values[quantity] = told
        return values

    def _number_of(self, at: Address, di: int) -> Conversation[int | None]:
        """One number; 0 for a record that is not there, None where it makes no sense."""
        try:
            data = yield from ask_data(wire.read_item(at.number, di))
        except Refused as refused:
            return 0 if refused.code & 0b10 and di >> 16 == 0x0333 else None
        return items.digits_of(data) if 1 <= len(data) <= 4 else None

    @staticmethod
    def _evidence(values: Values) -> Evidence:
        closed = values.get(Q.RELAY_CLOSED)
        controls = values.get(Q.CONTROLS)
        return Evidence(
            purchase_count=values.get(Q.PURCHASE_COUNT),
            total_purchased_fen=values.get(Q.TOTAL_PURCHASED),
            remaining_credit_fen=values.get(Q.REMAINING_CREDIT),
            relay_closed_bits=closed,
            forced=None if controls is None else bool(controls),
        )


def _recharge(data: bytes) -> Recharge | None:
    """One record of 23 bytes: time 5, count 2, amount, before, after, total 4 each."""
    if len(data) < RECORD_BYTES:
        return None
    dial = items.decode_time5(data[:5])
    count, amount, after = (items.digits_of(data[a:b]) for a, b in ((5, 7), (7, 11), (15, 19)))
    if dial is None or count is None or amount is None or after is None:
        return None
    return Recharge(
        dial=dial,
        purchase_count=count,
        amount_fen=amount,
        remaining_credit_fen=after,
        energy_wh=0,
    )


def _refusal(word: int) -> int:
    """1 for what will be the same tomorrow, else the chip's own word above 100H."""
    for_good = prepaid.BAD_MAC | prepaid.WRONG_CUSTOMER | prepaid.WRONG_COUNT | prepaid.OVER_LIMIT
    return REFUSED_FOR_GOOD if word & for_good else REFUSED_NOW | word
