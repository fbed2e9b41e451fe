"""``python -m vbuild``."""

import sys

from vbuild.cli import main

if __name__ == "__main__":
    sys.exit(main())
