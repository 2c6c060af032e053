import json
import shutil

import numpy as np
import pytest

import frame_transformer
from frame_transformer.errors import DataError, ModelError, OptionError
from frame_transformer.evaluation import METRICS, runner, si_sdr, utterance_sdr

from .conftest import make_stems, write

QUICK = ("uSDR", "SI-SDR")


@pytest.fixture(scope="module")
def evaluation(dataset, separated, tiny_file, tmp_path_factory):
    """Everything there is, on two songs in two processes."""
    folder = tmp_path_factory.mktemp("evaluation")
    result = frame_transformer.evaluate(
        dataset, [tiny_file, [tiny_file, tiny_file]], estimates=[separated], output=folder, jobs=2, device="cpu"
    )
    return result, folder


def test_systems_songs_and_metrics(evaluation):
    result, _ = evaluation
    assert result.systems == ["mixture", "irm", "ibm", "sometool", "tiny", "tiny+tiny"]
    assert result.songs == ["test/One - First", "test/Two - Second"]
    assert result.errors == []
    assert len(result.scores) == 12
    assert result.metrics == tuple(METRICS)


def test_scores_are_those_of_the_metrics(evaluation):
    result, _ = evaluation
    stems = make_stems(0, channels=1)
    vocals, rest = stems["vocals"], stems["drums"] + stems["bass"] + stems["other"]
    score = result.of("sometool")[0]
    assert score.stems["vocals"]["uSDR"] == pytest.approx(utterance_sdr(vocals, vocals + 0.1 * rest), abs=1e-3)
    assert score.stems["instrumental"]["SI-SDR"] == pytest.approx(si_sdr(rest, rest + 0.1 * vocals), abs=1e-3)
    assert score.stems["vocals"]["cSDR"] == pytest.approx(np.median(score.frames["vocals"]["cSDR"]))
    assert score.seconds == pytest.approx(2)


def test_ensemble_of_one_model_twice_is_that_model(evaluation):
    result, _ = evaluation
    for metric in METRICS:
        assert result.average("tiny", "vocals", metric) == pytest.approx(
            result.average("tiny+tiny", "vocals", metric), abs=1e-3
        )


def test_oracles_lie_between_the_mixture_and_the_truth(evaluation):
    result, _ = evaluation
    mixture, irm = (result.average(system, "vocals", "uSDR") for system in ("mixture", "irm"))
    assert irm > mixture + 3


def test_second_run_scores_nothing(evaluation, dataset, separated, tiny_file, monkeypatch):
    first, folder = evaluation
    monkeypatch.setattr(runner, "_score_song", None)
    seen = []
    second = frame_transformer.evaluate(
        dataset, [tiny_file], estimates=[separated], metrics=QUICK, output=folder, device="cpu",
        progress=lambda *progress: seen.append(progress),
    )  # fmt: skip
    assert seen == [(10, 10, "")]
    assert second.average("tiny", "vocals", "uSDR") == first.average("tiny", "vocals", "uSDR")
    assert second.of("sometool")[0].stems["vocals"].keys() == set(QUICK)


def test_only_what_changed_is_scored_again(dataset, separated, tmp_path):
    folder, output = tmp_path / "tool", tmp_path / "evaluation"
    shutil.copytree(separated, folder)
    seen = []

    def run():
        seen.clear()
        return frame_transformer.evaluate(
            dataset, [], estimates={"tool": folder}, baselines=["mixture"], metrics=QUICK, output=output, jobs=1,
            progress=lambda *progress: seen.append(progress),
        )  # fmt: skip

    run()
    assert [done for done, _, _ in seen] == [0, 2, 4]
    write(folder / "Two - Second/vocals.wav", make_stems(1, channels=1)["vocals"])
    result = run()
    assert seen == [(3, 4, ""), (4, 4, "test/Two - Second")]
    assert result.of("tool")[1].stems["vocals"]["uSDR"] > 60
    damaged = output / "scores/tool/test/One - First.json"
    damaged.write_text("{")
    run()
    assert seen == [(3, 4, ""), (4, 4, "test/One - First")]
    assert json.loads(damaged.read_text())["song"] == "test/One - First"


