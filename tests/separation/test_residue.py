"""Clearing residue: long faint stretches go, short ones stay, and the cuts of the stream do not show."""

import numpy as np
import pytest
import torch

from frame_transformer import Separator
from frame_transformer.separation.residue import clear_residue, quiet_spans


def cleared(mask, cuts, shortest=8, fade=2):
    """Vocal masks of a spectrogram of ones in pieces of the given sizes."""
    spectra = torch.ones_like(mask, dtype=torch.complex64).split(cuts, dim=2)
    pieces = list(clear_residue(zip(spectra, mask.split(cuts, dim=2), strict=True), 0.1, shortest, fade))
    assert sum(spectrum.shape[2] for spectrum, _ in pieces) == mask.shape[2]
    return torch.cat([part for _, part in pieces], dim=2)


def song(*stretches):
    """A vocal mask (2, bins, frames) of (value, frames)."""
    return torch.cat([torch.full((2, 4, frames), value) for value, frames in stretches], dim=2)


def test_long_spans_go_short_ones_stay():
    mask = song((0.9, 10), (0.05, 30), (0.9, 10), (0.05, 7), (0.9, 10))
    out = cleared(mask, 67)
    assert torch.equal(out[..., :10], mask[..., :10])
    assert torch.equal(out[..., 40:], mask[..., 40:])
    assert not out[..., 15:35].any()
    fade_in = out[0, 0, 10:15] / 0.05
    torch.testing.assert_close(fade_in, torch.tensor([0.8, 0.6, 0.4, 0.2, 0.0]))
    torch.testing.assert_close(out[0, 0, 35:40], out[0, 0, 10:15].flip(0))


def test_the_ends_of_a_song_need_no_fade():
    out = cleared(song((0.05, 20), (0.9, 10), (0.05, 20)), 50)
    assert not out[..., :15].any()
    assert not out[..., -15:].any()
    assert not cleared(song((0.05, 3)), 3).any()


def test_pairs_of_channels_are_judged_apart():
    mask = torch.cat((song((0.05, 40)), song((0.9, 40))))
    out = cleared(mask, 40)
    assert not out[:2].any()
    assert torch.equal(out[2:], mask[2:])


@pytest.mark.parametrize("cuts", [1, 3, 17, 60])
def test_cuts_do_not_show(cuts):
    torch.manual_seed(0)
    levels = torch.where(torch.rand(20) < 0.7, 0.05, 0.9).repeat_interleave(6)
    mask = levels.expand(2, 4, -1).clone()
    torch.testing.assert_close(cleared(mask, cuts), cleared(mask, 120))


def test_depth_is_one_inside_and_zero_outside():
    depth = quiet_spans(torch.cat((torch.zeros(1, 30), torch.ones(1, 40), torch.zeros(1, 30)), 1), 8, 2)
    assert depth.shape == (1, 100 - 2 * 11)
    assert depth[0, 30 - 11 + 10] == 1
    assert depth[0, 0] == 0


def test_the_separator_clears_what_is_faint_and_still_adds_up(tiny_model, noise):
    class Faint(torch.nn.Module):
        config = tiny_model.config

        def forward(self, x):
            return torch.full_like(x, 4.0)  # the vocals keep 1.8 %

    x = noise(2, 44_100 * 2)
    kept, gone = (Separator(Faint(), smoothing=share).separate(x) for share in (0.01, 0.05))
    assert np.abs(kept.vocals).max() > 1e-3
    assert np.abs(gone.vocals).max() == 0
    assert np.array_equal(gone.instrumental, x)


def test_residue_is_cleared_where_nobody_sings_for_longer_than_a_second_and_a_half(tiny_model):
    class HighIsVoice(torch.nn.Module):
        config = tiny_model.config

        def forward(self, x):
            frequencies = torch.arange(256) * 44_100 / 512
            return torch.where(frequencies > 4000, -30.0, 4.0)[:, None].expand_as(x)

    time = np.arange(round(8.2 * 44_100)) / 44_100
    sings = ((time < 2) | (time > 3.2)) & ((time < 5.2) | (time > 7.2))  # pauses of 1.2 and 2 s
    low, high = (0.1 * np.sin(2 * np.pi * frequency * time) for frequency in (500, 9000))
    song = np.stack([low + sings * high] * 2).astype(np.float32)
    vocals = Separator(HighIsVoice(), smoothing=0.05).separate(song).vocals
    short, long = (vocals[:, round(middle * 44_100) :][:, :2000] for middle in (2.6, 6.2))
    assert np.abs(short).max() == pytest.approx(0.0018, rel=0.1)  # the mask leaves 1.8 % of the low tone
    assert not long.any()
