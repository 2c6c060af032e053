"""Benchmarks run in their quick form and say what they measured; the others share their parts."""

import json

import pytest
import torch

from benchmarks import networks
from benchmarks.__main__ import main
from benchmarks.measuring import ChildFailedError, in_child


@pytest.mark.parametrize("name", ["songs", "networks"])
def test_quick(name, tmp_path):
    assert main([name, "--quick", "--threads", "1", "--output", str(tmp_path)]) == 0
    rows = json.loads(next(tmp_path.glob("*.json")).read_text())["results"][name]
    assert rows
    assert not any("failed" in row for row in rows)
    if name == "networks":
        assert rows[0]["relative_error"] <= 1e-4
        assert rows[0]["peak_mb"] > 50
        assert 0.01 < rows[0]["processor_speed_up"] < 100


def test_a_failing_measurement_says_why():
    with pytest.raises(ChildFailedError, match="KeyError: 'nobody'"):
        in_child("benchmarks.networks:random_model", name="nobody")


def test_ours_is_timed_alone_where_plain_needs_too_much_memory(monkeypatch):
    def refuse(*_):
        return torch.empty(1 << 60)

    monkeypatch.setattr(networks, "reference_forward", refuse)
    row = networks.compare("tiny", frames=32, threads=1, repeats=1)
    assert "memory" in row["plain_failed"]
    assert row["rtf"] > 0
    assert "speed_up" not in row
