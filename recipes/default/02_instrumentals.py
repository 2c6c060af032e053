"""Step 2: freely licensed music out of Debian packages, downloaded and unpacked but never installed.

Needs apt-get and dpkg (Debian bookworm; run ``apt-get update`` first). LICENCES.md lists the licences. Every track is
decoded to 44.1 kHz stereo FLAC and sorted by how much voice a separator hears in it, as voice_scan.json beside this
file says and, where 02_voice_scan.py was run, DATA/voice_scan.json:

    instrumentals/<package>/<track>.flac            no voice: p90 at most -20 dB
    songs_with_voice/<package>/<track>.flac         p90 above -20 dB: sung parts, choirs, or instruments taken for them
    unscanned/<package>/<track>.flac                not measured: left out of training
    validation/instrumentals/<package>/<track>.flac tracks without voice that are kept out of training
"""

import zipfile
from pathlib import Path

import av
from common import (
    AUDIO_SUFFIXES,
    SAMPLE_RATE,
    audio_files,
    debian_package,
    decode,
    headroom,
    measured_voice,
    minutes,
    parser,
    seed_of,
    write,
)

PACKAGES = {  # the package, and the folder (or pk3 archive) inside it that holds the music
    "nexuiz-music": "usr/share/games/nexuiz/data",
    "fretsonfire-songs-sectoid": "usr/share/games/fretsonfire/data/songs",
    "fretsonfire-songs-muldjord": "usr/share/games/fretsonfire/data/songs",
    "singularity-music": "usr/share/games/singularity/music",
    "ufoai-music": "usr/share/games/ufoai/base",
    "hyperrogue-music": "usr/share/hyperrogue/music",
    "warzone2100-music": "usr/share/games/warzone2100/music",
    "wesnoth-1.16-music": "usr/share/games/wesnoth/1.16/data/core/music",
    "supertuxkart-data": "usr/share/games/supertuxkart/data/music",
    "openarena-data": "usr/share/games/openarena/baseoa",
    "redeclipse-data": "usr/share/games/redeclipse/data",
    "hedgewars-data": "usr/share/games/hedgewars/Data/Music",
    "freedroidrpg-data": "usr/share/games/freedroidrpg/sound/music",
    "pushover-data": "usr/share/games/pushover/data/sounds",
}
QUICK_PACKAGE = "pushover-data"
SHORTEST_SECONDS = 20.0
LOUDEST_VOICE_DB = -20.0
VALIDATION_SHARE = 16  # one song in so many is kept for validation


def music_folder(package: str, folder: Path) -> Path:
    """Downloads and unpacks a Debian package below ``folder``; returns the folder of its music."""
    music = debian_package(package, folder) / PACKAGES[package]
    for archive in sorted(music.glob("*.pk3")):
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(archive.parent)  # zipfile keeps every member inside the folder it is given
    return music


def place(package: str, track: str, loudest_voice_db: float | None) -> Path:
    """The path, below the data folder, of a track of which a separator heard so much voice (None: not measured)."""
    name = f"{Path(track).with_suffix('').as_posix().replace('/', '__').replace(' ', '_')}.flac"
    if loudest_voice_db is None:
        return Path("unscanned", package, name)
    if loudest_voice_db > LOUDEST_VOICE_DB:
        return Path("songs_with_voice", package, name)
    song = track.rsplit("/", 1)[0] if package.startswith("fretsonfire") else track  # guitar and backing stay together
    validation = seed_of(package, song) % VALIDATION_SHARE == 0
    return Path("validation/instrumentals" if validation else "instrumentals", package, name)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--debs", type=Path, metavar="DIR", help="keep downloads here (default: OUTPUT/debs)")
    options = arguments.parse_args()
    debs = (options.debs or options.output / "debs").resolve()
    known = measured_voice(options.output)
    for package in [QUICK_PACKAGE] if options.quick else PACKAGES:
        folder = music_folder(package, debs)
        tracks = sorted(path for path in folder.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES)
        for path in tracks[:1] if options.quick else tracks:
            track = path.relative_to(folder).as_posix()
            name = place(package, track, None).name
            ends = (f"/{track}", f": {track}", f"{package}: {name}")
            voice = next((decibels for key, decibels in known.items() if key.endswith(ends)), None)
            target = options.output / place(package, track, voice)
            if target.exists():
                continue
            waiting = options.output / "unscanned" / package / name
            if waiting.exists():  # measured by now
                target.parent.mkdir(parents=True, exist_ok=True)
                waiting.rename(target)
                continue
            try:
                with av.open(str(path)) as container:
                    length = (container.duration or 0) / av.time_base
                if length < SHORTEST_SECONDS:
                    continue
                audio = decode(path)
            except av.FFmpegError as error:
                print(f"left out: {path}: {error.strerror}", flush=True)
                continue
            write(target, headroom(audio) * audio)
            print(f"{target.relative_to(options.output)}: {audio.shape[1] / SAMPLE_RATE / 60:.1f} min", flush=True)
    for name in ("instrumentals", "songs_with_voice", "unscanned", "validation/instrumentals"):
        folder = options.output / name
        print(f"{name}: {len(list(audio_files(folder)))} tracks, {minutes(folder):.0f} min")


if __name__ == "__main__":
    main()
