"""Streaming separation of one song, in memory that does not depend on its length.

A song is read once, or twice if a model is normalised by the largest magnitude of the song.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import torch
from torch import Tensor

from ..audio import AudioReader, Resampler, StreamingISTFT, StreamingSTFT
from ..audio.info import MAX_RATE, MIN_RATE
from ..errors import AudioError
from ..models import SignalConfig
from .arrays import ArrayReader
from .device import check_process
from .ensembles import join_stems
from .windows import WindowedModel

if TYPE_CHECKING:
    from .separator import Separator

AudioSource = str | os.PathLike[str] | BinaryIO | np.ndarray | Tensor
Progress = Callable[[int, int], None]

# Pairs of channels that the network processes as left and right, by number of channels, in FFmpeg's order. A channel
# without a partner is used as both.
CHANNEL_PAIRS = {
    1: ((0, 0),),
    2: ((0, 1),),
    4: ((0, 1), (2, 3)),
    5: ((0, 1), (2, 2), (3, 4)),
    6: ((0, 1), (2, 2), (3, 3), (4, 5)),
    8: ((0, 1), (2, 2), (3, 3), (4, 5), (6, 7)),
}
TAIL_BLOCK = 1 << 16


@dataclass(frozen=True)
class StemBlock:
    """The next samples of the song: float32 (channels, samples) each, vocals + instrumental = mixture."""

    mixture: np.ndarray
    vocals: np.ndarray
    instrumental: np.ndarray


class StemStream:
    """The :class:`StemBlock` of one song in order, with its ``sample_rate`` (Hz), ``channels`` and ``warnings``."""

    def __init__(self, separator: "Separator", source: AudioSource, sample_rate: int | None, progress: Progress | None):
        self.separator = separator
        self.progress = progress
        self.tags: dict[str, str] = {}
        self.cover: bytes | None = None
        self.bit_depth = "32f"  # the smallest that stores the song without loss
        self._reader: AudioReader | ArrayReader
        if isinstance(source, np.ndarray | Tensor):
            self._reader = ArrayReader(source)
            self.channels, self._expected = self._reader.samples.shape
            rate = separator.parts[0].signal.sample_rate if sample_rate is None else sample_rate
            if not MIN_RATE <= rate <= MAX_RATE or rate != int(rate):
                raise AudioError(f"a sample rate of {rate} Hz: expected a whole number from {MIN_RATE} to {MAX_RATE}")
            self.sample_rate = int(rate)
        else:
            options = separator.options
            self._reader = AudioReader(source, stream=options.stream, fill_gaps=options.fill_gaps)
            info = self._reader.info
            self.channels, self.sample_rate, self.bit_depth = info.channels, info.sample_rate, info.bit_depth
            self.tags, self.cover = info.tags, self._reader.cover
            self._expected = round((info.duration or 0) * info.sample_rate)
        pairs = CHANNEL_PAIRS.get(self.channels, tuple((i, i) for i in range(self.channels)))
        self._sides = [channel for pair in pairs for channel in pair]

    @property
    def warnings(self) -> list[str]:
        """Problems of the file; complete when it has been read to its end."""
        return self._reader.warnings

    def __iter__(self) -> Iterator[StemBlock]:
        check_process()
        separator, parts = self.separator, self.separator.parts
        peaks = self._peaks()
        done = read = 0

        def blocks() -> Iterator[np.ndarray]:
            nonlocal read
            for block in self._reader:
                read += block.shape[1]
                self._report(done, max(read, self._expected))
                yield block

        if len(parts) == 1:
            mixture, copy = _copies(blocks(), 2)
            vocals = self._vocals(parts[0], peaks.get(parts[0]), copy)
        else:
            mixture, other, *copies = _copies(blocks(), 2 + len(parts))
            stems = [self._vocals(part, peaks.get(part), copy) for part, copy in zip(parts, copies, strict=True)]
            vocals = join_stems(_in_step(other, stems), separator.model.ensemble, separator.weights)
        for original, (block,) in _in_step(mixture, [vocals]):
            done += original.shape[1]
            self._report(done, max(read, self._expected))
            yield StemBlock(original, block, original - block)
        self._report(done, done)

    def _report(self, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(done, total)

    def _peaks(self) -> dict[WindowedModel, Tensor]:
        """The largest magnitude of each pair of channels in the song, for the models that need it."""
        parts = [part for part in self.separator.parts if part.signal.normalization == "song_peak"]
        if not parts:
            return {}
        read = 0

        def blocks() -> Iterator[np.ndarray]:
            nonlocal read
            for block in self._reader:
                read += block.shape[1]
                self._report(0, read)
                yield block

        spectrograms = [
            _SongSpectrogram(part.signal, self, copy)
            for part, copy in zip(parts, _copies(blocks(), len(parts)), strict=True)
        ]
        peaks = {part: torch.zeros(len(self._sides) // 2) for part in parts}
        for pieces in zip(*spectrograms, strict=True):
            for part, spectrum in zip(parts, pieces, strict=True):
                if spectrum.shape[2]:
                    loudest = spectrum[:, :-1].abs().amax((1, 2)).view(-1, 2).amax(1)
                    peaks[part] = torch.maximum(peaks[part], loudest)
        self._expected = read
        return peaks

    def _vocals(self, part: WindowedModel, peak: Tensor | None, blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """The vocals of one model at the song's rate, up to a hop longer than the song or somewhat shorter."""
        signal = part.signal
        istft = StreamingISTFT(signal.n_fft, signal.hop_length)
        back = Resampler(signal.sample_rate, self.sample_rate, self.channels)
        for spectrum, mask in part.vocal_masks(_SongSpectrogram(signal, self, blocks), peak):
            yield back.process(self._merge_sides(istft.push(spectrum * mask).numpy()))
        yield back.process(self._merge_sides(istft.finish().numpy()), last=True)

    def _merge_sides(self, sides: np.ndarray) -> np.ndarray:
        """Converts pairs back to the channels of the song; a channel that was used as both is the mean of its two."""
        out = np.zeros((self.channels, sides.shape[1]), np.float32)
        for index, channel in enumerate(self._sides):
            out[channel] += sides[index] / self._sides.count(channel)
        return out


