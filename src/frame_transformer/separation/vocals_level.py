"""The level of vocals in a track, estimated by separating a few excerpts."""

from collections.abc import Sequence

import numpy as np

from .options import Model
from .separator import Separator

QUIET_DB = -40.0


class VocalsLevel:
    """Estimates the level of vocals in a track; a detector for `frame_transformer.data.scan`.

    Several excerpts, spread evenly over the track, are separated. The level is the power of the vocals relative to the
    track, as the 90th percentile over all seconds. Instruments that the model takes for voices count as vocals.

    Args:
        model, device: as for :class:`Separator`.
        excerpts: maximum number of excerpts; each is one window of the model.

    Raises:
        ModelError: unknown model. OptionError: the device is not available.
    """

    def __init__(self, model: Model | Sequence[Model] = "default", device: str = "auto", excerpts: int = 6):
        whole = Separator(model, device=device)
        self.window = whole.parts[0].window + 2 * whole.parts[0].context
        # Without context: here its small gain in accuracy is not worth the time.
        self.separator = Separator(whole.model, device=device, window=self.window, context=0, overlap=0)
        self.excerpts = excerpts

    def __call__(self, samples: np.ndarray, sample_rate: int = 44100) -> float:
        """The level in dB, at most about 0, of float32 (channels, samples); -120 for silence."""
        signal = self.separator.parts[0].signal
        length = round((self.window - 1) * signal.hop_length * sample_rate / signal.sample_rate)
        powers = [
            self._powers(samples[:, start : start + length], sample_rate) for start in self._starts(samples, length)
        ]
        vocals, track = np.concatenate(powers, axis=1)
        heard = track > track.max() * 10 ** (QUIET_DB / 10)
        if not heard.any():
            return -120.0
        return float(10 * np.log10(max(np.percentile(vocals[heard] / track[heard], 90), 1e-12)))

    def _starts(self, samples: np.ndarray, length: int) -> list[int]:
        spare = samples.shape[1] - length
        if spare <= 0:
            return [0]
        count = min(self.excerpts, -(-samples.shape[1] // length))
        return [round(spare * (place + 0.5) / count) for place in range(count)]

    def _powers(self, excerpt: np.ndarray, sample_rate: int) -> np.ndarray:
        """Mean power of the vocals and of the excerpt in every second: (2, seconds), at least one second."""
        vocals = self.separator.separate(excerpt, sample_rate).vocals
        seconds = max(1, excerpt.shape[1] // sample_rate)
        return np.array(
            [
                [part.mean() for part in np.array_split(np.square(sound, dtype=np.float64).mean(axis=0), seconds)]
                for sound in (vocals, excerpt)
            ]
        )
