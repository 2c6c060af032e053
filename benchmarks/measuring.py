"""What every benchmark needs: a child process whose peak memory is its own, and medians of interleaved repeats."""

import contextlib
import ctypes
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

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
    return round((resident_peak(os.getpid()) or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) / 1e6)


def resident_peak(pid: int) -> int:
    """Bytes; 0 where there is no /proc. On Linux ``ru_maxrss`` is never less than what the parent had at the fork."""
    try:
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return max((1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM")), default=0)


def show(name: str, rows: list[Result], console: Console) -> None:
    """Prints the rows as a table with a column for every key."""
    table = Table(title=name, title_justify="left")
    columns = list(dict.fromkeys(key for row in rows for key in row))
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        values = (row.get(column, "") for column in columns)
        table.add_row(*(f"{value:.3g}" if isinstance(value, float) else str(value) for value in values))
    console.print(table)


class Seconds(NamedTuple):
    """How long something took: ``wall`` by the clock, ``processor`` over all threads, which other load hardly moves."""

    wall: float
    processor: float


def timed(work: Callable[[], object]) -> Seconds:
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return Seconds(time.perf_counter() - wall, time.process_time() - processor)


def interleaved(
    works: dict[str, Callable[[], object]], repeats: int, before: Callable[[str], None]
) -> dict[str, Seconds]:
    """Median of each work's seconds, called in turn so that other load on the machine falls on all alike.

    ``before`` is called with the name of each work ahead of it, and is not timed.
    """
    laps: dict[str, list[Seconds]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            before(name)
            laps[name].append(timed(work))
    return {name: Seconds(*map(statistics.median, zip(*values, strict=True))) for name, values in laps.items()}


def return_freed_memory() -> None:
    """Undoes :func:`frame_transformer.separation.device.keep_freed_memory`: glibc as it is of itself."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        m_trim_threshold, m_mmap_threshold, largest = -1, -3, 1 << 25  # where glibc's moving threshold ends up
        libc.mallopt(m_mmap_threshold, largest)
        libc.mallopt(m_trim_threshold, 2 * largest)
        libc.malloc_trim(0)


def limit_memory() -> None:
    """Lets an allocation beyond what the machine has free fail in this process, before others are killed for it."""
    with contextlib.suppress(OSError):  # Linux only
        lines = Path("/proc/meminfo").read_text().splitlines()
        available = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
        resource.setrlimit(resource.RLIMIT_DATA, (1024 * available, resource.RLIM_INFINITY))


def call(function: str, arguments: Result) -> Result:
    """The result of ``"module:function"`` in this process, with the peak memory so far where it names none."""
    module, _, name = function.partition(":")
    result = getattr(import_module(module), name)(**arguments)
    return {"peak_mb": peak_mb(), **result}


if __name__ == "__main__":
    limit_memory()
    print(json.dumps(call(sys.argv[1], json.loads(sys.argv[2]))))
