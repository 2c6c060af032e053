"""A catalogue on a two-node Ray cluster of this machine, one of whose workers is killed."""

import json
import os
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from frame_transformer import Separator
from frame_transformer.audio import decode
from frame_transformer.errors import OptionError
from frame_transformer.separation import OutputOptions, SeparationOptions
from frame_transformer.separation.cluster import _plan, find_tracks, separate_on_cluster

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
    tracks = find_tracks([str(catalogue)])
    assert [track.name for track in tracks] == ["a/0", "a/1", "a/2", "b/0", "b/1", "b/2", "broken"]
    marker, output = tmp_path / "killed", tmp_path / "out"

    def run():
        separation = SeparationOptions((Fatal(tiny_model, marker),), device="cpu")
        return list(separate_on_cluster(tracks, output.as_uri(), OPTIONS, separation))

    results = run()
    assert marker.exists()
    assert sorted(str(result.source) for result in results) == sorted(track.source for track in tracks)
    errors = {str(result.source): result.error for result in results if result.error}
    assert list(errors) == [str(catalogue / "broken.mp3")], errors
    whole = Separator(tiny_model)
    for track in tracks[:-1]:
        mixture = decode(track.source)[0]
        vocals = decode(output / "Fatal" / track.name / "vocals.wav")[0]
        instrumental = decode(output / "Fatal" / track.name / "instrumental.wav")[0]
        assert np.abs(vocals - whole.separate(mixture).vocals).max() < 1e-5
        assert np.abs(vocals + instrumental - mixture).max() < 1e-5
    files = [path for path in output.rglob("*") if path.is_file()]
    assert len(files) == 3 * 6
    records = [json.loads(path.read_text()) for path in files if path.suffix == ".json"]
    assert sorted(record["source"] for record in records) == sorted(track.source for track in tracks[:-1])

    (output / "Fatal" / "b" / "2" / "vocals.wav").unlink()
    again = run()
    assert [result.source for result in again if not result.skipped and not result.error] == [
        str(catalogue / "b/2.wav")
    ]
    assert sum(result.skipped for result in again) == 5


def test_tracks_of_uris_and_folders_keep_their_place(song, tmp_path):
    path = song("one.wav")
    (tmp_path / "deep").mkdir()
    shutil.copy(path, tmp_path / "deep" / "two.wav")
    remote = find_tracks([tmp_path.as_uri()])
    assert [track.name for track in remote] == ["deep/two", "one"]
    assert [track.source for track in remote] == [(tmp_path / "deep/two.wav").as_uri(), path.as_uri()]
    assert find_tracks([path.as_uri()])[0].name == "one"
    with pytest.raises(OptionError, match="no audio files there"):
        find_tracks([(tmp_path / "nowhere").as_uri()])
    with pytest.raises(OptionError, match="not a location"):
        find_tracks(["gopher://songs/"])


def test_tracks_with_one_target_are_refused(song, tmp_path):
    first, second = song("same.wav"), song("same.flac", audio_format="flac")
    options = replace(OPTIONS, overwrite=True)
    tracks = find_tracks([str(first)])
    jobs, results = _plan([*tracks, *find_tracks([str(second)])], str(tmp_path / "out"), options, SeparationOptions())
    assert [job.track for job in jobs] == tracks
    assert "would overwrite those of" in results[0].error
