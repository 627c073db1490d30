"""A network without sockets, on virtual time: who listens, who dials whom, and one connection.

It stands where the loop's sockets would, so that the product's own listener, links and keepers run
in a trial as they are, pymodbus's client among them. At the other end of each connection is a box
(link.py).
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar, cast

from simulators.clockloop import SimLoop

T = TypeVar("T")
Factory = Callable[[], asyncio.BaseProtocol]

DIAL_IN_PORT = 5001
DIAL_IN = "dial-in"  # where boxes call; the other place is the broker
REACHES_S = 0.05  # until a call is taken


class CalledBox(Protocol):
    """A box as its connections see it."""

    name: str

    def taken(self, factory: Factory, context: contextvars.Context) -> Call: ...
    def hears(self, call: Call, data: bytes) -> None: ...
    def hung_up(self, call: Call) -> None: ...


class Network:
    """Who can be reached now."""

    def __init__(self) -> None:
        self.boxes: dict[int, CalledBox] = {}  # those that are dialled, by port
        self._listeners: dict[str, tuple[Factory, contextvars.Context]] = {}

    def listen(self, factory: Factory, where: str = DIAL_IN) -> None:
        """The head-end of the moment takes calls there."""
        self._listeners[where] = (factory, contextvars.copy_context())

    def lose_head_end(self) -> None:
        """It died, and its ports with it."""
        self._listeners.clear()

    def listener(self, where: str) -> tuple[Factory, contextvars.Context] | None:
        """Who takes calls there, and in whose name."""
        return self._listeners.get(where)


class Call(asyncio.Transport):
    """One connection between the head-end and a box, as the head-end holds it. What arrives runs
    in the context of the process that opened it, and dies with that process."""

    def __init__(self, name: str, box: CalledBox, context: contextvars.Context) -> None:
        super().__init__({"peername": (name, 0), "socket": _Options()})
        self._box = box
        self._context = context
        self._protocol: asyncio.Protocol | None = None
        self._is_over = False

    def open(self, factory: Factory) -> asyncio.BaseProtocol:
        """Both ends are there."""
        # pymodbus's has the methods, not the class.
        self._protocol = protocol = cast(asyncio.Protocol, self._context.run(factory))
        self._context.run(protocol.connection_made, self)
        return protocol

    def deliver(self, data: bytes) -> None:
        """Bytes from the box."""
        if not self._is_over and self._protocol is not None:
            self._context.run(self._protocol.data_received, data)

    def lose(self, reason: str) -> None:
        """The connection breaks."""
        if not self._is_over:
            self._over(ConnectionResetError(reason))

    # asyncio.Transport

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._is_over:
            self._box.hears(self, bytes(data))

    def is_closing(self) -> bool:
        return self._is_over

    def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        if not self._is_over:
            self._over(None)
            self._box.hung_up(self)

    def _over(self, error: Exception | None) -> None:
        self._is_over = True
        loop = asyncio.get_running_loop()
        if self._protocol is not None:
            loop.call_soon(self._protocol.connection_lost, error, context=self._context)


class _Options:
    """A socket whose options make no difference."""

    def setsockopt(self, *_: Any) -> None:
        pass

    def getsockname(self) -> tuple[str, int]:
        return ("the head-end", DIAL_IN_PORT)


class _Server:
    def __init__(self, network: Network) -> None:
        self.sockets = (_Options(),)
        self._network = network

    def close(self) -> None:
        self._network.lose_head_end()

    async def wait_closed(self) -> None:
        pass


class TrialLoop(SimLoop):
    """Virtual time with a network of its own. What would go to a thread is done at once: a thread
    knows no virtual time."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Network()

    async def create_server(self, protocol_factory: Factory, *_: Any, **__: Any) -> Any:
        self.network.listen(protocol_factory)
        return _Server(self.network)

    async def create_connection(  # type: ignore[override]
        self, protocol_factory: Factory, host: str, port: int, **_: Any
    ) -> tuple[Call, asyncio.BaseProtocol]:
        await asyncio.sleep(REACHES_S)
        call = self.network.boxes[port].taken(protocol_factory, contextvars.copy_context())
        assert call._protocol is not None
        return call, call._protocol

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        done: asyncio.Future[T] = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:
            done.set_exception(error)
        return done


def run(main: Coroutine[Any, Any, T]) -> T:
    """Like asyncio.run, on virtual time and without sockets."""
    with asyncio.Runner(loop_factory=TrialLoop) as runner:
        return runner.run(main)


def network_here() -> Network:
    """The network of the loop that runs."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, TrialLoop)
    return loop.network
