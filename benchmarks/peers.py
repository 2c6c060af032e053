"""Our model beside other tools, each in a process of its own, on the same song: ``python -m benchmarks.peers``.

    python -m benchmarks.peers --song SONG --spleeter SPLEETER/bin/python --networks NETWORKS/bin/python

SPLEETER is the environment of ``recipes/default/spleeter_reference.py``; NETWORKS has PyPI's torch, demucs and
BS-RoFormer. Without them only ours is measured, with PyTorch and, where the extra ``export`` is installed, with ONNX
Runtime. Only Spleeter's weights and ours are trained: the others have random ones, which cost the same.

A system that does not finish within ``--limit`` is ended, and its real-time factor is that of the music it had done.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console

from frame_transformer.audio import decode
from frame_transformer.checkpoints import export_model, load_model

from .measuring import Result, resident_peak, show
from .peer_systems import SAMPLE_RATE, write
from .songs import make_song

WEIGHTS = {
    "ours": "trained",
    "spleeter": "pretrained",
    "onnx": "trained",
    "demucs": "random",
    "bs_roformer": "random",
}


def measure(name: str, python: str, song: Path, model: str, threads: int, limit: float) -> Result:
    """Runs one system. Seconds are by the clock from the start of its process; what is divided by
    the length of the music leaves imports and loading out."""
    with wave.open(str(song)) as file:
        length = file.getnframes() / SAMPLE_RATE
    row: Result = {"system": name, "weights": WEIGHTS[name], "seconds": round(length, 1), "threads": threads}
    row["load"] = round(os.getloadavg()[0], 1)
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "TF_CPP_MIN_LOG_LEVEL": "3"}
    with tempfile.TemporaryDirectory() as folder:
        command = [python, "-m", "benchmarks.peer_systems", name, str(song), folder, model, str(threads)]
        started, peak = time.time(), 0
        with open(Path(folder, "out"), "w+") as out, open(Path(folder, "err"), "w+") as errors:
            child = subprocess.Popen(command, stdout=out, stderr=errors, env=environment)
            try:
                while (ended := os.wait4(child.pid, os.WNOHANG))[0] == 0:
                    peak = max(peak, resident_peak(child.pid))
                    if time.time() - started > limit:
                        os.kill(child.pid, signal.SIGKILL)
                    time.sleep(0.05)
            except BaseException:  # Ctrl-C and SIGTERM
                os.kill(child.pid, signal.SIGKILL)
                raise
            child.returncode = os.waitstatus_to_exitcode(ended[1])
            out.seek(0)
            errors.seek(0)
            events = [json.loads(line) for line in out if line.startswith('{"event"')]
            lines = errors.read().strip().splitlines()
    known = {event["event"]: event for event in events}
    row["parameters"] = known.get("ready", {}).get("parameters") or None  # ONNX does not tell
    if "first" in known:
        row["first_samples_s"] = known["first"]["at"] - started
    done = min(length, max((event["seconds"] for event in events if "seconds" in event), default=0.0))
    if child.returncode == 0:
        row["whole_s"] = known["finished"]["at"] - started
    elif child.returncode == -signal.SIGKILL and time.time() - started > limit:
        row["ended"] = f"after {time.time() - started:.0f} s, {done:.0f} s of music done"
    elif child.returncode < 0:
        row["failed"] = f"killed by signal {-child.returncode}, perhaps for lack of memory"
    else:
        row["failed"] = lines[-1] if lines else f"ended with {child.returncode}"
    if done:
        row["rtf"] = (events[-1]["at"] - known["ready"]["at"]) / done
        row["processor_s_per_s"] = (events[-1]["processor"] - known["ready"]["processor"]) / done
    row["peak_mb"] = round((peak or ended[2].ru_maxrss) / 1e6)  # without /proc: macOS, in bytes
    return row


def cut(song: Path | None, seconds: float, output: Path) -> Path:
    """The beginning of a song, repeated where it is shorter than ``seconds``; noise without one."""
    path = song or make_song(output.with_suffix(".flac"), min(seconds, 180))
    sound = decode(path, SAMPLE_RATE)[0]
    if len(sound) != 2:
        raise SystemExit(f"{path}: has {len(sound)} channels, give a stereo song")
    times, rest = divmod(round(seconds * SAMPLE_RATE), sound.shape[1])
    write(output, *[sound] * times, sound[:, :rest])
    return output


def run(options: argparse.Namespace, folder: Path) -> Iterator[Result]:
    networks = options.networks
    pythons = {"spleeter": options.spleeter, "demucs": networks, "bs_roformer": networks}
    song = cut(options.song, options.seconds, folder / "song.wav")
    for name in [*WEIGHTS, "ours"]:  # ours at the end, too: how far the machine's other work changed
        python, model = pythons.get(name, sys.executable), options.model
        if name == "onnx":
            if not (find_spec("onnxruntime") and find_spec("onnxscript")):
                continue
            model = str(folder / "model.onnx")
            export_model(load_model(options.model), Path(model))
        if python is not None:
            yield measure(name, python, song, model, options.threads, options.limit)
    for minutes in options.minutes:
        song = cut(options.song, 60 * minutes, folder / "song.wav")
        yield measure("ours", sys.executable, song, options.model, options.threads, options.limit)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="default", help="name or file of our model")
    parser.add_argument("--song", type=Path, help="music in stereo; noise, which costs the same, without it")
    parser.add_argument("--seconds", type=float, default=180.0, help="how much of it")
    parser.add_argument("--minutes", type=float, nargs="*", default=[], help="other lengths, for ours alone")
    parser.add_argument("--spleeter", help="Python of an environment with Spleeter")
    parser.add_argument("--networks", help="Python of an environment with demucs and BS-RoFormer")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--limit", type=float, default=600.0, help="seconds by the clock for each")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    options = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    rows = []
    console = Console(width=None if sys.stdout.isatty() else 200)
    with tempfile.TemporaryDirectory() as folder:
        for row in run(options, Path(folder)):
            console.print(row["system"], f"{row.get('rtf', float('nan')):.3f}", row.get("failed", ""), markup=False)
            rows.append(row)
            if options.json:
                options.json.parent.mkdir(parents=True, exist_ok=True)
                options.json.write_text(json.dumps(rows, indent=1) + "\n")
    show("peers", rows, console)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
