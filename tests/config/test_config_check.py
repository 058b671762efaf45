"""What `relay check` says of values and their combinations."""

import pytest

from relay_config.check import check, load_checked
from relay_config.load import load
from relay_config.problems import SettingsError
from tests.support.checked import LEAST, LISTENER


def test_good_settings_pass(report):
    found = report(LISTENER)
    assert (found.problems, found.warnings) == ((), ())
    assert found.checked().hostname == "mail.example.com"


def test_what_loads_and_cannot_work_is_refused_to_a_server(tmp_path):
    path = tmp_path / "relay.toml"
    path.write_text(LEAST + LISTENER)
    assert load_checked(path, {}, 0.0) == load(path, {})
    path.write_text(LEAST + LISTENER.replace("127.0.0.0/8", "0.0.0.0/0"))
    load(path, {})
    with pytest.raises(SettingsError, match="open relay"):
        load_checked(path, {}, 0.0)


def test_bad_settings_raise_with_all_problems(report):
    found = report(
        '[[listener]]\naddress = "localhost:25"\ntls = "no"\n[dns]\nnameservers = ["x"]\n[delivery]\nport = 0'
    )
    assert found.settings is None
    with pytest.raises(SettingsError) as caught:
        found.checked()
    assert len(caught.value.problems) == 4


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            '[[listener]]\naddress = "localhost:25"',
            'listener[0].address: found "localhost:25"; write an IP address, not a name',
        ),
        (
            '[submission]\ntrusted_networks = ["10.0.0.1/8"]',
            'submission.trusted_networks[0]: found "10.0.0.1/8"; write "10.0.0.0/8"',
        ),
        (
            '[submission]\ntrusted_networks = ["0.0.0.0/0"]',
            'submission.trusted_networks[0]: found "0.0.0.0/0"; name your own',
        ),
        (
            '[submission]\ntrusted_networks = ["128.0.0.0/1"]',
            'submission.trusted_networks[0]: found "128.0.0.0/1"; name your own',
        ),
        (
            '[submission]\ntrusted_networks = ["::/0"]',
            'submission.trusted_networks[0]: found "::/0"; write IPv4 networks',
        ),
        (
            '[submission]\ntrusted_networks = ["2000::/3"]',
            'submission.trusted_networks[0]: found "2000::/3"; name your own',
        ),
        (
            '[submission]\ntrusted_networks = ["::ffff:0:0/96"]',
            'submission.trusted_networks[0]: found "::ffff:0:0/96"; write IPv4',
        ),
        (
            '[dns]\nnameservers = ["dns.example"]',
            'dns.nameservers[0]: found "dns.example"; write an IP address and a port',
        ),
        ('[delivery]\nsource_ipv4 = "::1"', 'delivery.source_ipv4: found "::1"; write an IPv4 address'),
        ('[delivery]\nsource_ipv6 = "1.2.3.4"', 'delivery.source_ipv6: found "1.2.3.4"; write an IPv6 address'),
        (
            "[limits]\nreserved_connections = 1000",
            "limits.reserved_connections: found 1000; use less than limits.connections, which is 1000",
        ),
        ('[history]\nevents_size = "64KiB"', 'history.events_size: found "64KiB"; use at least 1MiB'),
        ("[delivery]\nipv4 = false\nipv6 = false", "delivery.ipv4: found false, as ipv6 is; set one"),
        ('[delivery]\nprohibited_networks = ["x"]', 'delivery.prohibited_networks[0]: found "x"; write a network'),
        (
            '[sandbox]\nreceiver = "10.0.0.1:2599"',
            'sandbox.receiver: found "10.0.0.1:2599"; use an address of this machine alone',
        ),
        (
            '[[route]]\ndomains = ["*.*"]\nrelay_host = "h.example:25"',
            'route[0].domains[0]: found "*.*"; write a domain name',
        ),
        (
            '[[route]]\ndomains = ["*"]\nrelay_host = "h.example"',
            'route[0].relay_host: found "h.example"; write a host and a port',
        ),
        (
            '[[route]]\ndomains = ["*"]\nrelay_host = "h.example:25"\nuser = "u"',
            "route[0].password_file: not set; set both",
        ),
        ('[throttle.site."a b"]\nrate = "1/s"', 'throttle.site."a b": found "a b"; write a domain name'),
        (
            '[throttle.site."h.example:x"]\nrate = "1/s"',
            'throttle.site."h.example:x": found "h.example:x"; write a host and a port',
        ),
        (
            '[throttle.domain."b\u00fccher.example"]\nrate = "1/s"',
            'throttle.domain."b\\u00fccher.example": found "b\\u00fccher.example"; write it in its ASCII',
        ),
        ('[throttle]\nbackoff = "2h"', 'throttle.backoff: found "2h"; use at most backoff_max, which is 30m'),
        (
            '[throttle.domain."a.example"]\nbackoff = "2h"',
            'throttle.domain."a.example".backoff: found "2h"; use at most',
        ),
        (
            '[retry]\nschedule = ["3d"]',
            'retry.expire_after: found "2d"; use at least the first wait of retry.schedule, 3d',
        ),
        ('[dkim."a..b"]\nselector = "s"\nkey = "k"', 'dkim."a..b": found "a..b"; write a domain name'),
        ('[dkim."a.example"]\nselector = "a b"\nkey = "k"', 'dkim."a.example".selector: found "a b"; write letters'),
        (
            '[[listener]]\naddress = "127.0.0.1:25"',
            'listener[0].tls: found "starttls" without a certificate; set certificate',
        ),
        ('[tls]\nkey = "relay.toml"', "tls.certificate: not set; set both certificate and key, or neither"),
        (
            '[[listener]]\naddress = "10.0.0.1:25"\ntls = "none"',
            'listener[0].auth: found "required" with tls = "none": nobody',
        ),
        (
            '[[listener]]\naddress = "10.0.0.1:25"\ntls = "none"\nplaintext_auth = true',
            'listener[0].auth: found "required" with tls',
        ),
        (
            '[[listener]]\naddress = "127.0.0.1:25"\ntls = "none"',
            'listener[0].auth: found "required" with tls = "none": nobody',
        ),
        (
            '[log]\ndestination = "none/relay.log"',
            'log.destination: found "none/relay.log", whose folder does not exist; mkdir none',
        ),
    ],
)
def test_a_bad_value_or_combination_is_told(problems, text, line):
    found = problems(text)
    assert [problem.startswith(line) for problem in found].count(True) == 1, found


