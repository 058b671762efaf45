"""Encoded words as they are shown (RFC 2047)."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.message.encoded_words import decoded


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain", "plain"),
        ("", ""),
        ("=?utf-8?q?Gr=C3=BC=C3=9Fe_an?= alle", "Grüße an alle"),
        ("=?UTF-8?B?w4TDlsOc?=", "ÄÖÜ"),
        ("=?UTF-8?B?w4TDlsOc?= =?UTF-8?B?w4TDlsOc?=", "ÄÖÜÄÖÜ"),
        ("=?UTF-8?Q?a?=\r\n =?UTF-8?Q?b?=\r\n\t=?UTF-8?Q?c?=", "abc"),
        ("a =?utf-8?q?b?= c", "a b c"),
        ("=?utf-8*de?q?a?=", "a"),
        ("=?iso-8859-1?Q?=E4?= =?KOI8-R?B?8NLJ18XU?=", "äПривет"),
        ("=?iso-2022-jp?B?GyRCRnxLXBsoQg==?=", "日本"),
        ("=?utf-8?B?w4TDlsOc", "=?utf-8?B?w4TDlsOc"),
        ("=?utf-8?B?w4TDlsO?=", "ÄÖ\ufffd"),
        ("=?utf-8?q?=ff?=", "\ufffd"),
        ("=?utf-8?b?a?=", "=?utf-8?b?a?="),
        ("=?utf-8?x?a?=", "=?utf-8?x?a?="),
        ("=?utf-8?q?a b?=", "=?utf-8?q?a b?="),
        ("=?unknown?q?a?=", "=?unknown?q?a?="),
        ("=?rot13?q?a?=", "=?rot13?q?a?="),
        ("=?unicode_escape?q?=5Cx41?=", "=?unicode_escape?q?=5Cx41?="),
        ("=?utf-8?q?=1b[31m?=", "\x1b[31m"),
        ("=?utf-8?b?4oCu?=", "\u202e"),
        ("=?utf-8?q?=0d=0aBcc:?=", "\r\nBcc:"),
    ],
)
def test_a_value_as_it_is_read(value, shown):
    assert decoded(value) == shown


@given(st.text(alphabet="=?_utfqQbB8- \r\n\tA0é\x1b", max_size=200) | st.text())
def test_nothing_makes_it_fail(value):
    assert isinstance(decoded(value), str)


@pytest.mark.parametrize("part", ["=?", "=?utf-8?q?", "=?utf-8?q?a?= ", " ", "=?utf-8?q?a?=" + " " * 50, "?="])
def test_long_values_take_time_in_proportion(part):
    began = time.process_time()
    decoded(f"=?utf-8?q?{part * (20_000 // len(part))}")
    assert time.process_time() - began < 1.0
