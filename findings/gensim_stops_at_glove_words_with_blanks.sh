#!/bin/sh
# gensim's reader of GloVe's text stops at a word with blanks in it, as GloVe's own file of 840B tokens has.
#
# Versions: gensim 4.4.0, NumPy 2.4.6; Python 3.11, Linux.
# Expected: KeyedVectors.load_word2vec_format(FILE, no_header=True), which gensim names for GloVe's files, splits a line
# from its end, where the numbers are. glove.840B.300d.txt has the words ". . ." and "at name@domain.com".
# Seen: it splits at every blank, and ValueError says that a part of the word is no number. No argument passes over such
# a line.
#
# Output seen:
#   ant: [1.0, 2.0, 3.0]
#   . . .: could not convert string to float: '.'
#   at name@domain.com: could not convert string to float: 'name@domain.com'
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install -q gensim==4.4.0 numpy==2.4.6
cat > look.py <<'PY'
import sys
from pathlib import Path

from gensim.models import KeyedVectors

refused = []
for word in ("ant", ". . .", "at name@domain.com"):
    Path("glove.txt").write_text(f"bee 3 2 1\n{word} 1 2 3\n")
    try:
        vectors = KeyedVectors.load_word2vec_format("glove.txt", no_header=True)
        print(f"{word}: {vectors[word].tolist()}")
    except ValueError as error:
        refused.append(word)
        print(f"{word}: {error}")
sys.exit(refused != [". . .", "at name@domain.com"])
PY
env/bin/python look.py
