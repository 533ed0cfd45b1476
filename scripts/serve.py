"""Serve predictions (or trainings) with Cog's server on this machine, without Docker.

    python -m scripts.serve [--port 5000] [--train]

Stop it with Ctrl-C. It answers this machine only; --host 0.0.0.0 opens it to everyone who reaches
this machine, without any password.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).parent.parent

_STUBS = {
    "predict": ("COG_PREDICT_TYPE_STUB", "predict.py:Predictor"),
    "train": ("COG_TRAIN_TYPE_STUB", "train/cog_train.py:train"),
}


def command(mode: str = "predict", host: str = "127.0.0.1") -> list[str]:
    """Return the server's command line; it runs in the project's folder."""
    return [sys.executable, "-m", "cog.server.http", "--host", host, "--x-mode", mode]


def environment(port: int, mode: str = "predict") -> dict[str, str]:
    """Return the server's environment: ours, what it serves, and where its worker's `python` is.

    Cog starts its worker as `python`. Where that is another one than this, the server would say
    STARTING for ever.
    """
    name, stub = _STUBS[mode]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    wait = os.environ.get("OMP_WAIT_POLICY", "PASSIVE")  # torch reads it when it is imported
    ours = {name: stub, "PORT": str(port), "PATH": path, "OMP_WAIT_POLICY": wait}
    return os.environ | ours


def write_schema() -> None:
    """Write the description of the inputs, without which Cog lets everything through."""
    script = [sys.executable, "-m", "scripts.write_openapi_schema"]
    subprocess.run(script, cwd=_ROOT, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=5000)
    parser.add_argument("--train", action="store_true", help="serve /trainings, not /predictions")
    arguments = parser.parse_args()
    mode = "train" if arguments.train else "predict"
    write_schema()
    os.chdir(_ROOT)
    server = command(mode, arguments.host)
    os.execve(server[0], server, environment(arguments.port, mode))


if __name__ == "__main__":
    main()
