"""The site file: what a technician writes is understood, what is wrong is told with its line."""

from __future__ import annotations

from datetime import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headend.domain.places import GatewayKind, Site
from headend.domain.site_file import SiteFileError, parse_site_file
from headend.domain.site_writer import site_file_text
from headend.domain.toml_lines import toml_table
from protocols.catalog import load_meter_types

EXAMPLE = Path(__file__).parents[2] / "config" / "sites" / "example.toml"

# Line numbers below count from here: [site] is line 1.
GOOD = """\
[site]
name = "Court"
time_zone = "Asia/Shanghai"

[[buildings]]
name = "A"

[[rooms]]
name = "A-101"
building = "A"

[[gateways]]
name = "G1"
kind = "serial"
device = "/dev/ttyUSB0"

[[gateways]]
name = "G2"
kind = "dtu"
registration = "ascii:AB"

[[lines]]
name = "L1"
gateway = "G1"

[[lines]]
name = "L2"
gateway = "G2"

[[cabinets]]
name = "CAB"
line = "L2"
type = "acrel_adf300l"
base_unit = 37
ct_users = 1
three_phase_users = 1
single_phase_users = 2
rooms = ["", "A-101"]

[[meters]]
name = "M1"
line = "L1"
type = "acrel_ddsy1352"
unit = 1
room = "A-101"
meter_number = "000000000001"
"""


def parse(text: str) -> Site:
    return parse_site_file(text, "court.toml", load_meter_types())


def test_the_good_file_means_what_it_says() -> None:
    site = parse(GOOD)
    assert (site.name, site.time_zone.key) == ("Court", "Asia/Shanghai")
    assert (site.night_opens, site.night_closes) == (time(23, 55), time(6, 0))
    assert [gateway.kind for gateway in site.gateways] == [GatewayKind.SERIAL, GatewayKind.DTU]
    assert site.gateways[1].heartbeat_s == 60
    circuits = [meter for meter in site.meters if meter.cabinet == "CAB"]
    # Spec acrel.md 2.9: CT users first, then three-phase, then single-phase; three ids for three.
    assert [(m.name, m.unit, m.meter_type, m.room) for m in circuits] == [
        ("CAB-01", 37, "acrel_adf300l_ct", None),
        ("CAB-02", 40, "acrel_adf300l_3p", "A-101"),
        ("CAB-03", 43, "acrel_adf300l_1p", None),
        ("CAB-04", 44, "acrel_adf300l_1p", None),
    ]
    (single,) = (meter for meter in site.meters if meter.cabinet is None)
    assert (single.unit, single.meter_number) == (1, "000000000001")


def test_the_example_of_the_manual_is_a_good_file() -> None:
    site = parse_site_file(EXAMPLE.read_text(encoding="utf-8"), EXAMPLE.name, load_meter_types())
    assert {gateway.kind for gateway in site.gateways} == set(GatewayKind)
    assert len(site.cabinets) == 3


def test_times_of_a_night_may_be_written_both_ways() -> None:
    site = parse(GOOD.replace("\n\n", '\nnight_opens = 23:30:00\nnight_closes = "05:15"\n\n', 1))
    assert (site.night_opens, site.night_closes) == (time(23, 30), time(5, 15))


METER = '[[meters]]\nname = "M9"\nline = "L1"\ntype = "acrel_ddsy1352"\nunit = 9\n'
END = GOOD.count("\n")  # what is added begins on the next line

