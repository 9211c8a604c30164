"""Adam: torch's own numbers, and a start without torch's compiler."""

import subprocess
import sys

import torch

from fgen.nn.adam import Adam


def test_the_parameters_become_what_torchs_adam_makes_of_them():
    start = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    for kind, parameter, settings in ((Adam, ours, {}), (torch.optim.Adam, theirs, {"fused": True})):
        optimiser = kind([parameter], lr=0.1, betas=(0.5, 0.9), weight_decay=0.01, amsgrad=True, **settings)
        for _ in range(3):
            optimiser.zero_grad(set_to_none=True)
            (parameter**3).sum().backward()
            optimiser.step()
            optimiser.load_state_dict(optimiser.state_dict())
    assert torch.equal(ours, theirs)


def test_a_training_starts_without_torchs_compiler():
    script = (
        "import sys, fgen; data = fgen.load_dataset('toy'); X, y = data.split('trainval')\n"
        "fgen.make_model('clswgan', epochs=1).fit(X[:64], y[:64], data.class_embeddings, seed=0)\n"
        "assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
