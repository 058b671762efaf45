"""One event is one line, whatever the other side says."""

import json
import re
import shlex

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.events.catalog import Outcome, Process, Refused, TlsFailed
from relay.events.format import Stamp, json_fields, line_of, logfmt_fields, quote

HOSTILE = [
    "\r\nevent=forged",
    "\x1b[31mred",
    "\u202egnp.exe",
    "\u2028x",
    "\u0085x",
    "\x00",
    "\x7f",
    "\ud800",
    "\U000e0041",
]


def refused(text):
    return Refused(peer="192.0.2.1", command=text, reply=text, listener="0.0.0.0:25", helo=text)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_escaped(text):
    for line in (logfmt_fields(refused(text)), json_fields(refused(text)).decode()):
        assert line.isprintable()
    if text != "\ud800":
        assert json.loads(b"{" + json_fields(refused(text)))["command"] == text
        assert json.loads(quote(text)) == text


@given(st.text())
def test_any_text_stays_one_printable_value(text):
    quoted = quote(text)
    assert quoted.isprintable()
    assert re.fullmatch(r'[^ ="\\]+|"(?:[^"\\]|\\.)*"', quoted)
    assert (b"{" + json_fields(refused(text))).decode().isprintable()


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=500))
def test_nothing_is_lost_by_escaping(text):
    assert json.loads(b"{" + json_fields(refused(text)))["helo" if text else "command"] == text
    quoted = quote(text)
    assert (json.loads(quoted) if quoted.startswith('"') else quoted) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain@example.org", "plain@example.org"),
        ("", '""'),
        ("two words", '"two words"'),
        ("a=b", '"a=b"'),
        ('say "hi"', '"say \\"hi\\""'),
        ("back\\slash", '"back\\\\slash"'),
        ("bücher@例え.jp", "bücher@例え.jp"),
        ("tab\there", '"tab\\there"'),
    ],
)
def test_quoting(text, expected):
    assert quote(text) == expected


def test_long_values_are_cut():
    assert len(quote("x" * 100_000)) < 5000
    assert quote("x" * 100_000).endswith("…")


def test_a_line_reads_well():
    event = Outcome(
        id="abc", n=0, sender="", recipient="b@example.org", attempts=2, delay=1.5, reply="250 2.0.0 Ok", wait=None
    )
    assert logfmt_fields(event) == ' id=abc n=0 to=b@example.org attempts=2 delay=1.500 reply="250 2.0.0 Ok"'
    assert json.loads(b"{" + json_fields(event)) == {
        "id": "abc",
        "n": 0,
        "from": "",
        "to": "b@example.org",
        "attempts": 2,
        "delay": 1.5,
        "reply": "250 2.0.0 Ok",
    }


def test_details_are_fields_of_their_own_in_logfmt():
    event = Process(what="started", details={"workers": 2, "path": "/a b"})
    assert shlex.split(logfmt_fields(event)) == ["what=started", "workers=2", "path=/a b"]


def test_what_has_no_value_is_left_out_in_both_formats():
    event = TlsFailed(peer="192.0.2.1", listener="0.0.0.0:465", reason="no")
    assert logfmt_fields(event) == " peer=192.0.2.1 listener=0.0.0.0:465 reason=no"
    assert json.loads(b"{" + json_fields(event)) == {"peer": "192.0.2.1", "listener": "0.0.0.0:465", "reason": "no"}
    more = TlsFailed(peer="192.0.2.1", listener="l", reason="no", versions=("TLSv1.1", "TLSv1"))
    assert logfmt_fields(more) == " peer=192.0.2.1 listener=l reason=no versions=TLSv1.1,TLSv1"


def test_stamps():
    stamp = Stamp()
    assert stamp(0.0) == "1970-01-01T00:00:00.000Z"
    assert stamp(1_700_000_000.123456) == "2023-11-14T22:13:20.123Z"
    assert stamp(1_700_000_000.9999) == "2023-11-14T22:13:20.999Z"
    assert stamp(1_699_999_999.5) == "2023-11-14T22:13:19.500Z"


@given(st.floats(0, 4e9))
def test_stamps_are_monotonous(now):
    stamp = Stamp()
    assert stamp(now) <= stamp(now + 0.0011) or stamp(now)[:4] == "9999"


def test_a_stored_event_is_safe_to_print():
    stored = msgspec.json.decode(
        '{"time":1700000000.5,"event":"refused","to":["a","b"],"reply":"\\u001b\\u202e","details":{"bad key":"\\n"}}'
    )
    line = line_of(stored)
    assert line.isprintable()
    assert line.startswith("time=2023-11-14T22:13:20.500Z event=refused to=a,b reply=")
    assert 'field="\\n"' in line


@pytest.mark.parametrize("when", [1e300, None, "x", -1e300, True])
def test_any_time_in_a_file_can_be_printed(when):
    assert line_of({"time": when}).isprintable()
