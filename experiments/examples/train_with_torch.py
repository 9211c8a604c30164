"""Train a torch classifier on own rows of seen classes and generated rows of unseen ones.

    python experiments/examples/train_with_torch.py [--epochs 5] [--workers 2]

First on the rows of a bank on disk, mixed with the own ones in each batch; then on fresh rows that no file holds.
"""

import argparse
import tempfile
from itertools import islice

import torch
from torch.utils.data import ConcatDataset, DataLoader, TensorDataset

import fgen

SETTINGS = {
    "dataset": {"name": "toy"},
    "model": {"name": "priorgan", "hidden_dim": 64, "noise_dim": 16, "epochs": 10},
    "bank": {"n_per_class": 60},
    "classifier": {"solver": "lbfgs"},
    "protocol": {"evaluations": 2},
}


def learn(network, optimiser, features, labels):
    """Take a step on a batch."""
    loss = torch.nn.functional.cross_entropy(network(features), labels)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


def main(epochs=5, workers=2):
    data = fgen.load_dataset("toy")
    own = TensorDataset(*map(torch.from_numpy, data.split("trainval")))
    network = torch.nn.Sequential(
        torch.nn.BatchNorm1d(data.feature_dim), torch.nn.Linear(data.feature_dim, data.n_classes)
    )
    optimiser = torch.optim.Adam(network.parameters(), lr=0.02)
    with tempfile.TemporaryDirectory() as folder:
        fgen.run(SETTINGS, out=f"{folder}/run")
        model = fgen.load_model(f"{folder}/run/seeds/0/model")
        with fgen.FeatureBank.open(f"{folder}/run/seeds/0/bank.h5") as bank:
            rows = ConcatDataset([own, bank.torch_dataset(label_map=data.class_names)])
            sampler = fgen.MixedSampler(rows, 0.3, seed=0)
            loader = DataLoader(rows, batch_size=64, sampler=sampler, num_workers=workers)
            for epoch in range(epochs):
                sampler.set_epoch(epoch)
                for features, labels in loader:
                    learn(network, optimiser, features, labels)
    fresh = DataLoader(model.stream(data.unseen, seed=1), batch_size=20)
    for one, other in zip(DataLoader(own, batch_size=44, shuffle=True), islice(fresh, 100), strict=False):
        learn(network, optimiser, *map(torch.cat, zip(one, other, strict=True)))
    return scores(network.eval(), data)


def scores(network, data):
    """Return U, S and H on the test rows."""
    (seen, of_seen), (unseen, of_unseen) = map(data.split, ("test_seen", "test_unseen"))
    features, labels = (
        torch.cat(list(map(torch.from_numpy, parts))) for parts in ((seen, unseen), (of_seen, of_unseen))
    )
    with torch.no_grad():
        predicted = network(features).log_softmax(1).numpy()
    return fgen.gzsl_scores(labels.numpy(), predicted, seen=data.seen, unseen=data.unseen)


if __name__ == "__main__":  # workers import this file where processes are not forked
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    found = main(**vars(parser.parse_args()))
    print(f"U {found.U:.3f}, S {found.S:.3f}, H {found.H:.3f}")
