"""A catalogue on a two-node Ray cluster of this machine, one of whose workers is killed."""

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from frame_transformer import Separator
from frame_transformer.audio import decode
from frame_transformer.errors import OptionError
from frame_transformer.separation import (
    OutputOptions,
    SeparationOptions,
    find_remote_songs,
    find_songs,
    separate_on_cluster,
)
from frame_transformer.separation import cluster as cluster_module
from frame_transformer.separation.cluster import _Worker
from frame_transformer.separation.planning import plan_songs
from frame_transformer.separation.records import LocalFolder

ray = pytest.importorskip("ray")
OPTIONS = OutputOptions(bit_depth="32f", clip="none")


class Fatal(torch.nn.Module):
    """A model that kills its own process, once, in the middle of the second song that a worker gets."""

    def __init__(self, model, marker: Path):
        super().__init__()
        self.model, self.config, self.marker = model, model.config, marker
        self.windows = 0

    def forward(self, x):
        self.windows += 1
        if self.windows == 3 and not self.marker.exists():
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.model(x)


@pytest.fixture
def cluster(monkeypatch):
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_raylet_start_wait_time_s", "120")
    node = {"num_cpus": 1, "object_store_memory": 80 * 1024**2, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    cluster.add_node(num_cpus=1, object_store_memory=80 * 1024**2)
    ray.init(address=cluster.address, log_to_driver=False)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.mark.timeout(300)
def test_every_track_once_though_a_worker_is_killed(cluster, tiny_model, song, tmp_path):
    catalogue = tmp_path / "catalogue"
    for album in "ab":
        (catalogue / album).mkdir(parents=True)
        for number in range(3):
            shutil.move(song(f"{number}.wav", samples=20_000 + number), catalogue / album)
    (catalogue / "broken.mp3").write_text("no sound in here " * 100)
    found = find_songs([str(catalogue)])
    assert [(song.folder, song.file.stem) for song in found.songs] == [
        *[(album, number) for album in "ab" for number in "012"],
        ("", "broken"),
    ]
    songs = found.songs
    marker, output = tmp_path / "killed", tmp_path / "out"

    def run():
        separation = SeparationOptions((Fatal(tiny_model, marker),), device="cpu")
        return list(separate_on_cluster(songs, output.as_uri(), OPTIONS, separation))

    results = run()
    assert marker.exists()
    assert sorted(result.source for result in results) == sorted(song.source for song in songs)
    errors = {str(result.source): result.error for result in results if result.error}
    assert list(errors) == [str(catalogue / "broken.mp3")], errors
    whole = Separator(tiny_model)
    for done in songs[:-1]:
        mixture = decode(done.source)[0]
        folder = output / "Fatal" / done.folder / done.file.stem
        vocals, instrumental = decode(folder / "vocals.wav")[0], decode(folder / "instrumental.wav")[0]
        assert np.abs(vocals - whole.separate(mixture).vocals).max() < 1e-5
        assert np.abs(vocals + instrumental - mixture).max() < 1e-5
    files = [path for path in output.rglob("*") if path.is_file()]
    assert len(files) == 3 * 6
    records = [json.loads(path.read_text()) for path in files if path.suffix == ".json"]
    assert sorted(record["source"] for record in records) == sorted(str(song.source) for song in songs[:-1])

    (output / "Fatal" / "b" / "2" / "vocals.wav").unlink()
    again = run()
    assert [result.source for result in again if not result.skipped and not result.error] == [catalogue / "b/2.wav"]
    assert sum(result.skipped for result in again) == 5


def test_songs_of_uris_keep_their_place(song, tmp_path):
    path = song("one.wav")
    (tmp_path / "deep").mkdir()
    shutil.copy(path, tmp_path / "deep" / "two 100%.wav")
    shutil.copy(path, tmp_path / "deep" / "._two.wav")
    remote = find_songs([tmp_path.as_uri()], find_remote_songs).songs
    assert [(found.folder, found.file.stem) for found in remote] == [("deep", "two 100%"), ("", "one")]
    assert [found.source for found in remote] == [(tmp_path / "deep/two 100%.wav").as_uri(), path.as_uri()]
    assert remote[1].version == (path.stat().st_size, path.stat().st_mtime_ns)
    assert find_remote_songs(path.as_uri())[0].file.stem == "one"
    with pytest.raises(OptionError, match="no audio files there"):
        find_remote_songs((tmp_path / "nowhere").as_uri())
    assert "not a location" in find_songs(["gopher://songs/"], find_remote_songs).failures["gopher://songs/"]


def test_workers_report_faults_as_lines(tiny_model, song, tmp_path, monkeypatch):
    (tmp_path / "bad.safetensors").write_text("no model")
    found = find_songs([song("a.wav", samples=2000)]).songs
    separation = SeparationOptions((tiny_model,), device="cpu")
    (planned,) = plan_songs(found, separation, OPTIONS, LocalFolder(tmp_path / "out"))
    row = {"number": 0, "planned": planned}
    # Ray would start a worker that raises again and again.
    broken = _Worker(str(tmp_path / "out"), OPTIONS, SeparationOptions((tmp_path / "bad.safetensors",)), 1, 3)
    assert "bad.safetensors" in broken(row)["fault"]
    attempts = []

    def fail(*_):
        attempts.append(1)
        raise fault

    monkeypatch.setattr(time, "sleep", lambda _: None)
    worker = _Worker(str(tmp_path / "out"), OPTIONS, separation, 1, 3)
    monkeypatch.setattr(cluster_module, "separate_file", fail)
    for fault, count, message in (
        (MemoryError(), 1, "a.wav: not enough memory; try a smaller --window"),
        (IndexError("deep"), 1, "a.wav: IndexError: deep"),
        (OSError("the network is gone"), 3, "a.wav: OSError: the network is gone"),
    ):
        attempts.clear()
        answer = worker(row)
        assert len(attempts) == count
        assert message in json.loads(answer["result"])["error"]
        assert type(fault).__name__ in answer["traceback"]
