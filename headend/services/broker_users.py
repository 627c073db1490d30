"""Who may come to our own broker: the head-end, and each MQTT gateway to its own topics alone.

The database holds the hashes; the broker's files are written from it, at the start, whenever the
places change and whenever a password is given or taken. Whoever owns the broker does that; another
process of the same head-end only changes the database, and is heard.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from headend.domain.broker_names import HEAD_END, BrokerUser, name_fault
from headend.domain.clock import Clock
from headend.domain.places import GatewayKind
from headend.domain.problems import Problem
from headend.domain.roles import Caller
from headend.services.mqtt_roads import line_topics
from headend.store import broker_passwords as store
from headend.store import places
from headend.store.broker import EmbeddedBroker
from headend.store.broker_files import password_hash
from headend.store.broker_passwords import GivenPassword, MqttGateway
from headend.store.database import Database, Transaction
from headend.store.places import KnownLine
from protocols import uplink_acrel
from protocols.uplink_map import UplinkMap

log = logging.getLogger(__name__)

# It is typed into a box by hand: no letters that look alike. 24 of 31 signs are 118 random bits.
PASSWORD_SIGNS: Final = "abcdefghjkmnpqrstuvwxyz23456789"
PASSWORD_CHARACTERS: Final = 24


def users_of(
    lines: Iterable[KnownLine], hashes: Mapping[str, str], maps: Sequence[UplinkMap]
) -> list[BrokerUser]:
    """One user for each live MQTT gateway, in the order of the lines.

    `hashes` by gateway name. One whose registration cannot be a name is left out and logged.
    """
    reads: dict[str, list[str]] = {}
    writes: dict[str, list[str]] = {}
    hash_of: dict[str, str | None] = {}
    for line in lines:
        gateway = line.gateway
        if gateway.kind is not GatewayKind.MQTT:
            continue
        name = str(gateway.registration)
        if (fault := name_fault(name)) is not None:
            log.warning("gateway %s cannot be a user of the broker: %s", gateway.name, fault)
            continue
        if name not in hash_of:
            hash_of[name] = hashes.get(gateway.name)
            hears, says = uplink_acrel.topics_of(name)
            pushed = (one.topic_of(name) for one in maps)
            reads[name] = list(hears)
            writes[name] = [*says, *(topic for topic in pushed if topic is not None)]
        down, up = line_topics(gateway, line.place.port)
        reads[name].append(down)
        writes[name].append(up)
    return [
        BrokerUser(
            name=name, password_hash=hash_, reads=tuple(reads[name]), writes=tuple(writes[name])
        )
        for name, hash_ in hash_of.items()
    ]


class BrokerUsers:
    """Keeps the users of the broker, where it is ours."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        maps: Sequence[UplinkMap],
        broker: EmbeddedBroker | None,
        *,
        place: str = "",
        off: Problem | None = None,
    ) -> None:
        """`broker` None: there is none, which `off` says, or the site's own, at `place`, which
        keeps its users itself."""
        self._database, self._clock, self._maps = database, clock, maps
        self.broker = broker
        self._place, self._off = place, off
        self.own_password = secrets.token_urlsafe(32)  # the head-end's, of this start
        self._own_hash = password_hash(self.own_password)
        self._one = asyncio.Lock()

    async def users(self) -> list[BrokerUser]:
        """Everybody who may come in now."""
        async with self._database.transaction() as tx:
            lines = await places.load_lines(tx)
            hashes = await store.standing_hashes(tx)
        own = BrokerUser(name=HEAD_END, password_hash=self._own_hash, reads=("#",), writes=("#",))
        return [own, *users_of(lines, hashes, self._maps)]

    async def follow(self) -> None:
        """Bring the broker to what the database says."""
        if self.broker is not None:
            async with self._one:  # the last one that looked is the last one that writes
                await self.broker.let_in(await self.users())

    async def keep(self) -> None:
        """Follow whenever a password is given or taken; runs until cancelled."""
        async for _ in self._database.listen(store.BROKER_USERS_CHANGED):
            await self.follow()

    async def give(self, caller: Caller, gateway: str) -> tuple[str, str]:
        """(user, password) for a gateway, which it will never be told again; the one before ends.

        Raises Problem("no-such-gateway"), ("not-an-mqtt-gateway"), ("broker-not-ours") and
        ("mqtt-name").
        """
        password = "".join(secrets.choice(PASSWORD_SIGNS) for _ in range(PASSWORD_CHARACTERS))
        hash_ = password_hash(password)
        async with self._database.transaction() as tx:
            found = await self._gateway(tx, caller, gateway)
            user = str(found.registration)
            if (fault := name_fault(user)) is not None:
                raise Problem("mqtt-name", gateway=gateway, registration=user, detail=fault)
            at, by = self._clock.now(), caller.operator.operator_id
            await store.give(tx, found.gateway_id, hash_, at=at, by=by)
        log.info("%s gave gateway %s a new MQTT password", caller.operator.name, gateway)
        await self.follow()
        return user, password

    async def revoke(self, caller: Caller, gateway: str) -> None:
        """From now on its password lets nobody in, and who came in by it is put out. Raises as
        give(), and Problem("no-mqtt-password")."""
        async with self._database.transaction() as tx:
            found = await self._gateway(tx, caller, gateway)
            at, by = self._clock.now(), caller.operator.operator_id
            if not await store.revoke(tx, found.gateway_id, at=at, by=by):
                raise Problem("no-mqtt-password", gateway=gateway)
        log.info("%s took the MQTT password of gateway %s", caller.operator.name, gateway)
        await self.follow()

    async def given(self, caller: Caller, gateway: str) -> list[GivenPassword]:
        """Every password it ever had, without the passwords. Raises as give()."""
        async with self._database.transaction() as tx:
            found = await self._gateway(tx, caller, gateway)
            return await store.listing(tx, found.gateway_id)

    async def _gateway(self, tx: Transaction, caller: Caller, name: str) -> MqttGateway:
        found = await store.find_gateway(tx, name)
        if found is None or not caller.may_touch(found.site_id):
            raise Problem("no-such-gateway", gateway=name)
        if found.kind is not GatewayKind.MQTT:
            raise Problem("not-an-mqtt-gateway", gateway=name)
        if self._off is not None:
            raise self._off
        if self.broker is None:
            raise Problem("broker-not-ours", broker=self._place, gateway=name)
        return found
