"""Every target with a small budget; `make fuzz` gives them a large one. What was ever found is in `found/`."""

import os
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import PURE
from tests.fuzz.targets_io import IO
from tests.support.fuzzing import Target, mutated

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "150"))
FOUND = Path(__file__).with_name("found")


@pytest.mark.parametrize("target", PURE + IO, ids=lambda target: target.name)
def test_seeds(target: Target):
    for seed in target.seeds:
        target.run(seed)


@pytest.mark.parametrize("target", PURE, ids=lambda target: target.name)
def test_any_octets(target: Target):
    """Hypothesis chooses seed, changes and noise, and makes what it finds small."""

    @settings(max_examples=EXAMPLES, deadline=None, database=None)
    @given(st.randoms(use_true_random=False), st.binary(max_size=60), st.booleans())
    def run(chance: random.Random, noise: bytes, pure: bool):
        target.run(noise if pure else mutated(chance, target.seeds) + noise[:10])

    run()


@pytest.mark.parametrize("target", IO, ids=lambda target: target.name)
def test_any_octets_with_files_and_sockets(target: Target):
    chance = random.Random(os.environ.get("FUZZ_SEED"))
    for _ in range(max(EXAMPLES // 3, 1)):
        data = mutated(chance, target.seeds)
        try:
            target.run(data)
        except BaseException as error:
            error.add_note(f"input: {data!r}")
            raise


@pytest.mark.parametrize("path", sorted(FOUND.glob("*/*")), ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_was_found_once(path: Path):
    (target,) = [target for target in PURE + IO if target.name == path.parent.name]
    target.run(path.read_bytes())
