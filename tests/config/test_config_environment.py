import pytest

from relay_config.load import load
from relay_config.problems import SettingsError
from relay_config.words import Rate

FILE = """
hostname = "mail.example.com"
user = "relay"
[[listener]]
address = "0.0.0.0:25"
[dkim."example.com"]
selector = "s"
key = "/k"
"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "relay.toml"
    path.write_text(FILE)
    return path


def told(path, environ):
    with pytest.raises(SettingsError) as caught:
        load(path, environ)
    return str(caught.value).splitlines()


def test_variables_win_over_the_file(path, tmp_path):
    settings = load(
        path,
        {
            "RELAY_HOSTNAME": "other.example.com",
            "RELAY_WORKERS": "2",
            "RELAY_USER": "",
            "RELAY_DATA_DIR": "data",
            "RELAY_SUBMISSION__MAX_MESSAGE_SIZE": "10MiB",
            "RELAY_SUBMISSION__TRUSTED_NETWORKS": '["10.0.0.0/8"]',
            "RELAY_LISTENER__0__ADDRESS": "127.0.0.1:25",
            "RELAY_LISTENER__1__ADDRESS": "127.0.0.1:587",
            "RELAY_LISTENER__1__PLAINTEXT_AUTH": "true",
            "RELAY_RETRY__SCHEDULE": '["1m"]',
            "RELAY_RETRY__SCHEDULE__1": "2m",
            "RELAY_RETRY__JITTER": "0.2",
            "RELAY_THROTTLE__RATE": "0",
            "RELAY_THROTTLE__SITE__*.GOOGLE.COM__RATE": "5/m",
            "RELAY_LOG__FORMAT": "json",
            "PATH": "/bin",
            "RELAYX": "1",
        },
    )
    assert settings.hostname == "other.example.com"
    assert settings.workers == 2
    assert settings.user is None
    assert settings.data_dir == f"{tmp_path}/data"
    assert settings.submission.max_message_size == 10 * 2**20
    assert settings.submission.trusted_networks == ("10.0.0.0/8",)
    assert [listener.address for listener in settings.listener] == ["127.0.0.1:25", "127.0.0.1:587"]
    assert settings.listener[1].plaintext_auth is True
    assert settings.retry.schedule == (60, 120)
    assert settings.retry.jitter == 0.2
    assert settings.throttle.rate == Rate(0, 1)
    assert settings.throttle.site["*.google.com"].rate == Rate(5, 60)
    assert settings.log.format == "json"


def test_elements_come_in_numeric_order(path):
    environ = {f"RELAY_LISTENER__{index}__ADDRESS": f"127.0.0.1:{1000 + index}" for index in range(12)}
    settings = load(path, environ)
    assert [listener.address for listener in settings.listener] == [f"127.0.0.1:{1000 + index}" for index in range(12)]


def test_a_table_comes_as_toml(path):
    settings = load(path, {"RELAY_DKIM": '{"a.example" = {selector = "t", key = "/l"}}'})
    assert list(settings.dkim) == ["a.example"]


def test_one_table_that_stands_for_an_array_can_be_changed(path):
    settings = load(path, {"RELAY_DKIM__EXAMPLE.COM__0__SELECTOR": "t"})
    assert [(key.selector, key.key) for key in settings.dkim["example.com"]] == [("t", "/k")]


@pytest.mark.parametrize(
    ("variable", "value", "line"),
    [
        ("RELAY_HOSTNAMES", "x", "no such setting; did you mean HOSTNAME?"),
        ("RELAY_Hostname", "x", "no such setting; did you mean HOSTNAME?"),
        ("RELAY_ZZZ", "x", "no such setting; see docs/reference/settings.md"),
        ("RELAY_", "x", "no such setting; see docs/reference/settings.md"),
        ("RELAY_HOSTNAME__X", "x", "no such setting; a value has no settings of its own"),
        ("RELAY_WORKERS", "two", 'found "two"; write a number'),
        ("RELAY_WORKERS", "\u0663", 'found "\\u0663"; write a number'),
        ("RELAY_WORKERS", "1\nhostname = 'x'", "found \"1\\nhostname = 'x'\"; write a number"),
        ("RELAY_WORKERS", "999", "found 999; use at least 0 and at most 256"),
        ("RELAY_DELIVERY__IPV4", "yes", 'found "yes"; write true or false'),
        ("RELAY_LOG__LEVEL", "loud", 'found "loud"; use one of debug, info, warning, error'),
        ("RELAY_LISTENER__X__ADDRESS", "x", 'found "X"; name an element of the array by its number, from 0'),
        ("RELAY_LISTENER__3__ADDRESS", "x", "cannot be applied; the next free number is 1"),
        ("RELAY_SUBMISSION__TRUSTED_NETWORKS", "[10.0.0.0/8]", 'found "[10.0.0.0/8]"; write the elements with commas'),
        ("RELAY_SUBMISSION__TRUSTED_NETWORKS", "a,,b", '[1]: found ""; write a text that is not empty'),
        ("RELAY_RETRY__SCHEDULE", "", "found an empty array; write at least one element"),
        ("RELAY_LISTENER", "127.0.0.1:25", 'found "127.0.0.1:25"; write an array as in JSON or TOML'),
        ("RELAY_LISTENER", '[{"tls": "none"}]', "[0].address: not set; set it"),
        (
            "RELAY_TLS",
            '{"key": "a", "key": "b"}',
            'found "{\\"key\\": \\"a\\", \\"key\\": \\"b\\"}"; write a table as in',
        ),
        ("RELAY_TLS", "[" * 100_000, "found"),
        ("RELAY_RETRY__JITTER", "NaN", 'found "NaN"; write a number'),
        ("RELAY_RETRY__EXPIRE_AFTER", "5", 'found "5"; name the unit: "5s" for seconds, "5m" for minutes'),
        ("RELAY_HOSTNAME", "", 'found ""; write a text that is not empty'),
        ("RELAY_TLS", '{certificat = "x"}', "certificat: unknown key; did you mean certificate?"),
        ("RELAY_RETRY__SCHEDULE", '["5"]', '[0]: found "5"; name the unit'),
    ],
)
def test_a_bad_variable_is_named(path, variable, value, line):
    (found,) = told(path, {variable: value})
    assert found.startswith(f"environment: {variable}: {line}")


def test_a_file_whose_table_is_none_is_told_once(path):
    path.write_text('hostname = "a.example"\nretry = 5\n')
    problems = told(path, {"RELAY_RETRY__JITTER": "0.1"})
    assert problems[0].startswith("environment: RELAY_RETRY__JITTER: cannot be applied; fix the settings first")
    assert problems[1].endswith("retry: found 5; write a table: [retry]")


def test_variables_of_others_are_left_alone(path):
    load(
        path,
        {
            "RELAY_CONFIG": "/etc/x.toml",
            "RELAY_SERVICE_HOST": "10.0.0.1",
            "RELAY_SERVICE_PORT": "25",
            "RELAY_SERVICE_PORT_SMTP": "25",
            "RELAY_PORT": "tcp://10.0.0.1:25",
            "RELAY_PORT_25_TCP": "tcp://10.0.0.1:25",
            "RELAY_PORT_25_TCP_ADDR": "10.0.0.1",
        },
    )


def test_no_setting_hides_behind_the_variables_of_others():
    from relay_config.environment import _SERVICE_LINK, RESERVED
    from relay_config.schema import Settings

    names = {f"RELAY_{name.upper()}" for name in Settings.__struct_fields__}
    assert not names & RESERVED
    assert not [name for name in names if _SERVICE_LINK.fullmatch(name) or _SERVICE_LINK.fullmatch(f"{name}__X")]
