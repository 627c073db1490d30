"""Setting up: strangers adopted, cabinets mapped from their own registers, circuits pulsed."""

from __future__ import annotations

import asyncio
import json
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from headend.domain.limits import TOGGLE_GAP
from headend.domain.roles import Role
from headend.domain.site_file import parse_site_file
from headend.services.importing import import_into
from headend.store import attempts, commands, places
from protocols.catalog import load_meter_types
from tests.gateways.field import dtu
from tests.headend.house import ddsy, site_on
from tests.headend.test_api import served
from tests.headend.test_api_money import Counter, counter

ICCID = b"89860000000000000001"
HEAD = '[site]\nname = "court"\ntime_zone = "Asia/Shanghai"\n'


async def adopted(shop: Counter, role: Role = Role.TECHNICIAN, **wish: Any) -> Any:
    return await shop.call("POST", "/gateways/adopt", role, **({"site": "court"} | wish))


async def stranger_of(shop: Counter) -> dict[str, Any]:
    async with asyncio.timeout(30):
        while not (rows := await shop.desk.get("/api/v1/gateways/strangers")):
            await asyncio.sleep(0.02)
    found: dict[str, Any] = rows[0]
    return found


async def test_a_stranger_becomes_a_gateway_that_reads_its_meter(dsn: str, tmp_path: Path) -> None:
    async with counter(dsn, tmp_path) as shop:
        lines = shop.desk.head_end.services.lines
        async with dtu(lines.dial_in_port, ICCID) as box:
            row = await stranger_of(shop)
            said = row["registration"] or row["sample"].partition("  ")[0]
            wish = {"stranger": said, "name": "G7", "meter_type": "acrel_ddsy1352", "meter": "M70"}
            assert (await adopted(shop, Role.CASHIER, **wish)).status_code == 403
            answer = await adopted(shop, **wish, address="9")
            assert answer.status_code == 201, answer.text
            async with asyncio.timeout(30):
                while "M70" not in lines.meters:
                    await asyncio.sleep(0.02)
                await box.hung_up.wait()
        assert "M1" in lines.meters, "nothing else was retired"
        assert str(lines.meters["M70"].address) == "9"
        again = await adopted(shop, **wish)
        assert again.status_code in (404, 422), "it is no stranger any more"
        async with dtu(lines.dial_in_port, ICCID) as box:
            box.answers = True
            assert await lines.lines["G7"].wait_up(30), "known by its registration from now on"

        fragment = answer.json()["fragment"]
        site = parse_site_file(HEAD + fragment, "pasted", load_meter_types())
        assert (site.gateways[0].name, site.meters[0].name) == ("G7", "M70")


async def test_what_is_wrong_with_an_adoption_is_said_and_nothing_is_added(
    dsn: str, tmp_path: Path
) -> None:
    async with counter(dsn, tmp_path) as shop:
        services = shop.desk.head_end.services
        async with dtu(services.lines.dial_in_port, ICCID):
            row = await stranger_of(shop)
            known = {"stranger": row["sample"].partition("  ")[0]}
            for wish, code in (
                ({"stranger": "iccid:1", "name": "G7"}, "no-such-stranger"),
                (known | {"name": "G1"}, "not-adopted"),  # taken in this very site
                (known | {"name": "G7", "meter_type": "no_such_type"}, "not-adopted"),
                (known | {"name": "G7", "baud": 9601}, "not-adopted"),
                (known | {"name": "G7", "options": {"dialect": "no"}}, "not-adopted"),
                (known | {"name": 'G7"\nkind = "tcp', "site": "nowhere"}, "no-such-site"),
                (known | {"name": 'G7"\nkind = "tcp'}, "not-adopted"),
            ):
                answer = await adopted(shop, **wish)
                assert answer.json()["code"] == code, answer.text
        async with services.database.transaction() as tx:
            assert [known.name for known in await places.load_lines(tx)] == ["L1"]


async def test_an_import_without_the_fragment_retires_what_was_adopted(
    dsn: str, tmp_path: Path
) -> None:
    async with counter(dsn, tmp_path) as shop:
        services = shop.desk.head_end.services
        async with dtu(services.lines.dial_in_port, ICCID):
            row = await stranger_of(shop)
            sample = row["sample"].partition("  ")[0]
            answer = await adopted(shop, stranger=sample, name="G7")
            assert answer.status_code == 201, answer.text
        await import_into(services.database, site_on(shop.desk.wire.port, (ddsy(1),)))
        async with services.database.transaction() as tx:
            assert [known.name for known in await places.load_lines(tx)] == ["L1"]


