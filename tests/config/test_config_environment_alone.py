"""Settings without a file: every setting of the schema, each by its own variable and all as JSON tables."""

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest

from relay_config.check import check
from relay_config.environment import variable_of
from relay_config.load import find_settings, load
from relay_config.problems import SettingsError
from relay_config.schema import Settings
from relay_config.shape import Array, Choice, Keyed, Scalar, Setting, Shape, Table
from relay_config.words import Duration, Rate, Size
from tests.support.running import toml

NAMES = {"dkim": "example.com", "domain": "*.example.org", "site": "*.google.com"}
"""Keys of tables whose keys are free; others get `example.net`."""


def sample(setting: Setting, shape: Shape) -> Any:
    """A value that is allowed and is not the default, as a settings file holds it."""
    if isinstance(shape, Array):
        return setting.example if isinstance(setting.example, list) else [sample(setting, shape.item)] * 2
    if isinstance(shape, Choice):
        return next(word for word in reversed(shape.words) if word != setting.default)
    assert isinstance(shape, Scalar)
    if shape.type is bool:
        return setting.default is not True
    if shape.type is int:
        return min((setting.default or setting.bounds.least or 1) + 1, setting.bounds.most or 2**40)
    if shape.type is float:
        return (setting.bounds.most or 1) / 2
    words = {Duration: "26h", Size: "63MiB", Rate: "7/m"}
    return words.get(shape.type) or setting.example or "something"


def leaves(table: Table, path: tuple[str | int, ...] = ()) -> list[tuple[tuple[str | int, ...], Setting]]:
    """Every plain setting with a path to it: the first element of arrays, a name in free tables."""
    found: list[tuple[tuple[str | int, ...], Setting]] = []
    for setting in table.settings.values():
        here: tuple[str | int, ...] = (*path, setting.name)
        shape = setting.shape
        while isinstance(shape, Array | Keyed):
            inner = shape.item
            if isinstance(shape, Array) and not isinstance(inner, Table | Array | Keyed):
                break
            here = (*here, 0 if isinstance(shape, Array) else NAMES.get(setting.name, "example.net"))
            shape = inner
        if isinstance(shape, Table):
            found += leaves(shape, here)
        else:
            found.append((here, setting))
    return found


LEAVES = leaves(Table(Settings))


def as_text(value: Any) -> str:
    """A value as a variable holds it."""
    if isinstance(value, str):
        return value
    return ",".join(value) if isinstance(value, list) else json.dumps(value)


def table_of(paths: list[tuple[tuple[str | int, ...], Setting]]) -> dict[str, Any]:
    """The same settings as a file would hold them."""
    root: dict[str, Any] = {}
    for path, setting in paths:
        here: Any = root
        for part, following in itertools.pairwise(path):
            new: Any = [] if isinstance(following, int) else {}
            if isinstance(here, list):
                if not here:
                    here.append(new)
                here = here[0]
            else:
                here = here.setdefault(part, new)
        here[path[-1]] = sample(setting, setting.shape)
    return root


def required_beside(path: tuple[str | int, ...]) -> list[tuple[tuple[str | int, ...], Setting]]:
    """What must be set so that the setting may be: the required ones of the tables around it."""
    return [(other, setting) for other, setting in LEAVES if setting.required and other[:-1] == path[: len(other) - 1]]


