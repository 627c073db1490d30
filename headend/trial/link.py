"""A box on a bad mobile network: bytes are lost, late, parked, doubled and damaged, from a seed.

The box and what it has parked outlive its connections and the head-end itself, as in the field: a
request may reach the meter after the program that sent it is dead and the next one is at work.
Nothing is in flight longer than the line's reply_late_s_max: that is what the operator promises
when he sets it, and what the product's rules rest on.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields

from gateways.link import ByteLink, LinkDown, LinkUser
from gateways.timing import LineTiming
from simulators.metering import CountRule
from simulators.modbus_meter import Bus

TRAVEL_S = 0.05  # one way, when all is well
SPLIT_S = 0.02  # between two pieces of one answer
# Kept free of the time an answer may take: what travel and pieces cost at most.
SLACK_S = 0.3
WRITES = (0x06, 0x10, 0x20)  # function codes that change something
# A box that lost its connection is back after this long.
REDIAL_S_MAX = 20.0
REBOOT_S_MAX = 15.0  # a meter that restarts hears nothing for so long
CLOCK_WRONG_MS_MAX = 400 * 24 * 3_600_000  # more than a year
# The most frequent a fault gets: above that hardly anything gets through and little is learned.
RATE_MAX = 0.15
RARE_MAX = 0.03


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """How often each fault happens to one request (0.0 to 1.0)."""

    request_lost: float = 0.0
    request_damaged: float = 0.0
    request_doubled: float = 0.0
    parked: float = 0.0  # kept by the box and sent on much later
    answer_lost: float = 0.0
    answer_damaged: float = 0.0
    answer_doubled: float = 0.0
    late: float = 0.0
    noise: float = 0.0  # foreign bytes before the answer
    session_replaced: float = 0.0  # the box dials in again while the old connection stands
    session_lost: float = 0.0
    reboot: float = 0.0
    clock_wrong: float = 0.0

    @classmethod
    def drawn(cls, chance: random.Random) -> Weather:
        """A bad day: about half of the faults, each as often as this seed wants it."""
        rare = {"session_replaced", "session_lost", "reboot", "clock_wrong"}
        drawn = {}
        for field in fields(cls):
            most = RARE_MAX if field.name in rare else RATE_MAX
            drawn[field.name] = chance.uniform(0.0, most) if chance.random() < 0.5 else 0.0
        return cls(**drawn)


CALM = Weather()


class Box:
    """A DTU with the meters on its wires. Speaks to whoever holds its newest connection."""

    def __init__(
        self,
        name: str,
        bus: Bus,
        *,
        timing: LineTiming,
        weather: Weather,
        chance: random.Random,
        say: Callable[[str, str], None],
        parks_reads: bool = True,
    ) -> None:
        self.name = name
        self.bus = bus
        self.weather = weather
        self.faults: Counter[str] = Counter()
        self.session: BoxSession | None = None
        self._chance = chance
        self._say = say
        self._parks_reads = parks_reads
        self._loop = asyncio.get_running_loop()
        self._silent_until_s: dict[int, float] = {}
        self._away_until_s = 0.0
        self._dialled = 0
        self._attach: Callable[[ByteLink], None] | None = None
        in_flight_s = timing.reply_late_s_max - SLACK_S
        self._late_s_max = in_flight_s / 5
        self._parked_s_max = in_flight_s - self._late_s_max

    # ---- connections ----------------------------------------------------------------------------

    def serve(self, attach: Callable[[ByteLink], None], after_s: float) -> None:
        """Dial a head-end that has just started, after so long."""
        self._attach = attach
        self._loop.call_later(after_s, self._dial, attach)

    def lose_head_end(self) -> None:
        """The head-end died: nobody is spoken to until the next one comes."""
        self._attach = None
        self.session = None

    def fall_silent(self, for_s: float) -> None:
        """No network for so long: the connection breaks, and nothing dials before."""
        self._away_until_s = self._loop.time() + for_s
        session, self.session = self.session, None
        if session is not None and self._attach is not None:
            session.lose("connection timed out")
            self._loop.call_later(for_s, self._dial, self._attach)

    def _dial(self, attach: Callable[[ByteLink], None]) -> None:
        if self._attach is not attach:
            return  # that head-end is gone
        away_s = self._away_until_s - self._loop.time()
        if away_s > 0:
            self._loop.call_later(away_s, self._dial, attach)
            return
        self._dialled += 1
        self.session = BoxSession(f"{self.name} call {self._dialled}", self)
        attach(self.session)

    def _break_session(self) -> None:
        session, attach = self.session, self._attach
        if session is None or attach is None:
            return
        if self._hit("session_replaced"):
            self._say(self.name, "dials in again, the old connection is forgotten")
            self._dial(attach)
        elif self._hit("session_lost"):
            self._say(self.name, "connection lost")
            self.session = None
            session.lose("connection reset by peer")
            self._loop.call_later(self._chance.uniform(0.5, REDIAL_S_MAX), self._dial, attach)

    # ---- the way to the meter -------------------------------------------------------------------

    def hears(self, frame: bytes) -> None:
        """One request as it left the head-end."""
        self._loop.call_soon(self._break_session)
        if self._hit("request_lost"):
            self._say(self.name, f"lost on its way: {frame.hex()}")
            return
        if self._hit("request_damaged"):
            frame = self._damaged(frame)
        delay_s = TRAVEL_S
        if (self._parks_reads or frame[1] in WRITES) and self._hit("parked"):
            delay_s = self._chance.uniform(1.0, max(1.0, self._parked_s_max))
            self._say(self.name, f"parked for {delay_s:.1f} s: {frame.hex()}")
        self._loop.call_later(delay_s, self._reaches_meter, frame)
        if self._may_double(frame) and self._hit("request_doubled"):
            self._loop.call_later(delay_s + SPLIT_S, self._reaches_meter, frame)

    def _may_double(self, frame: bytes) -> bool:
        """No head-end can help a meter that counts nothing and is told twice by the network."""
        unit = self.bus.units.get(frame[0])
        return unit is not None and unit.meter.count_rule is CountRule.NEXT_ONLY

    def _reaches_meter(self, frame: bytes) -> None:
        unit, now_s = frame[0], self._loop.time()
        if now_s < self._silent_until_s.get(unit, 0.0):
            return
        if self._hit("reboot"):
            self._silent_until_s[unit] = now_s + self._chance.uniform(1.0, REBOOT_S_MAX)
            self._say(self.name, f"meter at unit {unit} restarts")
            return
        if self._hit("clock_wrong") and unit in self.bus.units:
            meter = self.bus.units[unit].meter
            wrong_ms = self._chance.randrange(-CLOCK_WRONG_MS_MAX, CLOCK_WRONG_MS_MAX)
            meter.set_clock(meter.now_ms() + wrong_ms)
        answer = self.bus.answer(frame)
        if answer is not None:
            self._answers(answer)

    # ---- the way back ---------------------------------------------------------------------------

    def _answers(self, answer: bytes) -> None:
        if self._hit("answer_lost"):
            self._say(self.name, f"answer lost: {answer.hex()}")
            return
        delay_s = TRAVEL_S
        if self._hit("late"):
            delay_s = self._chance.uniform(0.2, self._late_s_max)
            self._say(self.name, f"answer {delay_s:.1f} s late: {answer.hex()}")
        if self._hit("answer_damaged"):
            answer = self._damaged(answer)
        if self._hit("noise"):
            answer = self._chance.randbytes(self._chance.randint(1, 4)) + answer
        cut = self._chance.randrange(1, len(answer))
        self._loop.call_later(delay_s, self._arrives, answer[:cut])
        self._loop.call_later(delay_s + SPLIT_S, self._arrives, answer[cut:])
        if self._hit("answer_doubled"):
            self._loop.call_later(delay_s + 2 * SPLIT_S, self._arrives, answer)

    def _arrives(self, data: bytes) -> None:
        if self.session is not None:
            self.session.deliver(data)

    # ---- chance ---------------------------------------------------------------------------------

    def _hit(self, fault: str) -> bool:
        probability: float = getattr(self.weather, fault)
        if not probability or self._chance.random() >= probability:
            return False
        self.faults[fault] += 1
        return True

    def _damaged(self, frame: bytes) -> bytes:
        at, bit = self._chance.randrange(len(frame)), 1 << self._chance.randrange(8)
        return frame[:at] + bytes((frame[at] ^ bit,)) + frame[at + 1 :]


class BoxSession:
    """One connection of a box: a ByteLink, used once."""

    def __init__(self, name: str, box: Box) -> None:
        self.name = name
        self._box = box
        self._user: LinkUser | None = None
        self._lost: str | None = None
        #: called before a frame leaves; False: the process is dead and its frame never leaves
        self.may_leave: Callable[[bytes], bool] = lambda _: True

    def start(self, user: LinkUser) -> None:
        """From now on `user` gets the bytes."""
        self._user = user

    def write(self, data: bytes) -> None:
        """Hand over one frame. Raises LinkDown. A replaced connection swallows it."""
        if self._lost is not None:
            raise LinkDown(self._lost)
        if self.may_leave(data) and self._box.session is self:
            self._box.hears(data)

    def close(self) -> None:
        """Nobody listens any more."""
        self._user = None
        self._lost = "closed"

    def deliver(self, data: bytes) -> None:
        """Bytes from the box."""
        if self._user is not None:
            self._user.bytes_received(data)

    def lose(self, reason: str) -> None:
        """The connection breaks."""
        self._lost = reason
        user, self._user = self._user, None
        if user is not None:
            user.link_lost(reason)
