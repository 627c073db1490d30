"""Letters to a real SMTP server of somebody else's, and messages to a gateway."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from ipaddress import ip_address
from pathlib import Path

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from headend.domain.alarms import AlarmKind, Severity
from headend.domain.outgoing import Sms
from headend.domain.problems import Problem
from headend.services.mail import Mailer, smtp_place
from headend.services.outgoing import Outgoing, Roads
from headend.services.sms import sms_road
from headend.store import alarms, letters
from headend.store.letters import Wish
from tests.headend.house import SHANGHAI, TestClock
from tests.headend.ledger.shop import Shop
from tests.headend.outgoing.receiver import receiver

PASSWORD = "correct horse"


@dataclass
class Post:
    """A mail server that keeps letters."""

    port: int
    ca: Path
    letters: list[EmailMessage] = field(default_factory=list)
    says: str = "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if self.says.startswith("250"):
            assert isinstance(envelope.content, bytes)
            self.letters.append(message_from_bytes(envelope.content, policy=policy.default))
        return self.says


def certificate(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "post")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]),
                       critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(made.public_bytes(pem))
    (folder / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "ca.pem", folder / "key.pem"


@asynccontextmanager
async def post(folder: Path) -> AsyncIterator[Post]:
    ca, key = certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ca, key)
    office = Post(0, ca)

    def authenticate(server: SMTP, session: Session, envelope: Envelope, mechanism: str,
                     data: object) -> AuthResult:  # fmt: skip
        assert isinstance(data, LoginPassword)
        good = (data.login, data.password) == (b"headend", PASSWORD.encode())
        return AuthResult(success=good)

    def server() -> SMTP:
        return SMTP(office, tls_context=context, require_starttls=True, auth_required=True,
                    authenticator=authenticate, loop=asyncio.get_running_loop())  # fmt: skip

    listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    office.port = listening.sockets[0].getsockname()[1]
    try:
        yield office
    finally:
        listening.close()
        await listening.wait_closed()


def mailer(
    office: Post, folder: Path, *, password: str = PASSWORD, ca: str | None = None
) -> Mailer:
    (folder / "password").write_text(password + "\n")
    place = smtp_place(
        f"smtp://headend@127.0.0.1:{office.port}",
        password_file=str(folder / "password"),
        ca_file=str(office.ca) if ca is None else ca,
        sender="headend@property.example",
    )
    assert place is not None
    return Mailer(place, TestClock())


async def wish(shop: Shop, at_once: Severity | None, *, digest: bool, language: str = "zh") -> None:
    async with shop.transaction() as tx:
        one = Wish(operator_id=shop.manager, sites=None, email="wang@property.example",
                   language=language, at_once=at_once, digest=digest)  # fmt: skip
        await letters.set_wish(tx, one)


async def raised(shop: Shop, *kinds: AlarmKind) -> None:
    async with shop.transaction() as tx:
        for kind in kinds:
            await alarms.raise_alarm(tx, kind, shop.meters[0], "余额 3.00", shop.now())


def outgoing(shop: Shop, **roads: object) -> Outgoing:
    given = Roads(key=b"k", say=lambda kind, language: f"<{kind}>", zone=SHANGHAI, **roads)  # type: ignore[arg-type]
    return Outgoing(shop.database, TestClock(instant=shop.now()), given)


async def test_an_alarm_is_written_at_once_over_tls_with_a_password(
    shop: Shop, tmp_path: Path
) -> None:
    async with post(tmp_path) as office:
        out = outgoing(shop, mailer=mailer(office, tmp_path))
        await wish(shop, Severity.WARNING, digest=False)
        await raised(shop, AlarmKind.TAMPER, AlarmKind.LOW_CREDIT)  # a notice is below the wish
        await out.turn()
        await out.turn()
        (letter,) = office.letters
        assert letter["To"] == "wang@property.example"
        assert "告警" in letter["Subject"]
        assert "余额 3.00" in letter.get_content()
        assert letter["Message-ID"].endswith("@property.example>")
        await out.http.aclose()


async def test_each_morning_one_letter_with_what_stands(shop: Shop, tmp_path: Path) -> None:
    async with post(tmp_path) as office:
        out = outgoing(shop, mailer=mailer(office, tmp_path))
        await wish(shop, None, digest=True, language="en")
        await raised(shop, AlarmKind.TAMPER, AlarmKind.LOW_CREDIT)
        assert isinstance(out.clock, TestClock)
        out.clock.instant = datetime(2026, 3, 20, 23, 59, tzinfo=UTC)  # 07:59 the next day
        await out.turn()
        assert office.letters == []
        for minutes in (2, 30):
            out.clock.instant += timedelta(minutes=minutes)
            await out.turn()
        (letter,) = office.letters
        assert letter["Subject"] == "2 alarms stand"
        await out.http.aclose()


async def test_a_letter_that_is_not_taken_waits_and_comes_with_the_same_id(
    shop: Shop, tmp_path: Path
) -> None:
    async with post(tmp_path) as office:
        out = outgoing(shop, mailer=mailer(office, tmp_path))
        await wish(shop, Severity.URGENT, digest=False)
        office.says = "451 later"
        await raised(shop, AlarmKind.TAMPER)
        await out.turn()
        async with shop.transaction() as tx:
            assert await letters.due(tx, "mail", out.clock.now()) == []
            (waiting,) = await letters.due(tx, "mail", out.clock.now() + timedelta(seconds=10))
        office.says = "250 OK"
        assert isinstance(out.clock, TestClock)
        out.clock.instant += timedelta(seconds=11)
        await out.turn()
        (letter,) = office.letters
        assert letter["Message-ID"] == f"<{waiting.letter_id}@property.example>"
        await out.http.aclose()


async def test_a_server_nobody_vouches_for_and_a_wrong_password_get_no_letter(
    tmp_path: Path,
) -> None:
    async with post(tmp_path) as office:
        for wrong in (mailer(office, tmp_path, ca=""), mailer(office, tmp_path, password="no")):
            with pytest.raises(Problem) as refused:
                await wrong.send_file(
                    ["a@b.example"], "s", "t", name="f.csv", media_type="text/csv", data=b"x"
                )
            assert refused.value.code == "mail-not-taken"
            assert str(refused.value) != "no"
        good = mailer(office, tmp_path)
        await good.send_file(
            ["a@b.example"], "s", "t", name="f.csv", media_type="text/csv", data=b"x;y"
        )
        (letter,) = office.letters
        (attached,) = letter.iter_attachments()
        assert attached.get_filename() == "f.csv"


@pytest.mark.parametrize(
    "url",
    ["smtp://h:bad", "http://h", "smtp://u:secret@h", "smtp+plain://mail.example", "smtps://"],
)
def test_places_that_are_none(url: str) -> None:
    with pytest.raises(Problem, match="smtp_url"):
        smtp_place(url, sender="a@b.example")


async def test_a_tenant_is_warned_twice_and_not_a_third_time_that_day(
    shop: Shop, tmp_path: Path
) -> None:
    file = tmp_path / "sms"
    out = outgoing(shop, sms=sms_road(f"file:{file}"), sms_a_day_max=2)
    customer = await shop.customer()
    async with shop.transaction() as tx:
        await tx.execute(
            "UPDATE account SET contact = '138 0013 8000' WHERE account_id = %s",
            customer.account_id,
        )
    await raised(shop, AlarmKind.LOW_CREDIT, AlarmKind.VERY_LOW_CREDIT, AlarmKind.TAMPER)
    await out.turn()
    told = [json.loads(line) for line in file.read_text().splitlines()]
    assert [one["to"] for one in told] == ["138 0013 8000"] * 2, "credit alone, both steps"
    assert "余额不足" in told[0]["text"]
    assert "即将停电" in told[1]["text"]
    async with shop.transaction() as tx:
        await alarms.clear_alarm(tx, AlarmKind.LOW_CREDIT, shop.meters[0], shop.now())
    await raised(shop, AlarmKind.LOW_CREDIT)
    await out.turn()
    assert len(file.read_text().splitlines()) == 2
    await out.http.aclose()


async def test_a_gateway_is_asked_as_its_template_says(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3cret\n")
    template = tmp_path / "gateway.toml"
    async with receiver() as there:
        template.write_text(
            f'url = "{there.url}?to={{to}}"\nsecret_file = "{tmp_path}/secret"\n'
            'body = \'{"m": "{text}", "id": "{id}"}\'\n[headers]\nx-key = "{secret}"\n'
        )
        road = sms_road(f"http:{template}")
        assert road is not None
        there.status = 200
        await road.send(Sms(message_id="1", telephone="+86 1", text='电 "5" {to}'))
        headers, body = there.got[0]
        assert headers["request"].split()[1] == "/hook?to=%2B86%201"
        assert headers["x-key"] == "s3cret"
        assert json.loads(body)["m"] == '电 "5" {to}'
        there.status = 500
        with pytest.raises(Problem) as refused:
            await road.send(Sms(message_id="1", telephone="1", text="t"))
        assert refused.value.code == "sms-not-taken"