@pytest.mark.parametrize(
    "name", ["127.0.0.1", "mail.example.com.", "b\u00fccher.example", "under_score.example", "a b"]
)
def test_a_bad_host_name_is_told(tmp_path, name):
    path = tmp_path / "relay.toml"
    path.write_text(f'hostname = "{name}"\n')
    (problem, *_) = check(path, {}, 0.0).problems
    assert problem.key == "hostname"


def test_the_variable_is_named_where_it_set_the_value(report):
    found = report(LISTENER, {"RELAY_LISTENER__0__ADDRESS": "x:25", "RELAY_RETRY__SCHEDULE": '["3d"]'})
    assert [str(problem).split(";")[0] for problem in found.problems] == [
        'environment: RELAY_LISTENER__0__ADDRESS: found "x:25"'
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "listener: not set; add a [[listener]]"),
        (
            '[[listener]]\naddress = "127.0.0.1:25"\ntls = "none"\nauth = "off"',
            'listener[0].auth: found "off" with no trusted',
        ),
        (
            '[[listener]]\naddress = "127.0.0.1:0"\ntls = "none"\nplaintext_auth = true',
            'listener[0].address: found "127.0.0.1:0"; port 0',
        ),
        (
            '[[listener]]\naddress = "0.0.0.0:25"\ntls = "none"\nplaintext_auth = true',
            "listener[0].plaintext_auth: found true without TLS",
        ),
        (
            LISTENER.replace("127.0.0.1", "0.0.0.0").replace("auth =", "proxy_protocol = true\nauth ="),
            "listener[0].proxy_protocol: found true",
        ),
        (
            LISTENER.replace("127.0.0.0/8", "8.0.0.0/8"),
            'submission.trusted_networks[0]: found "8.0.0.0/8"; a large public',
        ),
        (
            LISTENER + '[retry]\ndelay_notice_after = "3d"',
            'retry.delay_notice_after: found "3d"; no delay is ever told',
        ),
        (LISTENER + '[limits]\nheader_size = "1GiB"', "limits.header_size: larger than a whole message may be"),
        (LISTENER + "[limits]\nconnections = 10", "limits.connections_per_address: more than limits.connections"),
        (
            LISTENER + '[[route]]\ndomains = ["*"]\nrelay_host = "h.example:25"\n'
            '[[route]]\ndomains = ["a.example"]\nrelay_host = "i.example:25"',
            'route[1].domains[0]: found "a.example"; route[0] takes this mail first',
        ),
    ],
)
def test_a_doubt_is_told_and_does_not_stop(warnings, text, line):
    found = warnings(text)
    assert [warning.startswith(line) for warning in found] == [True], found


def test_routes_in_order_of_telling_are_fine(warnings):
    routes = [
        ("a.b.example", "h.example:25"),
        ("*.b.example", "i.example:25"),
        ("b.example", "j.example:25"),
        ("*", "k.example:25"),
    ]
    text = "".join(f'[[route]]\ndomains = ["{domain}"]\nrelay_host = "{host}"\n' for domain, host in routes)
    assert warnings(LISTENER + text) == []


def test_a_name_without_a_dot_is_a_doubt(tmp_path):
    path = tmp_path / "relay.toml"
    path.write_text('hostname = "localhost"\ndata_dir = "data"\n' + LISTENER)
    assert [warning.key for warning in check(path, {}, 0.0).warnings] == ["hostname"]


def test_two_sockets_cannot_have_one_address(problems):
    second = (
        '[[listener]]\naddress = "127.0.0.1:2525"\ntls = "none"\nauth = "off"\n[sandbox]\nreceiver = "127.0.0.1:2525"\n'
    )
    assert problems(LISTENER + second) == [
        'listener[0].address: found "127.0.0.1:2525", the same as sandbox.receiver; use another port or address',
        'listener[1].address: found "127.0.0.1:2525", the same as sandbox.receiver; use another port or address',
    ]


def test_a_password_does_not_cross_the_network_in_the_clear(problems, warnings, tmp_path):
    (tmp_path / "pw").write_text("secret\n")
    (tmp_path / "pw").chmod(0o600)
    route = LISTENER + '[[route]]\ndomains = ["*"]\nrelay_host = "{}"\nuser = "u"\npassword_file = "pw"\ntls = "{}"\n'
    (found,) = problems(route.format("smtp.example.net:587", "opportunistic"))
    assert found.startswith('route[0].tls: found "opportunistic" with a password')
    assert warnings(route.format("smtp.example.net:587", "required")) == []
    assert warnings(route.format("127.0.0.1:587", "none")) == []


def test_a_password_file_needs_a_first_line(problems, tmp_path):
    (tmp_path / "pw").write_text("\nsecret\n")
    (tmp_path / "pw").chmod(0o600)
    route = '[[route]]\ndomains = ["*"]\nrelay_host = "127.0.0.1:587"\nuser = "u"\npassword_file = "pw"\n'
    (found,) = problems(route)
    assert found.startswith('route[0].password_file: found "pw", whose first line is empty')
