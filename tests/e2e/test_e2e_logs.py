"""Log files that are rotated, removed or blocked while the relay runs."""

import asyncio
import contextlib
import grp
import gzip
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.running import Relay, free_port, until
from tests.support.world import World

HOWTO = Path(__file__).parents[2] / "docs/howto/logs.md"


def processes(relay: Relay) -> list[int]:
    """The supervisor and its workers."""
    assert relay.process is not None
    pid = relay.process.pid
    return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def having_open(relay: Relay, path: Path) -> list[int]:
    """The processes of the relay that have the file open."""
    found = []
    for pid in processes(relay):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                if link.samefile(path):
                    found.append(pid)
    return found


async def logging_to_a_file(world: World, **log: str) -> tuple[Relay, Path]:
    """A relay with two workers and a log file in a folder of its own."""
    await world.mx("example.test")
    folder = world.folder / "log"
    folder.mkdir()
    path = folder / "relay.log"
    relay = await world.start(workers=2, log={"destination": str(path)} | log)
    await until(lambda: path.read_text().count("worker ready") == 2)
    return relay, path


def send_signal(relay: Relay, number: int) -> None:
    assert relay.process is not None
    relay.process.send_signal(number)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
async def test_a_signal_has_every_process_open_the_log_again(world: World, number: int):
    relay, path = await logging_to_a_file(world)
    old = path.rename(path.with_name("relay.log.1"))
    send_signal(relay, number)
    await until(lambda: not having_open(relay, old))
    size = old.stat().st_size
    queue_id = await world.send("someone@example.test")
    await until(lambda: f"id={queue_id}" in path.read_text())
    os.kill(processes(relay)[1], signal.SIGKILL)
    await until(lambda: "child died" in path.read_text())
    assert old.stat().st_size == size
    assert len(having_open(relay, path)) >= 2


async def test_bad_settings_do_not_keep_the_log_from_being_opened_again(world: World):
    relay, path = await logging_to_a_file(world)
    relay.path.write_text(relay.path.read_text() + "nonsense = 1\n")
    old = path.rename(path.with_name("relay.log.1"))
    send_signal(relay, signal.SIGHUP)
    await until(lambda: path.exists() and "reload refused" in path.read_text())
    await until(lambda: not having_open(relay, old))


def recipe(relay: Relay, path: Path) -> str:
    """The manual's file for logrotate, with the paths and the user of this test."""
    (text,) = re.findall(r"^```\n(.*?)^```$", HOWTO.read_text(), re.MULTILINE | re.DOTALL)
    user, group = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name
    for written, here in (
        ("/opt/relay/bin/relay -c /etc/relay/relay.toml", f"{sys.executable} -m relay -c {relay.path}"),
        ("/var/log/relay/relay.log", str(path)),
        ("relay relay", f"{user} {group}"),
    ):
        assert written in text
        text = text.replace(written, here)
    return text


