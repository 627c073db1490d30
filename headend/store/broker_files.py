"""The three files mosquitto reads: its settings, who may come in, and who may read and write what.

Written whole: a new file under a name of its own, renamed. The broker may read them and not change
them: as root they are root's, readable by the broker's group.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from headend.domain.broker_names import BrokerUser
from headend.store.programs import DatabaseUser

# What mosquitto_passwd itself takes. A slow hash protects what people can remember; our passwords
# are random, and 10,000 gateways that come back at once each cost one of these.
ROUNDS = 101
SALT_BYTES, HASH_BYTES = 12, 64

# A meter room's gateways; above it the broker refuses the next one and says so in its log.
CONNECTIONS_MAX = 12_000
# Of QoS 1 messages on their way to one client. The round trip to a busy head-end is some 10 ms.
IN_FLIGHT_MAX = 1_000
# What waits for one client that is away: a night of 10,000 meters for us. Whatever is more is
# dropped by the broker; the meters still have their counters.
QUEUED_MAX, QUEUED_BYTES_MAX = 100_000, 64 << 20
# A cabinet of 36 circuits in one payload has some 1,500 points, 45 KB.
# What sends more is put out, which stands in the log; a message too long for a mere
# message_size_limit would be acknowledged and dropped.
PACKET_BYTES_MAX = 256 << 10
# How often sessions and what waits in them go to the disk. A clean end, ours or `kill -9` of ours,
# writes them too; only the broker's own death loses what came since.
SAVE_S = 15
SESSION_DAYS_MAX = 7  # gateways/mqtt.py asks for as much


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsListener:
    """A second port, with certificates."""

    host: str
    port: int
    cert_file: Path  # ours, with what it is signed by
    key_file: Path
    #: who signs devices' certificates, whose common name is then the user; None: passwords
    client_ca_file: Path | None = None


@dataclass(frozen=True, slots=True)
class BrokerFiles:
    """The files of one broker."""

    settings: Path  # the folder of what the broker reads
    private: Path  # the folder of what the broker writes

    @property
    def config(self) -> Path:
        return self.settings / "mosquitto.conf"

    @property
    def passwords(self) -> Path:
        return self.settings / "passwords"

    @property
    def acl(self) -> Path:
        return self.settings / "acl"

    @property
    def pid(self) -> Path:
        return self.private / "mosquitto.pid"


def config_text(files: BrokerFiles, host: str, port: int, tls: TlsListener | None) -> str:
    """mosquitto.conf. The certificates are the copies that write_certificates() makes."""
    lines = [
        "# Written by the head-end at each start.",
        "per_listener_settings false",
        "allow_anonymous false",
        f"password_file {files.passwords}",
        f"acl_file {files.acl}",
        f"pid_file {files.pid}",
        "persistence true",
        f"persistence_location {files.private}/",
        f"autosave_interval {SAVE_S}",
        f"persistent_client_expiration {SESSION_DAYS_MAX}d",
        # A frame to a meter that is away must not be handed over tomorrow (docs/decisions/0016).
        "queue_qos0_messages false",
        f"max_inflight_messages {IN_FLIGHT_MAX}",
        f"max_queued_messages {QUEUED_MAX}",
        f"max_queued_bytes {QUEUED_BYTES_MAX}",
        f"max_packet_size {PACKET_BYTES_MAX}",
        # Small frames leave at once; without it an answer waits 40 ms for company.
        "set_tcp_nodelay true",
        "sys_interval 0",
        "log_dest stderr",
        "log_timestamp_format %Y-%m-%dT%H:%M:%S",
        *(f"log_type {kind}" for kind in ("error", "warning", "notice", "information")),
        *_listener(host, port),
    ]
    if tls is not None:
        lines += [
            *_listener(tls.host, tls.port),
            f"certfile {files.settings / 'cert.pem'}",
            f"keyfile {files.settings / 'key.pem'}",
            "tls_version tlsv1.2",
        ]
        if tls.client_ca_file is not None:
            lines += [
                f"cafile {files.settings / 'client-ca.pem'}",
                "require_certificate true",
                "use_identity_as_username true",
            ]
    return "\n".join(lines) + "\n"


def _listener(host: str, port: int) -> tuple[str, ...]:
    # With its own client id a device could take over another's session, and what waits in it.
    return (
        f"listener {port} {host}",
        f"max_connections {CONNECTIONS_MAX}",
        "use_username_as_clientid true",
    )


def password_hash(password: str, salt: bytes | None = None) -> str:
    """The second half of a line of mosquitto's password file: PBKDF2-SHA512 ("$7$")."""
    salt = secrets.token_bytes(SALT_BYTES) if salt is None else salt
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ROUNDS, HASH_BYTES)
    told = (base64.b64encode(part).decode("ascii") for part in (salt, digest))
    return f"$7${ROUNDS}${'$'.join(told)}"


def passwords_text(users: Sequence[BrokerUser]) -> str:
    """mosquitto's password file."""
    return "".join(
        f"{user.name}:{user.password_hash}\n" for user in users if user.password_hash is not None
    )


def acl_text(users: Sequence[BrokerUser]) -> str:
    """mosquitto's ACL file: nobody may do what is not written here."""
    parts: list[str] = []
    for user in users:
        lines = [f"user {user.name}"]
        lines += [f"topic read {topic}" for topic in user.reads]
        lines += [f"topic write {topic}" for topic in user.writes]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def write_certificates(files: BrokerFiles, tls: TlsListener, user: DatabaseUser) -> bool:
    """Copies that the broker's user can read; True when they changed. Raises OSError."""
    wanted = [("cert.pem", tls.cert_file), ("key.pem", tls.key_file)]
    if tls.client_ca_file is not None:
        wanted.append(("client-ca.pem", tls.client_ca_file))
    changed = [
        write_whole(files.settings / name, source.read_bytes(), user) for name, source in wanted
    ]
    return any(changed)


def write_whole(path: Path, content: bytes, user: DatabaseUser) -> bool:
    """Write a file that is never seen half done; False when it was so already."""
    with contextlib.suppress(FileNotFoundError):
        if path.read_bytes() == content:
            return False
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
    try:
        with os.fdopen(fd, "wb") as file:
            if user.drops:
                os.fchown(file.fileno(), 0, user.gid)
            os.fchmod(file.fileno(), 0o640 if user.drops else 0o600)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    return True
