"""Option types for durations and sizes, with the same syntax as in the settings."""

from typing import Any

import click

from relay_config.words import WordError, parse_duration, parse_size


class DurationType(click.ParamType[float]):
    """`2h`, `1h30m`, `3d`: seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds, or a usage error that says what to write."""
        try:
            return value if isinstance(value, float) else float(parse_duration(str(value)))
        except WordError as error:
            self.fail(f"{value!r}: {error}", param, ctx)


class SizeType(click.ParamType[int]):
    """`1MiB`, `500kB`: bytes."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Bytes, or a usage error that says what to write."""
        try:
            return value if isinstance(value, int) else int(parse_size(str(value)))
        except WordError as error:
            self.fail(f"{value!r}: {error}", param, ctx)


DURATION = DurationType()
SIZE = SizeType()
