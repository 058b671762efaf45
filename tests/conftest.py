"""For all tests: the surroundings of whoever runs them must not reach the tests."""

import os
import signal

# They may have a relay of their own.
for _name in [name for name in os.environ if name.startswith("RELAY_")]:
    del os.environ[_name]

# A shell starts what a script leaves in the background deaf to Ctrl-C, and its children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
