import ast
import functools
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.support.source_tree import PACKAGES, ROOT, cycle, imports, modules, tree

LONGEST_FILE = 400
LONGEST_FUNCTION = 60
# Joined here, so that this file does not hold what it looks for.
REGISTRIES = [
    "py" + "pi.org",
    "python" + "hosted.org",
    "npm" + "js.org",
    "npm" + "js.com",
    "crates" + ".io",
    "golang" + ".org",
]


def test_queue_at_the_root_is_the_standard_librarys():
    code = "import queue, asyncio, concurrent.futures; print(queue.__file__, queue.SimpleQueue.__name__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == f"{sysconfig.get_path('stdlib')}/queue.py"


def test_the_source_roots_are_no_packages():
    assert not (ROOT / "queue/__init__.py").exists()
    assert not (ROOT / "config/__init__.py").exists()
    assert not [file.name for root in ("queue", "config") for file in (ROOT / root).glob("*.py")]


def test_ruff_refuses_a_module_named_like_one_of_the_standard_librarys():
    ruff = Path(sys.executable).with_name("ruff")
    command = [ruff, "check", "--output-format=concise", "--stdin-filename", "relay/smtp/queue.py", "-"]
    done = subprocess.run(command, cwd=ROOT, input='"""A trap."""\n', capture_output=True, text=True, check=False)
    assert "A005" in done.stdout


def test_ruff_runs_with_all_rules():
    import tomllib

    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    assert settings["ruff"]["lint"]["select"] == ["ALL"]
    assert settings["mypy"]["strict"] is True
    assert "A005" not in str(settings["ruff"]["lint"]["ignore"])


def test_files_and_functions_stay_short():
    long = []
    for name, file in modules().items():
        length = len(file.read_text().splitlines())
        if length > LONGEST_FILE:
            long.append(f"{name}: {length} lines")
        for node in ast.walk(tree(name)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > LONGEST_FUNCTION:
                    long.append(f"{name}.{node.name}: {length} lines")
    assert long == []


def test_modules_import_in_one_direction():
    graph = {name: (imports(name, lazy=False) & modules().keys()) - {name} for name in modules()}
    assert cycle(graph) == []


def test_the_cycle_finder_finds_cycles():
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


@pytest.mark.parametrize("package", ["relay_queue", "relay_config"])
def test_the_lower_packages_know_neither_relay_nor_each_other(package):
    others = PACKAGES.keys() - {package}
    for name in modules():
        if name.split(".")[0] == package:
            assert not [used for used in imports(name, lazy=True) if used.split(".")[0] in others], name


def test_only_the_protocol_knows_aiosmtpds_inside():
    users = {name for name in modules() if any(used.split(".")[0] == "aiosmtpd" for used in imports(name, lazy=True))}
    private = {
        name
        for name in users
        for node in ast.walk(tree(name))
        if (isinstance(node, ast.Attribute) and node.attr in _private_of_aiosmtpd())
        or (
            isinstance(node, ast.ImportFrom)
            and "aiosmtpd" in str(node.module)
            and any(a.name[0] == "_" for a in node.names)
        )
    }
    assert private <= {"relay.smtp.server.protocol"}


@functools.cache
def _private_of_aiosmtpd():
    import aiosmtpd.smtp

    source = ast.parse(Path(aiosmtpd.smtp.__file__).read_text())
    names = {node.attr for node in ast.walk(source) if isinstance(node, ast.Attribute)}
    names |= {node.name for node in ast.walk(source) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    private = {name for name in names if name.startswith("_") and not name.startswith("__")}
    assert "_handle_client" in private
    return private


def tracked_files():
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_file_names_a_registry():
    named = [
        f"{file.relative_to(ROOT)}: {registry}"
        for file in tracked_files()
        for registry in REGISTRIES
        if registry.encode() in file.read_bytes()
    ]
    assert named == []


def test_every_script_can_be_run():
    assert (ROOT / ".ci/run").stat().st_mode & 0o111 == 0o111
    assert "make lint test" in (ROOT / ".ci/run").read_text()


def test_the_changelog_has_this_version():
    from relay import __version__

    text = (ROOT / "CHANGELOG.md").read_text()
    assert text.startswith("# Changelog")
    assert "## [Unreleased]" in text or f"## [{__version__}]" in text


def test_the_layout_page_names_every_package():
    page = (ROOT / "docs/internals/layout.md").read_text()
    packages = {name for name, file in modules().items() if file.name == "__init__.py"}
    assert [name for name in sorted(packages) if f"`{name.replace('.', '/')}`" not in page] == []


def test_every_make_target_is_explained():
    done = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    for target in ("run", "test", "lint", "lock", "clean", "help", "example"):
        assert f"make {target} " in done.stdout
