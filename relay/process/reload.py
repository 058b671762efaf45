"""Reloads settings without blocking the event loop: they are read and loaded in a thread, and applied on the loop.

One reload runs at a time. Requests that arrive meanwhile cause exactly one more reload after it, because the files may
have changed after they were read.
"""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Reloader(Generic[T]):
    """`prepare` runs in a thread, `apply` with its result on the loop, `refuse` with its exception on the loop."""

    def __init__(
        self, prepare: Callable[[], T], apply: Callable[[T], None], refuse: Callable[[Exception], None]
    ) -> None:
        self._prepare = prepare
        self._apply = apply
        self._refuse = refuse
        self._task: asyncio.Task[None] | None = None
        self._again = False

    def ask(self) -> None:
        """Reload now, or after the running reload."""
        self._again = True
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Cancel the running reload and apply nothing any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        while self._again:
            self._again = False
            try:
                prepared = await asyncio.to_thread(self._prepare)
                self._apply(prepared)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with new settings, the old ones stay in force
                self._refuse(error)
