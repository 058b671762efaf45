from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_config.load import find_settings, load, read
from relay_config.problems import Problem, SettingsError
from relay_config.schema import Settings
from relay_config.words import Rate

LEAST = 'hostname = "mail.example.com"\n'


@pytest.fixture
def write(tmp_path):
    def write(text, name="relay.toml"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def lines(path, environ=None):
    with pytest.raises(SettingsError) as caught:
        load(path, environ or {})
    return str(caught.value).replace(f"{path.parent}/", "").splitlines()


def test_the_least_file_gives_the_defaults(write):
    assert load(write(LEAST), {}) == Settings(hostname="mail.example.com")


def test_a_whole_file_is_read(write):
    settings = load(
        write(
            LEAST
            + """
            data_dir = "data"
            [[listener]]
            address = "0.0.0.0:587"
            [[listener]]
            address = "127.0.0.1:2525"
            tls = "none"
            auth = "off"
            [submission]
            trusted_networks = ["127.0.0.0/8"]
            max_message_size = "10MiB"
            [limits]
            header_size = 4096
            [retry]
            schedule = ["1m", "1h30m"]
            jitter = 0
            [throttle]
            rate = "5/10s"
            connection_rate = 0
            [throttle.site."*.Google.com"]
            backoff = "2m"
            [log]
            destination = "log/relay.log"
            """
        ),
        {},
    )
    assert [listener.tls for listener in settings.listener] == ["starttls", "none"]
    assert settings.submission.trusted_networks == ("127.0.0.0/8",)
    assert settings.submission.max_message_size == 10 * 2**20
    assert settings.limits.header_size == 4096
    assert settings.retry.schedule == (60, 5400)
    assert settings.retry.jitter == 0.0
    assert settings.throttle.rate == Rate(5, 10)
    assert settings.throttle.connection_rate == Rate(0, 1)
    assert settings.throttle.site["*.google.com"].backoff == 120
    assert settings.throttle.site["*.google.com"].rate is None


def test_every_problem_is_told_at_once(write):
    path = write(
        """
        hostnme = "mail.example.com"
        workers = 999
        [[listener]]
        address = "0.0.0.0:25"
        tls = "startls"
        [[listener]]
        auth = "none"
        [submission]
        max_message_size = "50M"
        max_mesage_size = "5MiB"
        [retry]
        schedule = []
        jitter = nan
        expire_after = 300
        [throttle]
        rate = "fast"
        [throttle.site."*.google.com"]
        max_connections = 0
        [dkim."example.com"]
        selector = "s"
        [tls]
        certificate = 5
        key = ""
        [delivery]
        ipv4 = "yes"
        """
    )
    expected = [
        'dkim."example.com".key: not set; set it, e.g. key = "/etc/relay/dkim/example.com.key"',
        'delivery.ipv4: found "yes"; write true or false, without quotes',
        'hostname: not set; set it, e.g. hostname = "mail.example.com"',
        "hostnme: unknown key; did you mean hostname?",
        'listener[0].tls: found "startls"; use one of none, starttls, implicit',
        'listener[1].address: not set; set it, e.g. address = "0.0.0.0:587"',
        'listener[1].auth: found "none"; use one of required, optional, off',
        'retry.expire_after: found 300; name the unit: "300s" for seconds; write a duration like "30s"',
        "retry.jitter: found nan; use at least 0 and at most 0.5",
        "retry.schedule: found an empty array; write at least one element",
        "submission.max_mesage_size: unknown key; did you mean max_message_size?",
        'submission.max_message_size: found "50M"; write "50MiB" (powers of 1024) or "50MB" (powers of 1000)',
        'throttle.rate: found "fast"; write a rate like "100/s", "1000/h" or "5/10s"; "0" stands for no limit',
        'throttle.site."*.google.com".max_connections: found 0; use at least 1',
        "tls.certificate: found 5; write a text in quotes",
        'tls.key: found ""; write a text that is not empty',
        "workers: found 999; use at least 0 and at most 256",
    ]
    found = sorted(lines(path))
    assert len(found) == len(expected)
    for line, beginning in zip(found, sorted(expected), strict=True):
        assert line.startswith(f"relay.toml: {beginning}")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("workers = true", "workers: found true; write a whole number, without quotes"),
        ("workers = 1.0", "workers: found 1.0; write a whole number, without quotes"),
        ("workers = 2024-01-01", "workers: found 2024-01-01; write a whole number, without quotes"),
        ("listener = 5", "listener: found 5; write [[listener]]"),
        ('[listener]\naddress = "0.0.0.0:25"', "listener: found a table; write [[listener]]"),
        ("listener = [5]", "listener[0]: found 5; write a table: [listener[0]]"),
        ("retry = 5", "retry: found 5; write a table: [retry]"),
        ("dkim = 5", 'dkim: found 5; write a table: [dkim."example.com"]'),
        ('[retry]\nschedule = "5m"', 'retry.schedule: found "5m"; write an array: ["5m"]'),
        ('[retry]\nschedule = ["5m", "0s"]', 'retry.schedule[1]: found "0s"; use at least 1s'),
        ('[history]\nkeep = "0s"', 'history.keep: found "0s"; use more than zero'),
        ("trusted_networks = []", "trusted_networks: unknown key; write it below [submission]"),
        ("zzz = 1", "zzz: unknown key; remove it"),
        ('"a\\nb" = 1', '"a\\nb": unknown key; remove it'),
        ('user = "a\\u001bb"', 'user: found "a\\u001bb"; write a text that is not empty, without blanks around it'),
        ("[limits]\nerrors = 99999999999999999999", "limits.errors: found 99999999999999999999; use at least 1"),
        ("[submission]\nmax_message_size = -1", "submission.max_message_size: found -1; write a size"),
        ("[submission]\nmax_message_size = 0", "submission.max_message_size: found 0; use more than zero"),
        (
            '[dkim."A.example"]\nselector="s"\nkey="k"\n[dkim."a.example"]\nselector="s"\nkey="k"',
            'dkim."a.example": the same name twice; keep one a.example; case does not matter',
        ),
        ('dkim = {"a.example" = []}', ""),
    ],
)
def test_a_wrong_value_is_told(write, text, line):
    path = write(LEAST + text)
    if not line:
        assert load(path, {}).dkim == {"a.example": ()}
        return
    assert [problem.startswith(f"relay.toml: {line}") for problem in lines(path)] == [True], lines(path)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("hostname = \n", "relay.toml: line 1, column 12: Invalid value; mend the TOML; texts need quotes"),
        ("hostname = mail\n", "relay.toml: line 1, column 12: Invalid value; mend the TOML; texts need quotes"),
        ("[retry\n", "relay.toml: line 1, column 7: Expected ']' at the end of a table declaration; mend"),
        (b'hostname = "\xff"\n', "relay.toml: octet 12 is not UTF-8; save the file as UTF-8"),
        (b"a = " + b"[" * 100_000, "relay.toml: arrays or tables nested too deep"),
        (b"a = " + b"9" * 10_000, "relay.toml: a number has too many digits"),
        ('a = "', "relay.toml: end of document: Unterminated string"),
    ],
)
def test_a_file_that_is_no_toml_is_told_with_its_line(write, content, line):
    (told,) = lines(write(content))
    assert told.startswith(line)


