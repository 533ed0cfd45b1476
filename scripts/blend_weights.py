"""Write a network between two others of the same shape: share * B + (1 - share) * A.

    python -m scripts.blend_weights A.safetensors B.safetensors 0.8 out.safetensors

Between a faithful and a textured network lie all trades of the two (arXiv 1809.00219).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gfpgan_core.errors import InputError, WeightsError
from gfpgan_core.weights.checkpoint import save_safetensors
from gfpgan_core.weights.load import load_file


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("a", type=Path)
    parser.add_argument("b", type=Path)
    parser.add_argument("share", type=float, help="of B, 0 to 1")
    parser.add_argument("output", type=Path, help="safetensors")
    options = parser.parse_args()
    try:
        if not 0 <= options.share <= 1:
            raise InputError(f"share is {options.share}; allowed: 0 to 1")
        a, b = load_file(options.a), load_file(options.b)
        if a.config != b.config:
            raise InputError(f"the networks differ in shape: {a.config} and {b.config}")
    except (InputError, WeightsError) as error:
        print(error, file=sys.stderr)
        return 1
    other = b.state_dict()
    b.load_state_dict({k: v.lerp(other[k], options.share) for k, v in a.state_dict().items()})
    save_safetensors(b, options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
