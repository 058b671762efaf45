import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.message.fold import LONGEST, fold


def unfolded(field: bytes) -> bytes:
    return re.sub(rb"\r\n(?=[ \t])", b"", field)


@pytest.mark.parametrize(
    "field",
    [
        b"Subject: " + b"word " * 300 + b"end\r\n",
        b"Subject: " + b"word\t" * 300 + b"end\r\n",
        b"References: " + b" ".join(b"<%d@example.org>" % n for n in range(500)) + b"\r\n",
        b"To: " + b"a@example.org, " * 300 + b"\r\n\tb@example.org\r\n",
        b"Subject: short\r\n " + b"folded " * 300 + b"x\r\n",
        b"X: " + b"a" * 990 + b" " + b"b" * 990 + b"\r\n",
        b"X: " + b"a" * 996 + b"\r\n",
        b"X: a" + b" " * 600 + b"b" + b" " * 600 + b"c\r\n",
    ],
)
def test_long_lines_are_folded_at_white_space_and_unfold_to_the_same(field):
    folded = fold(field)
    assert max(map(len, folded.split(b"\r\n"))) <= LONGEST
    assert unfolded(folded).split() == unfolded(field).split()
    assert unfolded(folded).rstrip() == unfolded(field).rstrip()
    assert not any(line and not line.strip() for line in folded.split(b"\r\n")), "no line of white space only"
    assert fold(folded) == folded


def test_a_fold_changes_no_byte_beside_it():
    field = b"Subject: " + b"a  b\t c " * 400 + b"end\r\n"
    assert unfolded(fold(field)) == field


def test_a_word_without_white_space_passes():
    for field in (b"X: " + b"a" * 3000 + b"\r\n", b"X:" + b"a" * 3000 + b"\r\n"):
        assert fold(field) == field
    assert fold(b"X: a " + b"b" * 3000 + b" c\r\n") == b"X: a\r\n " + b"b" * 3000 + b"\r\n c\r\n"


def test_short_lines_and_short_folds_stay():
    block = b"A: b\r\n c\r\nD:  e\r\n\r\n"
    assert fold(block) == block
    assert fold(block + b"X: " + b"a " * 600).startswith(block)


def test_a_run_of_white_space_that_is_too_long_becomes_one_space():
    assert fold(b"Subject: a" + b" " * 5000 + b"b\r\n") == b"Subject: a b\r\n"
    assert fold(b"Subject: a" + b" " * 5000 + b"\r\n") == b"Subject: a\r\n"


@given(st.lists(st.sampled_from([b"a", b" ", b"\t", b"x" * 500, b" " * 500, b"\r\n ", b"y" * 998]), max_size=30))
def test_any_field(pieces):
    field = b"X: " + b"".join(pieces) + b"\r\n"
    folded = fold(field)
    assert fold(folded) == folded
    assert unfolded(folded).split() == unfolded(field).split()
    for line in folded.split(b"\r\n"):
        assert len(line) <= LONGEST or len(line.partition(b":")[2].split() or line.split()) == 1
