"""A box on a bad network: bytes are lost, late, parked, doubled and damaged, from a seed.

The box and what it has parked outlive its connections and the head-end itself, as in the field: a
request may reach the meter after the program that sent it is dead and the next one is at work.
Nothing is in flight longer than the line's reply_late_s_max: that is what the operator promises
when he sets it, and what the product's rules rest on.

What goes up is damaged, doubled and lost as the road's own frame, around the meter's bytes or in
them: that is what the product must read. What goes down is damaged behind the box: before it, a
damaged frame would only try the simulator.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields

from gateways.timing import LineTiming
from headend.trial.network import Call, Factory, Network
from headend.trial.roads import Road, Wires
from simulators.carried import Manner
from simulators.metering import CountRule

TRAVEL_S = 0.05  # one way, when all is well
SPLIT_S = 0.02  # between two pieces of one answer
# Kept free of the time an answer may take: what travel and pieces cost at most.
SLACK_S = 0.3
HEARTBEAT_S = 200.0
LISTENS_AGAIN_S = 2.0  # a head-end that takes no calls yet is called again
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
    """Whatever carries the bytes of one line. Speaks to whoever holds its newest connection."""

    def __init__(
        self,
        road: Road,
        wires: Wires,
        network: Network,
        *,
        timing: LineTiming,
        weather: Weather,
        chance: random.Random,
        say: Callable[[str, str], None],
        parks_reads: bool = True,
    ) -> None:
        self.name = road.name
        self.road = road
        self.weather = weather
        self.faults: Counter[str] = Counter()
        self.carried = 0  # answers that went up
        self.session: BoxCall | None = None
        self._wires = wires
        self._network = network
        self._chance = chance
        self._say = say
        self._parks_reads = parks_reads
        self._loop = asyncio.get_running_loop()
        self._silent_until_s: dict[int, float] = {}
        self._away_until_s = 0.0
        self._calls = 0
        #: what is under way to the head-end, and on which connection
        self._rest: tuple[BoxCall | None, bytes] = (None, b"")
        #: asked before a frame leaves; False: the process is dead and its frame never leaves.
        #: None: there is no head-end
        self._may_leave: Callable[[bytes], bool] | None = None
        in_flight_s = timing.reply_late_s_max - SLACK_S
        self._late_s_max = in_flight_s / 5
        self._parked_s_max = in_flight_s - self._late_s_max
        if road.port is not None:
            network.boxes[road.port] = self

    # ---- connections ----------------------------------------------------------------------------

    def serve(self, may_leave: Callable[[bytes], bool], after_s: float) -> None:
        """A head-end has just started: one that is dialled dials it, after so long."""
        self._may_leave = may_leave
        self._dial_later(after_s)

    def lose_head_end(self) -> None:
        """The head-end died: nobody is spoken to until the next one comes."""
        self._may_leave = None
        self.session = None

    def fall_silent(self, for_s: float) -> None:
        """No network for so long: the connection breaks, and nothing is dialled before."""
        self._away_until_s = self._loop.time() + for_s
        session, self.session = self.session, None
        if session is not None:
            session.lose("connection timed out")
        self._dial_later(for_s)

    def taken(self, factory: Factory, context: contextvars.Context) -> BoxCall:
        """Somebody dials this box. Raises OSError."""
        if self._may_leave is None or self._loop.time() < self._away_until_s:
            raise ConnectionRefusedError(f"{self.name} is away")
        return self._connected(factory, context)

    def hung_up(self, call: Call) -> None:
        """The head-end closed a connection."""
        if self.session is call:
            self.session = None
            self._dial_later(self._chance.uniform(0.5, REDIAL_S_MAX))

    def _dial_later(self, after_s: float) -> None:
        if self._may_leave is not None and self.road.port is None:
            self._loop.call_later(after_s, self._dial, self._may_leave)

    def _dial(self, head_end: Callable[[bytes], bool]) -> None:
        if self._may_leave is not head_end:
            return  # that one is gone
        away_s = self._away_until_s - self._loop.time()
        if away_s > 0:
            self._loop.call_later(away_s, self._dial, head_end)
            return
        where = self._network.listener(self.road.calls)
        if where is None:
            self._loop.call_later(LISTENS_AGAIN_S, self._dial, head_end)
            return
        self._connected(*where)

    def _connected(self, factory: Factory, context: contextvars.Context) -> BoxCall:
        self._calls += 1
        manner = self.road.new_manner()
        self.session = call = BoxCall(f"{self.name} call {self._calls}", self, context, manner)
        call.open(factory)
        hello = manner.hello()
        if hello:
            self._tells(call, hello)
        if manner.heartbeat() is not None or hello:
            self._loop.call_later(HEARTBEAT_S, self._beats, call)
        return call

    def _beats(self, call: BoxCall) -> None:
        if self.session is not call:
            return
        beat = call.manner.heartbeat()
        if beat is not None:
            self._tells(call, beat)
        self._loop.call_later(HEARTBEAT_S, self._beats, call)

    def _tells(self, call: BoxCall, data: bytes) -> None:
        """What the box says of itself; it is lost and damaged like everything else."""
        if self._hit("answer_lost"):
            self._say(self.name, f"lost: {data.hex()}")
            return
        if self._hit("answer_damaged"):
            data = self._damaged(data)
        self._loop.call_later(TRAVEL_S, call.deliver, data)

    def _break_session(self) -> None:
        session = self.session
        if session is None:
            return
        if self._hit("session_replaced"):
            if self.road.port is None and self._may_leave is not None:
                self._say(self.name, "dials in again, the old connection is forgotten")
                self._dial(self._may_leave)
                return
            self._lose(session)
        elif self._hit("session_lost"):
            self._lose(session)

    def _lose(self, session: BoxCall) -> None:
        self._say(self.name, "connection lost")
        self.session = None
        session.lose("connection reset by peer")
        self._dial_later(self._chance.uniform(0.5, REDIAL_S_MAX))

    # ---- the way to the meter -------------------------------------------------------------------

    def hears(self, call: Call, data: bytes) -> None:
        """One write as it left the head-end. A replaced connection swallows it."""
        if self._may_leave is None or not self._may_leave(data) or self.session is not call:
            return
        assert isinstance(call, BoxCall)
        self._loop.call_soon(self._break_session)
        if self._hit("request_lost"):
            self._say(self.name, f"lost on its way: {data.hex()}")
            return
        asked, says = call.manner.heard(data)
        for said in says:
            self._tells(call, said)
        for frame, label in asked:
            self._sends_on(frame, label)

    def _sends_on(self, frame: bytes, label: bytes) -> None:
        is_write = self._wires.is_write(frame)
        counts_its_purchases = self._counts(frame)
        if self._hit("request_damaged"):
            frame = self._damaged(frame)
        delay_s = TRAVEL_S
        if (self._parks_reads or is_write) and self._hit("parked"):
            delay_s = self._chance.uniform(1.0, max(1.0, self._parked_s_max))
            self._say(self.name, f"parked for {delay_s:.1f} s: {frame.hex()}")
        self._loop.call_later(delay_s, self._reaches_meter, frame, label)
        if counts_its_purchases and self._hit("request_doubled"):
            self._loop.call_later(delay_s + SPLIT_S, self._reaches_meter, frame, label)

    def _counts(self, frame: bytes) -> bool:
        """No head-end can help a meter that counts nothing and is told twice by the network."""
        meter = self._wires.meter(frame)
        return meter is not None and meter.count_rule is CountRule.NEXT_ONLY

    def _reaches_meter(self, frame: bytes, label: bytes) -> None:
        party, now_s = self._wires.party(frame), self._loop.time()
        if now_s < self._silent_until_s.get(party, 0.0):
            return
        if self._hit("reboot"):
            self._silent_until_s[party] = now_s + self._chance.uniform(1.0, REBOOT_S_MAX)
            self._say(self.name, f"meter at {party} restarts")
            self._wires.power_cut(frame)
            return
        meter = self._wires.meter(frame)
        if meter is not None and self._hit("clock_wrong"):
            wrong_ms = self._chance.randrange(-CLOCK_WRONG_MS_MAX, CLOCK_WRONG_MS_MAX)
            meter.set_clock(meter.now_ms() + wrong_ms)
        answer = self._wires.answer(frame)
        if answer is not None:
            self._answers(answer, label)

    # ---- the way back ---------------------------------------------------------------------------

    def _answers(self, answer: bytes, label: bytes) -> None:
        if self._hit("answer_lost"):
            self._say(self.name, f"answer lost: {answer.hex()}")
            return
        delay_s = TRAVEL_S
        if self._hit("late"):
            delay_s = self._chance.uniform(0.2, self._late_s_max)
            self._say(self.name, f"answer {delay_s:.1f} s late: {answer.hex()}")
        damaged, noise = self._hit("answer_damaged"), self._hit("noise")
        on_wires = self.road.is_guarded or self._chance.random() < 0.5
        if on_wires:
            answer = self._spoilt(answer, damaged=damaged, noise=noise)
        session = self.session
        packet = None if session is None else session.manner.packet(answer, label)
        if packet is None:
            return
        if not on_wires:
            packet = self._spoilt(packet, damaged=damaged, noise=noise)
        self._goes_up(packet, delay_s)

    def _goes_up(self, packet: bytes, delay_s: float) -> None:
        self.carried += 1
        cut = len(packet) if self.road.is_whole else self._chance.randrange(1, len(packet))
        if self.road.is_guarded:
            self._loop.call_later(delay_s, self._begins, packet[:cut], packet[cut:])
        else:
            for after_s, piece in ((0.0, packet[:cut]), (SPLIT_S, packet[cut:])):
                if piece:
                    self._loop.call_later(delay_s + after_s, self._arrives, piece)
        if self._hit("answer_doubled"):
            self._loop.call_later(delay_s + 2 * SPLIT_S, self._arrives, packet)

    def _begins(self, first: bytes, rest: bytes) -> None:
        """TCP keeps the order: nothing gets into the middle of what is under way."""
        self._arrives(first)
        self._rest = (self.session, rest)
        self._loop.call_later(SPLIT_S, self._ends)

    def _ends(self) -> None:
        session, rest = self._rest
        self._rest = (None, b"")
        if rest and session is not None and session is self.session:
            session.deliver(rest)

    def _arrives(self, data: bytes) -> None:
        self._ends()
        if self.session is not None:
            self.session.deliver(data)

    # ---- chance ---------------------------------------------------------------------------------

    def _hit(self, fault: str) -> bool:
        probability: float = getattr(self.weather, fault)
        if not probability or self._chance.random() >= probability:
            return False
        self.faults[fault] += 1
        return True

    def _spoilt(self, data: bytes, *, damaged: bool, noise: bool) -> bytes:
        if damaged:
            data = self._damaged(data)
        return self._chance.randbytes(self._chance.randint(1, 4)) + data if noise else data

    def _damaged(self, frame: bytes) -> bytes:
        at, bit = self._chance.randrange(len(frame)), 1 << self._chance.randrange(8)
        return frame[:at] + bytes((frame[at] ^ bit,)) + frame[at + 1 :]


class BoxCall(Call):
    """One connection of a box, with what the box says on it."""

    def __init__(self, name: str, box: Box, context: contextvars.Context, manner: Manner) -> None:
        super().__init__(name, box, context)
        self.manner = manner
