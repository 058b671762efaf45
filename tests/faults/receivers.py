"""A receiver that comes and goes: it listens for a while, then cuts its connections and refuses more, and again."""

import asyncio
import collections
import time
from pathlib import Path

from tests.faults.campaign import row
from tests.support.ledger import Score
from tests.support.load import round_trips
from tests.support.stage import stage

_LAG_MOST = 0.05
"""Seconds that replies to clients take meanwhile, at the median."""


@row("a receiver that listens for 2 s and refuses connections for 2 s, in turn", rounds=15, segment=15, alone=True)
async def flapping(folder: Path, rounds: int, seed: int) -> Score:
    return await _flaps(folder, rounds, seed, 2)


@row(
    "a receiver that listens for 5 s and refuses connections for 5 s, in turn",
    rounds=12,
    segment=12,
    alone=True,
    long=True,
)
async def flapping_slowly(folder: Path, rounds: int, seed: int) -> Score:
    return await _flaps(folder, rounds, seed, 5)


async def _flaps(folder: Path, rounds: int, seed: int, seconds: float) -> Score:
    """Whoever had its 250 cut off may come twice, nobody else; whenever it is back, mail goes on after the back-off."""
    async with stage(folder, seed=seed, delay=0.1) as on:
        await on.begin(workers=2)
        lags: list[float] = []
        for _ in range(rounds):
            before, back = on.sink.taken, time.time()
            while time.time() < back + seconds:
                await asyncio.sleep(0.01)
                if len(on.recoveries) < len(on.faults) and on.sink.taken > before:
                    on.recoveries.append(time.time() - back)
            if on.sink.taken == before:
                on.wrong.append(f"nothing came in the {seconds} s after it was back")
            await on.sink.stop()
            on.faults.append(time.time())
            taken, refused = len(on.ledger.answered()), time.time()
            while time.time() < refused + seconds:
                lags += await round_trips(on.relay.plain)
            if len(on.ledger.answered()) == taken:
                on.wrong.append("no mail was accepted while it was away")
            await on.sink.start()
        score = await on.settle()
        if not (cut := collections.Counter(on.sink.cut)):
            score.wrong.append("no message was cut off behind its final dot: the row tested nothing")
        for address, handed in on.ledger.handed.items():
            if len(handed) > 1 + cut[address]:
                score.wrong.append(f"{address} came {len(handed)} times, with its 250 cut off {cut[address]} times")
        lags.sort()
        score.notes.append(
            f"clients were answered in {lags[len(lags) // 2] * 1000:.1f} ms, worst {lags[-1] * 1000:.0f}"
        )
        if lags[len(lags) // 2] > _LAG_MOST:
            score.wrong.append("clients wait")
        return score
