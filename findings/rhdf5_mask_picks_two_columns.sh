#!/bin/sh
# R's rhdf5 returns the booleans of h5py as a factor, and x[, mask] then takes the columns 1 and 2 again and again.
#
# Versions: rhdf5 2.42.0 and hdf5r 1.3.8 with R 4.2.2 (Debian 12), h5py 3.16.0 to make the file. Needs root to install.
# Expected: a logical vector, as hdf5r returns, or an error where a factor is used as an index.
# Seen: a factor with the levels FALSE and TRUE. R indexes by a factor's codes, so x[, mask] has as many columns as the
# mask has entries: copies of columns 1 and 2, without a warning. !mask is NA. `mask == "TRUE"` is right.
#
# Output seen:
#   rhdf5   class factor    x[1, mask]: 0 0 0 1 1
#   rhdf5   mask == "TRUE"  x[1, mask]: 3 4
#   hdf5r   class logical   x[1, mask]: 3 4
set -eu
for pinned in r-bioc-rhdf5=2.42.0 r-cran-hdf5r=1.3.8; do
    case "$(dpkg-query -W -f='${Version}' "${pinned%=*}" 2>/dev/null || true)" in
    "${pinned#*=}"*) ;;
    *) apt-get install -y -q --no-install-recommends "$pinned*" ;;
    esac
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install -q h5py==3.16.0
env/bin/python -c '
import h5py, numpy as np
with h5py.File("rows.h5", "w") as file:
    file["x"] = np.repeat(np.arange(5.0), 2).reshape(5, 2)  # R reads it as 2 x 5
    file["mask"] = np.array([False, False, False, True, True])
'
cat > look.R <<'R'
x <- rhdf5::h5read("rows.h5", "x")
mask <- rhdf5::h5read("rows.h5", "mask")
withCallingHandlers(wrong <- x[1, mask], warning = function(w) stop("a warning: ", conditionMessage(w)))
right <- x[1, mask == "TRUE"]
file <- hdf5r::H5File$new("rows.h5", mode = "r")
logical <- file[["mask"]]$read()
other <- file[["x"]]$read()[1, logical]
file$close_all()
cat("rhdf5   class", class(mask), "   x[1, mask]:", wrong, "\n")
cat("rhdf5   mask == \"TRUE\"  x[1, mask]:", right, "\n")
cat("hdf5r   class", class(logical), "  x[1, mask]:", other, "\n")
stopifnot(is.factor(mask), identical(wrong, c(0, 0, 0, 1, 1)), identical(right, c(3, 4)), identical(other, c(3, 4)))
stopifnot(all(is.na(suppressWarnings(!mask))))
R
Rscript look.R
