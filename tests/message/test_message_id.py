import pytest

from relay.message.headers import Header
from relay.message.message_id import LONGEST, message_id


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (b"Message-ID: <a@b.test>\r\n", "<a@b.test>"),
        (b"message-id:<a@b.test>\r\n", "<a@b.test>"),
        (b"Message-ID:\r\n <a@b.test>\r\n", "<a@b.test>"),
        (b"Message-ID: <a@b.test> (added by x)\r\n", "<a@b.test>"),
        (b"Message-ID: <a@b.test> <c@d.test>\r\n", "<a@b.test>"),
        (b"Message-ID: (of) <a@b.test>\r\n", "<a@b.test>"),
        (b"Message-ID: a@b.test\r\n", "a@b.test"),
        (b"Message-ID: no\r\n\tid at\tall\r\n", "no id at all"),
        (b"Message-ID: <a b@c.test>\r\n", "<a b@c.test>"),
        ("Message-ID: <\u00e4@b.test>\r\n".encode(), "<\u00e4@b.test>"),
        (b"Message-ID: <\xff@b.test>\r\n", "<\ufffd@b.test>"),
        (b"Message-ID: <a\x1b[31m@b.test>\r\n", "<a?[31m@b.test>"),
        ("Message-ID: a\u202eb\r\n".encode(), "a?b"),
        (b"Message-ID:\r\n", None),
        (b"Message-ID:   \r\n", None),
        (b"Subject: x\r\n", None),
        (b"Message-ID: <" + b"x" * 2000 + b"@b.test>\r\n", "<" + "x" * (LONGEST - 1)),
    ],
)
def test_the_identifier_is_one_line_of_printable_text(field, expected):
    found = message_id(Header.scan(b"From: a@b.test\r\n" + field + b"\r\n"))
    assert found == expected
    assert found is None or found.isprintable()