@pytest.mark.parametrize("first", [37, 41])
async def test_a_cabinet_tells_its_own_address_map(dsn: str, tmp_path: Path, first: int) -> None:
    async with served(dsn, tmp_path, "adf:37") as desk:
        assert await desk.head_end.services.lines.lines["L1"].wait_up(30)
        response = await desk.http.post(
            "/api/v1/lines/L1/scan", params={"first": first, "last": first + 2}, headers=desk.key
        )
        rows = [json.loads(text) for text in response.text.splitlines()]
        (proposal,) = (row for row in rows if "fragment" in row)
        assert proposal["unit"] == first, "once for all its circuits"
        cabinet = proposal["cabinet"]
        assert cabinet["base_unit"] == 37
        (table,) = tomllib.loads(proposal["fragment"])["cabinets"]
        gateway = '[[gateways]]\nname="G"\nkind="tcp"\nhost="h"\nport=1\n'
        line = gateway + '[[lines]]\nname="L1"\ngateway="G"\n'
        site = parse_site_file(HEAD + line + proposal["fragment"], "pasted", load_meter_types())
        units = [one["unit"] for one in cabinet["circuits"]]
        assert [meter.unit for meter in site.meters] == units
        assert table["type"] in {"acrel_adf300l", "acrel_adf400l"}
        answering = {meter.unit for meter in site.meters}
        found = {row["unit"] for row in rows if row["found"]}
        assert found & answering, "what is proposed is what answers"


async def test_a_pulse_cuts_and_orders_its_light_with_the_proof(dsn: str, tmp_path: Path) -> None:
    async with counter(dsn, tmp_path) as shop:
        services = shop.desk.head_end.services
        assert (
            await shop.call("POST", "/pulses", Role.CASHIER, meter="M1", reason="x")
        ).status_code == 403
        ordered = await shop.call("POST", "/pulses", meter="M1", reason="which socket is it")
        assert ordered.status_code == 202, ordered.text
        row = await shop.ended(ordered.json()["command_id"])
        assert (row["kind"], row["state"]) == ("cut", "confirmed")
        async with services.database.transaction() as tx:
            number = await tx.value(
                "SELECT command_id FROM command WHERE cause_id = %s", row["command_id"]
            )
            light = await commands.find(tx, number)
            assert light is not None
            tried = await attempts.newest(tx, light.cause_id) if light.cause_id else None
        assert (light.kind.value, light.state.value) == ("restore", "queued")
        assert tried is not None
        assert tried.before.relay_closed_bits != 0
        assert tried.after is not None
        assert tried.after.relay_closed_bits == 0, "two looks, and the second is dark"
        gap = light.not_before - tried.sent_at
        assert timedelta(0) < gap <= TOGGLE_GAP + timedelta(seconds=60)

        again = await shop.call("POST", "/pulses", meter="M1", reason="once more")
        assert (again.status_code, again.json()["code"]) == (409, "spared"), "it is dark"


async def test_a_property_and_its_pieces_over_the_api(dsn: str, tmp_path: Path) -> None:
    async with counter(dsn, tmp_path) as shop:
        services = shop.desk.head_end.services

        async def sent(path: str, text: str, role: Role = Role.MANAGER) -> Any:
            token = shop.tokens[role]
            headers = {"authorization": f"Bearer {token}", "content-type": "application/toml"}
            return await shop.desk.http.post(f"/api/v1{path}", content=text, headers=headers)

        head = '[site]\nname = "Hill"\ntime_zone = "Asia/Shanghai"\n[[buildings]]\nname = "A"\n'
        assert (await sent("/sites", head)).json() == {"site": "Hill"}
        assert (await sent("/sites", head)).json()["code"] == "site-exists"
        assert (await sent("/sites", "[site")).json()["code"] == "site-file"
        async with asyncio.timeout(30):
            while "Hill" not in services.lines.sites:
                await asyncio.sleep(0.02)
        room = '[[rooms]]\nname = "A-1"\nbuilding = "%s"\n'
        wrong = await sent("/sites/Hill/places", room % "B")
        assert (wrong.status_code, wrong.json()["code"]) == (422, "site-file")
        added = await sent("/sites/Hill/places", room % "A")
        assert (added.status_code, added.json()["rooms"]) == (201, 1)
        assert (await sent("/sites/Hill/places", room % "A")).status_code == 422, "twice is a clash"
        kept = await shop.call("GET", "/sites/Hill/file")
        site = parse_site_file(kept.text, "kept", load_meter_types())
        assert [room.name for room in site.rooms] == ["A-1"]
        rows = {row["site"]: row for row in (await shop.call("GET", "/sites")).json()}
        assert (rows["Hill"]["rooms"], rows["court"]["meters"]) == (1, 3)
