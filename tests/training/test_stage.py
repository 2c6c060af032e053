"""What a step does: the gain, the average of the weights, spoilt spans, and who teaches whom in the third stage."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from frame_transformer.checkpoints import save_model
from frame_transformer.models import AsymUNetMCTConfig, SignalConfig, create_model
from frame_transformer.models.discriminator import DiscriminatorConfig
from frame_transformer.training import Adversarial, Corruption, Pretraining, Supervised
from frame_transformer.training.adversarial import discriminator_accuracy, vocal_presence
from frame_transformer.training.checkpoint import checkpoints
from frame_transformer.training.pretraining import corrupt
from frame_transformer.training.run import train

SAMPLES = 31 * 64
SIZES = {"widths": (2, 4, 6, 8), "attention_maps": (0, 0, 1), "heads": 2, "expansion": 1.0, "dropout": 0.0}


def network(normalization="song_peak", mid_side=False) -> AsymUNetMCTConfig:
    signal = SignalConfig(n_fft=128, hop_length=64, normalization=normalization, mid_side=mid_side)
    return AsymUNetMCTConfig(
        signal, **SIZES, latent_layers=1, latent_expansion=1, positional_embedding=False,
        restart_latent_residual=False,
    )  # fmt: skip


def batch_of(instrumental: torch.Tensor, vocals: torch.Tensor) -> dict:
    return {"mixture": instrumental + vocals, "instrumental": instrumental, "vocals": vocals}


@pytest.fixture
def batch():
    torch.manual_seed(0)
    return batch_of(*(0.1 * torch.randn(2, 16, 2, SAMPLES)))


@pytest.fixture
def third_stage():
    def make(**options) -> Adversarial:
        torch.manual_seed(0)
        stage = Adversarial(network(), discriminator=DiscriminatorConfig(**SIZES), **options)
        stage.trainer = Trainer()
        return stage

    return make


class Trainer:
    global_step = 0
    barebones = False


# The gain


def test_gain_of_peaks_is_uniform_in_its_range(batch):
    stage = Supervised(network(), gain=(0.25, 0.5))
    peaks = torch.cat([stage.read(batch).magnitudes.amax((1, 2, 3)) for _ in range(40)])
    assert 0.25 <= peaks.min() < 0.26
    assert 0.49 < peaks.max() <= 0.5
    assert peaks.mean() == pytest.approx(0.375, abs=0.01)
    assert stage.eval().read(batch).magnitudes.amax((1, 2, 3)).tolist() == pytest.approx([1] * 16)


def test_gain_of_levels_is_uniform_in_decibels(batch):
    stage = Supervised(network("window_level"), gain=(0.1, 10.0))

    def levels() -> torch.Tensor:
        return 40 * stage.read(batch).magnitudes.sqrt().mean((1, 2, 3)).log10()

    found = torch.cat([levels() for _ in range(60)])
    assert -20 <= found.min() < -19
    assert 19 < found.max() <= 20
    assert found.mean() == pytest.approx(0, abs=1.5)
    assert stage.eval() and levels().tolist() == pytest.approx([0] * 16, abs=1e-3)


@pytest.mark.parametrize("normalization", ["song_peak", "window_level"])
def test_mid_and_side_are_read_at_the_level_of_the_channels(batch, normalization):
    plain = Supervised(network(normalization)).eval().read(batch)
    mixture = Supervised(network(normalization, mid_side=True)).eval().read(batch)
    torch.testing.assert_close(mixture.magnitudes, plain.inputs)
    left, right = (mixture.spectrum * mixture.factor).unbind(dim=1)
    torch.testing.assert_close(mixture.inputs[:, 2], (left / 2 + right / 2).abs())
    torch.testing.assert_close(mixture.inputs[:, 3], (left / 2 - right / 2).abs())


@pytest.mark.parametrize(
    ("stage", "options"),
    [(Supervised, {}), (Pretraining, {}), (Adversarial, {"discriminator": DiscriminatorConfig(**SIZES)})],
)
def test_every_stage_trains_networks_that_read_mid_and_side(batch, stage, options):
    stage = stage(network(mid_side=True), **options)
    stage.trainer = Trainer()
    stage.losses(batch)["loss"].backward()
    assert all(p.grad.abs().sum() > 0 for name, p in stage.model.named_parameters() if name.startswith("levels.0.enc"))


def test_the_spectrogram_leaves_out_the_nyquist_bin_alone():
    spectrogram = Supervised(network()).spectrogram
    time = torch.arange(SAMPLES)
    wave, nyquist = (torch.cos(rate * torch.pi * time).expand(1, 2, -1) for rate in (0.3, 1.0))
    assert spectrogram(wave).shape == (1, 2, 64, 32)
    torch.testing.assert_close(spectrogram.inverse(spectrogram(wave), SAMPLES), wave, atol=0.01, rtol=0)
    inside = spectrogram.inverse(spectrogram(wave + nyquist), SAMPLES) - wave
    assert inside.square().mean() < 0.3 * nyquist.square().mean()  # what of it leaks into the bins below


# The weights


@pytest.mark.parametrize("dropout", [0.0, 0.1])  # the same weights fit a network with other settings
def test_training_starts_from_the_weights_of_the_file(tmp_path, dropout):
    torch.manual_seed(1)
    source = create_model(network())
    save_model(source, tmp_path / "model.safetensors")
    torch.manual_seed(0)
    stage = Supervised(replace(network(), dropout=dropout), initial_weights=str(tmp_path / "model.safetensors"))
    for name, value in source.state_dict().items():
        assert torch.equal(stage.model.state_dict()[name], value)
        assert torch.equal(stage.ema.module.state_dict()[name], value)


def test_the_average_lags_behind_the_weights_and_is_what_is_saved(arguments, tmp_path):
    decay = 0.6
    options = ("--trainer.max_steps=6", "--save_every=1", "--keep=10", f"--model.ema_decay={decay}")
    train(arguments(tmp_path, *options, "--model.optimizer.lr=0.05"))
    saved = [torch.load(path, weights_only=True)["state_dict"] for path in checkpoints(tmp_path)[::-1]]
    name = next(key.removeprefix("model.") for key in saved[0] if key.startswith("model.out."))
    average = saved[0][f"ema.module.{name}"]
    for steps, state in enumerate(saved[1:], 1):
        rate = min(decay, (1 + steps) / (10 + steps))
        average = rate * average + (1 - rate) * state[f"model.{name}"]
        torch.testing.assert_close(state[f"ema.module.{name}"], average)
    finished = load_file(tmp_path / "model.safetensors")
    assert torch.equal(finished[name], saved[-1][f"ema.module.{name}"])
    assert not torch.allclose(finished[name], saved[-1][f"model.{name}"])


def test_validation_uses_the_average(batch):
    stage = Supervised(network())
    with torch.no_grad():
        for parameter in stage.ema.module.parameters():
            parameter.zero_()
    magnitudes = stage.read(batch).magnitudes
    assert stage.train().estimate(magnitudes).std() > 0
    assert stage.eval().estimate(magnitudes).std() == 0


def test_validation_measures_the_stems_of_the_mask_and_keeps_the_first():
    """A mask of 0.75 where both stems are equal: each has an error of half its amplitude."""
    sound = 0.1 * torch.cos(0.3 * torch.pi * torch.arange(SAMPLES)).expand(2, 2, -1)
    stage, logged = Supervised(network()).eval(), {}
    stage.log_dict = lambda metrics, **_: logged.update(metrics)
    stage.estimate = lambda magnitudes: torch.full_like(magnitudes, 0.75)
    stage.validation_step(batch_of(sound, sound), 0)
    for name, factor in (("vocals", 0.5), ("instrumental", 1.5)):
        assert logged[f"validation/sdr_{name}"] == pytest.approx(6.02, abs=0.01)
        torch.testing.assert_close(stage.excerpt[name], factor * sound[0], atol=1e-3, rtol=0)
    assert torch.equal(stage.excerpt["mixture"], 2 * sound[0])


# Pretraining


def test_spans_are_silenced_replaced_or_covered_with_noise():
    torch.manual_seed(0)
    magnitudes = 1 + torch.rand(8, 2, 64, 200)
    silent, where = corrupt(magnitudes, Corruption(noise=0.0, swap=0.0))
    assert 0.25 < where.float().mean() < 0.6
    where = where.expand_as(magnitudes)
    assert not silent[where].any()
    assert torch.equal(silent[~where], magnitudes[~where])

    swapped, where = corrupt(magnitudes, Corruption(noise=0.0, swap=1.0))
    assert torch.equal(swapped, torch.where(where, magnitudes.roll(1, dims=0), magnitudes))

    noisy, where = corrupt(magnitudes, Corruption(noise=1.0, swap=0.0, noise_level=0.1))
    added = (noisy - magnitudes)[where.expand_as(magnitudes)]
    assert added.min() >= 0
    assert added.square().mean().sqrt() == pytest.approx(0.1, rel=0.02)

    mixed, where = corrupt(magnitudes, Corruption())
    assert 0.5 < (mixed == 0)[where.expand_as(mixed)].float().mean() < 0.9


def test_pretraining_measures_what_is_restored_and_what_is_left_intact(batch):
    stage = Pretraining(network(), corruption=Corruption(noise=0.0, swap=0.0), intact_weight=0.1).eval()
    stage.estimate = lambda corrupted: corrupted + 0.5
    magnitudes = stage.read(batch).magnitudes
    torch.manual_seed(1)
    _, where = corrupt(magnitudes, stage.corruption)
    torch.manual_seed(1)
    losses = stage.losses(batch)
    assert losses["restored"] == pytest.approx((0.5 - magnitudes).abs()[where.expand_as(magnitudes)].mean())
    assert losses["intact"] == pytest.approx(0.5)
    assert losses["loss"] == pytest.approx(losses["restored"] + 0.05)


def test_pretraining_is_validated_on_the_same_corruption_every_time(batch):
    stage, logged = Pretraining(network()).eval(), []
    stage.log_dict = lambda metrics, **_: logged.append(metrics)
    for _ in range(2):
        stage.validation_step(batch, 3)
    assert set(logged[0]) == {"validation/loss", "validation/restored", "validation/intact"}
    assert logged[0] == logged[1]


# The third stage


def gradient_of_the_network(stage: Adversarial, batch: dict) -> torch.Tensor:
    stage.zero_grad()
    stage.losses(batch)["loss"].backward()
    return torch.cat([parameter.grad.flatten() for parameter in stage.model.parameters() if parameter.grad is not None])


def test_the_discriminator_teaches_the_network_once_it_is_ahead(third_stage, batch):
    """Without a supervised loss nothing else does: steps against that gradient make it believe more."""
    ahead = third_stage(accuracy_weight=0.0, discriminator_steps_ahead=1)
    assert not gradient_of_the_network(ahead, batch).any()
    stage = third_stage(accuracy_weight=0.0, discriminator_steps_ahead=0, gain=(1.0, 1.0))
    before = stage.losses(batch)["adversarial"]
    optimizer = torch.optim.Adam(stage.model.parameters(), 0.01)
    for _ in range(5):
        gradient_of_the_network(stage, batch)
        optimizer.step()
    assert stage.losses(batch)["adversarial"] < before - 1e-4


def test_the_network_does_not_teach_the_discriminator(third_stage, batch):
    """Its weights see the loss of telling frames apart, and that alone."""
    stage = third_stage(gain=(1.0, 1.0))
    before = stage.losses(batch)["discriminator"]
    optimizer = torch.optim.Adam(stage.discriminator.parameters(), 0.01)
    for _ in range(5):
        gradient_of_the_network(stage, batch)
        optimizer.step()
    assert stage.losses(batch)["discriminator"] < before - 1e-3


def test_the_discriminator_learns_which_frames_never_contained_voice(third_stage, batch):
    """All true frames, and generated ones only where the mixture is without voice: here in its second half."""
    batch["vocals"][..., SAMPLES // 2 :] = 0
    batch = batch_of(batch["instrumental"], batch["vocals"])
    stage = third_stage(gain=(1.0, 1.0))
    _, magnitudes, factor = stage.read(batch)
    generated = stage.estimate(magnitudes) * magnitudes
    true = (stage.spectrogram(batch["instrumental"]).abs() * factor).minimum(magnitudes)
    probabilities = [stage.discriminator(magnitudes, candidate).sigmoid() for candidate in (generated, true)]
    voice = vocal_presence(batch["vocals"], batch["mixture"], 128, 64, -40.0)[:, None]
    assert 0.4 < voice.mean() < 0.6
    right = torch.where(voice == 1, 1 - probabilities[0], probabilities[0])
    expected = -(right.log().mean() + probabilities[1].log().mean()) / 2
    torch.testing.assert_close(stage.losses(batch)["discriminator"], expected)


def test_accuracy_of_the_discriminator_counts_frames_with_voice():
    voice = torch.tensor([[[1.0, 1.0, 0.0, 1.0]]])
    generated = torch.tensor([[[-1.0, 1.0, 1.0, -1.0], [1.0, 1.0, 1.0, 1.0]]])
    true = torch.tensor([[[1.0, -1.0, -1.0, 1.0], [1.0, 1.0, 1.0, 1.0]]])
    accuracy = discriminator_accuracy(generated, true, voice)
    assert accuracy["discriminator_accuracy_generated"] == pytest.approx(2 / 6)
    assert accuracy["discriminator_accuracy_true"] == pytest.approx(5 / 6)
    assert accuracy["discriminator_accuracy"] == pytest.approx(7 / 12)


def test_both_networks_are_trained_each_at_its_rate(third_stage):
    stage = third_stage(discriminator_learning_rate=0.5)
    groups = stage.configure_optimizers().param_groups
    rates = {
        id(parameter): rate
        for group, rate in zip(groups, stage.peak_learning_rates, strict=True)
        for parameter in group["params"]
    }
    assert {rates.pop(id(parameter)) for parameter in stage.model.parameters()} == {0.001}
    assert {rates.pop(id(parameter)) for parameter in stage.discriminator.parameters()} == {0.0005}
    assert not rates


def test_no_candidate_is_louder_than_the_mixture(third_stage):
    """A voice of opposite phase makes the mixture quieter than the music alone."""
    torch.manual_seed(0)
    music = 0.1 * torch.randn(2, 2, SAMPLES)
    stage, seen = third_stage(), []
    stage.discriminator.register_forward_pre_hook(lambda module, inputs: seen.append(inputs))
    stage.losses(batch_of(music, -0.7 * music))
    assert len(seen) == 3
    for mixture, candidate in seen:
        assert (candidate <= mixture).all()


def test_the_network_runs_once_a_batch(third_stage, batch):
    stage, calls = third_stage(), []
    stage.log_dict = lambda *args, **options: None
    for model in (stage.model, stage.ema.module):
        model.register_forward_hook(lambda *_: calls.append(1))
    stage.losses(batch)
    assert len(calls) == 1
    stage.eval().validation_step(batch, 0)
    assert len(calls) == 2


def test_voice_left_is_what_the_mask_lets_through(third_stage, batch):
    mask = torch.full_like(third_stage().read(batch).magnitudes, 0.1)
    assert third_stage().mask_metrics(mask, batch)["residual_vocals_db"] == pytest.approx(-20, abs=1e-3)


def test_presence_is_where_the_voice_is():
    vocals = torch.zeros(1, 2, 64 * 256)
    vocals[..., 20 * 256 : 40 * 256] = 0.1 * torch.randn(2, 20 * 256)
    presence = vocal_presence(vocals, vocals + 0.1, 512, 256, -40.0)[0]
    assert presence.shape == (65,)
    assert presence[21:40].all()
    assert not presence[:19].any()
    assert not presence[42:].any()


@pytest.mark.parametrize(("decibels", "expected"), [(-39.0, 1.0), (-41.0, 0.0)])
def test_presence_threshold(decibels, expected):
    mixture = torch.ones(1, 2, 8192)
    assert (vocal_presence(mixture * 10 ** (decibels / 20), mixture, 2048, 1024, -40.0) == expected).all()
    silence = torch.zeros(1, 2, 8192)
    assert not vocal_presence(silence, silence, 2048, 1024, -40.0).any()
    assert not vocal_presence(silence, mixture, 2048, 1024, -40.0).any()
