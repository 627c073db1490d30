"""When a message from a broker is acknowledged: not before what it said is safe, and in its turn.

A broker keeps what is not acknowledged and sends it again after a lost connection, so a program
that dies with a message in its memory hears it once more. Acknowledgements go out in the order in
which messages came (MQTT 4.6); what waits is bounded by the broker's own window of unacknowledged
messages: a database that is slow slows the broker down, which keeps the rest.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import aiomqtt

# A message that stays unsettled so long is acknowledged from memory, as all are in a program
# without a database: else a full window would hold back our own mark, and with it every line.
ACK_S_MAX = 30.0


class ManualClient(aiomqtt.Client):
    """aiomqtt's client, whose messages are acknowledged when we say so: paho, on which it rests,
    can do that; aiomqtt does not show it."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._client.manual_ack_set(True)

    def acknowledge(self, message: aiomqtt.Message) -> None:
        """Tell the broker that this message is ours now; nothing for QoS 0."""
        self._client.ack(message.mid, message.qos)


class Acks:
    """What one connection owes its broker."""

    def __init__(self, client: ManualClient) -> None:
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._owed: deque[tuple[aiomqtt.Message, asyncio.Future[Any] | None, float]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False

    def owe(self, message: aiomqtt.Message, settled: asyncio.Future[Any] | None) -> None:
        """A message that came; it is acknowledged once `settled` is done and its turn has come."""
        if message.qos == 0:
            return
        self._owed.append((message, settled, self._loop.time() + ACK_S_MAX))
        if settled is not None and not settled.done():
            settled.add_done_callback(self._pay)
        self._pay()

    def close(self) -> None:
        """The connection is gone: what is owed comes again."""
        self._is_closed = True
        self._owed.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _pay(self, _settled: object = None) -> None:
        if self._is_closed:
            return
        owed, now_s = self._owed, self._loop.time()
        while owed:
            message, settled, until_s = owed[0]
            if settled is not None and not settled.done() and now_s < until_s:
                break
            owed.popleft()
            self._client.acknowledge(message)
        if owed and self._timer is None:
            self._timer = self._loop.call_at(owed[0][2], self._overdue)

    def _overdue(self) -> None:
        self._timer = None
        self._pay()
