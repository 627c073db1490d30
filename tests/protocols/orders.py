"""What tests of orders share: meters of every type, and a conversation with one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from protocols.catalog import load_meter_types
from protocols.exchange import Conversation, Effect, Intent, KeyWork, Request, Silence
from protocols.meter_type import Address, Addressing, Driver, Options
from simulators.acrel_meter import DDSY1352, DTSY1352, Firmware, acrel_unit
from simulators.adf_cabinet import CabinetPlan, cabinet_units
from simulators.metering import Account, CountRule, Meter
from simulators.modbus_meter import Bus
from tests.sim.helpers import HandClock, meter

T = TypeVar("T")
Wire = Callable[[bytes], bytes | None]

AT = Address(1)
DIRECT = {"acrel_ddsy1352": DDSY1352, "acrel_dtsy1352": DTSY1352}
CABINET_USERS = {"ct": "ct_users", "3p": "three_phase_users", "1p": "single_phase_users"}
EVERY_TYPE = sorted(
    name for name, kind in load_meter_types().items() if kind.addressing is Addressing.UNIT
)


@dataclass
class Bench:
    """One simulated meter of a type, its driver, and what was said."""

    name: str
    options: Options = field(default_factory=dict)
    account: Account = field(default_factory=Account)
    count: int = 3
    credit_fen: int = 10_000
    rule: CountRule = CountRule.NEXT_ONLY
    firmware: Firmware = field(default_factory=Firmware)
    steps: list[Request | Intent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clock = HandClock()
        self.meter: Meter = meter(
            self.clock,
            account=self.account,
            phases=load_meter_types()[self.name].phases,
            credit_fen=self.credit_fen,
            count=self.count,
            rule=self.rule,
        )
        if self.name in DIRECT:
            unit = acrel_unit(DIRECT[self.name], self.meter, AT.unit, self.firmware)
            self.bus = Bus({AT.unit: unit})
        else:
            users = CABINET_USERS[self.name.rsplit("_", 1)[-1]]
            plan = CabinetPlan(base_unit=1, size=12, **{users: 1})
            self.bus = Bus(cabinet_units(plan, [self.meter], number="012307210085"))
            self.options = {"forced_open_state": 1, **self.options}
        self.driver: Driver = load_meter_types()[self.name].new_driver(self.options)

    @property
    def writes(self) -> list[Request]:
        return [s for s in self.steps if isinstance(s, Request) and s.effect is Effect.WRITE]

    @property
    def intents(self) -> list[Intent]:
        return [step for step in self.steps if isinstance(step, Intent)]

    def play(self, conversation: Conversation[T], wire: Wire | None = None) -> T:
        """Run a conversation against the meter, or against whatever `wire` makes of it."""
        answer_of = wire or self.bus.answer
        self.steps.clear()
        try:
            step = next(conversation)
            while True:
                assert not isinstance(step, KeyWork), "a Modbus meter needs no keys"
                self.steps.append(step)
                if isinstance(step, Intent):
                    step = conversation.send(None)
                    continue
                heard = answer_of(step.frame)
                reader = step.new_reader()
                if heard:
                    reader.receive_data(heard)
                answer = reader.next_event()
                step = (
                    conversation.throw(Silence(step.label))
                    if answer is None
                    else conversation.send(answer)
                )
        except StopIteration as stop:
            result: T = stop.value
            return result
