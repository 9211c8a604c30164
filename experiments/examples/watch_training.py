"""Watch the losses and validation scores of a run: one line an epoch, and TensorBoard.

python experiments/examples/watch_training.py events
tensorboard --logdir events
"""

import sys

import fgen

SETTINGS = {
    "dataset": {"name": "toy"},
    "model": {"name": "priorgan", "hidden_dim": 64, "noise_dim": 16, "epochs": 10},
    "bank": {"n_per_class": 60},
    "classifier": {"solver": "lbfgs"},
    "protocol": {"evaluations": 2, "calibrate": True},
}


def main(folder):
    with fgen.TensorBoard(folder) as board:

        def on_epoch(epoch, scores, phase):
            print(f"{phase}, epoch {epoch}:", ", ".join(f"{name} {value:.3g}" for name, value in scores.items()))
            board(epoch, scores, phase)

        return fgen.run(SETTINGS, on_epoch=on_epoch)


if __name__ == "__main__":
    print(main(*sys.argv[1:]))
