"""What an installation can set: config/headend.toml, HEADEND_* variables, the command line.

Every setting has a default that works on one machine with nothing configured.
"""

from __future__ import annotations

import dataclasses
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from headend.domain.problems import Problem

CONFIG_FILE = Path("config/headend.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of one head-end. Each field is one key of headend.toml."""

    # Where the embedded database, the spool and the logs live. As root the database runs as an
    # unprivileged user, who could not pass through a home folder.
    data_folder: Path = Path("/var/lib/headend" if os.geteuid() == 0 else "data")
    # The site's own PostgreSQL; empty: the embedded one.
    database_url: str = ""
    # A folder with TimescaleDB for the embedded database (lib/ and share/extension/); empty: none.
    timescale_folder: str = ""
    # The web and the API. Loopback only, since they speak in clear: put a TLS proxy before them.
    http_host: str = "127.0.0.1"
    http_port: int = 8080
    # Where DTUs dial in. All interfaces, since they come from outside.
    dial_in_host: str = "0.0.0.0"
    dial_in_port: int = 9000
    # Sockets of DTUs accepted at once; the rest is refused before a byte is read.
    dial_in_sockets_max: int = 12_000
    # Readings kept in memory while the database is away: two nights of a large site, 20 MB.
    waiting_readings_max: int = 20_000
    # Then on disk: 1 GiB is about five million readings, a week of 10,000 meters every 15 minutes.
    spool_bytes_max: int = 1 << 30
    log_level: str = "INFO"
    # When a day of the books ends; one for the whole company.
    books_time_zone: str = "Asia/Shanghai"
    # The site's own MQTT broker: "mqtt://user:password@host:1883" or "mqtts://…"; empty: ours.
    mqtt_url: str = ""
    # Who we are there; two processes of one name would put each other out.
    mqtt_client_id: str = "headend"
    # For mqtts: who signs the broker's certificate (empty: the system's list), and our own.
    mqtt_ca_file: str = ""
    mqtt_cert_file: str = ""
    mqtt_key_file: str = ""
    # Several processes of one name take pushed readings in turn ($share); empty: this one alone.
    mqtt_share: str = ""
    # Our own broker, a mosquitto kept by this program where it is installed: "auto", or "off".
    mqtt_broker: str = "auto"
    # Where it listens without TLS; loopback, since passwords pass in clear. Port 0: any free one.
    mqtt_broker_host: str = "127.0.0.1"
    mqtt_broker_port: int = 1883
    # Where it listens with TLS, once it has a certificate and its key (PEM).
    mqtt_broker_tls_host: str = "0.0.0.0"
    mqtt_broker_tls_port: int = 8883
    mqtt_broker_cert_file: str = ""
    mqtt_broker_key_file: str = ""
    # Who signs the certificates of gateways; then one without is refused, and its common name is
    # its registration. Empty: gateways come with their password.
    mqtt_broker_client_ca_file: str = ""
    # Who makes the codes of meters with a security chip (DL/T 645 prepaid); empty: nobody.
    # "file:/path", "pkcs11:/library.so?token=…&pin_file=…&key=…" or "encryptor://host:port".
    key_box: str = ""
    # Where `headend keys serve` answers; empty: no cards are made here.
    key_service_socket: str = ""
    # Which keys this company's cards are made under: their scope, and the area they are derived by.
    card_scope: str = "site"
    card_area: str = "AREA0001"
    # Whether a sale on a card that can be cloned (RF, memory) is taken back by wiping the card.
    # Whoever cloned it has the credit and the money then. For meters that no line reaches, where
    # its count cannot be burned.
    clones_are_taken_back: bool = False
    # How tenants' telephones reach the desk, "https://desk.example.com"; empty: as the desk itself.
    public_url: str = ""
    # Where files of reports go; empty: the folder "reports" of the data folder.
    reports_folder: str = ""
    # Folders of closed security units, separated by ":".
    unit_folders: str = ""
    # Run as root, each of them is a user of its own, from here on 65,536; 0: all are nobody. The
    # default is in a range that no distribution gives out (systemd's list of users and groups).
    unit_uid_first: int = 1_900_000_000
    # Where backups are written; empty: none are made by themselves. Best another disk.
    backup_folder: str = ""
    # A file whose first line is the passphrase of the backups. Keep a copy elsewhere, on paper.
    backup_passphrase_file: str = ""
    # Files and folders that belong into backups beside the data folder, separated by ":"; those of
    # the key service, for instance.
    backup_also: str = ""
    # When the daily one is made, on the wall clock of the books.
    backup_at: str = "03:30"
    # How many days and weeks are kept, one each.
    backup_keep_daily: int = 14
    backup_keep_weekly: int = 8
    # Older than this is an alarm.
    backup_age_h_max: int = 26
    # How many days what is no book is kept (docs/retention.md); 0: for ever. Events for programs,
    keep_events_days: int = 90
    # letters and messages that went or were given up,
    keep_letters_days: int = 180
    # sessions that are over and tries to sign in,
    keep_sessions_days: int = 90
    # pushed readings that nothing may be decided by,
    keep_doubtful_days: int = 365
    # falls and rises of lines, looks at clocks,
    keep_line_events_days: int = 730
    # and files of reports.
    keep_report_files_days: int = 730
    # Letters: "smtp://user@host:587" (STARTTLS), "smtps://user@host:465"; empty: no mail.
    smtp_url: str = ""
    smtp_password_file: str = ""
    # Who signs the mail server's certificate; empty: the system's list.
    smtp_ca_file: str = ""
    # The address letters come from.
    mail_from: str = ""
    # Short messages to tenants: "file:/path" or "http:/path/of/template.toml"; empty: none.
    sms: str = ""
    sms_language: str = "zh"
    # How many messages one tenant gets in 24 hours at most.
    sms_a_day_max: int = 2
    # The only hosts events may be told to, separated by ":"; empty: any.
    webhook_hosts: str = ""


_TYPES = {field.name: field.type for field in dataclasses.fields(Settings)}


def load_settings(
    file: Path | None = None,
    environment: Mapping[str, str] = os.environ,
    given: Mapping[str, object] = MappingProxyType({}),
) -> Settings:
    """Settings from the file, the environment and the command line, the last one winning.

    `given` values of None are skipped. A named file must exist; the default one may be absent.
    Raises Problem("settings-unreadable").
    """
    values: dict[str, object] = {}
    path = file or Path(environment.get("HEADEND_CONFIG", CONFIG_FILE))
    if file is not None or path.exists():
        values |= _from_file(path)
    for name in _TYPES:
        variable = f"HEADEND_{name.upper()}"
        if environment.get(variable):
            values[name] = _converted(variable, name, environment[variable])
    values |= {name: value for name, value in given.items() if value is not None}
    return Settings(**values)  # type: ignore[arg-type]  # each value was checked against its field


def _from_file(path: Path) -> dict[str, object]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        detail = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise Problem("settings-unreadable", file=path, detail=detail) from error
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Problem("settings-unreadable", file=path, detail=error) from error
    for name in table:
        if name not in _TYPES:
            known = ", ".join(_TYPES)
            raise Problem(
                "settings-unreadable", file=path, detail=f"unknown key {name}; known are {known}"
            )
    return {name: _converted(str(path), name, value) for name, value in table.items()}


def _converted(source: str, name: str, value: object) -> object:
    kind = _TYPES[name]
    if kind == "Path" and isinstance(value, str) and value:
        return Path(value).expanduser()
    if kind == "int":
        try:
            number = int(value) if isinstance(value, (str, int)) else -1
        except ValueError:
            number = -1
        if number >= 0 and not isinstance(value, bool):
            return number
        raise Problem(
            "settings-unreadable", file=source, detail=f"{name} must be a whole number"
        ) from None
    if kind == "str" and isinstance(value, str):
        return value
    raise Problem("settings-unreadable", file=source, detail=f"{name} must be a text")