def from_file(tmp_path, table: dict[str, Any]) -> Settings:
    path = tmp_path / "relay.toml"
    path.write_text("".join(f"{name} = {toml(value)}\n" for name, value in table.items()))
    return load(path, {})


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    """Relative paths start at the current folder where there is no file."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("path", "setting"), LEAVES, ids=[variable_of(path) for path, _ in LEAVES])
def test_every_setting_has_a_variable(tmp_path, path, setting):
    wanted = [*(pair for pair in required_beside(path) if pair[0] != path), (path, setting)]
    environ = {variable_of(one): as_text(sample(other, other.shape)) for one, other in wanted}
    settings = load(None, environ)
    assert settings == from_file(tmp_path, table_of(wanted))
    without = {name: value for name, value in environ.items() if name != variable_of(path)}
    if not setting.required:
        assert settings != load(None, without), "the variable was noticed"


def test_all_settings_by_their_variables(tmp_path):
    environ = {variable_of(path): as_text(sample(setting, setting.shape)) for path, setting in LEAVES}
    assert load(None, environ) == from_file(tmp_path, table_of(LEAVES))


def test_all_settings_as_json_in_names_that_every_shell_allows(tmp_path):
    table = table_of(LEAVES)
    environ = {
        variable_of((name,)): value if isinstance(value, str) else json.dumps(value, indent=2)
        for name, value in table.items()
    }
    assert all(name.replace("_", "").isalnum() for name in environ)
    assert load(None, environ) == from_file(tmp_path, table)


def test_json_null_leaves_a_setting_as_it_is():
    assert load(None, {"RELAY_HOSTNAME": "a.example", "RELAY_LIMITS": '{"free_disk": null}'}).limits.free_disk is None


def test_one_signing_key_needs_no_number():
    environ = {
        "RELAY_HOSTNAME": "a.example",
        "RELAY_DKIM__EXAMPLE.COM__SELECTOR": "s",
        "RELAY_DKIM__EXAMPLE.COM__KEY": "/k",
    }
    (key,) = load(None, environ).dkim["example.com"]
    assert (key.selector, key.key) == ("s", "/k")


def problems(environ: dict[str, str]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(None, environ)
    return str(caught.value).splitlines()


def test_what_is_missing_or_wrong_is_named_by_its_variable():
    assert problems({"RELAY_WORKERS": "2"}) == [
        "environment: RELAY_HOSTNAME: not set; set it, e.g. RELAY_HOSTNAME=mail.example.com"
    ]
    assert problems({"RELAY_HOSTNAME": "a.example", "RELAY_LISTENER__0__TLS": "none"}) == [
        "environment: RELAY_LISTENER__0__ADDRESS: not set; set it, e.g. RELAY_LISTENER__0__ADDRESS=0.0.0.0:587"
    ]
    assert problems({"RELAY_HOSTNAME": "a.example", "RELAY_ROUTE__0__RELAY_HOST": "b.example:25"}) == [
        'environment: RELAY_ROUTE__0__DOMAINS: not set; set it, e.g. RELAY_ROUTE__0__DOMAINS=["*"]'
    ]


def test_checks_beyond_the_value_name_the_variable(tmp_path):
    report = check(None, {"RELAY_HOSTNAME": "a.example", "RELAY_TLS__KEY": "/nowhere"}, 0)
    assert [str(problem).partition("; ")[0] for problem in report.problems] == [
        'environment: RELAY_TLS__KEY: found "/nowhere", which does not exist'
    ]
    environ = {
        "RELAY_HOSTNAME": "a.example",
        "RELAY_DATA_DIR": str(tmp_path),
        "RELAY_DELIVERY": '{"ipv4": false, "ipv6": false}',
    }
    (problem,) = check(None, environ, 0).problems
    assert str(problem).startswith("environment: RELAY_DELIVERY: ipv4: found false, as ipv6 is")
    (warning, *_) = check(None, environ | {"RELAY_DELIVERY": ""}, 0).warnings
    assert str(warning).startswith("environment: RELAY_LISTENER: not set")


def test_a_file_is_not_needed_where_there_are_variables(tmp_path, monkeypatch):
    monkeypatch.setattr("relay_config.load.SYSTEM_FILE", tmp_path / "etc/relay.toml")
    assert find_settings({"RELAY_HOSTNAME": "a.example"}, tmp_path) is None
    for environ in ({}, {"RELAY_SERVICE_HOST": "10.0.0.1", "RELAY_PORT": "tcp://10.0.0.1:25"}, {"RELAY_CONFIG": ""}):
        with pytest.raises(SettingsError, match="no such file here"):
            find_settings(environ, tmp_path)
    (tmp_path / "relay.toml").touch()
    assert find_settings({"RELAY_HOSTNAME": "a.example"}, tmp_path) == tmp_path / "relay.toml"


def test_the_manuals_examples_load():
    root = Path(__file__).parents[2] / "docs"
    settings, production = [(root / page).read_text() for page in ("reference/settings.md", "howto/production.md")]
    shell = dict(re.findall(r"(?m)^    (RELAY_\w+)='?(.*?)'?$", settings))
    assert len(shell) >= 8
    loaded = load(None, shell)
    assert loaded.submission.trusted_networks == ("10.0.0.0/8", "fd00::/8")
    assert loaded.throttle.site["*.google.com"].max_connections == 5
    compose = dict(re.findall(r"(?m)^ +(RELAY_\w+): '?(.*?)'?$", production))
    assert len(compose) >= 6
    assert load(None, compose).listener[0].address == "0.0.0.0:2525"