def test_failures_do_not_stop_the_others(dataset, separated, tmp_path):
    folder, songs = tmp_path / "tool", tmp_path / "songs"
    shutil.copytree(separated, folder)
    shutil.rmtree(folder / "Two - Second")
    shutil.copytree(dataset, songs)
    write(songs / "Zero/vocals.wav", make_stems(0, channels=1)["vocals"])
    (songs / "Zero/instrumental.wav").write_text("no audio")
    result = frame_transformer.evaluate(
        songs, [], estimates=[folder], baselines=["mixture"], metrics=QUICK, output=tmp_path / "out", jobs=1
    )
    assert [(score.system, score.song) for score in result.scores] == [
        ("mixture", "One - First"), ("tool", "One - First"), ("mixture", "Two - Second"),
    ]  # fmt: skip
    assert len(result.errors) == 2
    assert "has no stems of 'Two - Second'" in result.errors[0]
    assert "instrumental.wav: cannot be read as audio" in result.errors[1]


def test_a_songs_fault_is_told_once(dataset, separated, tmp_path):
    songs = tmp_path / "songs"
    shutil.copytree(dataset, songs)
    for name, gain in (("One - First", 0.5), ("Two - Second", 0.85)):
        mixture = sum(make_stems(int(name == "Two - Second"), channels=1).values())
        write(songs / name / "mixture.wav", gain * mixture)
    for _ in range(2):  # the second run reads the scores of the first
        result = frame_transformer.evaluate(
            songs, [], estimates=[separated], baselines=["mixture", "irm"], metrics=QUICK, output=tmp_path, jobs=1
        )
        assert len(result.scores) == 3
        (error,), (warning,) = result.errors, result.warnings
        assert error.startswith("One - First: ")
        assert "6.0 dB quieter" in error
        assert warning.startswith("Two - Second: ")
        assert "1.4 dB quieter" in warning
        assert result.to_dict()["warnings"] == [warning]
        assert f"- {warning}" in result.markdown()


def test_silent_vocals_leave_the_instrumental_scored(tmp_path, noise):
    write(tmp_path / "songs/one/vocals.wav", np.zeros((2, 50_000), np.float32))
    write(tmp_path / "songs/one/instrumental.wav", noise(2, 50_000))
    result = frame_transformer.evaluate(tmp_path / "songs", [], baselines=["irm"], output=tmp_path / "out")
    assert result.average("irm", "vocals", "uSDR") is None
    assert result.average("irm", "vocals", "cSDR") is None
    assert result.average("irm", "instrumental", "uSDR") > 60


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"metrics": ["PESQ"]}, OptionError, "unknown metric 'PESQ'"),
        ({"metrics": []}, OptionError, "no metric given"),
        ({"baselines": ["oracle"]}, OptionError, "unknown baseline 'oracle'"),
        ({"baselines": []}, OptionError, "nothing to evaluate"),
        ({"estimates": {"mixture": "."}}, OptionError, "two systems are called 'mixture'"),
        ({"estimates": {"../x": "."}}, OptionError, "NAME=FOLDER"),
        ({"estimates": ["nowhere"]}, OptionError, "nowhere: no such folder"),
        ({"models": ["no-such-model"]}, ModelError, "unknown model 'no-such-model'"),
        ({"models": ["default", "no-such-model"]}, ModelError, "unknown model 'no-such-model'"),
        ({"songs": "nowhere"}, DataError, "nowhere: no such folder"),
    ],
)
def test_bad_options(options, error, message, dataset, tmp_path):
    arguments = {"songs": dataset, "models": [], "output": tmp_path} | options
    with pytest.raises(error, match=message):
        frame_transformer.evaluate(**arguments)
