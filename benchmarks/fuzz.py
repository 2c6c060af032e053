"""Mutated files of many formats, read and written again: ``python -m benchmarks.fuzz [--count N] [--seed N]``.

Every file is worked on in a process of its own. It has to be read, or refused in one line; a traceback, a crash, a
hang, too much memory, samples that are no numbers and half a file are failures. ``--keep`` keeps those files.
"""

import argparse
import io
import multiprocessing
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import torch
from PIL import Image

from frame_transformer.audio import FORMATS, AudioReader, AudioWriter, VideoWriter, decode
from frame_transformer.errors import FrameTransformerError
from frame_transformer.models import SignalConfig, V1Config, WindowConfig, create_model
from frame_transformer.separation import OutputOptions, SeparationOptions, Separator
from frame_transformer.separation.batch import separate_file

from .measuring import peak_mb

SECONDS = 60  # of processor time, for one file
MEGABYTES = 1500
SIGNAL_SECONDS = 1.5

# The files that are mutated: container, codec, sample rate, layout; names are only for the report.
SOURCES = {
    "wav": ("wav", "pcm_s16le", 44_100, "stereo"),
    "wav 8 bits": ("wav", "pcm_u8", 8_000, "mono"),
    "wav 24 bits": ("wav", "pcm_s24le", 48_000, "5.1"),
    "wav float": ("wav", "pcm_f32le", 44_100, "stereo"),
    "wav double": ("wav", "pcm_f64le", 44_100, "mono"),
    "wav ADPCM": ("wav", "adpcm_ima_wav", 22_050, "stereo"),
    "rf64": ("w64", "pcm_s16le", 44_100, "stereo"),
    "aiff": ("aiff", "pcm_s16be", 44_100, "stereo"),
    "caf": ("caf", "pcm_s16be", 44_100, "stereo"),
    "au": ("au", "pcm_s16be", 44_100, "stereo"),
    "voc": ("voc", "pcm_u8", 22_050, "mono"),
    "flac": ("flac", "flac", 44_100, "stereo"),
    "wavpack": ("wv", "wavpack", 44_100, "stereo"),
    "tta": ("tta", "tta", 44_100, "stereo"),
    "mp2": ("mp2", "mp2", 44_100, "stereo"),
    "mp3": ("mp3", "libmp3lame", 44_100, "stereo"),
    "aac": ("adts", "aac", 44_100, "stereo"),
    "m4a": ("ipod", "aac", 44_100, "stereo"),
    "m4a fragmented": ("mp4", "aac", 44_100, "stereo"),
    "alac": ("ipod", "alac", 44_100, "stereo"),
    "opus": ("ogg", "libopus", 48_000, "stereo"),
    "ogg flac": ("ogg", "flac", 44_100, "stereo"),
    "wma": ("asf", "wmav2", 44_100, "stereo"),
    "ac3": ("ac3", "ac3", 48_000, "5.1"),
    "eac3": ("eac3", "eac3", 48_000, "stereo"),
    "mka": ("matroska", "flac", 48_000, "stereo"),
    "webm": ("webm", "libopus", 48_000, "stereo"),
    "mov": ("mov", "pcm_s16le", 44_100, "stereo"),
    "avi": ("avi", "libmp3lame", 44_100, "stereo"),
    "flv": ("flv", "aac", 44_100, "stereo"),
    "mpegts": ("mpegts", "mp2", 48_000, "stereo"),
    "mpeg": ("mpeg", "mp2", 48_000, "stereo"),
}


def _signal(rate: int, channels: int) -> np.ndarray:
    """A tone with noise, float32 (channels, samples)."""
    time = np.arange(round(SIGNAL_SECONDS * rate)) / rate
    noise = np.random.default_rng(rate).standard_normal((channels, len(time))) * 0.05
    return (0.3 * np.sin(2 * np.pi * 440 * time) + noise).astype(np.float32)


def _encode(container: str, codec: str, rate: int, layout: str, options: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    samples = _signal(rate, av.AudioLayout(layout).nb_channels)
    with av.open(buffer, "w", format=container, options=options) as output:
        output.metadata.update({"title": "Title", "artist": "Somebody"})
        stream = cast(Any, output.add_stream(codec, rate=rate, layout=layout))
        if codec == "wmav2":
            stream.bit_rate = 192_000  # it has no default
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T).reshape(1, -1), "flt", layout)
        frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), 0
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return buffer.getvalue()


