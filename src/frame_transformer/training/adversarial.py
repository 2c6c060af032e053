"""Adversarial training against a discriminator of frames that contained voice."""

from typing import Any

from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from ..checkpoints import load_model
from ..models.discriminator import DiscriminatorConfig, FrameDiscriminator
from .losses import energy
from .stage import Batch
from .supervised import Supervised


class Adversarial(Supervised):
    """Adversarial training of the network (generator) against a discriminator of frames.

    It is known which frames contain voice, because mixtures are generated. The discriminator learns to distinguish
    generated frames that contained voice from frames that never did: those of the true instrumental, and generated
    frames without voice, so that it does not learn to detect processing instead. The generator must be accurate and
    make the discriminator believe that no frame ever contained voice. Both see the mixture, as in pix2pix (Isola et al.
    2017), whose weight of 100 for L1 is the default here. The losses are the non-saturating ones of Goodfellow et al.
    2014, "Generative adversarial nets", section 3.

    Both are trained in one backward pass: the discriminator's weights are constant in the generator's loss, and the
    generated frames are constant in the discriminator's loss. So accumulation, mixed precision, data parallelism and
    resuming work as in the other stages.
    """

    def __init__(
        self,
        *args: Any,
        discriminator: DiscriminatorConfig,
        discriminator_weights: str | None = None,
        discriminator_learning_rate: float = 1.0,
        accuracy_weight: float = 100.0,
        discriminator_steps_ahead: int = 0,
        presence_threshold: float = -40.0,
        **kwargs: Any,
    ):
        """
        Args:
            discriminator: sizes of the discriminator.
            discriminator_weights: a model file of an earlier stage, whose encoder the discriminator starts from.
            discriminator_learning_rate: ratio to the generator's learning rate.
            accuracy_weight: weight of the supervised loss, relative to 1 for the adversarial one.
            discriminator_steps_ahead: steps at the beginning in which the generator has only the supervised loss.
            presence_threshold: level of the vocals (dB relative to the crop's mixture) above which a frame contains
                voice.
        """
        super().__init__(*args, **kwargs)
        self.discriminator = FrameDiscriminator(discriminator, self.network.signal)
        if discriminator_weights is not None:
            self.discriminator.copy_encoder(load_model(discriminator_weights))
        self.discriminator_learning_rate = discriminator_learning_rate
        self.accuracy_weight, self.discriminator_steps_ahead = accuracy_weight, discriminator_steps_ahead
        self.presence_threshold = presence_threshold

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        mixture = self.read(batch)
        magnitudes = mixture.magnitudes
        mask = self.estimate(mixture.inputs)
        generated = mask * magnitudes
        # If voice and music have opposite phase, the music is louder than the mixture, which no mask can produce. The
        # discriminator would rely on that alone, and the network would learn to mask less.
        true = (self.spectrogram(batch["instrumental"]).abs() * mixture.factor).minimum(magnitudes)
        supervised = self.mask_losses(mask, mixture, batch)

        constant = {name: value.detach() for name, value in self.discriminator.named_parameters()}
        believed = functional_call(self.discriminator, constant, (magnitudes, generated)).float()
        adversarial = functional.softplus(-believed).mean()

        signal = self.network.signal
        voice = vocal_presence(
            batch["vocals"], batch["mixture"], signal.n_fft, signal.hop_length, self.presence_threshold
        )[:, None]
        logits_generated = self.discriminator(magnitudes, generated.detach()).float()
        logits_true = self.discriminator(magnitudes, true).float()
        voiceless = (1 - voice).expand_as(logits_generated)
        against_generated = functional.binary_cross_entropy_with_logits(logits_generated, voiceless)
        discriminator = (against_generated + functional.softplus(-logits_true).mean()) / 2

        ahead = self.global_step < self.discriminator_steps_ahead
        generator = self.accuracy_weight * supervised["loss"] + (0.0 if ahead else 1.0) * adversarial
        return {
            "loss": generator + discriminator,
            "generator": generator,
            "accuracy": supervised["loss"],
            **{name: supervised[name] for name in ("sdr_vocals", "sdr_instrumental")},
            "adversarial": adversarial,
            "discriminator": discriminator,
            **discriminator_accuracy(logits_generated, logits_true, voice),
            **self.mask_metrics(mask, batch),
        }

    def mask_metrics(self, mask: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Energy (dB) of the voice that the mask leaves in the instrumental, relative to all of the voice.

        It is known exactly, because masking is linear.
        """
        voice = self.spectrogram(batch["vocals"])
        return {"residual_vocals_db": 10 * (energy(mask.detach() * voice) / energy(voice)).log10()}

    def networks(self) -> dict[str, tuple[nn.Module, float]]:
        return super().networks() | {"discriminator": (self.discriminator, self.discriminator_learning_rate)}


def vocal_presence(vocals: Tensor, mixture: Tensor, n_fft: int, hop_length: int, threshold: float) -> Tensor:
    """Which STFT frames contain vocals: float32 (batch, 1 + samples // hop_length) of 0 and 1.

    A frame (centred, ``n_fft`` samples) contains vocals if their RMS in it exceeds the RMS of the whole mixture by
    ``threshold`` dB.

    Args:
        vocals, mixture: (batch, channels, samples).
    """
    power = vocals.square().mean(dim=1, keepdim=True)
    frames = functional.avg_pool1d(power, n_fft, hop_length, padding=n_fft // 2, count_include_pad=False)[:, 0]
    reference = mixture.square().mean(dim=(1, 2)).unsqueeze(1)
    return (frames > reference * 10 ** (threshold / 10)).float()


def discriminator_accuracy(logits_generated: Tensor, logits_true: Tensor, voice: Tensor) -> dict[str, Tensor]:
    """Accuracy on frames with voice in the mixture: for generated frames, true frames, and the mean (0.5 is guessing).

    Args:
        logits_generated, logits_true: (batch, bands, time), positive for "never contained voice".
        voice: (batch, 1, time) of 0 and 1.
    """
    weight = voice.expand_as(logits_true)
    count = weight.sum().clamp_min(1)
    generated = ((logits_generated < 0) * weight).sum() / count
    true = ((logits_true > 0) * weight).sum() / count
    return {
        "discriminator_accuracy": (generated + true) / 2,
        "discriminator_accuracy_generated": generated,
        "discriminator_accuracy_true": true,
    }
