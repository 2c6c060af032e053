"""Speed and memory as tables and as JSON: ``python -m benchmarks [NAME…] [--quick]``."""

import argparse
import json
import platform
import time
from pathlib import Path

import torch
from rich.console import Console

from . import cluster, networks, songs, training
from .measuring import Result, show

BENCHMARKS = {
    "startup": songs.run_startup,
    "songs": songs.run_songs,
    "growth": songs.run_growth,
    "networks": networks.run,
    "training": training.run,
    "cluster": cluster.run,
}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="which; all by default: " + ", ".join(BENCHMARKS))
    parser.add_argument("--quick", action="store_true", help="tiny networks and short songs, to see that it runs")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="CPU threads to measure with")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"), help="folder of the JSON file")
    options = parser.parse_args(argv)
    if unknown := set(options.names) - set(BENCHMARKS):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}: choose from {', '.join(BENCHMARKS)}")
    console = Console()
    results: dict[str, list[Result]] = {}
    for name in options.names or BENCHMARKS:
        threads = options.threads[-1:] if name in ("startup", "cluster") else options.threads
        results[name] = [row for count in threads for row in BENCHMARKS[name](options.quick, count)]
        show(name, results[name], console)
    machine = {"processor": platform.processor() or platform.machine(), "torch": torch.__version__}
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / f"{time.strftime('%Y%m%d-%H%M%S')}.json"
    path.write_text(json.dumps({"machine": machine, "results": results}, indent=1) + "\n")
    console.print(str(path))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
