"""Batches from a bucket, and on Ray: both need packages that only these tests use."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from batch_photos import make_photos, rows_of, save_photo

from gfpgan_core.__main__ import main

pytest.importorskip("pyarrow", reason="batches need pyarrow")

_RUN = ["--version", "compact", "--aligned", "--format", "png", "--scale", "1"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return make_photos(tmp_path / "photos", 4)


def _run(source: str, name: str, tmp_path: Path, *more: str) -> dict[str, str]:
    manifest, output = tmp_path / f"{name}.parquet", tmp_path / name
    command = ["batch", "manifest", source, "--output", str(manifest), "--shards", "3"]
    assert main(command) == 0
    assert main(["batch", "run", str(manifest), "--output", str(output), *_RUN, *more]) == 0
    (run,) = output.iterdir()
    return {_name(row.uri): row.sha256 for row in rows_of(run)}


def _name(uri: str) -> str:
    return uri.partition("?")[0].rpartition("/")[2]


def test_a_buckets_photos_give_the_bytes_of_a_folders(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server_module = pytest.importorskip("moto.server", reason="needs moto[s3,server]")
    boto3 = pytest.importorskip("boto3")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    server = server_module.ThreadedMotoServer(port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        client = boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1")
        client.create_bucket(Bucket="album")
        for path in photos.iterdir():
            client.put_object(Bucket="album", Key=f"in/{path.name}", Body=path.read_bytes())
        client.put_object(Bucket="album", Key="in/notes.txt", Body=b"no photo")
        query = f"scheme=http&endpoint_override={host}:{port}&region=us-east-1"
        remote = _run(f"s3://album/in?{query}", "remote", tmp_path)
    finally:
        server.stop()
    local = _run(str(photos), "local", tmp_path)
    assert remote == local
    assert sorted(remote) == ["0.png", "1.png", "2.png", "3.png", "broken.jpg"]
    assert not list(tmp_path.rglob(".fetched_*"))


def test_ray_gives_the_bytes_of_local_workers(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ray.data", reason="needs ray[data]")
    local = _run(str(photos), "local", tmp_path)
    assert len(local) == 5
    try:
        found = _run(str(photos), "on_ray", tmp_path, "--ray", "--workers", "2")
    except AssertionError:
        if "Ray can't be started" in capsys.readouterr().err:
            pytest.skip("this machine is too busy to start Ray within its 30 s")
        raise
    assert found == local


def test_a_ray_that_does_not_start_is_said_with_what_helps(
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def init(**_: object) -> None:
        raise RuntimeError("The current node timed out during startup.")

    ended: list[bool] = []
    ray = SimpleNamespace(init=init, shutdown=lambda: ended.append(True))
    for name in ("ray", "ray.data"):
        monkeypatch.setitem(sys.modules, name, ray)
    manifest = tmp_path / "m.parquet"
    assert main(["batch", "manifest", str(photos), "--output", str(manifest)]) == 0
    command = ["batch", "run", str(manifest), "--output", str(tmp_path / "out"), *_RUN, "--ray"]
    for address, said in (([], "started on this machine"), (["--address", "host:1"], "at host:1")):
        assert main([*command, *address]) == 1
        assert f"{said}: The current node timed out" in capsys.readouterr().err
    assert ended == [True, True]


def test_what_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    save_photo(tmp_path / "a.png", 1)
    command = ["batch", "manifest", str(tmp_path), "--output", str(tmp_path / "m.parquet")]
    assert main(command) == 1
    assert 'pip install "gfpgan-core[batch]"' in capsys.readouterr().err
