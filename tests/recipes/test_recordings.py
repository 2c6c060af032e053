"""Step 5: singers and music out of a repository, and where music belongs."""

import importlib
import struct

import numpy as np
import pytest
import soundfile
from common import decode

pytest.importorskip("pedalboard")
recordings = importlib.import_module("05_recordings")
RATE = 44_100


def tone(seconds: float) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * 220 * np.arange(int(seconds * RATE)) / RATE)


@pytest.fixture
def repository(tmp_path, commit):
    folder = tmp_path / "repositories" / "someone+songs"
    (folder / "voice/deeper.wav").mkdir(parents=True)
    sung = np.concatenate([tone(4), np.zeros(5 * RATE), tone(4)])
    soundfile.write(folder / "voice/one.wav", sung, RATE)
    soundfile.write(folder / "voice/deeper.wav/two.wav", tone(30), RATE)

    return commit(folder)


def test_a_singer_is_joined_to_takes_with_short_pauses(repository, tmp_path):
    row = {
        "singer": "a", "source": "someone/songs", "commit": repository, "pattern": "voice/*.wav", "kind": "produced",
        "minutes": "5", "split": "train",
    }  # fmt: skip
    recordings.prepare_singer(row, tmp_path / "repositories", tmp_path, quick=False)
    (take,) = (tmp_path / "voices/a").iterdir()
    # Eight seconds of voice in the one file that the pattern matches; of five seconds of pause half a second stays.
    assert decode(take).shape[1] / RATE == pytest.approx(8.5, abs=0.2)


def checksum(page: bytes) -> int:
    """As Ogg wants it: CRC-32, not reflected."""
    value = 0
    for byte in page:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value & 0x80000000 else 0)) & 0xFFFFFFFF
    return value


def test_an_ogg_that_ends_with_an_empty_packet_is_decoded(tmp_path):
    path = tmp_path / "song.ogg"
    soundfile.write(path, tone(1), RATE)
    whole = decode(path)
    content = path.read_bytes()
    position, serial, number = struct.unpack_from("<qII", content, content.rfind(b"OggS") + 6)
    head = b"OggS\0\4" + struct.pack("<qII", position, serial, number + 1)
    page = head + struct.pack("<I", checksum(head + bytes(4) + b"\1\0")) + b"\1\0"
    path.write_bytes(content + page)
    assert decode(path).shape[1] == pytest.approx(whole.shape[1], abs=2048)


MUSIC = {"source": "someone/songs", "path": "x.ogg", "artist": "A", "title": "B", "kind": "instrumentals"}


@pytest.mark.parametrize(
    ("style", "vocals", "voice", "folder"),
    [
        ("ambient", "no", None, "unscanned"),
        ("ambient", "no", -9.0, "instrumentals"),
        ("ambient", "no", -7.0, "voice_in_instrumentals"),
        ("ambient", "unknown", -9.0, "voice_in_instrumentals"),
        ("lofi/piano", "no", -2.0, "instrumentals"),
        ("ambient", "yes", -9.0, "songs_sung"),
    ],
)
def test_music_is_sorted_by_the_voice_in_it(style, vocals, voice, folder):
    known = {} if voice is None else {"songs: A_B.ogg": voice}
    place = recordings.place_of(MUSIC | {"style": style, "vocals": vocals}, known)
    assert place.as_posix() == f"{folder}/songs/A_B.ogg"
