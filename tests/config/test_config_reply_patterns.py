"""Patterns of `[[reply_rule]]`: what they may be, and that none takes long."""

import time

import pytest

from relay_config.names import BadNameError
from relay_config.reply_patterns import compile_reply_pattern, occurs


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("limit", "550 LIMIT reached"),
        ("a.*b.*c", "xaybzc"),
        ("^550 (?:5\\.7\\.1 )?no", "550 no"),
        ("[0-9]+ messages", "450 over 100 messages"),
        ("over (?:the )?quota|full", "450 full"),
        ("(?P<what>user|box) .{0,20}full", "450 box is full"),
        ("a\\.\\*b", "450 a.*b"),
        ("[]*+]", "450 *"),
        ("x{2,}", "450 xxx"),
        ("", "anything"),
    ],
)
def test_patterns_match_as_regular_expressions_do(pattern, text):
    assert occurs(compile_reply_pattern(pattern), text)


def test_parts_must_occur_in_their_order():
    pattern = compile_reply_pattern("limit.*reached|today.*over")
    assert occurs(pattern, "550 limit is reached")
    assert occurs(pattern, "550 today it is over")
    assert not occurs(pattern, "550 reached the limit")
    assert not occurs(pattern, "550 over today")


def test_only_the_beginning_is_searched():
    assert not occurs(compile_reply_pattern("end"), "550 " + "x" * 500 + "end")


@pytest.mark.parametrize(
    ("pattern", "remedy"),
    [
        ("(a+)+b", "groups"),
        ("(?:.*a)*", "groups"),
        ("(?:ab){2,9}", "groups"),
        ("\\w+\\s*\\d+x", "too long"),
        ("(a.*b.*c)", "too long"),
        ("a?" * 30 + "a" * 30, "too long"),
        (".{0,90}x.{0,90}y", "too long"),
        ("(a)\\1", "back references"),
        ("(?P<x>a)(?P=x)", "back references"),
        ("(?i)a", "flags"),
        ("(a)?(?(1)b|c)", "back references"),
        ("(", "regular expression"),
        ("*", "regular expression"),
        ("a" * 501, "500 characters"),
    ],
)
def test_what_could_take_long_is_refused(pattern, remedy):
    with pytest.raises(BadNameError, match=remedy):
        compile_reply_pattern(pattern)


ALLOWED = [
    "a.*b.*c.*d",
    "[a-z]+!",
    "(?:a|a)(?:a|a)(?:a|a)(?:a|a)[a-z]{0,60}!",
    "a?a?a?a?a?a?a?a?[a-z]{0,7}!",
    ".{0,500}!",
    "\\w*!",
]


@pytest.mark.parametrize("pattern", ALLOWED)
@pytest.mark.parametrize("text", ["a" * 500, "ab" * 250, "a" * 160 + "b" * 160 + "c" * 160])
def test_no_allowed_pattern_takes_long(pattern, text):
    compiled = compile_reply_pattern(pattern)
    began = time.thread_time()
    assert not occurs(compiled, text)
    assert time.thread_time() - began < 0.2
