"""The same as `gfpgan fetch`, under its earlier name.

python -m scripts.fetch_weights v1.3 v1.4
"""

from __future__ import annotations

import sys

from gfpgan_core.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["fetch", *sys.argv[1:]]))
