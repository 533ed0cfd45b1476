"""Run shards on a Ray cluster, or on a Ray that is started on this machine."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

from gfpgan_core.batch.packages import python_path, require
from gfpgan_core.batch.worker import Job, Worker
from gfpgan_core.errors import InputError

# How often Ray starts a killed worker again; its shard continues from the journal.
_SHARD_RETRIES = 100


class ShardActor:
    """Runs shards in one of Ray's processes, each of which has a `Worker`."""

    def __init__(self, job: Job) -> None:
        self._worker = Worker(job)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """Run the shards of a batch; return their numbers and how many photos were done."""
        done = [self._worker.run_shard(int(shard)) for shard in batch["shard"]]
        return {"shard": list(batch["shard"]), "photos": done}


def _start(ray: Any, address: str) -> None:
    """Start Ray on this machine, or join the one at the address.

    Raises:
        InputError: it can't be had.
    """
    try:
        ray.init(
            address=address or None,
            runtime_env={"env_vars": {"PYTHONPATH": python_path()}},
            include_dashboard=False,
            log_to_driver=False,
            configure_logging=False,
        )
    except Exception as error:  # Ray's errors have no common base
        ray.shutdown()
        where = f"found at {address}" if address else "started on this machine"
        raise InputError(
            f"Ray can't be {where}: {error} A machine that is too busy to start it within Ray's own"
            " 30 s may do so when asked again; --workers without --ray needs no Ray"
        ) from error


def run_on_ray(
    job: Job,
    shards: list[int],
    workers: int,
    *,
    address: str = "",
    gpus_per_worker: float = 0.0,
    on_shard: Callable[[int, int], None] = lambda shard, photos: None,
) -> None:
    """Run shards by a pool of actors. Every node must see the manifest and the folder of results.

    Args:
        job: What is restored, and how.
        shards: Their numbers.
        workers: The largest number of actors.
        address: Of a cluster; empty: Ray is started on this machine, and stopped at the end.
        gpus_per_worker: GPUs, or parts of one, that each worker takes.
        on_shard: Called with each finished shard's number, and how many photos of it this run did.

    Raises:
        InputError: ray isn't installed, can't be started, or there is none at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would send reports
    ray = require("ray")
    data = require("ray.data")
    _start(ray, address)
    try:
        logging.getLogger("ray").setLevel(logging.ERROR)
        data.DataContext.get_current().enable_progress_bars = False
        dataset = data.from_items(
            [{"shard": shard} for shard in shards], override_num_blocks=len(shards)
        )
        results = dataset.map_batches(
            ShardActor,
            fn_constructor_args=(job,),
            batch_size=1,
            compute=data.ActorPoolStrategy(min_size=1, max_size=workers),
            num_cpus=job.settings.threads,
            num_gpus=gpus_per_worker or None,
            max_restarts=_SHARD_RETRIES,
            max_task_retries=_SHARD_RETRIES,
        )
        for row in results.iter_rows():
            on_shard(int(row["shard"]), int(row["photos"]))
    finally:
        ray.shutdown()