def test_a_byte_order_mark_and_dos_line_ends_are_taken(write):
    assert load(write(b'\xef\xbb\xbfhostname = "a.example"\r\nworkers = 1\r\n'), {}).workers == 1


def test_a_missing_file_and_a_folder_are_told(tmp_path):
    assert lines(tmp_path / "relay.toml") == [
        "relay.toml: no such file; create it with `relay init DIR`, or name another with `-c FILE`"
    ]
    (told,) = lines(tmp_path)
    assert "cannot be read (Is a directory)" in told


def test_relative_paths_start_at_the_files_folder(write, tmp_path, monkeypatch):
    (tmp_path / "etc").mkdir()
    path = write(
        LEAST
        + """
        data_dir = "../data"
        [tls]
        certificate = "tls.crt"
        key = "/keys/tls.key"
        [dkim."example.com"]
        selector = "s"
        key = "./dkim/a.key"
        [[route]]
        domains = ["*"]
        relay_host = "h.example:25"
        password_file = "pw"
        [log]
        destination = "relay.log"
        """,
        "etc/relay.toml",
    )
    monkeypatch.chdir(tmp_path)
    settings = load(Path("etc/relay.toml"), {})
    assert settings == load(path, {})
    assert settings.data_dir == f"{tmp_path}/data"
    assert settings.tls.certificate == f"{tmp_path}/etc/tls.crt"
    assert settings.tls.key == "/keys/tls.key"
    assert settings.dkim["example.com"][0].key == f"{tmp_path}/etc/dkim/a.key"
    assert settings.route[0].password_file == f"{tmp_path}/etc/pw"
    assert settings.log.destination == f"{tmp_path}/etc/relay.log"


