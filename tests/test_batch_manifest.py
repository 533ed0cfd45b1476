"""The manifest: what becomes a row, its number and its shard."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from gfpgan_core.__main__ import main
from gfpgan_core.batch import manifest as manifests
from gfpgan_core.errors import InputError

pa = pytest.importorskip("pyarrow", reason="batches need pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def _uris(count: int) -> list[tuple[str, int, str]]:
    return [(f"s3://bucket/{number}.jpg", number, f"e{number}") for number in range(count)]


def test_rows_are_dealt_out_by_their_hash(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    assert manifests.make_manifest(_uris(1000), path, 7) == (1000, {})

    table = parquet.read_table(path)
    names = [("id", pa.int64()), ("uri", pa.string()), ("bytes", pa.int64())]
    assert list(zip(table.schema.names, table.schema.types, strict=True)) == [
        *names,
        ("etag", pa.string()),
        ("shard", pa.int32()),
    ]
    rows = table.to_pylist()
    assert all(row["shard"] == row["id"] % 7 and row["id"] >= 0 for row in rows)
    assert len({row["id"] for row in rows}) == 1000
    assert manifests.shards_of(path) == 7
    assert len(manifests.ids_in(path)) == 1000
    in_shards = [item for shard in range(7) for item in manifests.items_in(path, shard)]
    assert sorted((item.uri, item.bytes, item.etag) for item in in_shards) == sorted(_uris(1000))


def test_ids_are_those_of_every_manifest(tmp_path: Path) -> None:
    manifests.make_manifest(_uris(10), tmp_path / "a", 1)
    manifests.make_manifest(reversed(_uris(20)), tmp_path / "b", 1)
    first, second = (
        {item.uri: item.id for item in manifests.items_in(tmp_path / name, 0)} for name in "ab"
    )
    assert first.items() <= second.items()


def test_a_photo_named_twice_is_one_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "CHUNK_ROWS", 4)  # within a chunk, and in two
    twice = [*_uris(6), *_uris(3), _uris(1)[0], *_uris(9)]
    rows, passed_over = manifests.make_manifest(twice, tmp_path / "m", 2)
    assert (rows, passed_over) == (9, {"given twice": 10})
    assert len(manifests.ids_in(tmp_path / "m")) == 9


def test_folders_and_lists_become_manifests(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for name in ("a.jpg", "sub/b.jfif", ".hidden.jpg"):
        Image.new("RGB", (9, 9)).save(folder / name, "JPEG")
    (folder / "notes.txt").write_text("no photo")
    listed = tmp_path / "list.txt"
    listed.write_text(f"{folder / 'a.jpg'}\n\ns3://bucket/key.jpg\n")
    table = pa.table({"uri": ["x.jpg"], "bytes": [12]})
    parquet.write_table(table, tmp_path / "list.parquet")
    output = tmp_path / "m.parquet"

    sources = [str(folder), str(listed), str(tmp_path / "list.parquet")]
    command = ["batch", "manifest", *sources, "--output", str(output), "--shards", "1"]
    assert main(command) == 0

    said = capsys.readouterr().out
    assert "4 photos in 1 shards" in said
    assert "1 hidden" in said
    assert "1 not images" in said
    assert "1 given twice" in said
    items = {item.uri: item for item in manifests.items_in(output, 0)}
    inner = folder / "sub" / "b.jfif"
    assert items[str(inner)].bytes == inner.stat().st_size
    assert items["s3://bucket/key.jpg"].bytes == -1
    assert items["x.jpg"].bytes == 12
    assert main(command) == 1  # it exists
    assert "exists: choose another name, or --overwrite" in capsys.readouterr().err


def test_what_is_no_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no")
    parquet.write_table(pa.table({"a": [1]}), tmp_path / "other")
    for name in ("text", "other", "absent"):
        with pytest.raises(InputError, match="`gfpgan batch manifest` writes one"):
            manifests.shards_of(tmp_path / name)
    with pytest.raises(InputError, match="the columns a; uri is needed"):
        parquet.write_table(pa.table({"a": [1]}), tmp_path / "list.parquet")
        list(manifests.listed(tmp_path / "list.parquet"))
    with pytest.raises(InputError, match="shards is 0; allowed: 1 to"):
        manifests.make_manifest(_uris(1), tmp_path / "m", 0)
    with pytest.raises(InputError, match="there is no photo"):
        manifests.make_manifest([], tmp_path / "m", 1)
    assert not (tmp_path / "m").exists()
