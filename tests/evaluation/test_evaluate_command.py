"""The command as a user runs it."""

import json
import shutil
from functools import partial

import pytest

from frame_transformer.audio import decode
from frame_transformer.evaluation.systems import FolderSystem

from .conftest import write


@pytest.fixture
def run(run):
    return partial(run, "evaluate")


def test_tables_and_files(run, dataset, separated, tiny_file, tmp_path):
    code, out, err = run(
        dataset, "-n", f"{tiny_file}", "-e", f"tool={separated}", "--metrics", "uSDR,SI-SDR", "-j", 1, "-d", "cpu"
    )
    assert code == 0
    rows = [line.split() for line in out.splitlines()]
    assert [row[0] for row in rows if len(row) == 4 and row[1] == "2"] == ["mixture", "irm", "ibm", "tool", "tiny"] * 2
    assert ["system", "songs", "uSDR", "SI-SDR"] in rows
    assert {path.name for path in (tmp_path / "evaluation").iterdir()} == {
        "results.json", "summary.csv", "songs.csv", "report.md", "boxplot.png", "scores",
    }  # fmt: skip
    assert "evaluation/report.md" in err


def test_json_of_folders_alone(run, dataset, separated):
    code, out, _ = run(dataset, "-e", separated, "--baselines", "none", "--metrics", "uSDR", "-j", 1, "--json")
    assert code == 0
    assert list(json.loads(out)["summary"]) == ["sometool"]


def test_names_may_hold_brackets(run, dataset, separated):
    arguments = (dataset, "-e", f"[red]tool={separated}", "--baselines", "none", "--metrics", "uSDR", "-j", 1)
    assert "[red]tool" in run(*arguments)[1]


def test_ensembles_are_joined_with_plus(run, dataset, tiny_file):
    code, out, _ = run(
        dataset, "-n", f"{tiny_file}+{tiny_file}", "--baselines", "none", "--metrics", "uSDR", "-d", "cpu", "-j", 1
    )
    assert code == 0
    assert "tiny+tiny" in out


def test_failures_are_listed_at_the_end(run, dataset, tmp_path):
    (tmp_path / "empty").mkdir()
    code, out, err = run(dataset, "-e", "empty", "--baselines", "mixture", "--metrics", "uSDR", "-j", 1)
    assert code == 1
    assert "mixture" in out
    assert "error: test/One - First, empty: empty: has no stems of 'test/One - First'" in err
    assert err.endswith("error: 2 of 4 scores failed\n")


def test_a_songs_fault_is_one_line(run, dataset, tmp_path):
    shutil.copytree(dataset, tmp_path / "songs")
    for name, gain in (("One - First", 0.5), ("Two - Second", 0.85)):
        mixture = tmp_path / "songs" / name / "mixture.wav"
        write(mixture, gain * decode(mixture, 44_100)[0])
    code, _, err = run("songs", "--baselines", "mixture,irm", "-e", "songs", "--metrics", "uSDR", "-j", 1)
    assert code == 1
    assert err.count("error: One - First: ") == 1
    assert err.count("warning: Two - Second: ") == 1
    assert err.endswith("error: 3 of 6 scores failed\n")


@pytest.mark.parametrize(
    ("arguments", "exit_code"),
    [(["nowhere"], 1), (["{dataset}", "-n", "no-such-model"], 1), (["{dataset}", "--metrics", "PESQ"], 2)],
)
def test_bad_input_is_one_line(run, dataset, arguments, exit_code):
    code, _, err = run(*(argument.format(dataset=dataset) for argument in arguments))
    assert code == exit_code
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_any_fault_is_that_of_one_system(run, dataset, separated, monkeypatch):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(FolderSystem, "estimate", fail)
    code, out, err = run(dataset, "-e", separated, "--metrics", "uSDR", "-j", 1, "--json")
    assert code == 1
    assert json.loads(out)
    message = "test/One - First, sometool: not enough memory; try fewer songs at once (-j)"
    assert f"error: {message}" in err.splitlines()
