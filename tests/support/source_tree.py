"""What the guards of the project look at: our own sources, parsed."""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "relay": ROOT / "relay",
    "relay_queue": ROOT / "queue/relay_queue",
    "relay_config": ROOT / "config/relay_config",
}


@cache
def modules() -> dict[str, Path]:
    """Every module of ours: dotted name to file. A package goes by its own name."""
    found = {}
    for package, folder in PACKAGES.items():
        for file in folder.rglob("*.py"):
            parts = [package, *file.relative_to(folder).with_suffix("").parts]
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


@cache
def tree(name: str) -> ast.Module:
    """The parsed module."""
    return ast.parse(modules()[name].read_text())


def imports(name: str, *, lazy: bool) -> set[str]:
    """The modules that a module imports: when it is imported itself or, with `lazy`, ever."""
    found: set[str] = set()
    for node in ast.walk(tree(name)) if lazy else _at_import(tree(name)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively; write the whole name"
            base = node.module or ""
            # `from package import module` imports the module.
            found.update(
                f"{base}.{alias.name}" if f"{base}.{alias.name}" in modules() else base for alias in node.names
            )
    return found


def _at_import(node: ast.AST) -> list[ast.AST]:
    """The nodes that run on import: everything outside functions and `if TYPE_CHECKING`."""
    found: list[ast.AST] = []
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        found += [child, *_at_import(child)]
    return found


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """One cycle of the graph, or an empty list."""
    done: set[str] = set()

    def walk(node: str, way: list[str]) -> list[str]:
        if node in way:
            return [*way[way.index(node) :], node]
        if node in done:
            return []
        for following in sorted(graph[node]):
            ring = walk(following, [*way, node])
            if ring:
                return ring
        done.add(node)
        return []

    for node in sorted(graph):
        ring = walk(node, [])
        if ring:
            return ring
    return []
