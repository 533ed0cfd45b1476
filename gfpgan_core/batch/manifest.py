"""The manifest: a Parquet file with a row for each photo, its id and its shard."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from gfpgan_core.batch.packages import require
from gfpgan_core.errors import InputError
from gfpgan_core.files import whole_file
from gfpgan_core.formats import SUFFIXES

CHUNK_ROWS = 500_000  # sorted by shard, so that a shard's rows lie together in each chunk
_ROW_GROUP_ROWS = 25_000
_SHARDS_KEY = b"gfpgan_shards"


@dataclass(frozen=True)
class Item:
    """A photo of the manifest."""

    id: int
    """63 bits of the hash of `uri`."""
    uri: str
    """A path, or an address that pyarrow's file systems read (s3://bucket/key)."""
    bytes: int
    """-1: not known."""
    etag: str
    """Changes when the photo does: size and time of a local file or of an object in a bucket."""


def id_of(uri: str) -> int:
    """Return the id of a photo: 63 bits of the hash of its uri, the same in every manifest."""
    return int.from_bytes(hashlib.blake2b(uri.encode(), digest_size=8).digest(), "big") >> 1


def make_manifest(
    found: Iterable[tuple[str, int, str]], path: Path, shards: int
) -> tuple[int, Counter[str]]:
    """Write the manifest of photos given as uri, bytes and etag; return their number.

    Streams: memory holds one chunk of rows, and 8 bytes for each photo. A uri that comes twice is
    kept once; how many did is counted.

    Raises:
        InputError: no photos, unusable `shards`, or the file can't be written.
    """
    if not 1 <= shards <= 1_000_000:
        raise InputError(f"shards is {shards}; allowed: 1 to 1000000")
    parquet = require("pyarrow.parquet")
    schema = _schema().with_metadata({_SHARDS_KEY: str(shards).encode()})
    seen: list[NDArray[np.int64]] = []
    passed_over: Counter[str] = Counter()
    rows = 0
    try:
        with (
            whole_file(path) as temporary,
            parquet.ParquetWriter(temporary, schema, compression="zstd") as writer,
        ):
            for chunk in _chunks(found):
                table = _table(chunk, shards, schema, seen)
                passed_over["given twice"] += len(chunk) - table.num_rows
                writer.write_table(table, row_group_size=_ROW_GROUP_ROWS)
                rows += table.num_rows
            if not rows:
                raise InputError("there is no photo to put into a manifest")
    except OSError as error:
        raise InputError(f"{path} can't be written: {error.strerror or error}") from error
    return rows, +passed_over


def _schema() -> Any:
    pa = require("pyarrow")
    return pa.schema(
        [
            ("id", pa.int64()),
            ("uri", pa.string()),
            ("bytes", pa.int64()),
            ("etag", pa.string()),
            ("shard", pa.int32()),
        ]
    )


def _chunks(found: Iterable[tuple[str, int, str]]) -> Iterator[list[tuple[str, int, str]]]:
    rest = iter(found)
    while chunk := list(islice(rest, CHUNK_ROWS)):
        yield chunk


def _table(
    chunk: list[tuple[str, int, str]], shards: int, schema: Any, seen: list[NDArray[np.int64]]
) -> Any:
    """Return the chunk's new photos, ordered by shard; adds their ids to `seen`."""
    pa = require("pyarrow")
    ids = np.fromiter((id_of(uri) for uri, _, _ in chunk), np.int64, len(chunk))
    first = np.zeros(len(ids), bool)
    first[np.unique(ids, return_index=True)[1]] = True
    for before in seen:
        places = np.searchsorted(before, ids).clip(max=len(before) - 1)
        first &= before[places] != ids
    seen.append(np.sort(ids[first]))
    if not first.any():
        seen.pop()
    order = np.flatnonzero(first)
    order = order[np.lexsort((ids[order], ids[order] % shards))]
    columns = [
        ids[order],
        [chunk[i][0] for i in order],
        [chunk[i][1] for i in order],
        [chunk[i][2] for i in order],
        (ids[order] % shards).astype(np.int32),
    ]
    return pa.table(dict(zip(schema.names, columns, strict=True)), schema=schema)


def shards_of(path: Path) -> int:
    """Return how many shards a manifest has.

    Raises:
        InputError: it can't be read as a manifest.
    """
    metadata = _metadata(path).metadata or {}
    return int(metadata[_SHARDS_KEY])


