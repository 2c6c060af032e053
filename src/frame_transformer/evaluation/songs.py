"""Finding and reading songs with true stems."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from ..audio import audio_suffixes, decode, probe, remix
from ..data.catalogue import STEM_STREAMS, STEM_SUFFIX, AudioFile, Song, discover
from ..errors import DataError
from ..separation import STEMS
from .metrics import SAMPLE_RATE, utterance_sdr

LENGTH_TOLERANCE = SAMPLE_RATE
# Encoders of lossy formats add up to about 0.05 s at the start; longer delays have other causes.
LONGEST_DELAY = SAMPLE_RATE // 10
# uSDR in dB of a mixture against the sum of its stems below which there is a warning, and below which the song is
# refused. With bright pop music lossy encoding leaves 20 dB and more, a delay of one sample 14 dB, of two 9 dB.
WARN_DB, REFUSE_DB = 20.0, 10.0


@dataclass(frozen=True)
class References:
    """A song with its true stems: float32 (channels, samples) each, at 44.1 kHz, mono or stereo, of one length.

    ``warnings`` describe inconsistencies between the files of the song.
    """

    mixture: np.ndarray
    vocals: np.ndarray
    instrumental: np.ndarray
    warnings: list[str] = field(default_factory=list)


def find_references(paths: Sequence[str | os.PathLike[str]]) -> list[Song]:
    """The songs with stems in folders (MUSDB18, MUSDB18-HQ, or one folder a song) and ``.stem.mp4`` files.

    A song needs two of ``vocals``, ``instrumental`` (or ``drums``, ``bass`` and ``other``) and ``mixture``.

    Raises:
        DataError: a path is missing or contains no such song, or two songs have the same name.
    """
    songs: dict[str, Song] = {}
    for path in map(Path, paths):
        is_file = path.is_file()
        if is_file and not path.name.lower().endswith(STEM_SUFFIX):
            raise DataError(f"{path}: is not a song with stems; give a .stem.mp4 file or a folder of songs with stems")
        found = discover({"songs": [path.parent if is_file else path]})
        if is_file:
            found = [song for song in found if song.files[0].path == path]
        for song in found:
            if song.name in songs:
                raise DataError(f"{path}: a song called {song.name!r} was found before; evaluate them separately")
            songs[song.name] = song
    return list(songs.values())


def mixture_of(song: Song) -> AudioFile | None:
    """The mixture file of a song; None if the mixture is the sum of the stems."""
    if "mixture" in song.stems:
        return song.stems["mixture"][0]
    first = song.files[0].path
    if first.name.lower().endswith(STEM_SUFFIX):
        return AudioFile(first, STEM_STREAMS.index("mixture"))
    beside = (path for path in sorted(first.parent.iterdir()) if path.stem.lower() == "mixture")
    return next((AudioFile(path) for path in beside if path.suffix.lower() in audio_suffixes()), None)


def read_references(song: Song) -> References:
    """Decodes a song; other rates are resampled, more than two channels mixed down.

    Raises:
        AudioError: a file does not decode. DataError: stems and mixture are more than a second apart in length, or the
        mixture is far from the sum of the stems.
    """
    channels = min(2, max(probe(file.path, file.stream).channels for file in song.files))
    stems = {name: _read_sum(files, channels) for name, files in song.stems.items()}
    file = mixture_of(song)
    if file is not None and "mixture" not in stems:
        stems["mixture"] = _read_sum((file,), channels)
    lengths = [stem.shape[1] for stem in stems.values()]
    folder = song.files[0].path.parent
    warnings = []
    if max(lengths) - min(lengths) > LONGEST_DELAY:
        described = ", ".join(
            f"{name} {length / SAMPLE_RATE:.1f} s" for name, length in zip(stems, lengths, strict=True)
        )
        if max(lengths) - min(lengths) > LENGTH_TOLERANCE:
            raise DataError(f"{folder}: its stems differ in length ({described}); they must belong together")
        warnings.append(f"{folder}: lengths differ ({described}); silence was added at the end")
    stems = {name: fit_length(stem, max(lengths)) for name, stem in stems.items()}
    if "mixture" not in stems:
        stems["mixture"] = stems["vocals"] + stems["instrumental"]
    elif len(stems) == 3:
        warnings += _check_mixture(str(file), stems["mixture"], stems["vocals"] + stems["instrumental"])
    for missing, other in (STEMS, STEMS[::-1]):
        if missing not in stems:
            if delay := find_delay(stems["mixture"], stems[other]):
                late = f"{folder}: {other} seems {_late(delay)} against the mixture"
                warnings.append(f"{late}; {missing}, their difference, is wrong then")
            stems[missing] = stems["mixture"] - stems[other]
    return References(**stems, warnings=warnings)


def read_at_rate(file: AudioFile, channels: int) -> np.ndarray:
    """A file as float32 (channels, samples) at 44.1 kHz."""
    return remix(decode(file.path, SAMPLE_RATE, stream=file.stream)[0], channels)


def fit_length(signal: np.ndarray, samples: int) -> np.ndarray:
    """Cut, or padded with zeros, to ``samples``."""
    return np.pad(signal[:, :samples], ((0, 0), (0, max(0, samples - signal.shape[1]))))


def find_delay(reference: np.ndarray, signal: np.ndarray, longest: int = LONGEST_DELAY) -> int:
    """Samples, at most ``longest``, by which ``signal`` is late (negative: early), by cross-correlation."""
    x, y = (torch.from_numpy(sound.mean(axis=0)) for sound in (reference, signal))
    n_fft = max(len(x), len(y)) + longest
    correlation = torch.fft.irfft(torch.fft.rfft(x, n_fft).conj() * torch.fft.rfft(y, n_fft), n_fft)
    near = torch.cat((correlation[-longest:], correlation[: longest + 1]))
    return int(near.argmax()) - longest if near.max() > 0 else 0


def move_earlier(signal: np.ndarray, samples: int) -> np.ndarray:
    """Shifts a signal by ``samples`` to the left, or to the right if negative, filled with silence."""
    return signal[:, samples:] if samples > 0 else np.pad(signal, ((0, 0), (-samples, 0)))


def _check_mixture(name: str, mixture: np.ndarray, total: np.ndarray) -> list[str]:
    """Warnings if a mixture differs from ``total``, the sum of its stems.

    Raises:
        DataError: the difference is so large that it would dominate the scores.
    """
    if not total.any():
        if mixture.any():
            raise DataError(f"{name}: the stems of this mixture are silent; give those that it was mixed from")
        return []
    sdr = utterance_sdr(total, mixture)
    if sdr >= WARN_DB:
        return []
    found = [f"SDR {sdr:.1f} dB"]
    delay = find_delay(total, mixture, LENGTH_TOLERANCE)
    aligned = fit_length(move_earlier(mixture, delay), mixture.shape[1])
    product = float(np.vdot(total, aligned))
    if product > 0.5 * float(np.linalg.norm(total) * np.linalg.norm(aligned)):  # else they are not the same music
        level = 20 * math.log10(product / float(np.vdot(total, total)))
        if delay:
            found.append(_late(delay))
        if abs(level) >= 0.5:
            found.append(f"{abs(level):.1f} dB {'louder' if level > 0 else 'quieter'}")
    message = f"{name}: the mixture is not the sum of its stems ({', '.join(found)})"
    if sdr < REFUSE_DB:
        raise DataError(f"{message}; correct it, or remove it to evaluate on the sum of the stems")
    return [f"{message}; scores near or above that SDR mean little"]


def _late(delay: int) -> str:
    return f"{abs(delay)} samples {'late' if delay > 0 else 'early'}"


def _read_sum(files: Sequence[AudioFile], channels: int) -> np.ndarray:
    parts = [read_at_rate(file, channels) for file in files]
    samples = max(part.shape[1] for part in parts)
    return np.stack([fit_length(part, samples) for part in parts]).sum(axis=0)
