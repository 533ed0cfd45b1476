"""Measure faces/s on a GPU against upstream's loop, the share of the peak, and where time goes.

    python -m scripts.benchmark_gpu --output docs/benchmark_gpu.json

One call, some minutes. Random full-size weights; upstream restores one face at a time in float32,
ours takes batches. Never run where it was written, for want of a GPU: only its path on the CPU was
(`--device cpu --face-size 64`).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gfpgan_core.backends import load_backend
from gfpgan_core.config import GeneratorConfig
from gfpgan_core.images import from_pm1
from gfpgan_core.masks import PARSERS, load_parser, parsing_masker
from gfpgan_core.runtime import inference_dtype
from gfpgan_core.weights.load import build, load_strictly
from scripts.benchmark_sides import upstream_generator

_BATCHES = (1, 8, 32)
_SECONDS = 8.0  # for each figure
_GFLOP_A_FACE = 265  # at 512 px, multiplier 2; upstream's form needs 395 for the same picture


def rate(run: Callable[[], Any], device: str, items: int, seconds: float) -> float:
    """Return how many items a second `run` handles, after two warm calls."""
    for _ in range(2):
        run()
    _wait_for(device)
    started = time.perf_counter()
    calls = 0
    while time.perf_counter() - started < seconds or calls < 2:
        run()
        _wait_for(device)
        calls += 1
    return items * calls / (time.perf_counter() - started)


def _wait_for(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def matmul_tflops(device: str, dtype: torch.dtype, seconds: float) -> float:
    """Return what the card reaches in one large matrix product, in TFLOP/s."""
    side = 8192 if device.startswith("cuda") else 512
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return rate(lambda: a @ b, device, 1, seconds) * 2 * side**3 / 1e12


@torch.no_grad()
def measure(device: str, face_size: int, seconds: float, keep: Callable[[Any], None]) -> bool:
    """Measure everything, keep the report after each figure; false if one could not be measured."""
    theirs = upstream_generator(face_size).to(device)
    ours = build(GeneratorConfig(face_size_px=face_size)).eval()
    load_strictly(ours, theirs.state_dict(), Path("upstream"))
    ours = ours.requires_grad_(False).to(device)
    shape = (max(_BATCHES), 3, face_size, face_size)
    faces = torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 2 - 1
    expected = theirs(faces[:1].to(device), randomize_noise=False)[0].cpu()
    half = inference_dtype(device)
    report: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else device,
        "torch": torch.__version__,
        "matmul_tflops": {
            str(dtype): matmul_tflops(device, dtype, seconds / 4) for dtype in {torch.float32, half}
        },
    }

    def one_by_one() -> list[Tensor]:  # upstream's loop: to the device, network, back, per face
        return [theirs(f[None].to(device), randomize_noise=False)[0].cpu() for f in faces[:4]]

    def restored(backend: str, batch: int) -> dict[str, float]:
        run = load_backend(ours, backend, device)
        faces_per_s = rate(lambda: run(faces[:batch]), device, batch, seconds)
        tflops = faces_per_s * _GFLOP_A_FACE * (face_size / 512) ** 2 / 1e3
        return {
            "faces_per_s": faces_per_s,
            "ratio_to_upstream": faces_per_s / report["upstream"]["faces_per_s"],
            "share_of_peak": tflops / report["matmul_tflops"][str(half)],
            "largest_difference": float((run(faces[:1]) - expected).abs().max()),
        }

    def masked(name: str) -> dict[str, float]:
        parser = PARSERS[name]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "parser.pth"
            torch.save(parser.build().state_dict(), path)
            masker = parsing_masker(parser, load_parser(parser, path, device), device)
        crops = [from_pm1(face) for face in faces[:4]]
        return {"masks_per_s": rate(lambda: masker(crops), device, len(crops), seconds)}

    parts: dict[str, Callable[[], Any]] = {
        "upstream": lambda: {"faces_per_s": rate(one_by_one, device, 4, seconds)}
    }
    for backend in ("torch", "compile") if device.startswith("cuda") else ("torch",):
        for batch in _BATCHES:
            parts[f"{backend}, batch {batch}"] = partial(restored, backend, batch)
    for name in PARSERS:
        parts[f"mask {name}"] = partial(masked, name)
    parts["profile"] = lambda: _profile(
        lambda: load_backend(ours, "torch", device)(faces[:8]), device
    )
    return _fill(report, parts, keep)


def _fill(
    report: dict[str, Any], parts: dict[str, Callable[[], Any]], keep: Callable[[Any], None]
) -> bool:
    """Measure the parts one after another, into the report; false if one could not be measured."""
    failed = False
    for name, part in parts.items():
        try:
            report[name] = part()
        except Exception as error:  # one figure less: the card's time is too dear to lose the rest
            report[name] = {"error": f"{type(error).__name__}: {error}"}
            failed = True
        print(f"{name}: {json.dumps(report[name])}", flush=True)
        keep(report)
    return not failed


def _profile(run: Callable[[], Any], device: str) -> list[str]:
    """Return the ten costliest kernels or operations of a call, with their time."""
    run()
    kinds = [torch.profiler.ProfilerActivity.CPU]
    key = "self_cpu_time_total"
    if device.startswith("cuda"):
        kinds, key = [*kinds, torch.profiler.ProfilerActivity.CUDA], "self_device_time_total"
    with torch.profiler.profile(activities=kinds) as profile:
        run()
        _wait_for(device)
    costliest = sorted(profile.key_averages(), key=lambda event: -getattr(event, key))[:10]
    return [
        f"{getattr(event, key) / 1e3:.2f} ms, {event.count}x {event.key}" for event in costliest
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("benchmark_gpu.json"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--face-size", type=int, default=512)
    parser.add_argument("--seconds", type=float, default=_SECONDS, help="for each figure")
    options = parser.parse_args()

    def keep(report: Any) -> None:
        options.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")

    return 0 if measure(options.device, options.face_size, options.seconds, keep) else 1


if __name__ == "__main__":
    sys.exit(main())
