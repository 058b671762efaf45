"""What commands print, and the words for times and sizes."""

import json

import pytest

from relay.cli.exits import NothingMatchedError
from relay.cli.output import clock_time, count, emit_json, emit_listing, emit_table, iso_time, octets, printable, span


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ünïcode", "plain ünïcode"),
        ("a\x1b[31mred", "a\\x1b[31mred"),
        ("two\r\nlines", "two\\r\\nlines"),
        ("right\u202eleft", "right\\u202eleft"),
        ("\x9b1m", "\\x9b1m"),
    ],
)
def test_nothing_steers_a_terminal(text, shown):
    assert printable(text) == shown


def test_json_is_ascii_on_one_line(capsys):
    emit_json({"a": "ü\u202e\x1b\n"})
    out = capsys.readouterr().out
    assert out.isascii()
    assert out.count("\n") == 1
    assert json.loads(out) == {"a": "ü\u202e\x1b\n"}


def test_plain_table_is_aligned_and_clean(capsys):
    emit_table(("A", "SIZE"), [("x", 1), ("long\x1b", 200)], right=frozenset({1}))
    assert capsys.readouterr().out == "A         SIZE\nx            1\nlong\\x1b   200\n"


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setattr("relay.cli.output.in_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")


def test_a_terminal_takes_brackets_literally(capsys, terminal):
    emit_table(("ADDRESS",), [("a[bold]b@example.test",)])
    assert capsys.readouterr().out == "ADDRESS\na[bold]b@example.test\n"


def test_a_narrow_terminal_keeps_ids_whole_and_puts_sentences_below(capsys, terminal):
    emit_table(("ID", "N", "WHY"), [("0" * 26, 1, "short"), ("1" * 26, 22, "word " * 30)], right=frozenset({1}))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["ID", "N"]
    assert lines[1] == "0" * 26 + "   1"
    assert lines[2].strip() == "short"
    assert lines[3] == "1" * 26 + "  22"
    assert all(len(line) <= 80 for line in lines)
    assert " ".join(line.strip() for line in lines[4:]) == " ".join(["word"] * 30)


def test_a_wide_enough_terminal_has_one_line_a_row(capsys, terminal):
    emit_table(("ID", "WHY"), [("0" * 26, "short")])
    assert capsys.readouterr().out.splitlines() == ["ID" + " " * 26 + "WHY", "0" * 26 + "  short"]


def test_an_empty_listing_is_nothing_matched(capsys):
    for as_json in (True, False):
        with pytest.raises(NothingMatchedError) as error:
            emit_listing(
                [], as_json=as_json, headers=("A",), row=lambda x: (x,), record=lambda x: {"a": x}, nothing="No."
            )
        assert error.value.exit_code == 3
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "0 s"),
        (0, "0 s"),
        (0.4, "0 s"),
        (59.6, "1 min"),
        (61, "1 min 1 s"),
        (3600, "1 h"),
        (3601, "1 h"),
        (3660, "1 h 1 min"),
        (86400 * 2 + 3600 * 3 + 59, "2 d 3 h"),
    ],
)
def test_span(seconds, words):
    assert span(seconds) == words


@pytest.mark.parametrize(
    ("size", "words"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (5 << 20, "5.0 MiB"), (3 << 40, "3072.0 GiB")],
)
def test_octets(size, words):
    assert octets(size) == words


def test_times():
    assert iso_time(None) is None
    assert iso_time(0) == "1970-01-01T00:00:00.000Z"
    assert iso_time(1_700_000_000.9999) == "2023-11-14T22:13:21.000Z"
    assert len(clock_time(1_700_000_000)) == 19


def test_count():
    assert count(1, "message") == "1 message"
    assert count(1234, "message") == "1,234 messages"
