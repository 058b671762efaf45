"""A recorder that remembers what it was told."""

from typing import Any


class RememberingRecorder:
    """Implements `relay.events.recorder.Recorder`: every event as (name, arguments)."""

    def __init__(self) -> None:
        self.events: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)

        def record(*arguments: Any, **fields: Any) -> None:
            self.events.append((name, arguments, fields))

        return record

    def named(self, name: str) -> list[tuple[Any, ...]]:
        """The arguments of all events of one kind."""
        return [arguments for kind, arguments, _ in self.events if kind == name]
