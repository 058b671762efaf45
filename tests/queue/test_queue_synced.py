"""Nothing is acknowledged that is not on the disk: each connection syncs each commit, and the kernel sees it."""

import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from relay_queue.model import LOCAL_NODE, Selection
from relay_queue.protocol import Action
from relay_queue.sqlite import open_admin, open_queue
from relay_queue.sqlite.connect import FILE_NAME, connect
from tests.support.queues import NOW, a_put

FULL = 2
needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")


@pytest.fixture
def levels(monkeypatch) -> dict[str, set[int]]:
    """What each connection to a file had for `synchronous` when it was closed, by the file's name."""
    found: dict[str, set[int]] = {}
    real = sqlite3.connect

    def spying(path, *args, factory, **more):
        class Spy(factory):
            def close(self) -> None:
                if self.inode is not None:
                    found.setdefault(Path(path).name, set()).add(self.execute("PRAGMA synchronous").fetchone()[0])
                super().close()

        return real(path, *args, factory=Spy, **more)

    monkeypatch.setattr(sqlite3, "connect", spying)
    return found


async def test_every_connection_to_a_queue_syncs_fully(tmp_path: Path, levels: dict[str, set[int]]):
    queue, admin = open_queue(tmp_path), open_admin(tmp_path)  # one creates it, one finds it
    await queue.put(a_put())
    admin.put(a_put())
    admin.steer(Action.HOLD, Selection(), now=NOW)
    await queue.recover_node(LOCAL_NODE)
    admin.close()
    await queue.aclose()
    plain, reader = connect(tmp_path / FILE_NAME), connect(tmp_path / FILE_NAME, read_only=True)
    plain.close()
    reader.close()
    assert levels == {FILE_NAME: {FULL}}


async def test_the_level_stays_after_other_work(tmp_path: Path):
    queue = open_queue(tmp_path)
    try:
        for _ in range(3):
            await queue.put(a_put())
            await queue.prune(NOW)
            run = queue._write(lambda changes: changes.connection.execute("PRAGMA synchronous").fetchone()[0])
            assert await run == FULL
    finally:
        await queue.aclose()


WRITER = """
import asyncio, os, sys
sys.path[:0] = {path!r}
from relay_queue.model import Body, Put
from relay_queue.sqlite import open_admin, open_queue
from tests.support.queues import a_put
from pathlib import Path

async def main(folder):
    queue = open_queue(folder)
    for n in range(6):
        put = a_put()
        if n % 2:
            file = queue.new_file()
            file.write(b"x" * 1000)
            put = Put(put.entry, Body(b"\\r\\n", Path(file.name).name, 1000))
        os.write(1, b"begin\\n")
        await queue.put(put)
        os.write(1, b"stored\\n")
    await queue.aclose()
    admin = open_admin(folder)
    for _ in range(3):
        os.write(1, b"begin\\n")
        admin.put(a_put())
        os.write(1, b"stored\\n")
    admin.close()

asyncio.run(main(Path(sys.argv[1])))
"""


@needs_strace
def test_the_log_is_synced_before_each_answer(tmp_path: Path):
    trace = tmp_path / "trace"
    script = tmp_path / "writer.py"
    script.write_text(WRITER.format(path=sys.path))
    command = ["strace", "-f", "-y", "-s", "16", "-o", str(trace), "-e", "trace=fsync,fdatasync,write"]
    ran = subprocess.run(
        [*command, sys.executable, str(script), str(tmp_path / "data")], capture_output=True, check=False, timeout=100
    )
    if b"ptrace" in ran.stderr.lower():
        pytest.skip("strace may not trace here")
    assert ran.returncode == 0, ran.stderr
    synced: list[list[str]] = []
    for line in trace.read_text().splitlines():
        if '"begin' in line:
            synced.append([])
        elif '"stored' in line:
            synced[-1].append("answered")
        elif synced and "answered" not in synced[-1] and (found := re.search(r"f(?:data)?sync\(\d+<([^>]+)>\)", line)):
            synced[-1].append(Path(found[1]).name)
    assert len(synced) == 9
    for n, files in enumerate(synced):
        assert f"{FILE_NAME}-wal" in files, (n, files)
        if n < 6 and n % 2:
            body = next(file for file in files if len(file) == 26)
            assert files.index(body) < files.index(f"{FILE_NAME}-wal"), "the body before the row that names it"
            assert any(len(file) == 2 for file in files), "and the folder's entry"