def make_sources() -> dict[str, bytes]:
    """The sound files, and those with covers, pictures, several streams and chained parts."""
    fragmented = {"movflags": "frag_keyframe+empty_moov", "frag_duration": "200000"}
    files = {name: _encode(*kind, options=fragmented if "fragmented" in name else {}) for name, kind in SOURCES.items()}
    files["chained ogg"] = files["opus"] + files["ogg flac"]
    files["joined mp3"] = files["mp3"] + _encode("mp3", "libmp3lame", 22_050, "mono", {})
    picture = io.BytesIO()
    Image.effect_mandelbrot((90, 90), (-3, -2.5, 2, 2.5), 100).save(picture, "PNG")
    stereo = _signal(44_100, 2)
    with tempfile.TemporaryDirectory() as folder:
        for name in ("mp3", "flac", "m4a", "ogg", "mp4"):
            path = Path(folder) / f"a.{name}"
            writer = VideoWriter if name == "mp4" else AudioWriter
            with writer(path, 44_100, 2, cover=picture.getvalue(), tags={"title": "Title"}) as output:
                output.write(stereo)
            files[f"{name} with a picture"] = path.read_bytes()
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as output:
        streams = [cast(Any, output.add_stream("aac", rate=44_100, layout="stereo")) for _ in range(2)]
        for start in range(0, stereo.shape[1], 1024):
            for stream in streams:
                packed = np.ascontiguousarray(stereo[:, start : start + 1024].T).reshape(1, -1)
                frame = av.AudioFrame.from_ndarray(packed, "flt", "stereo")
                frame.sample_rate, frame.time_base, frame.pts = 44_100, Fraction(1, 44_100), start
                output.mux(stream.encode(frame))
        for stream in streams:
            output.mux(stream.encode(None))
    files["two streams"] = buffer.getvalue()
    return files


EXTREMES = (b"\0", b"\xff", b"\x7f\xff", b"\xff\xff\xff\x7f", b"\x80\0\0\0", b"\xff" * 4, b"\xff" * 8, b"\0" * 8)


