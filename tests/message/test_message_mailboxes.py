import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.message.mailboxes import MailboxError, parse


@pytest.mark.parametrize(
    ("value", "addresses"),
    [
        (b" a@example.org", ["a@example.org"]),
        (b"a@EXAMPLE.org ", ["a@example.org"]),
        (b" Alice <Alice.B@example.org>", ["Alice.B@example.org"]),
        (b" <a@example.org>", ["a@example.org"]),
        (b' "Doe, Jane" <j@example.org>', ["j@example.org"]),
        (b" John Q. Public <j@example.org>", ["j@example.org"]),
        (b" J\xc3\xbcrgen <j@example.org>", ["j@example.org"]),
        (b" J\xfcrgen <j@example.org>", ["j@example.org"]),
        (b" =?utf-8?q?J=C3=BC?= <j@example.org>", ["j@example.org"]),
        (b' "a@b"@example.org', ['"a@b"@example.org']),
        (b' "x" "y" <"q s"@example.org>', ['"q s"@example.org']),
        (b" a@example.org (Alice (A. \\) B))", ["a@example.org"]),
        (b" (x) Alice (y) <a@example.org> (z)", ["a@example.org"]),
        (b" a@example.org, B <b@example.net>", ["a@example.org", "b@example.net"]),
        (b" a@example.org,,b@example.net,", ["a@example.org", "b@example.net"]),
        (b" team: a@example.org, b@example.net;", ["a@example.org", "b@example.net"]),
        (b" team: a@example.org;, c@example.com", ["a@example.org", "c@example.com"]),
        (b" undisclosed-recipients:;", []),
        (b" x@[192.0.2.1]", ["x@[192.0.2.1]"]),
        (b" x@[IPv6:2001:DB8::1]", ["x@[IPv6:2001:db8::1]"]),
        (b" Alice\r\n <a@example.org>", ["a@example.org"]),
        (b" a@b\xc3\xbccher.example", ["a@xn--bcher-kva.example"]),
        (b" b\xc3\xbc@example.org", ["bü@example.org"]),
        (b" a@localhost", ["a@localhost"]),
    ],
)
def test_addresses_are_found(value, addresses):
    assert [mailbox.address for mailbox in parse(value)] == addresses


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b" ",
        b" ,",
        b" Alice",
        b" root (Cron)",
        b" alice@example.org)bob@evil.test",
        b" alice@example.org <bob@evil.test>",
        b" alice@example.org bob@evil.test",
        b" alice@example.org, <bob@evil.test",
        b" alice@evil.test@example.org",
        b" <alice@example.org@evil.test>",
        b" <a@example.org> <b@example.org>",
        b" <a@example.org>>",
        b" <<a@example.org>>",
        b" <@relay.test:a@example.org>",
        b" a@(comment)example.org",
        b" a(comment)@example.org",
        b" a @example.org",
        b" a@ example.org",
        b" a@example .org",
        b" a@exa mple.org",
        b" <a@example.org.>",
        b" a@.example.org",
        b" a@example..org",
        b" .a@example.org",
        b" a.@example.org",
        b" a..b@example.org",
        b" @example.org",
        b" a@",
        b" a@-example.org",
        b" a@" + b"x" * 64 + b".org",
        b" a@" + b"x." * 130 + b"org",
        b" (unclosed a@example.org",
        b" " + b"(" * 30 + b")" * 30 + b" a@example.org",
        b' "unclosed <a@example.org>',
        b' "bad\x01quote" <a@example.org>',
        b" a\\b@example.org",
        b" a;b@example.org",
        b" group: a@example.org",
        b" group: inner: a@example.org;;",
        b" : a@example.org;",
        b" a@example.org;",
        b" a@example.org\nb@example.org",
        b" a@example.org\rb@example.org",
        b" a@example.org\0",
        b" a@[192.0.2.1",
        b" a@[x y]",
        b" a@\xff\xfe.org",
        b" a@xn\xe2\x80\xa8y.org",
        b' "a".b@example.org',
    ],
)
def test_ambiguous_or_broken_values_are_errors(value):
    with pytest.raises(MailboxError, match=r"^it has "):
        parse(value)


@pytest.mark.parametrize(
    "value",
    [
        b"(" * 200_000,
        b'"' * 199_999,
        b"a" * 250_000,
        b"a," * 100_000,
        b"<" * 200_000,
        b"a:" * 100_000,
        b"\\(" * 90_000,
        b"(" + b"\\)" * 100_000,
        b"(a" * 100_000,
        b"a@b.c," * 40_000 + b"(",
        b"x@" + b"a." * 100_000,
    ],
    ids=range(11),
)
def test_hostile_values_end(value):
    with pytest.raises(MailboxError):
        parse(value)
    with pytest.raises(MailboxError):
        parse(value[: 1 << 14][:-1] + b"(")


def test_a_long_list_of_authors():
    assert len(parse(b", ".join([b"user%d@example.org" % n for n in range(500)]))) == 500


@given(st.text('ab@<>(),;:". \\é\r\n', max_size=40).map(str.encode))
def test_any_value_parses_or_is_an_error(value):
    try:
        found = parse(value)
    except MailboxError:
        return
    for mailbox in found:
        # What was found stands literally in the value: never glued together from pieces around comments.
        assert mailbox.local + b"@" in value.replace(b"\r\n", b"")
