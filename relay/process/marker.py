"""The word a worker leaves in `data_dir/run/` when its queue writer stopped for good, and `relay check` looks for."""

from typing import Final

MARKER: Final = "queue-failed-"
"""Followed by the worker's slot; the file holds the reason."""
