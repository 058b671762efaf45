"""Faults of ours and what libraries say, as events."""

import asyncio
import logging
import warnings

from relay.events.diagnostics import install


def _fail(text="boom"):
    raise ValueError(text)


def _problem(log, where="here"):
    try:
        _fail("secret\nline")
    except ValueError as error:
        log.problem(where, error)


def test_a_problem_is_told_with_its_trace_once_a_minute(make):
    case = make()
    for _ in range(10):
        _problem(case.log)
    _problem(case.log, "there")
    case.clock.now += 61
    _problem(case.log)
    problems = case.stored()
    assert [(event["where"], event.get("repeated")) for event in problems] == [
        ("here", None),
        ("there", None),
        ("here", 9),
    ]
    assert problems[0]["error"] == "ValueError: secret\nline"
    assert "in _fail" in problems[0]["trace"]
    assert len(case.lines()) == 3


async def test_problems_may_come_from_other_threads(make):
    case = make()
    case.log.steered("hold", 1, "root")
    await asyncio.to_thread(_problem, case.log)
    await asyncio.sleep(0)
    assert [event["event"] for event in case.stored()] == ["steered", "problem"]


async def test_logging_and_warnings_become_diagnostics(make):
    case = make()
    uninstall = install(case.log)
    try:
        library = logging.getLogger("some.library")
        library.info("not of interest")
        for n in range(3):
            library.warning("number %d\r\nforged", n)
        library.error("bad %s %s", "arguments")
        try:
            _fail()
        except ValueError:
            library.exception("it broke")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("old", DeprecationWarning, stacklevel=1)
    finally:
        uninstall()
    events = case.stored()
    assert [(event["logger"], event["level"]) for event in events] == [
        ("some.library", "warning"),
        ("some.library", "error"),
        ("some.library", "error"),
        ("py.warnings", "warning"),
    ]
    assert events[0]["message"] == "number 0\r\nforged"
    assert events[1]["message"] == "bad %s %s"
    assert "ValueError: boom" in events[2]["trace"]
    assert len(case.lines()) == 4
    assert not any(type(handler).__name__ == "Diagnostics" for handler in logging.getLogger().handlers)
