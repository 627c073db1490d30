"""Evidence packs: what they hold, and that no byte of them changes unseen."""

from __future__ import annotations

import io
import json
import stat
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

from headend.cli.commands import app
from headend.domain import evidence
from headend.domain.evidence import MANIFEST, MEMBERS, SIGNATURE, BadPack, verify
from headend.domain.problems import Problem
from headend.domain.roles import Role
from headend.services import seals
from headend.services.evidence import signing_key
from headend.store import people
from tests.conftest import TEMPLATE, fresh_database
from tests.headend.ledger.shop import as_attacker
from tests.web.shop import Shop, open_shop
from tests.web.test_vend import form_of, proved

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Made:
    shop: Shop
    pack: bytes
    folder: Path
    key: Ed25519PrivateKey
    fingerprint: str


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def made(server: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A pack about M1: two sales proved by its meter, one day sealed, one line not chained yet."""
    folder = tmp_path_factory.mktemp("evidence")
    with fresh_database(server, TEMPLATE) as dsn:
        async with open_shop(dsn, folder) as shop:
            cashier = await shop.browser(Role.CASHIER)
            await cashier.post(
                "/meters/M1/customer", customer="<script>王</script>", contact="138 0013 8000"
            )
            for meter, yuan in (("M1", "50.50"), ("M2", "20"), ("M1", "7")):
                where, after = await form_of(cashier, meter)
                await cashier.post(where, meter=meter, amount=yuan, after=after)
                await proved(cashier, where.replace("/new/", "/"))
                now = shop.services.clock.now()
                if meter == "M2":
                    await seals.seal_day(shop.services.database, now.date(), shop.services.clock)
            auditor = await shop.browser(Role.AUDITOR)
            answer = await auditor.post(
                "/meters/M1/evidence", first="2026-01-01", last="2099-01-01"
            )
            assert answer.headers["content-type"] == "application/zip", answer.text[-400:]
            key = signing_key(folder / "evidence.key")
            shown = evidence.fingerprint(key.public_key().public_bytes_raw())
            yield Made(shop, answer.content, folder, key, shown)


def members_of(pack: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(pack)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """As an attacker packs: the same members, anybody's archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.create_system = 3
            info.external_attr = 0o444 << 16
            info.compress_type = method
            archive.writestr(info, data)
    return file.getvalue()


async def test_a_pack_holds_the_story_of_one_account_and_of_nobody_else(made: Made) -> None:
    report = verify(made.pack, made.fingerprint)
    assert (report.meter, report.customer) == ("M1", "<script>王</script>")
    members = members_of(made.pack)
    ledger = json.loads(members["ledger.json"])
    money = [line["entry"] for line in ledger["lines"] if line["table"] == "transfer"]
    assert [entry["amount_fen"] for entry in money if entry["operation"] == "payment"] == [
        5050,
        700,
    ]
    assert sum(line["position"] is None for line in ledger["lines"]) > 0, "the last sale"
    assert report.chained > 0
    assert report.last_seal is not None
    orders = json.loads(members["commands.json"])
    assert [order["amount_fen"] for order in orders] == [5050, 700]
    for order in orders:
        (one,) = order["tries"]
        assert one["after"]["purchase_count"] == one["before"]["purchase_count"] + 1
        assert any(frame.get("meaning") for frame in one["frames"])
    people = {one["name"] for one in json.loads(members["operators.json"])}
    assert people == {"cashier", "auditor"}, "who asked, and who made the pack"
    assert json.loads(members["readings.json"])
    assert b"M2" not in b"".join(members.values()), "the neighbour is in no member"
    for language in ("en", "zh"):
        page = members[f"summary.{language}.html"].decode()
        assert "50.50" in page
        assert "<script" not in page, "a tenant's name is no markup"
        assert "&lt;script&gt;" in page


async def test_the_key_is_its_owners_alone(made: Made, tmp_path: Path) -> None:
    file = made.folder / "evidence.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    open_to_all = tmp_path / "evidence.key"
    open_to_all.write_text(file.read_text())
    open_to_all.chmod(0o644)
    with pytest.raises(Problem, match="others may read it"):
        signing_key(open_to_all)
    open_to_all.write_text("12")
    open_to_all.chmod(0o600)
    with pytest.raises(Problem, match="64 hex digits"):
        signing_key(open_to_all)


async def test_the_same_facts_are_the_same_bytes(made: Made) -> None:
    members = members_of(made.pack)
    manifest = json.loads(members[MANIFEST])
    facts = {key: value for key, value in manifest.items() if key not in ("format", "members")}
    again = evidence.packed({name: members[name] for name in MEMBERS}, facts, made.key)
    assert again == made.pack


@pytest.mark.parametrize("name", [*MEMBERS, MANIFEST, SIGNATURE])
async def test_each_member_edited_deleted_or_swapped_is_named(made: Made, name: str) -> None:
    good = members_of(made.pack)
    edited = zipped(good | {name: good[name][:-2] + b" \n"})
    with pytest.raises(BadPack) as bad:
        verify(edited)
    # A signature that does not read is a signature that does not hold.
    assert bad.value.member in (name, MANIFEST), str(bad.value)
    deleted = {key: data for key, data in good.items() if key != name}
    with pytest.raises(BadPack, match="is missing") as bad:
        verify(zipped(deleted))
    assert bad.value.member == name
    other = next(one for one in MEMBERS if one != name)
    with pytest.raises(BadPack) as bad:
        verify(zipped(good | {name: good[other], other: good[name]}))
    assert bad.value.member in (name, other, MANIFEST, SIGNATURE)


def _twice(pack: bytes) -> bytes:
    file = io.BytesIO(pack)
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(file, "a") as archive:
        archive.writestr("ledger.json", b"{}")
    return file.getvalue()


def _more(name: str) -> Callable[[bytes], bytes]:
    return lambda pack: zipped(members_of(pack) | {name: b"x"})


ATTACKS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "not a zip": (lambda pack: b"PK", "no whole archive"),
    "empty": (lambda pack: b"", "no whole archive"),
    "cut short": (lambda pack: pack[: len(pack) // 2], "no whole archive"),
    "bytes before": (lambda pack: b"MZ" + pack, "nobody signed"),
    "bytes after": (lambda pack: pack + b"x", "nobody signed|no whole archive"),
    "one more member": (_more("note.txt"), "is no member"),
    "out of the folder": (_more("../../etc/passwd"), "is no member"),
    "an absolute path": (_more("/etc/passwd"), "is no member"),
    "twice": (_twice, "is there twice"),
    "another order": (
        lambda pack: zipped(dict(reversed(members_of(pack).items()))),
        "another order",
    ),
    "deflated": (
        lambda pack: zipped(members_of(pack), zipfile.ZIP_DEFLATED),
        "stored in a way no pack is",
    ),
    "a bomb": (
        lambda pack: zipped(
            members_of(pack) | {"ledger.json": b"0" * (80 << 20)}, zipfile.ZIP_DEFLATED
        ),
        "stored in a way no pack is",
    ),
    "too large": (lambda pack: pack + bytes(64 << 20), "larger than 64 MiB"),
    "a date that was not there": (
        lambda pack: pack.replace(b"\x00\x00\x21\x00", b"\x00\x00\x22\x00"),
        "nobody signed",
    ),
}


@pytest.mark.parametrize("attack", list(ATTACKS))
async def test_other_archives_are_refused(made: Made, attack: str) -> None:
    change, said = ATTACKS[attack]
    with pytest.raises(BadPack, match=said):
        verify(change(made.pack))


async def test_any_bit_that_turns_is_seen(made: Made) -> None:
    """Each 97th byte of the file, so that every part of it has its turn."""
    for at in range(0, len(made.pack), 97):
        turned = bytearray(made.pack)
        turned[at] ^= 0x10
        with pytest.raises(BadPack):
            verify(bytes(turned))


async def test_somebody_elses_signature_is_no_signature(made: Made) -> None:
    members = members_of(made.pack)
    manifest = json.loads(members[MANIFEST])
    facts = {key: value for key, value in manifest.items() if key not in ("format", "members")}
    mine = {name: members[name] for name in MEMBERS}
    mine["readings.json"] = b"[]\n"
    forged = evidence.packed(mine, facts, Ed25519PrivateKey.generate())
    assert verify(forged).readings == 0, "whole in itself: only the key tells"
    with pytest.raises(BadPack, match="is by the key"):
        verify(forged, made.fingerprint)
    told = json.loads(members_of(forged)[SIGNATURE]) | {"fingerprint": made.fingerprint}
    lying = zipped(members_of(forged) | {SIGNATURE: evidence.as_json(told)})
    with pytest.raises(BadPack, match="for another key"):
        verify(lying)


async def test_even_the_signer_cannot_change_a_chained_line(made: Made) -> None:
    members = members_of(made.pack)
    manifest = json.loads(members[MANIFEST])
    facts = {key: value for key, value in manifest.items() if key not in ("format", "members")}
    ledger = json.loads(members["ledger.json"])
    chained = next(line for line in ledger["lines"] if line["position"] is not None)
    chained["entry"]["amount_fen" if chained["table"] == "transfer" else "note"] = 1
    mine = {name: members[name] for name in MEMBERS} | {"ledger.json": evidence.as_json(ledger)}
    with pytest.raises(BadPack, match="does not give its value of the chain"):
        verify(evidence.packed(mine, facts, made.key))
    days = json.loads(members["seals.json"])
    days[-1]["entry"]["transfers"] += 1
    mine = {name: members[name] for name in MEMBERS} | {"seals.json": evidence.as_json(days)}
    with pytest.raises(BadPack, match="does not say what it was made of"):
        verify(evidence.packed(mine, facts, made.key))


async def test_the_program_verifies_without_a_database(made: Made, tmp_path: Path) -> None:
    file, books = tmp_path / "pack.zip", tmp_path / "books.jsonl"
    file.write_bytes(made.pack)
    with books.open("w", encoding="utf-8") as target:
        await seals.export(made.shop.services.database, target)
    run = CliRunner().invoke
    asked = ["verify-evidence", str(file), "--key", made.fingerprint.upper().replace("-", " ")]
    good = run(app, [*asked, "--books", str(books), "--json"])
    assert good.exit_code == 0, good.output
    told = json.loads(good.stdout.splitlines()[-1])
    assert told["verified"] is True
    assert told["in_books"] == told["chained"] > 0
    assert run(app, [*asked[:-1], "0000"]).exit_code == 10
    file.write_bytes(made.pack[:-1] + b"x")
    assert run(app, asked).exit_code == 10
    assert run(app, ["verify-evidence", str(tmp_path / "none.zip")]).exit_code == 3


async def test_that_a_pack_was_made_is_kept(made: Made) -> None:
    auditor = await made.shop.browser(Role.AUDITOR)
    page = (await auditor.get("/meters/M1/evidence")).text
    assert made.fingerprint in page
    assert page.count(">auditor<") >= 1
    wrong = await auditor.post("/meters/M1/evidence", first="2026-02-01", last="2026-01-01")
    assert wrong.status_code == 422
    assert 'id="last-error"' in wrong.text
    async with made.shop.services.database.transaction() as tx:
        owner = await people.find_operator(tx, "auditor")
        assert owner is not None
        now = made.shop.services.clock.now()
        token = await people.add_token(tx, owner, "t", at=now, expires_at=now + timedelta(hours=1))
    headers = {"authorization": f"Bearer {token}"}
    http = made.shop.served.http
    answer = await http.post("/api/v1/meters/M2/evidence", headers=headers)
    assert verify(answer.content, made.fingerprint).meter == "M2"
    shown = await http.get("/api/v1/evidence/key", headers=headers)
    assert shown.json()["fingerprint"] == made.fingerprint


async def test_books_written_anew_do_not_hold_the_lines_of_the_pack(
    made: Made, tmp_path: Path
) -> None:
    """The house rewrites its ledger after it handed out a pack: the two no longer agree."""
    file, books = tmp_path / "pack.zip", tmp_path / "books.jsonl"
    file.write_bytes(made.pack)
    database = made.shop.services.database
    as_attacker(database.conninfo, "DELETE FROM day_seal", "DELETE FROM seal_entry",
                "UPDATE transfer SET reason = 'another story' WHERE entry_no = 1")  # fmt: skip
    await seals.chain(database)
    with books.open("w", encoding="utf-8") as target:
        await seals.export(database, target)
    told = CliRunner().invoke(app, ["verify-evidence", str(file), "--books", str(books)])
    assert told.exit_code == 10
