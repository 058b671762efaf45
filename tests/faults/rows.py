"""All rows: importing this module registers them."""

from tests.faults import batches, crash_states, kill, power, receivers, resources, stops, syscalls, upgrade
from tests.faults.campaign import ROWS

MODULES = (kill, power, syscalls, batches, crash_states, resources, receivers, stops, upgrade)
"""In the order of the table."""

__all__ = ["MODULES", "ROWS"]