class _SongSpectrogram:
    """The :class:`Spectrogram` of a song for one model."""

    def __init__(self, signal: SignalConfig, song: StemStream, blocks: Iterator[np.ndarray]):
        self._stft = StreamingSTFT(signal.n_fft, signal.hop_length)
        self._resampler = Resampler(song.sample_rate, signal.sample_rate, song.channels)
        self._sides, self._blocks = song._sides, blocks

    @property
    def song_frames(self) -> int:
        return self._stft.song_frames

    def __iter__(self) -> Iterator[Tensor]:
        for block in self._blocks:
            yield self._push(self._resampler.process(block))
        nothing = np.zeros((self._resampler.channels, 0), np.float32)
        yield self._push(self._resampler.process(nothing, last=True))
        yield self._stft.finish()

    def _push(self, block: np.ndarray) -> Tensor:
        return self._stft.push(torch.from_numpy(block[self._sides]))


def _copies(blocks: Iterator[np.ndarray], count: int) -> list[Iterator[np.ndarray]]:
    """Several iterators over the same blocks; unlike itertools.tee, a block is freed once all have had it."""
    queues: list[deque[np.ndarray]] = [deque() for _ in range(count)]

    def copy(queue: deque[np.ndarray]) -> Iterator[np.ndarray]:
        while True:
            if not queue:
                block = next(blocks, None)
                if block is None:
                    return
                for other in queues:
                    other.append(block)
            yield queue.popleft()

    return [copy(queue) for queue in queues]


class _Samples:
    """A buffer over blocks (channels, samples) from which any number of samples can be taken."""

    def __init__(self, blocks: Iterator[np.ndarray]):
        self._blocks = blocks
        self._held: list[np.ndarray] = []
        self.ready = 0

    def fill(self, samples: int) -> None:
        """Buffers this number of samples, or fewer at the end of the stream."""
        while self.ready < samples and (block := next(self._blocks, None)) is not None:
            self._held.append(block)
            self.ready += block.shape[1]

    def take(self, samples: int) -> np.ndarray:
        """Takes the next samples, or fewer at the end of the stream."""
        self.fill(samples)
        joined = self._held[0] if len(self._held) == 1 else np.concatenate(self._held, axis=1)
        taken, rest = joined[:, :samples], joined[:, samples:]
        self._held, self.ready = [rest], rest.shape[1]
        return taken


def _in_step(
    mixture: Iterator[np.ndarray], stems: list[Iterator[np.ndarray]]
) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    """Yields blocks of equal length of a song and its stems.

    A stem that is longer than the song is cut; a shorter one is padded with silence.
    """
    song, queues = _Samples(mixture), [_Samples(stem) for stem in stems]
    while True:
        queues[0].fill(1)
        original = song.take(queues[0].ready or TAIL_BLOCK)
        samples = original.shape[1]
        if samples == 0:
            return
        yield original, [_padded(queue.take(samples), samples) for queue in queues]


def _padded(block: np.ndarray, samples: int) -> np.ndarray:
    missing = samples - block.shape[1]
    return np.pad(block, ((0, 0), (0, missing))) if missing else block
