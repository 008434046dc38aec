"""Each target of the fuzzers with its corpus, damage to it, and bytes of any kind."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.fuzz.mutations import mutate
from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_and_damage_to_it(name: str) -> None:
    seeds = [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]
    for seed in seeds:
        TARGETS[name](seed)
    chance = random.Random(name)
    for _ in range(200):
        TARGETS[name](mutate(chance.choice(seeds), seeds, chance))


@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes(name: str) -> None:
    @given(st.binary(max_size=200))
    @example(b"")
    def fuzz(data: bytes) -> None:
        TARGETS[name](data)

    fuzz()


def test_each_target_states_its_invariant_and_has_a_corpus() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
    for target in TARGETS.values():
        assert target.__doc__
        assert target.__doc__.count("\n") == 0


def test_the_long_run_prints_what_it_tried() -> None:
    command = [sys.executable, "-m", "tests.fuzz", "--minutes", "0.02", "headers"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "| headers |" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("| all | ")
