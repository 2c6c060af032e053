"""The comparison with other tools measures what each process did, and goes on where one is too slow or missing."""

import sys

import pytest

from benchmarks.peers import cut, measure


@pytest.fixture
def song(tmp_path):
    return cut(None, 2, tmp_path / "song.wav")


def test_ours(song, tiny_file):
    row = measure("ours", sys.executable, song, tiny_file, threads=1, limit=120)
    assert "failed" not in row
    assert 0 < row["first_samples_s"] < row["whole_s"]
    assert row["processor_s_per_s"] > 0
    assert row["parameters"] > 1000
    assert row["peak_mb"] > 100


def test_too_slow_is_said(song, tiny_file):
    row = measure("ours", sys.executable, song, tiny_file, threads=1, limit=0.2)
    assert row["ended"].endswith("0 s of music done")
    assert "whole_s" not in row


def test_what_is_not_installed_is_said(song, tiny_file):
    row = measure("spleeter", sys.executable, song, tiny_file, threads=1, limit=120)
    assert "No module named" in row["failed"]


def test_peak_memory_is_that_of_the_system_alone(song, tiny_file):
    ballast = bytearray(800_000_000)
    ballast[::4096] = b"x" * len(ballast[::4096])
    row = measure("spleeter", sys.executable, song, tiny_file, threads=1, limit=120)
    assert row["peak_mb"] < 500
