#!/bin/sh
# Octave's load of an HDF5 file stops at the first text of h5py, returns what came before it, and ends well.
#
# Versions: Octave 7.3.0 (Debian 12), h5py 3.16.0 to make the files. Needs root to install Octave.
# Expected: the text is skipped with a warning, as load does with the booleans of h5py, or load fails as a whole.
# Seen: a string of variable length, which is what h5py writes for Python's str, ends the loading: datasets that come
# later in the alphabet are missing, without an error, and the exit status is 0. Named in the call, they are read.
# Strings of fixed length are read, and stop nothing.
#
# Output seen:
#   variable text: a
#   named: x z
#   boolean: a x z
#   fixed text: a m x z
set -eu
version=7.3.0-2
case "$(dpkg-query -W -f='${Version}' octave 2>/dev/null || true)" in
"$version"*) ;;
*) apt-get install -y -q --no-install-recommends "octave=$version*" ;;
esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install -q h5py==3.16.0
env/bin/python -c '
import h5py, numpy as np
kinds = {"variable": ["p", "q"], "boolean": np.array([True, False]), "fixed": np.array([b"p", b"q"])}
for kind, value in kinds.items():
    with h5py.File(kind + ".h5", "w") as file:
        file["m"] = value
        for name in ("a", "x", "z"):
            file[name] = np.arange(3.0)
'
cat > look.m <<'M'
tell = @(what, s) printf("%s: %s\n", what, strjoin(fieldnames(s)', " "));
tell("variable text", load("variable.h5"));
tell("named", load("-hdf5", "variable.h5", "x", "z"));
tell("boolean", load("boolean.h5"));
tell("fixed text", load("fixed.h5"));
M
octave-cli --no-history look.m 2> warnings.txt | tee seen.txt
printf 'variable text: a\nnamed: x z\nboolean: a x z\nfixed text: a m x z\n' | diff - seen.txt
