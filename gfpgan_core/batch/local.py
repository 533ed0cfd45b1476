"""Run shards on this machine, by several workers with a process each."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

from gfpgan_core.batch.rows import Row
from gfpgan_core.batch.worker import Job, Worker


def run_here(
    job: Job,
    shards: list[int],
    workers: int,
    *,
    on_row: Callable[[Row], None] = lambda row: None,
    on_shard: Callable[[int, int], None] = lambda shard, photos: None,
) -> None:
    """Run shards by `workers` processes; on an error or Ctrl-C all of them end.

    `on_row` is called with the row of each photo, `on_shard` with each shard's number and how many
    photos of it this run did.

    Raises:
        InputError: the manifest can't be read, results can't be written, or another process works
            on one of the shards.
        WeightsError: the networks' weights can't be had.
    """
    left: Iterator[int] = iter(shards)
    lock = threading.Lock()

    def one_at_a_time(row: Row) -> None:
        with lock:
            on_row(row)

    def work(worker: Worker) -> None:
        with worker:
            while True:
                with lock:
                    shard = next(left, None)
                if shard is None:
                    return
                photos = worker.run_shard(shard, one_at_a_time)
                with lock:
                    on_shard(shard, photos)

    all_workers = [Worker(job) for _ in range(min(workers, len(shards)))]
    with ThreadPoolExecutor(max(1, len(all_workers))) as pool:
        futures = [pool.submit(work, worker) for worker in all_workers]
        try:
            for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                future.result()
        except BaseException:
            for worker in all_workers:
                worker.stop()
            raise
