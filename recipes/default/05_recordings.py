"""Step 5: real singing, and real songs and instrumentals, out of public repositories.

    python recipes/default/05_recordings.py --output DATA

voices.tsv and music.tsv beside this file name repositories, commits, paths and licences. Missing repositories are
cloned below DATA/repositories (OWNER+NAME); a folder there that is a git directory already is used as it is. Writes

    voices/<singer>/<take>.flac               takes of about a minute: pauses shortened, one loudness
    validation/singing_real/<singer>/         singers that no training file holds
    unscanned/<source>/<title>                music that was not measured yet: see 02_voice_scan.py, then run again
    instrumentals/<source>/<title>            music in which a separator hears no voice
    validation/instrumentals_real/<source>/   the same, kept out of training
    songs_sung/<source>/<title>               songs with voice, without stems; spleeter_reference.py can label them
    voice_in_instrumentals/<source>/<title>   called instrumental, yet a separator hears much voice: not used

Dry takes go through the studio of production.py, three of four of them. ``--singer`` prepares some singers alone.
"""

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from common import (
    SAMPLE_RATE,
    Repository,
    audio_files,
    debian_package,
    decode,
    headroom,
    measured_voice,
    minutes,
    parser,
    repositories_option,
    rows,
    seed_of,
    write,
)
from production import finish, produce_voice, set_loudness

TAKE_SECONDS = 75
BLOCK = SAMPLE_RATE // 20
QUIET_DB = -42  # below the loudest twentieth of a second of a file: a pause
LONGEST_PAUSE = 0.5  # seconds that are kept of a pause
# The separator takes many a lead, piano or synthesizer for a voice, so what is called instrumental gets more room.
LOUDEST_VOICE_DB = {"no": -8.0, "unknown": -20.0}
NEVER_SUNG = ("piano", "DS-10")  # styles in which whatever it hears is an instrument
STYLES_PEOPLE_SING_TO = ("pop", "rock", "hip-hop", "lo-fi", "house", "disco", "funk", "blues", "folk", "metal", "punk")
VALIDATION_SHARE = 5  # of the music in those styles, one song in so many is kept for validation


def decode_bytes(content: bytes, suffix: str) -> np.ndarray:
    with tempfile.NamedTemporaryFile(suffix=suffix) as file:
        file.write(content)
        file.flush()
        return decode(Path(file.name))


