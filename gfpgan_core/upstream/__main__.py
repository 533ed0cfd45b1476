"""`python -m gfpgan_core.upstream`: the options and the files of upstream's inference_gfpgan.py."""

from __future__ import annotations

import sys

from gfpgan_core.upstream.command import main

if __name__ == "__main__":
    sys.exit(main())