def rotate(relay: Relay, path: Path) -> None:
    """What logrotate does with the recipe, by logrotate itself where it is installed."""
    text = recipe(relay, path)
    program = shutil.which("logrotate", path=os.environ["PATH"] + ":/usr/sbin")
    if program is not None:
        settings = relay.folder / "logrotate.conf"
        settings.write_text(text)
        settings.chmod(0o600)
        command = [program, "--force", "--state", str(relay.folder / "logrotate.state"), str(settings)]
    else:
        path.rename(path.with_name("relay.log.1"))
        path.touch(0o600)
        (command_line,) = re.findall(r"postrotate\n(.*?)endscript", text, re.DOTALL)
        command = ["sh", "-c", command_line]
    done = subprocess.run(command, env=relay.environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""


async def test_the_manuals_recipe_for_logrotate_loses_no_line(world: World):
    relay, path = await logging_to_a_file(world)
    sent = []
    for _ in range(3):
        sent.append(await world.send("someone@example.test"))
        await asyncio.to_thread(rotate, relay, path)
        await until(lambda: len(having_open(relay, path)) == len(processes(relay)))
    sent.append(await world.send("someone@example.test"))
    await world.drained()
    assert await relay.stop() == 0
    text = ""
    for file in path.parent.iterdir():
        octets = file.read_bytes()
        text += (gzip.decompress(octets) if file.suffix == ".gz" else octets).decode()
    for queue_id in sent:
        for event in ("accepted", "delivered"):
            assert len(re.findall(rf"event={event} \S+ id={queue_id}", text)) == 1
    assert f"id={sent[-1]}" in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600


async def test_rotating_the_logs_of_a_stopped_relay_is_no_error(world: World):
    relay, path = await logging_to_a_file(world)
    assert await relay.stop() == 0
    await asyncio.to_thread(rotate, relay, path)
    assert (await asyncio.to_thread(relay.run, "reload")).returncode == 1


@pytest.mark.parametrize("remove", [True, False])
async def test_a_file_that_went_away_without_a_signal_is_made_again(world: World, remove: bool):
    _, path = await logging_to_a_file(world)
    if remove:
        path.unlink()
    else:
        path.rename(path.with_name("elsewhere"))
    await asyncio.sleep(1.1)
    queue_id = await world.send("someone@example.test")
    await until(lambda: path.exists() and f"id={queue_id}" in path.read_text())


async def test_a_file_that_is_copied_and_truncated_goes_on_from_its_start(world: World):
    _, path = await logging_to_a_file(world)
    os.truncate(path, 0)
    queue_id = await world.send("someone@example.test")
    await until(lambda: f"id={queue_id}" in path.read_text())
    assert path.read_text().startswith("time=")


async def test_a_log_that_cannot_be_opened_again_is_told_and_stops_nothing(world: World):
    relay, path = await logging_to_a_file(world)
    folder = path.parent
    old = path.rename(world.folder / "old.log")
    folder.rmdir()
    folder.symlink_to("nowhere")
    send_signal(relay, signal.SIGHUP)
    await until(lambda: f"the log {path} cannot be opened" in relay.log)
    assert '"log not opened"' in await relay.command("events", "--kind", "process", "--json")
    # A worker that dies now has a successor, although that has no log at all.
    os.kill(processes(relay)[1], signal.SIGKILL)
    await until(lambda: len(processes(relay)) == 3 and "child died" in old.read_text())
    queue_id = await world.send("someone@example.test")
    await world.drained()
    folder.unlink()
    folder.mkdir()
    await asyncio.sleep(1.1)
    await world.send("someone@example.test")
    await until(lambda: path.exists() and "log opened" in path.read_text())
    assert queue_id in await relay.command("events", "--kind", "delivered")


def blocked_pipe(folder: Path) -> tuple[int, int]:
    """A pipe that nobody reads, full but for a page: (the end to read, the end to write)."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, b"." * 4095 + b"\n")
    os.set_blocking(writing, True)
    os.read(reading, 4096)
    return reading, writing


def serve(relay: Relay, output: int) -> None:
    """Start it with that standard output and standard error."""
    relay.process = subprocess.Popen(
        [sys.executable, "-m", "relay", "-c", str(relay.path), "serve"],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env=relay.environment,
        start_new_session=True,
    )


def serve_without_streams(relay: Relay) -> None:
    """Start it with all three standard streams closed."""
    command = f"exec {sys.executable} -m relay -c {relay.path} serve <&- >&- 2>&-"
    relay.process = subprocess.Popen(["sh", "-c", command], env=relay.environment, start_new_session=True)


def standard_streams(pid: int) -> set[str]:
    return {str(Path(f"/proc/{pid}/fd/{number}").readlink()) for number in (0, 1, 2)}


async def ends(process: subprocess.Popen[bytes]) -> int:
    process.send_signal(signal.SIGTERM)
    return await asyncio.to_thread(process.wait, 25)


@pytest.mark.parametrize("kind", ["pipe", "fifo", "terminal", "socket"])
async def test_output_that_nobody_reads_never_holds_up_the_relay(world: World, kind: str):
    await world.mx("example.test")
    ours: list[int] = []
    destination = "stderr"
    if kind == "pipe":
        ours += blocked_pipe(world.folder)
    elif kind == "terminal":
        ours += os.openpty()
    elif kind == "socket":
        ours += [end.detach() for end in socket.socketpair()]
    else:
        os.mkfifo(world.folder / "fifo")
        destination = str(world.folder / "fifo")
        ours += [os.open(destination, os.O_RDONLY | os.O_NONBLOCK), os.open(os.devnull, os.O_WRONLY)]
    relay = Relay(world.folder, {"workers": 2, "log": {"destination": destination, "level": "debug"}})
    relay.write_settings(sandbox={"receiver": f"127.0.0.1:{free_port()}"})
    serve(relay, ours[1])
    world.relay = relay
    try:
        await relay.greeted()
        for _ in range(400):
            await world.send("someone@example.test")
        await world.drained()
        os.kill(processes(relay)[1], signal.SIGKILL)
        await until(lambda: len(processes(relay)) == 4)
        send_signal(relay, signal.SIGHUP)
        await relay.greeted()
        assert await ends(relay.process) == 0
        lost = await relay.command("events", "--kind", "lines-lost")
        assert "output=log" in lost
        assert "nobody reads it" in lost
        assert "output=store" not in lost
        assert (await relay.command("events", "--kind", "accepted")).count("\n") >= 400
    finally:
        relay.kill()
        for end in ours:
            os.close(end)


async def test_a_named_pipe_may_be_opened_before_its_reader_comes(world: World):
    await world.mx("example.test")
    path = world.folder / "fifo"
    os.mkfifo(path)
    relay = await world.start(log={"destination": str(path)})
    queue_id = await world.send("someone@example.test")
    await world.drained()
    for _ in range(2):  # and its reader may be restarted
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        said = b""
        while b"event=delivered" not in said:
            await asyncio.sleep(0.05)
            with contextlib.suppress(BlockingIOError):
                said += os.read(reader, 65536)
        assert queue_id.encode() in said
        os.close(reader)
        queue_id = await world.send("someone@example.test")
    assert await relay.stop() == 0


async def test_closed_standard_streams_are_not_given_to_other_files(world: World):
    await world.mx("example.test")
    relay = Relay(world.folder, {})
    world.relay = relay
    serve_without_streams(relay)
    try:
        await relay.greeted()
        for pid in processes(relay):
            assert standard_streams(pid) == {os.devnull}
        assert await ends(relay.process) == 0
    finally:
        relay.kill()
