"""Step 2, second part: how much voice is in the tracks that voice_scan.json does not know yet.

    spleeter/bin/python recipes/default/02_voice_scan.py --output DATA

Needs the environment that spleeter_reference.py describes. Spleeter separates 45 s of every track in unscanned/, from
30 % of its length on; for each second the energy of the vocals is set against the track's. The 90th percentile and the
mean (dB) go to DATA/voice_scan.json. Run 02_instrumentals.py again to sort the tracks by them.
"""

import json
import multiprocessing
import os
from pathlib import Path

import numpy as np
from common import SAMPLE_RATE, audio_files, decode, parser

SECONDS, START = 45, 0.3
TOGETHER = 6  # tracks separated at once: starting Spleeter takes longer than 45 s of music; 4 GB of memory
FLOOR = 1e-9  # of full scale squared: seconds of silence hold no voice


def excerpt(path: Path) -> np.ndarray:
    """The part of a track that is measured `(2, samples)`."""
    audio = decode(path)
    first = int(START * audio.shape[1])
    return audio[:, first : first + SECONDS * SAMPLE_RATE]


def voice_share(track: np.ndarray, vocals: np.ndarray) -> dict[str, float]:
    """The energy of ``vocals`` over that of ``track``, both `(2, samples)`, per second, in dB."""
    whole, voice = (
        (audio[:, : audio.shape[1] // SAMPLE_RATE * SAMPLE_RATE] ** 2).mean(0).reshape(-1, SAMPLE_RATE).mean(1)
        for audio in (track, vocals)
    )
    decibels = 10 * np.log10((voice + 1e-3 * FLOOR) / (whole + FLOOR))
    return {
        "p90_db": round(float(np.percentile(decibels, 90)), 1),
        "mean_db": round(float(10 * np.log10((voice.mean() + 1e-3 * FLOOR) / (whole.mean() + FLOOR))), 1),
    }


def measured(paths: list[Path]) -> list[dict[str, float]]:
    """Separates the excerpts as one song, once: a separator of Spleeter's, used again, answers with the song before."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from spleeter.separator import Separator

    tracks = [excerpt(path) for path in paths]
    vocals = Separator(multiprocess=False).separate(np.concatenate(tracks, axis=1).T)["vocals"].T
    ends = np.cumsum([track.shape[1] for track in tracks])
    return [voice_share(track, part) for track, part in zip(tracks, np.split(vocals, ends[:-1], axis=1), strict=True)]


def main() -> None:
    options = parser(__doc__).parse_args()
    report = options.output / "voice_scan.json"
    tracks = json.loads(report.read_text())["tracks"] if report.exists() else {}
    paths = list(audio_files(options.output / "unscanned"))
    names = {f"{path.parent.name}: {path.name}": path for path in (paths[:1] if options.quick else paths)}
    missing = [name for name in names if name not in tracks]
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for first in range(0, len(missing), TOGETHER):
            group = missing[first : first + TOGETHER]
            for name, voice in zip(group, pool.apply(measured, ([names[name] for name in group],)), strict=True):
                tracks[name] = voice
                print(f"{name}: {voice['p90_db']} dB", flush=True)
            partial = report.with_suffix(".part")
            partial.write_text(json.dumps({"tracks": tracks}, indent=1))
            os.replace(partial, report)


if __name__ == "__main__":
    main()
