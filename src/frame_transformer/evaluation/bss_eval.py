"""BSS Eval version 4, the metrics of the SiSEC campaigns and of MUSDB18, with the results of the package museval.

Vincent, Gribonval and Févotte, "Performance measurement in blind audio source separation", IEEE TASLP 14(4), 2006, in
the variant for spatial images ("bss_eval_images"), with one distortion filter for the whole song: Stöter, Liutkus and
Ito, "The 2018 Signal Separation Evaluation Campaign", LVA/ICA 2018.

All quantities are sums over the song or over a frame. Correlations are accumulated block by block as cross spectra, and
energies of frames are computed from their spectra (Parseval), so nothing is transformed back to samples.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

CORRELATION_BLOCK = 1 << 15
FRAMES_AT_ONCE = 8


@dataclass(frozen=True)
class FrameRatios:
    """Ratios in dB of every source and frame, float64 (sources, frames).

    ``sdr``: source to distortion. ``isr``: source image to spatial distortion. ``sir``: source to interference.
    ``sar``: sources to artifacts. NaN for every source of a frame in which any reference or estimate is silent.
    """

    sdr: np.ndarray
    isr: np.ndarray
    sir: np.ndarray
    sar: np.ndarray


class BSSEval:
    """Measures estimates against the sources of one song; what depends on the song alone is computed once.

    Args:
        references: (sources, channels, samples), the true sources in the order of the estimates.
        window, hop: samples in a frame and from one to the next; a song shorter than a frame is one frame.
        filter_length: taps of the distortion filters.
    """

    def __init__(
        self, references: np.ndarray, window: int = 44_100, hop: int = 44_100, filter_length: int = 512
    ) -> None:
        self.references = torch.from_numpy(np.ascontiguousarray(references))
        self.sources, self.channels, samples = references.shape
        self.window, self.hop, self.filter_length = min(window, samples), hop, filter_length
        self.silent = bool(_is_silent(self.references).any())
        if self.silent:
            return
        flat = self.references.flatten(0, 1)
        lags = _correlate(flat, flat, filter_length)
        # What is below the diagonal is what is above it, transposed, to the last digit: museval's matrix is the same,
        # and the noise of an autocorrelation keeps that of a source with equal channels from being singular.
        upper = torch.arange(len(flat))[:, None] <= torch.arange(len(flat))
        lags = torch.where(upper[:, :, None], lags, lags.transpose(0, 1).flip(2))
        delays = torch.arange(filter_length)
        gram = lags[:, :, delays[:, None] - delays + filter_length - 1].transpose(1, 2)
        self._gram = gram.reshape(len(flat) * filter_length, -1)

    def __call__(self, estimates: np.ndarray) -> FrameRatios:
        """The ratios of estimates of the shape of the references.

        Raises:
            ValueError: another shape.
        """
        if estimates.shape != self.references.shape:
            raise ValueError(f"estimates are {estimates.shape}, references {tuple(self.references.shape)}")
        estimated = torch.from_numpy(np.ascontiguousarray(estimates))
        frames = (estimated.shape[2] - self.window) // self.hop + 1
        if self.silent or _is_silent(estimated).any():
            return FrameRatios(*np.full((4, self.sources, frames), np.nan))
        n_fft = _fast_length(self.window + self.filter_length - 1)
        joint, single = self._filters(estimated)
        joint_spectrum, single_spectrum = torch.fft.rfft(joint, n_fft), torch.fft.rfft(single, n_fft)
        # Parseval: the bins between 0 and the Nyquist frequency stand for two.
        weights = torch.full((n_fft // 2 + 1,), 2.0, dtype=torch.float64)
        weights[0] = 1
        if n_fft % 2 == 0:
            weights[-1] = 1
        ratios = np.empty((4, self.sources, frames))
        for start in range(0, frames, FRAMES_AT_ONCE):
            part = slice(start, min(start + FRAMES_AT_ONCE, frames))
            true, estimate = (self._frames(x, part) for x in (self.references, estimated))
            skipped = _is_silent(true).any(1) | _is_silent(estimate).any(1)
            truth, seen = torch.fft.rfft(true, n_fft), torch.fft.rfft(estimate, n_fft)
            everything = torch.einsum("jdcek,tdck->tjek", joint_spectrum, truth)
            alone = torch.einsum("jcek,tjck->tjek", single_spectrum, truth)

            def energy(spectrum: Tensor) -> Tensor:
                return (spectrum.abs().square() * weights).sum((2, 3))

            pairs = (
                (truth, truth - seen),
                (truth, alone - truth),
                (alone, everything - alone),
                (everything, seen - everything),
            )
            for row, (wanted, error) in zip(ratios, pairs, strict=True):
                decibels = 10 * torch.log10(energy(wanted) / energy(error))
                row[:, part] = decibels.masked_fill(skipped[:, None], torch.nan).T.numpy()
        return FrameRatios(*ratios)

    def _filters(self, estimated: Tensor) -> tuple[Tensor, Tensor]:
        """The least-squares filters (estimate, source, channel, output channel, taps) from all sources to every
        estimate, and (estimate, channel, output channel, taps) from its own source alone."""
        flat = self.references.flatten(0, 1)
        lags = _correlate(flat, estimated.flatten(0, 1), self.filter_length)[:, :, self.filter_length - 1 :]
        sources, channels, size = self.sources, self.channels, self.channels * self.filter_length
        # One column for each output channel of each estimate.
        products = lags.permute(0, 2, 1).reshape(sources * size, sources * channels)
        joint = _solve(self._gram, products)
        single = []
        for source in range(sources):
            rows, columns = (slice(source * length, (source + 1) * length) for length in (size, channels))
            single.append(_solve(self._gram[rows, rows], products[rows, columns]))
        return (
            joint.view(sources, channels, -1, sources, channels).permute(3, 0, 1, 4, 2),
            torch.stack(single).view(sources, channels, -1, channels).permute(0, 1, 3, 2),
        )

    def _frames(self, signals: Tensor, part: slice) -> Tensor:
        """(frames, sources, channels, window), float64."""
        end = (part.stop - 1) * self.hop + self.window
        frames = signals[:, :, part.start * self.hop : end].unfold(2, self.window, self.hop)
        return frames.permute(2, 0, 1, 3).double()


def _solve(gram: Tensor, products: Tensor) -> Tensor:
    """The solution of the normal equations, found as museval finds it.

    Machine epsilon on the diagonal is enough for a channel of zeros; what is singular still is solved by least squares.
    """
    epsilon = torch.finfo(torch.float64).eps * torch.eye(len(gram), dtype=torch.float64)
    solution, failed = torch.linalg.solve_ex(gram + epsilon, products)
    return torch.linalg.lstsq(gram, products, driver="gelsd").solution if failed else solution


def _is_silent(signals: Tensor) -> Tensor:
    """Whether the channels (..., channels, samples) add up to zero everywhere, which is what museval calls silent."""
    return (signals.sum(-2) == 0).all(-1)


def _correlate(x: Tensor, y: Tensor, lags: int) -> Tensor:
    """Sums of x[n] · y[n + lag] for lags from 1 − ``lags`` to ``lags`` − 1: float64 (x signals, y signals, lags)."""
    block, margin = min(CORRELATION_BLOCK, x.shape[1]), lags - 1
    n_fft = _fast_length(block + 2 * margin)
    spectrum = torch.zeros(len(x), len(y), n_fft // 2 + 1, dtype=torch.complex128)
    samples = x.shape[1]
    for start in range(0, samples, block):
        left, end = max(start - margin, 0), min(start + block, samples)
        # A block of x, and the section of y within ``lags`` of it, which starts one margin before the block.
        near = torch.fft.rfft(x[:, start:end].double(), n_fft)
        padded = torch.nn.functional.pad(y[:, left : end + margin].double(), (left - start + margin, 0))
        far = torch.fft.rfft(padded, n_fft)
        spectrum += near.conj()[:, None] * far
    return torch.fft.irfft(spectrum, n_fft)[:, :, : 2 * margin + 1]


def _fast_length(samples: int) -> int:
    """The smallest even number ≥ ``samples`` without prime factors above 5."""
    length = samples + samples % 2
    while True:
        rest = length
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return length
        length += 2
