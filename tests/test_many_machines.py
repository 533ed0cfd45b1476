"""docs/many-machines.md: its commands, its Slurm script, its Kubernetes job and its Ray cluster."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pages
import pytest
import yaml

from gfpgan_core.cli.parser import make_parser

PAGE = "many-machines.md"


def _kind(name: str) -> dict[str, Any]:
    """Return the one file of the page that has this key."""
    files = [yaml.safe_load(text) for text in pages.blocks(PAGE, kind="yaml")]
    (found,) = [file for file in files if name in file]
    return dict(found)


def _options(command: str) -> dict[str, Any]:
    """Return what the command line makes of a command.

    Raises:
        SystemExit: it refuses it.
    """
    program, *arguments = shlex.split(command)
    assert program == "gfpgan"
    return vars(make_parser().parse_args(arguments))


def test_every_command_is_one() -> None:
    commands = [one for one in pages.commands(PAGE) if one.startswith("gfpgan ")]
    assert len(commands) >= 7
    for command in commands:
        assert _options(command.partition(">")[0])["command"] == "batch"


def test_the_slurm_script_takes_its_share(tmp_path: Path) -> None:
    (script,) = [text for text in pages.blocks(PAGE) if "#SBATCH" in text]
    program = tmp_path / "gfpgan"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", script],
        env=os.environ | {"PATH": path, "SLURM_ARRAY_TASK_ID": "63"},
        capture_output=True,
        text=True,
        check=True,
    )
    options = _options(shlex.join(["gfpgan", *done.stdout.splitlines()]))
    assert (options["shard"], options["workers"]) == ("63/64", 8)


def test_the_kubernetes_job_deals_out_every_shard() -> None:
    job = _kind("apiVersion")
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    spec = job["spec"]
    assert spec["completionMode"] == "Indexed" and spec["parallelism"] <= spec["completions"]
    (container,) = spec["template"]["spec"]["containers"]
    (command,) = container["args"]
    options = _options(command.replace('"$JOB_COMPLETION_INDEX/64"', "63/64"))
    assert options["shard"] == f"{spec['completions'] - 1}/{spec['completions']}"
    assert options["workers"] == int(container["resources"]["requests"]["cpu"])
    volumes = {volume["name"] for volume in spec["template"]["spec"]["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    validator = pytest.importorskip("kubernetes_validate", reason="needs kubernetes-validate")
    validator.validate(job, "1.33", strict=True)


def test_ray_takes_the_cluster() -> None:
    cluster = _kind("cluster_name")
    assert len(cluster["provider"]["worker_ips"]) == cluster["max_workers"]
    ray = pytest.importorskip("ray.autoscaler._private.util", reason="needs ray")
    ray.validate_config(ray.prepare_config(cluster))
    with pytest.raises(Exception, match="max_worker"):
        ray.validate_config(ray.prepare_config(cluster | {"max_worker": 2}))
