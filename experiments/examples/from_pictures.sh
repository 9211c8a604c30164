#!/bin/sh
# From a folder of pictures to answers about new ones: sh from_pictures.sh paths.csv words.csv asked
# paths.csv holds path,class,split of each picture; words.csv class,description of every class, also of those without a
# picture; asked is a folder of pictures to ask about. Without a split the pictures of a class may be given by --unseen.
# A folder with a folder of pictures for each class does in place of paths.csv.
set -e
paths=$1 words=$2 asked=$3
small="--set protocol.seeds=[0] --set model.epochs=2"     # leave this out: it is for a first look

fgen embed "$words" --out classes.csv                     # words into numbers
fgen features "$paths" --embeddings classes.csv --out own.npz   # pictures into numbers; a killed call goes on
fgen new --data own.npz --out own.toml                    # settings to edit, of the method that fgen recommends
fgen run own.toml --out runs/own $small                   # fgen train instead where no picture is for the test
fgen predict runs/own "$asked" --top 3 --out answers.csv --html answers.html
