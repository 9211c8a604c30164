#!/bin/sh
# h5dump -b LE writes an empty file for a dataset of booleans, and ends well.
#
# Versions: hdf5-tools 1.10.8 (Debian 12), h5py 3.16.0 to make the file. Needs root to install hdf5-tools.
# Expected: ten bytes of 0 and 1, as for the dataset of int8 on which the booleans (an HDF5 enumeration) are based.
# Seen: with -b LE and -b BE an enumeration becomes a file of 0 bytes: exit status 0, no message on stderr. -b FILE,
# -b MEMORY and -b NATIVE write the ten bytes.
#
# Output seen:
#   LE       exit 0   int8: 10 bytes   bool: 0 bytes
#   BE       exit 0   int8: 10 bytes   bool: 0 bytes
#   FILE     exit 0   int8: 10 bytes   bool: 10 bytes
#   MEMORY   exit 0   int8: 10 bytes   bool: 10 bytes
#   NATIVE   exit 0   int8: 10 bytes   bool: 10 bytes
set -eu
version=1.10.8+repack1-1
case "$(dpkg-query -W -f='${Version}' hdf5-tools 2>/dev/null || true)" in
"$version"*) ;;
*) apt-get install -y -q --no-install-recommends "hdf5-tools=$version*" ;;
esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install -q h5py==3.16.0
env/bin/python -c '
import h5py, numpy as np
with h5py.File("rows.h5", "w") as file:
    file["bool"] = np.arange(10) >= 6
    file["int8"] = (np.arange(10) >= 6).astype("i1")
'
for form in LE BE FILE MEMORY NATIVE; do
    for name in int8 bool; do
        h5dump -d "/$name" -b "$form" -o "$name.bin" rows.h5 > dump.txt 2> errors.txt
        test ! -s errors.txt
    done
    printf '%-8s exit 0   int8: %s bytes   bool: %s bytes\n' "$form" "$(stat -c %s int8.bin)" "$(stat -c %s bool.bin)"
    rm int8.bin bool.bin
done | tee seen.txt
for form in LE BE; do grep -q "^$form .*int8: 10 bytes   bool: 0 bytes" seen.txt; done
for form in FILE MEMORY NATIVE; do grep -q "^$form .*int8: 10 bytes   bool: 10 bytes" seen.txt; done
