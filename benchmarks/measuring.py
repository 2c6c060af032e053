"""What every benchmark needs: a child process whose peak memory is its own, and medians of interleaved repeats."""

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

Result = dict[str, Any]


class ChildFailedError(RuntimeError):
    """A measured process ended without a result."""


def in_child(function: str, **arguments: Any) -> Result:
    """Calls ``"module:function"`` with JSON arguments in a fresh process; adds its peak memory as ``peak_mb``.

    Raises:
        ChildFailedError: the process failed (or was killed for its memory); its last line of output says why.
    """
    command = [sys.executable, "-m", "benchmarks.measuring", function, json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise ChildFailedError(lines[-1] if lines else f"ended with {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def peak_mb() -> float:
    """Largest resident memory of this process so far, in MB (10⁶ bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round((peak if sys.platform == "darwin" else peak * 1024) / 1e6)


def interleaved(works: dict[str, Callable[[], object]], repeats: int, warm: bool = True) -> dict[str, float]:
    """Median wall-clock seconds of each work, called in turn so that other load on the machine falls on all alike."""
    if warm:
        for work in works.values():
            work()
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            started = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def call(function: str, arguments: Result) -> Result:
    """The result of ``"module:function"`` in this process, with the process's peak memory so far."""
    module, _, name = function.partition(":")
    return {**getattr(import_module(module), name)(**arguments), "peak_mb": peak_mb()}


if __name__ == "__main__":
    print(json.dumps(call(sys.argv[1], json.loads(sys.argv[2]))))
