import pytest

from relay_config.endpoints import (
    Endpoint,
    is_loopback,
    is_unspecified,
    parse_endpoint,
    parse_host_port,
    parse_nameserver,
    parse_network,
)
from relay_config.names import BadNameError, check_domain, check_selector
from relay_config.patterns import check_pattern, matches, most_specific


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("127.0.0.1:2525", ("127.0.0.1", 2525)),
        ("0.0.0.0:0", ("0.0.0.0", 0)),
        ("[::1]:25", ("::1", 25)),
        ("[::]:587", ("::", 587)),
    ],
)
def test_an_endpoint_is_read_and_written_back(text, endpoint):
    assert parse_endpoint(text) == endpoint
    assert str(parse_endpoint(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":25",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:٢٥",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "::1:25",
        "[127.0.0.1]:25",
        "localhost:25",
        "127.0.0.1:25 ",
        "[::1]25",
        "127.1:25",
        "0x7f.0.0.1:25",
        "1.2.3.4:25:25",
        "[]:25",
        "127.0.0.1:25\n",
    ],
)
def test_what_is_no_endpoint_is_refused(text):
    with pytest.raises(BadNameError):
        parse_endpoint(text)


def test_a_host_may_be_a_name():
    assert parse_host_port("SMTP.example.net:587") == ("smtp.example.net", 587)
    assert parse_host_port("[2001:db8::1]:25") == ("2001:db8::1", 25)
    assert parse_host_port("smtp.example.net", 25) == ("smtp.example.net", 25)
    assert parse_host_port("smtp.example.net:26", 25) == ("smtp.example.net", 26)
    assert parse_host_port("[::1]", 25) == ("::1", 25)


@pytest.mark.parametrize(
    "text", ["smtp.example.net", "a b:25", "smtp.example.net:0", "-x.example:25", "x..y:25", "u@h:25"]
)
def test_what_is_no_host_and_port_is_refused(text):
    with pytest.raises(BadNameError):
        parse_host_port(text)


def test_a_nameserver_needs_no_port():
    assert parse_nameserver("127.0.0.1") == ("127.0.0.1", 53)
    assert parse_nameserver("::1") == ("::1", 53)
    assert parse_nameserver("[::1]:5353") == Endpoint("::1", 5353)
    with pytest.raises(BadNameError):
        parse_nameserver("dns.example:53")


def test_a_network_with_host_bits_is_told_what_it_may_mean():
    with pytest.raises(BadNameError, match=r'"10.0.0.0/8" for that network, or "10.0.0.1"'):
        parse_network("10.0.0.1/8")
    assert str(parse_network("10.0.0.1")) == "10.0.0.1/32"
    for text in ("", "10.0.0.0/33", "10.0.0.0/٨", "x", "10.0.0.0/8/8"):
        with pytest.raises(BadNameError):
            parse_network(text)


def test_loopback_and_unspecified_addresses_are_known():
    assert is_loopback("127.8.8.8")
    assert is_loopback("::1")
    assert not is_loopback("localhost")
    assert not is_loopback("10.0.0.1")
    assert is_unspecified("0.0.0.0")
    assert is_unspecified("::")
    assert not is_unspecified("127.0.0.1")


@pytest.mark.parametrize(
    "name", ["mail.example.com", "localhost", "xn--bcher-kva.example", "1.example", "A.B", "a" * 63 + ".x"]
)
def test_a_domain_is_accepted(name):
    check_domain(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "a..b",
        "a.",
        "-a.b",
        "a-.b",
        "a_b.c",
        "a b",
        "127.0.0.1",
        "::1",
        "a.1",
        "a" * 64 + ".x",
        "x." * 127 + "y",
        "*.a",
        "a\n",
    ],
)
def test_what_is_no_domain_is_refused(name):
    with pytest.raises(BadNameError):
        check_domain(name)


def test_names_of_others_may_have_underscores():
    check_domain("dept_a.example.org", underscores=True)
    assert parse_host_port("mail_out:2525") == ("mail_out", 2525)
    for bad in ("a_b.c", "_a.b"):
        with pytest.raises(BadNameError):
            check_domain(bad)


def test_an_international_name_is_shown_in_ascii():
    with pytest.raises(BadNameError, match=r'"xn--bcher-kva\.example"'):
        check_domain("bücher.example")
    with pytest.raises(BadNameError, match=r'"xn--strae-oqa\.example"'):
        check_domain("straße.example")
    with pytest.raises(BadNameError, match="ASCII form"):
        check_domain("ü" * 80)


def test_selectors():
    check_selector("relay")
    check_selector("2026_a.mail-1")
    for bad in ("", "a b", "a..b", ".a", "a/b", "ü"):
        with pytest.raises(BadNameError):
            check_selector(bad)


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("*", "example.org", True),
        ("example.org", "example.org", True),
        ("Example.org", "EXAMPLE.org", True),
        ("example.org", "a.example.org", False),
        ("*.example.org", "a.example.org", True),
        ("*.example.org", "a.b.example.org", True),
        ("*.example.org", "example.org", False),
        ("*.example.org", ".example.org", False),
        ("*.example.org", "xexample.org", False),
        ("example.org", "example.org.evil.test", False),
    ],
)
def test_patterns_match(pattern, name, expected):
    assert matches(pattern, name) is expected


def test_patterns_are_checked():
    for pattern in ("*", "*.example.org", "example.org", "dept_a.example.org", "*._tcp.example.org"):
        check_pattern(pattern)
    for pattern in ("*.", "**", "*.*.org", "a.*.org", "*org", ""):
        with pytest.raises(BadNameError):
            check_pattern(pattern)


def test_the_closest_pattern_wins():
    table = {"*": 0, "*.org": 1, "*.example.org": 2, "a.example.org": 3}
    names = ["A.example.org", "b.example.org", "example.org", "example.com", "c.b.example.org"]
    assert [most_specific(table, name) for name in names] == [3, 2, 1, 0, 2]
    assert most_specific({"*.example.org": 2}, "example.org") is None