def mutate(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """One to four random changes, of which every second falls on the header."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        size = len(out)
        end = min(size, 512) if rng.random() < 0.5 else size
        at = rng.randrange(max(1, end))
        length = min(int(2 ** rng.uniform(0, 13)), size)
        match rng.randrange(9):
            case 0:
                for _ in range(rng.randint(1, 8)):
                    place = rng.randrange(max(1, end))
                    out[place : place + 1] = bytes([rng.randrange(256)])
            case 1:
                out[at : at + length] = rng.randbytes(length)
            case 2:
                out[at : at + length] = bytes(length)
            case 3:
                del out[at : at + length]
            case 4:
                out[at:at] = rng.randbytes(length)
            case 5:
                out[at:at] = out[at : at + length]
            case 6:
                value = rng.choice(EXTREMES)
                out[at : at + len(value)] = value
            case 7:
                del out[max(1, rng.randrange(size + 1)) :]
            case 8:
                other = rng.choice(others)
                out[at:] = other[rng.randrange(len(other)) :]
    return bytes(out)


class BrokenPromiseError(AssertionError):
    """What came out is not what is promised."""


def encode_case(source: Path, output: Path, rng: random.Random) -> None:
    """Reads a file and writes what it holds in a random format."""
    reader = AudioReader(source, fill_gaps=rng.random() < 0.8)
    info = reader.info
    names = [name for name, kind in FORMATS.items() if info.channels in kind.channels]
    name = rng.choice([*names, "mp4"] if info.channels in FORMATS["m4a"].channels else ["wav"])
    writer = VideoWriter if name == "mp4" else AudioWriter
    samples = 0
    with writer(output / f"a.{name}", info.sample_rate, info.channels, tags=info.tags, cover=reader.cover) as target:
        for block in reader:
            _check(block, info.channels)
            samples += block.shape[1]
            target.write(block)
    written, rate = decode(output / f"a.{name}")
    _check(written, info.channels)
    if abs(written.shape[1] / rate - samples / info.sample_rate) > 0.2:
        raise BrokenPromiseError(f"{samples} samples at {info.sample_rate} became {written.shape[1]} at {rate}")


def separate_case(source: Path, output: Path, rng: random.Random) -> None:
    """Separates a file with a tiny random model."""
    options = OutputOptions(output, audio_format=rng.choice(("wav", "flac", "m4a")), video=rng.random() < 0.1)
    result = separate_file(_separator(), source, options)
    for path in result.outputs.values():
        _check(decode(path)[0])


@cache
def _separator() -> Separator:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    signal, window = SignalConfig(n_fft=512, hop_length=256), WindowConfig(40, 20)
    config = V1Config(signal, window, widths=(1, 2, 4, 6, 8, 10), heads=2, expansion=1)
    return Separator(SeparationOptions(models=(create_model(config).eval(),), device="cpu"))


def _check(block: np.ndarray, channels: int | None = None) -> None:
    if block.dtype != np.float32 or (channels is not None and len(block) != channels):
        raise BrokenPromiseError(f"a block of {block.dtype} {block.shape}")
    if not np.isfinite(block).all():
        raise BrokenPromiseError("samples that are no numbers")


Work = Callable[[Path, Path, random.Random], None]  # of a source, a folder for the outputs, and what to draw from
WORKS: dict[str, Work] = {"encode": encode_case, "separate": separate_case}


@dataclass
class Outcome:
    """What became of a file: ``kind`` ``"read"``, ``"refused"``, or a failure with its ``text``."""

    kind: str
    text: str = ""
    megabytes: float = 0.0
    seconds: float = 0.0

    @property
    def failed(self) -> bool:
        return self.kind not in ("read", "refused")


def _work(work: Work, source: Path, output: Path, seed: str, pipe: Connection) -> None:
    # Beyond the figure that counts, so that it can be measured; far beyond it an allocation fails.
    resource.setrlimit(resource.RLIMIT_DATA, (4 << 30, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 5))
    outcome = Outcome("read")
    try:
        work(source, output, random.Random(seed))
    except FrameTransformerError as error:
        outcome = Outcome("refused", str(error))
        if "\n" in str(error):
            outcome = Outcome("more than one line", str(error))
        elif left := [path.name for path in output.rglob("*") if path.is_file()]:
            outcome = Outcome("half a file", f"{left} after {error}")
    except BaseException as error:
        kind = "broken promise" if isinstance(error, BrokenPromiseError) else "traceback"
        outcome = Outcome(kind, traceback.format_exc())
    outcome.megabytes, outcome.seconds = peak_mb(), time.process_time()
    if not outcome.failed and outcome.megabytes > MEGABYTES:
        outcome.kind = "memory"
    pipe.send(outcome)


def run_case(work: Work, data: bytes, seed: str) -> Outcome:
    """Does ``work``, a function of a module, on a file in a process of its own."""
    context = multiprocessing.get_context("forkserver")
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder) / "input", Path(folder) / "output"
        source.write_bytes(data)
        output.mkdir()
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(work, source, output, seed, sender))
        process.start()
        sender.close()
        try:
            if receiver.poll(20 * SECONDS):
                return cast(Outcome, receiver.recv())
            process.kill()
            return Outcome("hang", "waits")
        except EOFError:
            process.join()
            return Outcome("hang" if process.exitcode == -signal.SIGXCPU else "crash", f"ended with {process.exitcode}")
        finally:
            process.join()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="mutated files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", choices=WORKS, default="encode", help="what is done with a file")
    parser.add_argument("--processes", type=int, default=1, help="files in work at once")
    parser.add_argument("--keep", type=Path, help="folder for the files that fail")
    options = parser.parse_args(argv)
    multiprocessing.get_context("forkserver").set_forkserver_preload(["frame_transformer.separation.batch"])
    sources = make_sources()
    names, others = list(sources), list(sources.values())
    counts: Counter[str] = Counter()
    megabytes = seconds = 0.0

    def work(number: int) -> tuple[str, bytes, Outcome]:
        """The files as they are come first, then the mutated ones."""
        name = names[number % len(names)]
        case = f"{name}/{options.seed}/{number}"
        data = sources[name]
        if number >= len(names):
            data = mutate(data, others, random.Random(case))
        outcome = run_case(WORKS[options.work], data, case)
        if number < len(names) and outcome.kind == "refused":
            outcome.kind = "refused though whole"
        return case, data, outcome

    with ThreadPoolExecutor(options.processes) as pool:
        for case, data, outcome in pool.map(work, range(len(names) + options.count)):
            counts[outcome.kind] += 1
            megabytes, seconds = max(megabytes, outcome.megabytes), max(seconds, outcome.seconds)
            if outcome.failed:
                print(f"{case}: {outcome.kind} {outcome.text}", flush=True)
                if options.keep:
                    options.keep.mkdir(parents=True, exist_ok=True)
                    (options.keep / case.replace("/", "-").replace(" ", "_")).write_bytes(data)
    print(f"{sum(counts.values())} files: " + ", ".join(f"{count} {kind}" for kind, count in counts.most_common()))
    print(f"at most {megabytes:.0f} MB and {seconds:.1f} s for one")
    return int(set(counts) > {"read", "refused"})


if __name__ == "__main__":
    sys.exit(main())