def phrases(audio: np.ndarray) -> list[np.ndarray]:
    """The parts `(2, samples)` that are sung, each with short fades; what is left of a pause goes to its end."""
    whole = audio[:, : audio.shape[1] // BLOCK * BLOCK]
    if whole.shape[1] == 0:
        return []
    level = 10 * np.log10(np.square(whole).mean(0).reshape(-1, BLOCK).mean(1) + 1e-10)
    sounding = level > max(level.max() + QUIET_DB, -65)
    reach = int(LONGEST_PAUSE / 2 * SAMPLE_RATE / BLOCK)
    sounding = np.convolve(sounding, np.ones(2 * reach + 1), "same") > 0
    edges = np.flatnonzero(np.diff(np.concatenate(([0], sounding.astype(int), [0]))))
    parts = []
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        part = whole[:, start * BLOCK : end * BLOCK].copy()
        fade = np.linspace(0, 1, min(441, part.shape[1]), dtype=np.float32)
        part[:, : len(fade)] *= fade
        part[:, -len(fade) :] *= fade[::-1]
        parts.append(part)
    return parts


def takes(repository: Repository, pattern: str, singer: str, limit_minutes: float) -> Iterator[np.ndarray]:
    """Files of a singer in random order, joined to takes `(2, samples)` of one loudness."""
    files = repository.files(pattern)
    if not files:
        raise SystemExit(f"{repository.path}: {pattern} matches no file at {repository.commit}")
    order = np.random.default_rng(seed_of(singer)).permutation(sorted(files))
    waiting: list[np.ndarray] = []
    seconds = total = 0.0
    absent = 0
    for path in order:
        content = repository.read(files[path])
        if content is None:
            absent += 1
            continue
        try:
            audio = decode_bytes(content, Path(path).suffix)
        except (av.FFmpegError, ValueError, IndexError) as error:
            print(f"left out: {path}: {error}", flush=True)
            continue
        parts = phrases(audio)
        if not parts:
            continue
        joined = set_loudness(np.concatenate(parts, axis=1), -20)
        waiting.append(np.clip(joined, -4, 4))
        seconds += joined.shape[1] / SAMPLE_RATE
        if seconds >= TAKE_SECONDS:
            yield np.concatenate(waiting, axis=1)
            total, waiting, seconds = total + seconds, [], 0.0
            if total >= 60 * limit_minutes:
                break
    if waiting and (seconds > 5 and total < 60 * limit_minutes):
        yield np.concatenate(waiting, axis=1)
    if absent:
        print(f"{singer}: {absent} files are absent from this copy of the repository", flush=True)


def prepare_singer(row: dict[str, str], repositories: Path, output: Path, quick: bool) -> None:
    singer = row["singer"]
    target = output / ("voices" if row["split"] == "train" else "validation/singing_real") / singer
    if target.exists():
        return
    repository = Repository(row["source"], row["commit"], repositories)
    partial = target.with_name(f".{singer}.part")
    rng = np.random.default_rng(seed_of(singer, "studio"))
    for number, take in enumerate(takes(repository, row["pattern"], singer, 1 if quick else float(row["minutes"]))):
        if row["kind"] == "dry" and (number % 4 or row["split"] == "validation"):
            take = produce_voice(take, float(rng.uniform(80, 160)), rng)
        else:
            take = finish(take, -20)
        write(partial / f"{number:03d}.flac", headroom(take) * take)
    partial.rename(target)
    print(f"{target.relative_to(output)}: {minutes(target):.1f} min", flush=True)


def place_of(row: dict[str, str], known: dict[str, float]) -> Path:
    """Where a piece of music belongs, by the table and by how much voice a separator heard in it."""
    folder = row["source"].split("/")[-1].replace(" ", "-")
    suffix = Path(row["path"]).suffix or ".mp3"
    name = re.sub(r"[^\w.-]+", "_", f"{row['artist']} {row['title']}").strip("_")[:80] + suffix
    if row["kind"] == "songs" or row["vocals"] == "yes":
        return Path("songs_sung", folder, name)
    voice = known.get(f"{folder}: {name}")
    if voice is None:
        return Path("unscanned", folder, name)
    if voice > LOUDEST_VOICE_DB[row["vocals"]] and not any(style in row["style"] for style in NEVER_SUNG):
        return Path("voice_in_instrumentals", folder, name)
    kept = any(style in row["style"] for style in STYLES_PEOPLE_SING_TO) and not seed_of(name) % VALIDATION_SHARE
    return Path("validation/instrumentals_real" if kept else "instrumentals", folder, name)


def fetch_music(row: dict[str, str], repositories: Path, output: Path, known: dict[str, float]) -> None:
    place = place_of(row, known)
    target, waiting = output / place, output / "unscanned" / Path(*place.parts[-2:])
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if waiting.exists():
        waiting.rename(target)
        return
    if row["source"].startswith("Debian "):
        package = debian_package(row["source"].removeprefix("Debian "), output / "debs")
        found = next(iter(sorted(package.rglob(Path(row["path"]).name))), None)
        content = found.read_bytes() if found else None
    else:
        content = Repository(row["source"], row["commit"], repositories).read(row["blob"])
    if content is None:
        print(f"left out: {row['source']}: {row['path']}: absent from this copy", flush=True)
        return
    partial = target.with_name(f".{target.name}.part")
    partial.write_bytes(content)
    partial.rename(target)


def main() -> None:
    arguments = parser(__doc__)
    repositories_option(arguments)
    arguments.add_argument("--singer", action="append", help="only this one; may be given again")
    options = arguments.parse_args()
    repositories = options.repositories or options.output / "repositories"
    known = measured_voice(options.output)
    for row in rows("voices.tsv"):
        if row["kind"] != "bank" and (options.singer is None or row["singer"] in options.singer):
            prepare_singer(row, repositories, options.output, options.quick)
    if options.singer is None:
        music = rows("music.tsv")
        for row in music[:2] if options.quick else music:
            fetch_music(row, repositories, options.output, known)
    for name in ("voices", "instrumentals", "songs_sung", "unscanned", "validation/instrumentals_real"):
        print(f"{name}: {len(list(audio_files(options.output / name)))} files")


if __name__ == "__main__":
    main()
