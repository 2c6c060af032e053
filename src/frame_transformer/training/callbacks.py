"""What a run shows of itself."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from PIL import Image
from torch import Tensor

from ..audio import AudioWriter

# Anchors of a dark-to-bright palette, from silence to full scale.
PALETTE = np.array([(0, 0, 4), (81, 18, 124), (183, 55, 121), (252, 137, 97), (252, 253, 191)], np.float32)
FLOOR_DB = -80.0


def spectrogram_picture(stems: dict[str, Tensor], n_fft: int, hop_length: int) -> np.ndarray:
    """Log magnitudes of the stems, one above the other, as uint8 (height, width, 3); all share one colour scale.

    stems: (channels, samples) each. 80 dB below the loudest bin of all is black.
    """
    window = torch.hann_window(n_fft)
    rows = [
        torch.stft(stem.mean(dim=0).cpu(), n_fft, hop_length, window=window, return_complex=True).abs().flip(0)
        for stem in stems.values()
    ]
    magnitudes = torch.cat(rows).clamp_min(1e-9)
    level = (20 * (magnitudes / magnitudes.max()).log10() / -FLOOR_DB + 1).clamp(0, 1).numpy() * (len(PALETTE) - 1)
    colours = [np.interp(level, np.arange(len(PALETTE)), PALETTE[:, channel]) for channel in range(3)]
    return np.stack(colours, axis=-1).astype(np.uint8)


class Excerpts(Callback):
    """After each validation, one separated excerpt: files in ``excerpts/``, and in TensorBoard and Weights & Biases.

    The picture shows mixture, instrumental and vocals from top to bottom, low frequencies at the bottom of each.
    """

    def on_validation_epoch_end(self, trainer: Trainer, stage: LightningModule) -> None:
        stems: dict[str, Tensor] | None = getattr(stage, "excerpt", None)
        if stems is None or not trainer.is_global_zero:
            return
        network: Any = stage.network
        signal = network.signal
        picture = spectrogram_picture(stems, signal.n_fft, signal.hop_length)
        folder = Path(trainer.default_root_dir) / "excerpts"
        folder.mkdir(exist_ok=True)
        step = trainer.global_step
        Image.fromarray(picture).save(folder / f"step-{step:08d}.png")
        for name, stem in stems.items():
            with AudioWriter(folder / f"step-{step:08d}-{name}.flac", signal.sample_rate, len(stem)) as writer:
                writer.write(stem.cpu().numpy())
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image("excerpt", picture, step, dataformats="HWC")
                for name, stem in stems.items():
                    sound = stem.mean(dim=0, keepdim=True).clamp(-1, 1)
                    logger.experiment.add_audio(f"excerpt/{name}", sound, step, signal.sample_rate)
            elif isinstance(logger, WandbLogger):
                logger.log_image("excerpt", [picture], step)
                for name, stem in stems.items():
                    samples = stem.T.cpu().numpy()
                    logger.log_audio(f"excerpt/{name}", [samples], step, sample_rate=[signal.sample_rate])