# (what is replaced, by what; nothing: added at the end), its line, words of the sentence.
WRONG: list[tuple[str, str, int, str]] = [
    # Keys and types.
    ('time_zone = "Asia/Shanghai"', 'timezone = "Asia/Shanghai"', 3, "did you mean time_zone"),
    ('time_zone = "Asia/Shanghai"', "", 1, "site has no time_zone"),
    ("", "[[metres]]\n", END + 1, "unknown key metres in the file, did you mean meters"),
    ("", METER.replace("unit", "unti"), END + 5, "unknown key unti in meter M9, did you mean unit"),
    ("", METER.replace("9\n", '"9"\n'), END + 5, 'must be a whole number, not "9"'),
    ("", METER.replace("= 9", "= true"), END + 5, "must be a whole number, not true"),
    ("", METER.replace("= 9", "= 248"), END + 5, "unit of meter M9 must be 1 to 247, not 248"),
    ("", METER.replace("unit = 9\n", ""), END + 1, "meter M9 has no unit"),
    ("", METER + "meter_number = 7\n", END + 6, "must be a text in quotes, not 7"),
    ("", METER + 'meter_number = "7"\n', END + 6, "12 digits in quotes"),
    ("", METER + "energy_multiplier = 0\n", END + 6, "must be 1 to 1000000, not 0"),
    ("", METER.replace('"M9"', '" M9"'), END + 2, "without blanks around them"),
    ("", METER.replace('"M9"', '""'), END + 2, "name of meter 2 is empty"),
    ('[site]\nname = "Court"', 'site = 3\nx = "Court"', 1, "the file needs one table [site]"),
    ("[[buildings]]", "[buildings]", 5, "write each building under its own [[buildings]]"),
    ('name = "A"\n', 'name = "A\n', 6, "this is not TOML"),
    ('"Asia/Shanghai"', '"Asia/Shangai"', 3, 'there is no time zone "Asia/Shangai"'),
    ('"Asia/Shanghai"', '"../etc/passwd"', 3, "there is no time zone"),
    ("\n\n", '\nnight_opens = "25:00"\n\n', 4, "must be a time of day"),
    ("\n\n", '\nnight_closes = "23:55"\n\n', 4, "the night closes when it opens"),
    # Names that lead nowhere, and names used twice.
    ('building = "A"', 'building = "B"', 10, 'room A-101 names a building "B"'),
    ('gateway = "G1"', 'gateway = "G3"', 24, 'line L1 names a gateway "G3" that is not in the'),
    ("", METER.replace("L1", "L3"), END + 3, 'meter M9 names a line "L3"'),
    ("", METER + 'room = "A-102"\n', END + 6, "did you mean A-101"),
    ('"", "A-101"]', '\n  "",\n  "A-103",\n]', 40, 'cabinet CAB names a room "A-103"'),
    ("", METER.replace("M9", "M1"), END + 2, 'two meters are called "M1"; rename one'),
    ("", METER.replace("M9", "CAB-03"), END + 2, 'two meters are called "CAB-03"'),
    ("", '[[lines]]\nname = "L1"\ngateway = "G1"\n', END + 2, 'two lines are called "L1"'),
    ("", '[[lines]]\nname = "L3"\ngateway = "G1"\n', END + 3, "lines L1 and L3 both use gateway"),
    # Addresses.
    ("", METER.replace("= 9", "= 1"), END + 5, "M1 and M9 would both answer at unit id 1 of line"),
    (
        "",
        METER.replace("L1", "L2").replace("= 9", "= 39"),
        END + 5,
        "meters CAB-01 and M9 would both answer at unit id 39 of line L2",  # its L3 view
    ),
    (
        "",
        '[[gateways]]\nname = "G9"\nkind = "serial"\ndevice = "/dev/ttyUSB0"\n',
        END + 4,
        "gateways G1 and G9 both use serial device /dev/ttyUSB0",
    ),
    (
        "",
        '[[gateways]]\nname = "G9"\nkind = "terminal"\nregistration = "T1"\n'
        'device = "/dev/ttyUSB0"\n',
        END + 5,
        "gateways G1 and G9 both use serial device /dev/ttyUSB0",
    ),
    (
        "",
        '[[gateways]]\nname = "G9"\nkind = "dtu"\nregistration = "hex:41 42"\n',
        END + 4,
        "gateways G2 and G9 both use registration hex:41 42",  # the same bytes as ascii:AB
    ),
    (
        "",
        '[[gateways]]\nname = "G8"\nkind = "tcp"\nhost = "h"\nport = 5\n'
        '[[gateways]]\nname = "G9"\nkind = "tcp"\nhost = "H"\nport = 5\n',
        END + 9,
        "gateways G8 and G9 both use address H:5",
    ),
    # Gateways, lines, cabinets, meter types.
    ('kind = "serial"', 'kind = "seriell"', 14, "did you mean serial"),
    ('kind = "serial"', 'kind = "tcp"', 15, "gateway G1 is tcp and has no device"),
    ('device = "/dev/ttyUSB0"\n', "", 12, "gateway G1 has no device"),
    ('"ascii:AB"', '"AB"', 20, "must begin with ascii:"),
    ('"ascii:AB"', '"regex:("', 20, "is no regular expression"),
    ('"ascii:AB"', '"meter:123"', 20, "is no meter number: 12 digits"),
    ('"ascii:AB"', '"ascii:AB"\noptions = { dialect = "x" }', 21, "no dialect x; known are transp"),
    ('"ascii:AB"', '"ascii:AB"\noptions = { dialect = "ddp" }', 20, "is no phone number"),
    (
        '"ascii:AB"',
        '"ascii:13912345678"\nheartbeat = "hex:FE"\noptions = { dialect = "four_faith" }',
        21,
        "whose heartbeat is known",
    ),
    ('"dtu"\nregistration = "ascii:AB"', '"acrel_4g"\nregistration = "1 2"', 20, "is no serial"),
    ('gateway = "G1"', 'gateway = "G1"\nbaud = 9601', 25, "9601 is no baud rate"),
    ('gateway = "G1"', 'gateway = "G1"\nparity = "X"', 25, "allowed are N, E, O"),
    ("base_unit = 37", "base_unit = 2", 34, "allowed are 1, 37, 73"),
    ("single_phase_users = 2", "single_phase_users = 31", 34, "take 37 circuits, but"),
    ('["", "A-101"]', '["","","","",""]', 38, "has 4 circuits, but 5 rooms are listed"),
    ('"acrel_adf300l"', '"acrel_adf301l"', 33, "did you mean acrel_adf300l"),
    ('"acrel_ddsy1352"', '"acrel_ddsy135"', 43, "did you mean acrel_ddsy1352"),
    ('"acrel_ddsy1352"', '"acrel_adf300l"', 43, "is a cabinet; write it under [[cabinets]]"),
    ("", METER + "options = { speed = 3 }\n", END + 6, "option speed is unknown"),
    ("", METER + "options = { a = 1.5 }\n", END + 6, "option a of meter M9 must be a text"),
    ("", METER + "[meters.options]\nspeed = 3\n", END + 6, "option speed is unknown"),
]


