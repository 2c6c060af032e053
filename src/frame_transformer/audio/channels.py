"""Channel layouts, and conversion between numbers of channels."""

import av
import numpy as np

from ..errors import AudioError

LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}


def remix(x: np.ndarray, channels: int) -> np.ndarray:
    """Converts float32 (channels, samples) to another number of channels, 1 to 8.

    Mono is copied to both channels of stereo, and stereo is averaged to mono. Surround uses FFmpeg's matrix (ITU-R
    BS.775).

    Raises:
        AudioError: more than 8 channels.
    """
    if len(x) == channels:
        return x
    if (len(x), channels) == (1, 2):
        return np.repeat(x, 2, axis=0)
    if (len(x), channels) == (2, 1):
        return x.mean(axis=0, keepdims=True)
    if len(x) not in LAYOUTS or channels not in LAYOUTS:
        raise AudioError(f"cannot turn {len(x)} channels into {channels}: only 1 to 8 channels can be converted")
    if x.shape[1] == 0:
        return np.zeros((channels, 0), np.float32)
    frame = av.AudioFrame.from_ndarray(x.astype(np.float32, copy=False).T.reshape(1, -1), "flt", LAYOUTS[len(x)])
    frame.sample_rate = 48_000  # arbitrary: the matrix does not depend on it
    (mixed,) = av.AudioResampler("flt", LAYOUTS[channels], frame.sample_rate).resample(frame)
    return np.ascontiguousarray(mixed.to_ndarray().reshape(-1, channels).T)
