"""Some rounds of one row in a process of their own: `python -m tests.faults.part ROW ROUNDS SEED`, a pickle to stdout.

What breaks here, down to the interpreter, takes nobody's results along. For `tests.faults.schedule` alone.
"""

import os
import pickle
import sys

from tests.faults.campaign import CannotError, segment
from tests.faults.rows import ROWS


def main() -> None:
    name, rounds, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    # Only the result goes to standard output, whatever else is printed.
    with os.fdopen(os.dup(1), "wb") as result:
        os.dup2(2, 1)
        try:
            done: object = segment(ROWS[name], rounds, seed)
        except CannotError as error:
            done = error
        pickle.dump(done, result)


if __name__ == "__main__":
    main()
