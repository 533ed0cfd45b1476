"""Write the averaged weights of a run's newest checkpoint, in half precision if asked.

    python -m scripts.export_checkpoint runs/compact compact.safetensors --half

The run may go on meanwhile. The step is in the file's metadata.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gfpgan_core.config import GeneratorConfig
from gfpgan_core.errors import InputError, WeightsError
from gfpgan_core.networks.gfpgan import GFPGAN
from gfpgan_core.weights.checkpoint import save_safetensors
from train import checkpoint
from train.config_file import from_dict


def main(arguments: list[str] | None = None) -> int:
    """Return the exit status: 0, or 1 after a message on what was wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run_folder", type=Path)
    parser.add_argument("destination", type=Path, help="safetensors file to write")
    parser.add_argument("--half", action="store_true", help="float16: half the bytes")
    options = parser.parse_args(arguments)
    try:
        found = checkpoint.load_newest(options.run_folder)
        if found is None or found.config.get("objective", "restoration") != "restoration":
            raise InputError(f"{options.run_folder} holds no checkpoint of a restoration")
        config = from_dict(GeneratorConfig, found.config["generator"], "generator.")
        network = GFPGAN(config)
        network.load_state_dict(found.ema)
        notes = {"step": str(found.step)}
        save_safetensors(network, options.destination, half=options.half, notes=notes)
    except (InputError, WeightsError) as error:
        print(error, file=sys.stderr)
        return 1
    size = options.destination.stat().st_size
    print(f"{options.destination}: step {found.step}, {size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