def test_dkim_takes_one_table_or_several(write):
    one = load(write(LEAST + '[dkim."Example.com"]\nselector = "s"\nkey = "/k"'), {})
    two = load(
        write(
            LEAST
            + '[[dkim."example.com"]]\nselector = "s"\nkey = "/k"\n[[dkim."example.com"]]\nselector = "t"\nkey = "/l"'
        ),
        {},
    )
    assert one.dkim["example.com"] == two.dkim["example.com"][:1]
    assert [key.selector for key in two.dkim["example.com"]] == ["s", "t"]


def test_a_long_value_is_shown_short(write):
    (told,) = lines(write(f'hostname = "h.example"\n[log]\nlevel = "{"x" * 5000}"'))
    assert len(told) < 400


def test_an_error_holds_its_problems(write):
    with pytest.raises(SettingsError) as caught:
        load(write(LEAST + "workers = 999"), {})
    (problem,) = caught.value.problems
    assert isinstance(problem, Problem)
    assert (Path(problem.file).name, problem.key, problem.found) == ("relay.toml", "workers", "found 999")


@given(st.text(max_size=60))
def test_no_text_makes_anything_but_settings_or_a_settings_error(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("any") / "relay.toml"
    path.write_bytes((LEAST + text).encode("utf-8", "surrogatepass"))
    with suppress(SettingsError):
        load(path, {})
    findings = read(path, {}).findings
    assert all(len(str(problem).splitlines()) == 1 for problem in findings.problems)


@given(
    st.dictionaries(
        st.sampled_from(["hostname", "workers", "listener", "tls", "retry", "dkim", "throttle", "x"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.dates(),
            lambda inner: (
                st.lists(inner, max_size=2)
                | st.dictionaries(
                    st.sampled_from(["address", "schedule", "site", "a.example", "rate", "key"]), inner, max_size=2
                )
            ),
            max_leaves=5,
        ),
    )
)
def test_no_table_makes_the_reader_fail(table):
    from relay_config.problems import Findings
    from relay_config.read import Reader

    findings = Findings("relay.toml")
    settings = Reader(findings, Path("/")).section(Settings, table, ())
    assert (settings is None) == bool(findings.problems)


def test_the_settings_file_is_searched(tmp_path, write):
    with pytest.raises(SettingsError, match="relay init"):
        find_settings({}, tmp_path)
    assert find_settings({"RELAY_CONFIG": "/x/y.toml"}, tmp_path) == Path("/x/y.toml")
    assert find_settings({"RELAY_CONFIG": "y.toml"}, tmp_path) == tmp_path / "y.toml"
    path = write(LEAST)
    assert find_settings({}, tmp_path) == path
    assert find_settings({"RELAY_CONFIG": ""}, tmp_path) == path
