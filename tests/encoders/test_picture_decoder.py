"""Decoders of features: trained on pictures, the same for the same seed."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fgen.encoders.picture_decoder import DecoderConfig, decode, fit_decoder
from fgen.errors import InputError, TrainingDiverged
from fgen.nn.decoder import picture_loss

SMALL = DecoderConfig(width=8, steps=3, batch_size=8)


@pytest.fixture(scope="module")
def rows():
    """Features ``(40, 6)``, and pictures that are of one grey each, which the first column tells."""
    features = np.random.default_rng(0).random((40, 6), np.float32)
    pictures = np.broadcast_to((255 * features[:, :1, None, None]).astype(np.uint8), (40, 64, 64, 3)).copy()
    return features, pictures


def test_the_same_seed_gives_the_same_bytes_whatever_state_torch_is_in_and_another_seed_others(rows):
    made = []
    for seed, state in ((0, 1), (0, 2), (1, 2)):
        with torch.random.fork_rng():
            torch.manual_seed(state)
            made.append(decode(fit_decoder(*rows, seed=seed, config=SMALL), rows[0]).tobytes())
    assert made[0] == made[1]
    assert made[1] != made[2]


def test_a_decoder_learns_on_some_rows_what_others_look_like(rows):
    features, pictures = rows
    config = replace(SMALL, steps=80, lr=5e-3, dropout=0.0)
    decoder = fit_decoder(features[:30], pictures[:30], seed=0, config=config)
    error = np.square(decode(decoder, features[30:]) - pictures[30:].astype(float)).mean()
    assert error < 0.6 * np.square(pictures[:30].mean(axis=0) - pictures[30:]).mean()


def test_pictures_are_decoded_alike_whichever_are_beside_them(rows):
    decoder = fit_decoder(*rows, seed=0, config=SMALL)
    alone = np.concatenate([decode(decoder, rows[0][k : k + 1]) for k in range(40)])
    assert np.abs(decode(decoder, rows[0]).astype(int) - alone).max() <= 1


def test_the_loss_counts_differences_once_and_their_squares_twice():
    decoded = torch.tensor([0.5, 0.0]).reshape(2, 1, 1, 1).expand(2, 3, 4, 4)
    assert float(picture_loss(decoded, torch.zeros(2, 3, 4, 4))) == pytest.approx(0.5 / 2 + 2 * 0.25 / 2)


def test_pictures_of_other_rows_or_sizes_and_features_that_explode_are_refused(rows):
    features, pictures = rows
    for wrong in (pictures[1:], pictures[:, 1:], pictures / 255):
        with pytest.raises(InputError, match=r"pictures has shape .*expected \(40, 64, 64, 3\) uint8"):
            fit_decoder(features, wrong, seed=0, config=SMALL)
    with pytest.raises(InputError, match="no pictures to train a decoder on"):
        fit_decoder(features[:0], pictures[:0], seed=0, config=SMALL)
    odd = features.copy()
    odd[0, 0] = np.inf
    with pytest.raises(TrainingDiverged, match="the decoder left the finite numbers"):
        fit_decoder(odd, pictures, seed=0, config=SMALL)
