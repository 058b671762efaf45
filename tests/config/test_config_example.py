import re
import tomllib
from pathlib import Path

from relay_config import example, reference
from relay_config.load import load
from relay_config.schema import Settings
from relay_config.shape import Array, Keyed, Table

ROOT = Path(__file__).parents[2]


def uncommented():
    return re.sub(r"(?m)^#(?! |$)", "", example.render())


def plain_settings(table, path=()):
    for setting in table.settings.values():
        shape = setting.shape
        while isinstance(shape, Array | Keyed):
            shape = shape.item
        if isinstance(shape, Table):
            yield from plain_settings(shape, (*path, setting.name))
        else:
            yield (*path, setting.name), setting


def test_the_committed_example_is_the_rendered_one():
    assert (ROOT / "relay.toml.example").read_text() == example.render(), "run `make example`"


def test_the_committed_reference_is_the_rendered_one():
    assert (ROOT / "docs/reference/settings.md").read_text() == reference.render(), "run `make example`"


def test_the_example_as_it_is_holds_only_the_defaults(tmp_path):
    path = tmp_path / "relay.toml"
    path.write_text(example.render())
    assert load(path, {}) == Settings(hostname="mail.example.com")


def test_the_example_uncommented_loads(tmp_path):
    path = tmp_path / "relay.toml"
    path.write_text(uncommented())
    settings = load(path, {})
    assert settings.listener[0].address == "0.0.0.0:587"
    assert settings.dkim["example.com"][0].selector == "relay"


def test_the_example_uncommented_holds_every_setting():
    table = tomllib.loads(uncommented())
    for path, _ in plain_settings(Table(Settings)):
        here = table
        for part in path[:-1]:
            here = here[part]
            here = here[0] if isinstance(here, list) else here
            if part in {"site", "domain", "dkim", "stream"}:
                (here,) = here.values()
        assert path[-1] in here, path


def test_what_the_example_shows_as_default_is_the_default(tmp_path):
    path = tmp_path / "relay.toml"
    path.write_text(uncommented())
    settings = load(path, {})
    defaults = Settings(hostname="mail.example.com")
    for section in ("limits", "dns", "delivery", "retry", "log", "history"):
        shown, default = getattr(settings, section), getattr(defaults, section)
        for name, setting in Table(type(default)).settings.items():
            if setting.example is None:
                assert getattr(shown, name) == getattr(default, name), f"{section}.{name}"


def test_every_setting_is_explained():
    for path, setting in plain_settings(Table(Settings)):
        assert setting.help.endswith("."), path
        # Without a default to show, the example file would show nothing.
        assert not setting.required or setting.example is not None, path


def test_the_example_fits_a_terminal():
    assert [line for line in example.render().splitlines() if len(line) > 100] == []
