#!/bin/sh
# From features in a file to answers about new ones, without a config: sh from_the_shell.sh own.npz new.npy new.csv
# own.npz holds features, labels and class_embeddings; new.npy features to ask about; new.csv classes that came up later.
set -e
data=$1 features=$2 classes=$3
small="--set bank.n_per_class=20 --set protocol.calibrate=false"      # leave this out: calibrated answers are better

fgen methods                                                          # what there is to choose from
fgen new --data "$data" --out own.toml                                # settings to edit, of the method that fgen recommends
fgen train own.toml --out runs/own $small --set model.epochs=1        # fgen run instead where there are test rows
fgen train own.toml --out runs/own $small --set model.epochs=2 --resume   # more epochs, from where it ended
fgen predict runs/own "$features" --top 3 | head -n 4                 # the table, as CSV
fgen generate runs/own --embeddings "$classes" --out later.h5         # features of classes that nobody has pictures of
fgen predict runs/own "$features" --bank later.h5 --json --out answers.json
