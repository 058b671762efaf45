"""From fields in the syntax that applications write, and the one reading that they leave with."""

from email.utils import getaddresses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.message.authors import complete, read
from relay.message.mailboxes import MailboxError, parse


@pytest.mark.parametrize(
    ("value", "rewritten"),
    [
        (b" x@example.net <a@example.org>", b' "x@example.net" <a@example.org>'),
        (b" a@example.org <a@example.org>", b' "a@example.org" <a@example.org>'),
        (b" App x@example.net <a@example.org>", b' "App x@example.net" <a@example.org>'),
        (b" [App] <a@example.org>", b' "[App]" <a@example.org>'),
        (b" [My App!] Alerts <a@example.org>", b' "[My App!] Alerts" <a@example.org>'),
        (b" Doe, John <a@example.org>", b' "Doe, John" <a@example.org>'),
        (b" Doe; John <a@example.org>;", b' "Doe; John" <a@example.org>'),
        (b" 'x@example.net' <a@example.org>", b" \"'x@example.net'\" <a@example.org>"),
        (b" App: x <a@example.org>", b' "App: x" <a@example.org>'),
        (b" Smile :) <a@example.org>", b' "Smile :)" <a@example.org>'),
        (b" Back\\slash <a@example.org>", b' "Back\\\\slash" <a@example.org>'),
        (b" A < a@example.org >", b" A <a@example.org>"),
        (b" A <a (x) @ (y) example.org (z)>", b" A <a@example.org>"),
        (b" Pete(A nice \\) chap) <pete(his account)@silly.example(his host)>", None),
        (b" A\r\n <\r\n\ta\r\n @example.org\r\n >", b" A <a@example.org>"),
        (b" a@example.org;", b" a@example.org"),
        (b" a@example.org.", b" a@example.org"),
        (b" A <a@EXAMPLE.org.>;", b" A <a@example.org>"),
        (b" first..second.@example.org", b' "first..second."@example.org'),
        (b' "Q \\" \\\\" [x] <a@example.org>', b' "Q \\" \\\\ [x]" <a@example.org>'),
        (b" [x] =?utf-8?q?J=C3=BC?=, y <a@example.org>", b' "[x]" =?utf-8?q?J=C3=BC?= ", y" <a@example.org>'),
        ("\x20Müller, J. <a@example.org>".encode(), '\x20"Müller, J." <a@example.org>'.encode()),
        (b" <a@example.org(> <victim@example.net>)>", b" a@example.org"),
        (b" a@example.org (<victim@example.net>)", b' "<victim@example.net>" <a@example.org>'),
        (b" A <x@[192.0.2.1] >", b" A <x@[192.0.2.1]>"),
        (b" a@example.org (<x\x1b[31m>)", b' "<x[31m>" <a@example.org>'),
        (b" =?a@[b?q?x?= < a@example.org >", b' "=?a@[b?q?x?=" <a@example.org>'),
    ],
)
def test_one_author_in_bad_syntax_is_rewritten(value, rewritten):
    authors = read(value)
    assert len(authors.mailboxes) == 1
    if rewritten is not None:
        assert authors.rewritten == rewritten
    assert authors.rewritten is not None
    assert parse(authors.rewritten) == authors.mailboxes
    assert read(authors.rewritten) == (authors.mailboxes, None), "in one step"
    [(_, shown)] = getaddresses([authors.rewritten.decode()])
    assert shown.replace('"', "") == authors.mailboxes[0].address.replace('"', "")


@pytest.mark.parametrize(
    "value",
    [
        b" a@example.org",
        b' "Doe, John" <a@example.org>',
        b" Alice (x) <a@example.org>",
        b" a@example.org (Alice)",
        b" A <a@example.org>, B <b@example.org>",
        b" team: a@example.org, b@example.org;",
    ],
)
def test_good_syntax_stays(value):
    assert read(value) == (parse(value), None)
    assert read(value, "default.example") == (parse(value), None)


