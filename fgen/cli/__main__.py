"""``python -m fgen.cli`` is ``fgen``."""

import sys

from fgen.cli import main

if __name__ == "__main__":
    sys.exit(main())