@pytest.mark.parametrize(("old", "new", "line", "words"), WRONG, ids=lambda value: str(value)[:40])
def test_a_mistake_is_one_sentence_with_its_line(old: str, new: str, line: int, words: str) -> None:
    text = GOOD.replace(old, new, 1) if old else GOOD + new
    assert text != GOOD
    with pytest.raises(SiteFileError) as caught:
        parse(text)
    said = str(caught.value)
    assert words in said
    assert said.startswith(f"court.toml, line {line}: ")
    assert said.endswith(".")
    assert "\n" not in said


@pytest.mark.parametrize(
    ("written", "kind", "options"),
    [
        ('kind = "acrel_4g"\nregistration = "12307210720085"', GatewayKind.ACREL_4G, {}),
        (
            'kind = "dtu"\nregistration = "ascii:13912345678"\noptions = { dialect = "ddp" }',
            GatewayKind.DTU,
            {"dialect": "ddp"},
        ),
        (
            'kind = "dtu"\nregistration = "ascii:139123456789"\n'
            'options = { dialect = "four_faith" }',
            GatewayKind.DTU,
            {"dialect": "four_faith"},
        ),
        ('kind = "dtu"\nregistration = "meter:012345678901"', GatewayKind.DTU, {}),
        (
            'kind = "terminal"\nregistration = "T1"\ndevice = "/dev/ttyS1"\n'
            'options = { baud = 9600, secret = "file:/x" }',
            GatewayKind.TERMINAL,
            {"baud": 9600, "secret": "file:/x"},
        ),
    ],
)
def test_boxes_of_every_dialect_can_be_written(
    written: str, kind: GatewayKind, options: dict[str, object]
) -> None:
    gateway = parse(GOOD.replace('kind = "dtu"\nregistration = "ascii:AB"', written)).gateways[1]
    assert (gateway.kind, gateway.options) == (kind, options)
    assert gateway.device == ("/dev/ttyS1" if "device" in written else None)
    assert gateway.heartbeat_s == (240 if kind is GatewayKind.ACREL_4G else 60)


@given(st.text(max_size=200))
def test_no_text_at_all_breaks_the_parser(text: str) -> None:
    with pytest.raises(SiteFileError):
        parse(text)


@given(st.integers(0, len(GOOD)), st.integers(0, 30), st.text(max_size=5))
def test_a_damaged_file_is_a_site_or_a_sentence(begins: int, length: int, put: str) -> None:
    text = GOOD[:begins] + put + GOOD[begins + length :]
    said_line = 1
    try:
        parse(text)
    except SiteFileError as error:
        said_line = error.line
    assert 1 <= said_line <= text.count("\n") + 1


@pytest.mark.parametrize(
    "text", [GOOD, EXAMPLE.read_text(encoding="utf-8")], ids=["small", "whole"]
)
def test_what_was_read_is_written_as_the_same_site(text: str) -> None:
    site = parse_site_file(text, "given", load_meter_types())
    written = site_file_text(site)
    assert parse_site_file(written, "written", load_meter_types()) == site
    assert "heartbeat_s = 240" not in written, "what is usual is left out"


@given(st.text(max_size=30))
def test_any_name_is_written_as_itself_or_refused(name: str) -> None:
    head = toml_table("site", {"name": name, "time_zone": "UTC"}, single=True)
    try:
        site = parse_site_file(head, "given", load_meter_types())
    except SiteFileError:
        return
    assert parse_site_file(site_file_text(site), "written", load_meter_types()).name == name


def test_a_master_meter_stands_above_its_circuits() -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    site = parse(text)
    under = {meter.name for meter in site.meters if meter.master == "M-A-main"}
    assert under == {"CAB-B-01", "CAB-B-02", "CAB-B-03"}
    unknown = text.replace('master = "M-A-main"', 'master = "M-A-mian"')
    with pytest.raises(SiteFileError, match="did you mean M-A-main"):
        parse(unknown)
    circle = text.replace('name = "M-A-main"', 'name = "M-A-main"\nmaster = "CAB-B-02"')
    with pytest.raises(SiteFileError, match="below itself"):
        parse(circle)
