"""Faces/s on a GPU against upstream's loop, the share of the card's peak, and where time goes.

    python -m scripts.benchmark_gpu --output docs/benchmark_gpu.json

One call, some minutes. Random full-size weights; upstream restores one face at a time in float32,
ours takes batches. Never run where it was written, for want of a GPU: only its path on the CPU was
(`--device cpu --face-size 64`).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gfpgan_core.backends import half_dtype, load_backend
from gfpgan_core.config import GeneratorConfig
from gfpgan_core.images import from_pm1
from gfpgan_core.masks import PARSERS, parsing_masker
from gfpgan_core.weights import build, load_strictly
from scripts.benchmark_sides import upstream_generator

_BATCHES = (1, 8, 32)
_SECONDS = 8.0  # for each figure
_GFLOP_A_FACE = 395  # upstream's form at 512 px, multiplier 2; ours needs 265 for the same picture


def rate(run: Callable[[], Any], device: str, items: int, seconds: float) -> float:
    """Items a second, after two warm calls."""
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
    """What the card reaches in one large matrix product."""
    side = 8192 if device.startswith("cuda") else 512
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return rate(lambda: a @ b, device, 1, seconds) * 2 * side**3 / 1e12


@torch.no_grad()
def measure(device: str, face_size: int, seconds: float) -> dict[str, Any]:
    theirs = upstream_generator(face_size).to(device)
    ours = build(GeneratorConfig(face_size_px=face_size)).eval()
    load_strictly(ours, theirs.state_dict(), Path("upstream"))
    ours = ours.requires_grad_(False).to(device)
    shape = (max(_BATCHES), 3, face_size, face_size)
    faces = torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 2 - 1

    def one_by_one() -> list[Tensor]:  # upstream's loop: to the device, network, back, per face
        return [theirs(f[None].to(device), randomize_noise=False)[0].cpu() for f in faces[:4]]

    report: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else device,
        "torch": torch.__version__,
        "matmul_tflops": {
            str(dtype): matmul_tflops(device, dtype, seconds / 4)
            for dtype in (torch.float32, half_dtype(device))
        },
        "upstream_faces_per_s": rate(one_by_one, device, 4, seconds),
        "ours": [],
    }
    expected = theirs(faces[:1].to(device), randomize_noise=False)[0].cpu()
    for backend in ("torch", "compile") if device.startswith("cuda") else ("torch",):
        run = load_backend(ours, backend, device)
        for batch in _BATCHES:
            faces_per_s = rate(lambda r=run, n=batch: r(faces[:n]), device, batch, seconds)  # type: ignore[misc]
            row = {
                "backend": backend,
                "batch": batch,
                "faces_per_s": faces_per_s,
                "ratio": faces_per_s / report["upstream_faces_per_s"],
                "tflops_of_upstreams_form": faces_per_s
                * _GFLOP_A_FACE
                * (face_size / 512) ** 2
                / 1e3,
                "largest_difference": float((run(faces[:1]) - expected).abs().max()),
            }
            report["ours"].append(row)
            print(json.dumps(row), flush=True)
    crops = [from_pm1(face) for face in faces[:4]]
    for name, parser in PARSERS.items():
        masker = parsing_masker(parser, parser.build().eval().to(device), device)
        rates = rate(lambda m=masker: m(crops), device, len(crops), seconds)  # type: ignore[misc]
        report[f"{name}_masks_per_s"] = rates
    report["profile"] = _profile(lambda: load_backend(ours, "torch", device)(faces[:8]), device)
    return report


def _profile(run: Callable[[], Any], device: str) -> list[str]:
    """The ten costliest kernels or operations of a call."""
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
    report = measure(options.device, options.face_size, options.seconds)
    options.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
