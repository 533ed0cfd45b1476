"""Compile the CPU's kernels, which otherwise the first face waits for: 3 to 10 s.

They go to the folder that NUMBA_CACHE_DIR names, else beside the sources. `cog build` runs this.

    python -m scripts.compile_kernels
"""

from __future__ import annotations

import argparse
import time

from gfpgan_core.backends import compile_kernels


def main() -> None:
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    started = time.perf_counter()
    compile_kernels()
    print(f"the kernels are compiled: {time.perf_counter() - started:.1f} s")


if __name__ == "__main__":
    main()
