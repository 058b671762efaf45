from math import isclose

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_config.words import (
    Duration,
    Rate,
    Size,
    WordError,
    format_duration,
    format_rate,
    format_size,
    parse_duration,
    parse_rate,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5m", 300),
        ("1h30m", 5400),
        ("2d", 172_800),
        ("500ms", 0.5),
        ("10s", 10),
        ("1w", 604_800),
        ("1d2h3m4s5ms", 93784.005),
        ("90m", 5400),
        ("0s", 0),
        ("3650d", 315_360_000),
    ],
)
def test_a_duration_is_read(text, seconds):
    parsed = parse_duration(text)
    assert isinstance(parsed, Duration)
    assert isclose(parsed, seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "5",
        "m",
        "-5m",
        "+5m",
        "5 m",
        "1.5h",
        "30m1h",
        "1h1h",
        "5M",
        "5min",
        "1_000s",
        "\u0663m",
        "\uff15m",
        "3651d",
        "9" * 15 + "w",
        "9" * 5000 + "s",
        "5m\n",
        "inf",
        "nan",
    ],
)
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(WordError):
        parse_duration(text)


def test_a_bare_number_is_told_its_unit():
    with pytest.raises(WordError, match='"300s" for seconds'):
        parse_duration("300")


@pytest.mark.parametrize(
    ("text", "octets"),
    [
        ("50MiB", 50 * 2**20),
        ("10kB", 10_000),
        ("10KB", 10_000),
        ("1GiB", 2**30),
        ("1tib", 2**40),
        ("4096", 4096),
        ("4096B", 4096),
        ("0", 0),
        ("5 MB", 5_000_000),
    ],
)
def test_a_size_is_read(text, octets):
    parsed = parse_size(text)
    assert isinstance(parsed, Size)
    assert parsed == octets


@pytest.mark.parametrize(
    "text",
    ["", "MiB", "-1", "1.5MiB", "5mm", "\u0661MiB", "9" * 17, "9999999999999999MiB", "1e6", "0x10", "5  MB", "5MB\n"],
)
def test_what_is_no_size_is_refused(text):
    with pytest.raises(WordError):
        parse_size(text)


def test_an_ambiguous_unit_is_told_both_meanings():
    with pytest.raises(WordError, match=r'"50MiB" .* or "50MB"'):
        parse_size("50M")


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("100/s", Rate(100, 1)),
        ("1000/h", Rate(1000, 3600)),
        ("5/10s", Rate(5, 10)),
        ("10/m", Rate(10, 60)),
        ("1/1m30s", Rate(1, 90)),
        ("7/d", Rate(7, 86_400)),
        ("0", Rate(0, 1)),
        ("0/s", Rate(0, 1)),
    ],
)
def test_a_rate_is_read(text, rate):
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    "text", ["", "/s", "5/", "5", "-5/s", "5/0s", "5/s/s", "\u0665/s", "5 / s", "1000000001/s", "5/x", "1.5/s"]
)
def test_what_is_no_rate_is_refused(text):
    with pytest.raises(WordError):
        parse_rate(text)


@given(st.integers(0, 3650 * 86_400 * 1000))
def test_a_duration_survives_its_word(milliseconds):
    assert isclose(parse_duration(format_duration(milliseconds / 1000)), milliseconds / 1000)


@given(st.integers(0, 2**53))
def test_a_size_survives_its_word(octets):
    assert parse_size(format_size(octets)) == octets


@given(st.integers(1, 10**9), st.integers(1, 10**6))
def test_a_rate_survives_its_word(amount, seconds):
    assert parse_rate(format_rate(Rate(amount, float(seconds)))) == Rate(amount, float(seconds))


@given(st.text(max_size=40))
def test_no_text_makes_anything_but_a_word_error(text):
    for parse in (parse_duration, parse_size, parse_rate):
        try:
            parsed = parse(text)
        except WordError:
            continue
        assert text.isascii(), text
        assert (parsed.amount if isinstance(parsed, Rate) else parsed) >= 0


def test_words_are_short():
    assert [format_duration(seconds) for seconds in (0, 0.5, 90, 5400, 172_800)] == [
        "0s",
        "500ms",
        "1m30s",
        "1h30m",
        "2d",
    ]
    assert [format_size(octets) for octets in (0, 1, 1500, 2000, 2048, 50 * 2**20)] == [
        "0B",
        "1B",
        "1500B",
        "2kB",
        "2KiB",
        "50MiB",
    ]
    assert [format_rate(rate) for rate in (Rate(0, 1), Rate(5, 1), Rate(5, 10), Rate(9, 3600), Rate(1, 0.001))] == [
        "0",
        "5/s",
        "5/10s",
        "9/h",
        "1/ms",
    ]
