"""The fuzz script finds what it is for."""

import os
import random

import numpy as np
import pytest

from benchmarks import fuzz
from frame_transformer.errors import AudioError


@pytest.mark.parametrize("work", fuzz.WORKS)
def test_whole_files_are_read(work):
    outcome = fuzz.run_case(fuzz.WORKS[work], fuzz.make_sources()["flac with a picture"], "seed")
    assert (outcome.kind, outcome.text) == ("read", "")
    assert outcome.megabytes > 50


def test_what_is_no_sound_is_refused():
    outcome = fuzz.run_case(fuzz.encode_case, b"no sound" * 100, "seed")
    assert outcome.kind == "refused"
    assert "cannot be read as audio" in outcome.text


def test_mutations_are_a_function_of_the_seed():
    data, others = bytes(range(256)) * 20, [b"other" * 100]
    first, again, other = (fuzz.mutate(data, others, random.Random(seed)) for seed in (1, 1, 2))
    assert first == again
    assert len({data, first, other}) == 3


def fail(source, output, rng):
    raise IndexError("list index out of range")


def leave_half(source, output, rng):
    (output / ".a.part").touch()
    raise AudioError("no")


def refuse_at_length(source, output, rng):
    raise AudioError("one line\nand another")


def crash(source, output, rng):
    os.abort()


def fill_memory(source, output, rng):
    assert np.ones(200_000_000).sum() > 0  # 1.6 GB


def give_no_numbers(source, output, rng):
    fuzz._check(np.full((2, 10), np.nan, np.float32), 2)


def wait(source, output, rng):
    while True:
        pass


@pytest.mark.parametrize(
    ("work", "kind"),
    [
        (fail, "traceback"),
        (leave_half, "half a file"),
        (refuse_at_length, "more than one line"),
        (crash, "crash"),
        (fill_memory, "memory"),
        (give_no_numbers, "broken promise"),
        pytest.param(wait, "hang", marks=pytest.mark.slow),
    ],
)
def test_failures_are_found(work, kind):
    outcome = fuzz.run_case(work, b"", "seed")
    assert outcome.kind == kind
    assert outcome.failed