def items_in(path: Path, shard: int) -> list[Item]:
    """Return the photos of one shard, by id.

    Raises:
        InputError: the manifest can't be read, or has no such shard.
    """
    shards = shards_of(path)
    if not 0 <= shard < shards:
        raise InputError(f"shard is {shard}; {path} has 0 to {shards - 1}")
    dataset, pa = require("pyarrow.dataset"), require("pyarrow")
    names = ["id", "uri", "bytes", "etag"]
    try:
        table = dataset.dataset(path).to_table(names, filter=dataset.field("shard") == shard)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error
    return [Item(**row) for row in table.sort_by("id").to_pylist()]


def ids_in(path: Path) -> NDArray[np.int64]:
    """Return the ids of all photos of a manifest, sorted.

    Raises:
        InputError: it can't be read as a manifest.
    """
    parquet, pa = require("pyarrow.parquet"), require("pyarrow")
    try:
        ids = parquet.read_table(path, columns=["id"]).column("id").to_numpy()
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error
    return np.sort(ids)


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path} can't be read as a manifest: {' '.join(str(error).split())[:200]};"
        " `gfpgan batch manifest` writes one"
    )


def _metadata(path: Path) -> Any:
    parquet, pa = require("pyarrow.parquet"), require("pyarrow")
    try:
        metadata = parquet.read_metadata(path)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error
    if _SHARDS_KEY not in (metadata.metadata or {}):
        raise InputError(f"{path} is no manifest: `gfpgan batch manifest` writes one")
    return metadata


def listed(path: Path) -> Iterator[tuple[str, int, str]]:
    """Yield the photos that a text file names, one uri a line, or a Parquet file's column `uri`.

    Raises:
        InputError: it can't be read.
    """
    if path.suffix == ".parquet":
        yield from _listed_in_parquet(path)
        return
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                if uri := line.strip():
                    yield uri, -1, ""
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} can't be read as a list of photos: {error}") from error


def _listed_in_parquet(path: Path) -> Iterator[tuple[str, int, str]]:
    parquet, pa = require("pyarrow.parquet"), require("pyarrow")
    try:
        file = parquet.ParquetFile(path)
        wanted = [name for name in ("uri", "bytes", "etag") if name in file.schema_arrow.names]
        if "uri" not in wanted:
            raise InputError(
                f"{path} has the columns {', '.join(file.schema_arrow.names)}; uri is needed"
            )
        for batch in file.iter_batches(columns=wanted):
            columns = {name: batch.column(name).to_pylist() for name in wanted}
            uris = columns["uri"]
            sizes = columns.get("bytes", [-1] * len(uris))
            etags = columns.get("etag", [""] * len(uris))
            for uri, size, etag in zip(uris, sizes, etags, strict=True):
                if uri:
                    yield uri, -1 if size is None else size, etag or ""
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path} can't be read as Parquet: {error}") from error


def in_bucket(uri: str) -> Iterator[tuple[str, int, str]]:
    """Yield the photos below an address such as s3://bucket/folder, told by their suffix.

    Raises:
        InputError: it can't be listed.
    """
    fs, pa = require("pyarrow.fs"), require("pyarrow")
    base, _, query = uri.partition("?")
    scheme = base.partition("://")[0]
    try:
        system, root = fs.FileSystem.from_uri(uri)
        for info in system.get_file_info(fs.FileSelector(root, recursive=True)):
            if info.type == fs.FileType.File and info.extension.lower() in _EXTENSIONS:
                # Else a name with a space, #, ? or % would be another's, or no address.
                address = f"{scheme}://{quote(info.path, safe=_PLAIN_IN_PATHS)}"
                address += f"?{query}" if query else ""
                yield address, info.size, f"{info.size}-{info.mtime_ns}"
    except (OSError, ValueError, pa.ArrowException) as error:
        raise InputError(f"{base} can't be listed: {' '.join(str(error).split())[:300]}") from error


_PLAIN_IN_PATHS = "/:@!$&'()*+,;="  # beside letters and digits, by RFC 3986
_EXTENSIONS = frozenset(suffix.lstrip(".") for suffix in SUFFIXES)


def local_etag(path: str) -> tuple[int, str]:
    """Return a local file's size in bytes and its etag, which changes when the file does.

    Raises:
        OSError: there is no such file.
    """
    status = os.stat(path)  # noqa: PTH116 - a string, millions of times
    return status.st_size, f"{status.st_size}-{status.st_mtime_ns}"
