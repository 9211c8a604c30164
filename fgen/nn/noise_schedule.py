"""Noise schedule of few-step diffusion, from features to noise and back."""

import numpy as np
import torch
from torch import Tensor, nn


class Schedule(nn.Module):
    """The variance-preserving noise schedule in n steps (Song et al. 2021, Eq. 33; Xiao et al. 2022, App. A).

    At time s the share of signal left is ``exp(-s^2 (beta_max - beta_min) / 2 - s beta_min)``; the n + 1 levels lie
    evenly from s = 0.001, which counts as clean, to 1. Level t + 1 is level t, times ``keep``, plus ``add`` noise.

    Attributes:
        signal, noise: ``(n + 1,)``, what level t holds of features and of noise.
        keep, add: ``(n,)``, of the step from level t to t + 1.
        from_clean, from_noisy, deviation: ``(n,)``, of the posterior q(x_t | x_0, x_t+1) (Ho et al. 2020, Eq. 7).
    """

    signal: Tensor
    noise: Tensor
    keep: Tensor
    add: Tensor
    from_clean: Tensor
    from_noisy: Tensor
    deviation: Tensor

    def __init__(self, n_timesteps: int, beta_min: float, beta_max: float) -> None:
        super().__init__()
        times = 1e-3 + (1 - 1e-3) * np.arange(n_timesteps + 1) / n_timesteps
        left = np.exp(-0.5 * times**2 * (beta_max - beta_min) - times * beta_min)
        left /= left[0]
        kept, before, after = left[1:] / left[:-1], left[:-1], left[1:]
        constants = {
            "signal": np.sqrt(left),
            "noise": np.sqrt(1 - left),
            "keep": np.sqrt(kept),
            "add": np.sqrt(1 - kept),
            "from_clean": (1 - kept) * np.sqrt(before) / (1 - after),
            "from_noisy": (1 - before) * np.sqrt(kept) / (1 - after),
            "deviation": np.sqrt((1 - kept) * (1 - before) / (1 - after)),
        }
        for name, value in constants.items():
            self.register_buffer(name, torch.from_numpy(value.astype(np.float32))[:, None], persistent=False)

    def posterior(self, clean: Tensor, noisy: Tensor, level: Tensor | int, noise: Tensor) -> Tensor:
        """Draw ``(B, D)`` of level t for x_0 and x_t+1; at t = 0 it is x_0 itself."""
        return self.from_clean[level] * clean + self.from_noisy[level] * noisy + self.deviation[level] * noise
