"""Outputs that take nothing for a while, or ever: nobody waits for them, and what they lose is counted."""

import asyncio
import contextlib
import os
import select
import socket
import time

import pytest

from relay.events import writer as writer_module
from relay.events.descriptor import Descriptor, open_file, open_stream
from relay.events.streams import Stream
from relay.events.writer import Output, Writer


@pytest.fixture(name="pipe")
def _pipe():
    """(the end to read, the end to write), the latter as processes share it: it blocks."""
    ends = os.pipe()
    yield ends
    for end in ends:
        with contextlib.suppress(OSError):
            os.close(end)


def fill(output):
    """Write until nothing more is taken; how many octets were."""
    taken = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            taken += output.write(memoryview(b"x" * 99 + b"\n"))
    return taken


@pytest.mark.parametrize("polled", [False, True])
def test_a_full_pipe_makes_nobody_wait_and_keeps_its_flags(pipe, polled):
    reading, writing = pipe
    output = Descriptor(writing, ours=False, polled=True) if polled else open_stream(writing)
    assert fill(output) > 50_000
    assert os.get_blocking(writing), "others who share it find it as it was"
    os.read(reading, 8192)
    assert output.write(memoryview(b"more\n")) == 5
    output.close()


def test_a_full_socket_makes_nobody_wait():
    ours, theirs = socket.socketpair()
    output = open_stream(ours.fileno())
    assert fill(output) > 1000
    assert ours.getblocking()
    theirs.close()
    with pytest.raises(BrokenPipeError):
        output.write(memoryview(b"x\n"))
    output.close()
    ours.close()


def test_a_stopped_terminal_makes_nobody_wait():
    ours, theirs = os.openpty()
    output = open_stream(theirs)
    assert fill(output) > 1000
    output.close()
    os.close(ours)
    os.close(theirs)


def test_lines_reach_a_pipe_whole(pipe):
    """Several processes write to it, and a pipe keeps apart only what is written at once and not too long."""
    reading, writing = pipe
    output = open_stream(writing)
    lines = b"".join(b"%04d %b\n" % (n, b"x" * (n % 300)) for n in range(200))
    view = memoryview(lines)
    while view:
        length = output.write(view)
        assert length <= select.PIPE_BUF
        assert os.read(reading, 1 << 16)[-1:] == b"\n"
        view = view[length:]
    assert output.write(memoryview(b"y" * 10_000)) == select.PIPE_BUF, "a line that is too long goes in parts"
    output.close()


def test_a_named_pipe_without_a_reader_is_opened(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    output = open_file(tmp_path / "fifo")
    output.write(memoryview(b"early\n"))
    reading = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    assert os.read(reading, 100) == b"early\n"
    os.close(reading)
    output.close()


def test_what_did_not_fit_comes_later_and_what_never_fits_is_counted(pipe, monkeypatch):
    monkeypatch.setattr(writer_module, "_MOST_WAITING", 100_000)
    monkeypatch.setattr(writer_module, "_CLOSE_PATIENCE", 0.05)
    reading, writing = pipe
    monkeypatch.setattr(writer_module, "STDERR", writing)
    output, writer = Output("log", lambda: None), Writer()
    for n in range(3000):
        writer.hand(output, b"%04d %b\n" % (n, b"x" * 94), wait=True)
    lost = output.lost
    assert 1000 < lost < 2000
    assert output.reason == "nobody reads it"
    said = b""
    while output.blocked is not None:
        said += os.read(reading, 1 << 16)
        writer.hand(output, b"", wait=True)
    writer.hand(output, b"last\n", wait=True)
    os.set_blocking(reading, False)
    said += os.read(reading, 1 << 20)
    lines = said.splitlines()
    assert [int(line[:4]) for line in lines[:-1]] == list(range(3000 - lost))
    assert lines[-1] == b"last"
    while output.blocked is None:
        writer.hand(output, b"y" * 99 + b"\n", wait=True)
    assert writer.close((output,))
    assert output.lost == lost + 1, "nobody read the one that waited"
    output.close()


async def test_a_blocked_log_costs_the_event_store_nothing(make, pipe, monkeypatch):
    monkeypatch.setattr(writer_module, "_MOST_WAITING", 300_000)
    monkeypatch.setattr(writer_module, "_CLOSE_PATIENCE", 0.05)
    monkeypatch.setattr(writer_module, "STDERR", pipe[1])
    case = make(destination="stderr")
    for n in range(5000):
        case.log.steered("hold", n, "root")
        if n % 100 == 0:
            await asyncio.sleep(0.005)
    stored = case.stored()
    assert [event["count"] for event in stored if event["event"] == "steered"] == list(range(5000))
    told = [event for event in stored if event["event"] == "lines-lost"]
    assert {(event["output"], event["reason"]) for event in told} == {("log", "nobody reads it")}
    assert sum(event["count"] for event in told) > 1000


def test_streams_of_a_server_never_wait(pipe):
    reading, writing = pipe
    stream = Stream(writing)
    began = time.monotonic()
    for _ in range(3000):
        print("x" * 99, file=stream)
    print("\udcff \u2028", file=stream, flush=True)
    assert time.monotonic() - began < 10
    os.close(reading)
    print("nobody", file=stream)
    stream = Stream(987)
    print("a number that nothing is open at", file=stream)
