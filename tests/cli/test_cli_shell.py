"""The command line as a whole: names, help, exit codes, the settings it finds, the page that describes it."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from relay.cli import COMMANDS, cli
from relay.cli.reference import page
from relay_queue.model import Selection
from relay_queue.sqlite import open_admin
from tests.support.mail import message_put
from tests.support.running import CLEAN
from tests.support.shell import SETTINGS, Shell, run

ROOT = Path(__file__).parents[2]


def command(*args: str, cwd: Path | None = None, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "relay", *args],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=CLEAN | environ | {"PYTHONPATH": str(ROOT)},
        check=False,
        timeout=60,
    )


def test_every_command_is_what_its_line_says():
    for name, (module, attribute, line) in COMMANDS.items():
        found = getattr(importlib.import_module(module), attribute)
        assert isinstance(found, click.Command)
        assert found.name == name
        assert line.endswith(".")


def test_help_lists_all_and_imports_none():
    script = "import sys\nfrom relay.cli import cli\ntry: cli(['--help'], prog_name='relay')\nexcept SystemExit: pass\n"
    script += "print(sorted(m for m in sys.modules if m.split('.')[0] in "
    script += "('rich', 'cryptography', 'msgspec', 'asyncio', 'sqlite3', 'relay_queue')), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, env=CLEAN, check=True, timeout=60
    )
    assert done.stderr.strip() == "[]"
    for name in COMMANDS:
        assert f"\n  {name} " in done.stdout


def test_help_of_everything_works():
    def walk(group: click.Group, path: list[str]) -> None:
        context = click.Context(group)
        for name in group.list_commands(context):
            ran = run(*path, name, "--help")
            assert ran.code == 0
            assert ran.out.startswith("Usage: ")
            found = group.get_command(context, name)
            if isinstance(found, click.Group):
                walk(found, [*path, name])

    walk(cli, [])


def test_the_reference_page_is_up_to_date():
    kept = (ROOT / "docs" / "reference" / "cli.md").read_text()
    assert kept == page(), "run: python -m relay.cli.reference > docs/reference/cli.md"


def test_the_manual_names_only_what_there_is():
    """Every `relay …` command in the how-tos and the README exists, with its options."""
    texts = [path.read_text() for path in (*(ROOT / "docs" / "howto").glob("*.md"), ROOT / "README.md")]
    lines = [line for text in texts for line in re.findall(r"(?:^    |`)(?:\S*/)?relay ([^`\n]+)", text, re.MULTILINE)]
    assert len(lines) > 40
    for line in lines:
        words = line.partition("#")[0].partition("|")[0].replace("\\", "").split()
        while words[:1] == ["-c"]:
            words = words[2:]
        found: click.Command | None = cli
        while isinstance(found, click.Group) and words and not words[0].startswith(("…", "-")):
            found = found.get_command(click.Context(found), words.pop(0))
        assert found is not None, line
        known = {name for option in found.params for name in option.opts}
        for word in words:
            if word.startswith("--"):
                assert word.rstrip(".,") in known, line


@pytest.mark.parametrize(
    ("args", "code"),
    [((), 2), (("nonsense",), 2), (("queue",), 2), (("--nonsense",), 2), (("--version",), 0), (("-h",), 0)],
)
def test_usage(args, code):
    assert run(*args).code == code


def test_settings_are_found(tmp_path):
    done = command("user", "list", cwd=tmp_path)
    if not Path("/etc/relay/relay.toml").exists():
        assert done.returncode == 1
        assert "relay init" in done.stderr
    here = tmp_path / "here"
    here.mkdir()
    Shell(here)
    assert command("user", "list", cwd=here).returncode == 3
    assert command("user", "list", cwd=tmp_path, RELAY_CONFIG=str(here / "relay.toml")).returncode == 3
    assert command("-c", str(here / "relay.toml"), "user", "list", cwd=tmp_path).returncode == 3
    assert command("-c", str(here / "none.toml"), "user", "list", cwd=here).returncode == 1


def test_settings_from_the_environment(tmp_path):
    shell = Shell(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    done = command("-c", str(shell.settings), "suspend", "add", "--user", "x", RELAY_DATA_DIR=str(elsewhere))
    assert done.returncode == 0, done.stderr
    assert (elsewhere / "queue.db").exists()
    assert not (shell.data_dir / "queue.db").exists()


def test_bad_settings_are_all_named_and_no_trace_is_shown(tmp_path):
    shell = Shell(tmp_path, SETTINGS + "nonsense = 1\nworkers = -1\n")
    for args in (["queue", "list"], ["serve"], ["send", "--from", "a@x.test", "--to", "b@x.test", "--body", "x"]):
        done = command("-c", str(shell.settings), *args)
        assert done.returncode == 1
        assert "nonsense" in done.stderr
        assert "workers" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_reader_that_leaves_is_no_error(tmp_path):
    shell = Shell(tmp_path)
    admin = open_admin(shell.data_dir)
    admin.put(message_put("b@x.test", content=b"Subject: x\r\n\r\n" + b"x\r\n" * 200_000))
    [entry] = admin.select(Selection())
    admin.close()
    for args in (["queue", "cat", entry.message.id], ["--help"]):
        with subprocess.Popen(
            [sys.executable, "-m", "relay", "-c", str(shell.settings), *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=CLEAN,
        ) as running:
            assert running.stdout is not None
            assert running.stderr is not None
            running.stdout.read(1)
            running.stdout.close()
            assert running.stderr.read() == b""


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_out_of_reach_is_a_sentence(tmp_path):
    shell = Shell(tmp_path)
    shell.data_dir.chmod(0)
    ran = shell.run("queue", "list")
    assert ran.code == 1
    assert "permission denied" in ran.err