@pytest.mark.parametrize(
    "value",
    [
        b" <a@example.org> <b@example.org>",
        b" <a@example.org> b@example.net",
        b" <a@example.org>, b@",
        b" <a@example.org> Alice",
        b" a@example.org b@example.net",
        b" a@example.org; b@example.net",
        b" a@example.org Alice",
        b" a @example.org",
        b" a@(x)example.org",
        b" x@example.net, Doe, John <a@example.org>",
        b" x@example.net: <a@example.org>",
        b" x@example.net) <a@example.org>",
        b" alice@example.org)bob@evil.test",
        b" alice@evil.test@example.org",
        b" A <alice@evil.test@example.org>",
        b" A <al ice@example.org>",
        b" A <a@exa mple.org>",
        b" A <a@example.org..>",
        b" A <a@example.org",
        b" A a@example.org>",
        b" <<a@example.org>>",
        b" <@relay.test:a@example.org>",
        b" <>",
        b" A <>",
        b" (unclosed <a@example.org>",
        b' "unclosed <a@example.org>',
        b" a@example.org, b@example.org (c@example.net)",
        b" A\x01 <a@example.org>",
        b" A <a@example.org>\x00",
        b" A <a@xn--.org>",
        b" =?utf-8?q?a=40example=2Eorg?=",
    ],
)
def test_what_could_mean_two_authors_or_none_is_an_error(value):
    with pytest.raises(MailboxError, match=r"^it has "):
        read(value)


def test_the_address_is_the_one_in_brackets():
    """A user who may use a@example.org must not write as somebody else."""
    assert read(b" a@example.org <victim@example.net>").mailboxes[0].address == "victim@example.net"
    assert read(b" a@example.org < victim@example.net(a@example.org) >").mailboxes[0].address == "victim@example.net"


@pytest.mark.parametrize(
    ("value", "completed"),
    [
        (b" root", b" root@d.example"),
        (b" <root>", b" <root@d.example>"),
        (b" root (Cron Daemon)", b" root@d.example (Cron Daemon)"),
        (b" Cron Daemon <root>", b" Cron Daemon <root@d.example>"),
        (b" root, www-data,\r\n\tx@example.org", b" root@d.example, www-data@d.example,\r\n\tx@example.org"),
        (b" team: root, a@example.org;", b" team: root@d.example, a@example.org;"),
        (b" first.last;", b" first.last@d.example;"),
    ],
)
def test_addresses_get_the_default_domain(value, completed):
    assert complete(value, "d.example") == completed
    assert complete(completed, "d.example") is completed


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b" a@example.org",
        b" Doe, John <a@example.org>",
        b" John Doe",
        b' "root"',
        b" undisclosed-recipients:;",
        b" <>",
        b" root@",
        b" a..b",
        b" (unclosed root",
        "\x20jürgen".encode(),
    ],
)
def test_other_things_do_not(value):
    assert complete(value, "d.example") is value


def test_authors_with_the_default_domain():
    assert read(b" root (Cron Daemon)", "d.example").rewritten == b" root@d.example (Cron Daemon)"
    assert read(b" Doe, John < root >", "d.example").rewritten == b' "Doe, John" <root@d.example>'
    for value in (b" root", b" <root>", b" Cron <root>", b" root (Cron Daemon)"):
        with pytest.raises(MailboxError, match=r"submission\.default_domain"):
            read(value)


@pytest.mark.parametrize("piece", [b"(", b"<", b'"', b",", b"a@b,", b"\\(", b"=?a?q?", b"x ", b"\r\n ", b"a@"])
def test_hostile_values_end(piece):
    for value in (piece * (16_384 // len(piece)), b"A <" + piece * (16_000 // len(piece)) + b">"):
        for domain in (None, "d.example"):
            try:
                read(value, domain)
            except MailboxError:
                continue
    with pytest.raises(MailboxError):
        read(piece * 20_000)


@given(st.text('ab@<>(),;:[]". \\é\r\n', max_size=40).map(str.encode))
def test_whatever_is_read_leaves_with_one_reading(value):
    try:
        authors = read(value, "d.example")
    except MailboxError:
        return
    if authors.rewritten is not None:
        assert parse(authors.rewritten) == authors.mailboxes
        assert b"\r" not in authors.rewritten.replace(b"\r\n", b"")
