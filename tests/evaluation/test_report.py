import csv
import json

import pytest

from frame_transformer.errors import DataError
from frame_transformer.evaluation import Evaluation, SongScore


@pytest.fixture
def evaluation():
    """Vocals of "a" score 1, 2 and 6, and one song has none; "b" did one song."""
    result = Evaluation(["a", "b"], ["x", "y", "z", "w"], ("cSDR", "uSDR"), errors=["w, b: is missing"])
    for system, values in (("a", (6.0, 1.0, 2.0, None)), ("b", (3.0,))):
        for song, value in zip(result.songs, values, strict=False):
            stems = {"vocals": {"cSDR": value, "uSDR": value}, "instrumental": {"cSDR": 1.0, "uSDR": 1.0}}
            result.scores.append(SongScore(system, song, 3.0, 1.0, stems, {}, [f"{song} was short"]))
    return result


def test_each_metric_has_its_own_average_over_songs(evaluation):
    assert evaluation.average("a", "vocals", "cSDR") == 2
    assert evaluation.average("a", "vocals", "uSDR") == 3
    assert evaluation.average("b", "vocals", "uSDR") == 3


def test_table(evaluation):
    assert evaluation.table("vocals") == [
        ["system", "songs", "cSDR", "uSDR"],
        ["a", "4", "2.00", "3.00"],
        ["b", "1", "3.00", "3.00"],
    ]


def test_files(evaluation, tmp_path):
    written = evaluation.write(tmp_path / "out")
    assert [path.name for path in written] == ["results.json", "summary.csv", "songs.csv", "report.md", "boxplot.png"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {path.name for path in written}
    results = json.loads(written[0].read_text())
    assert results["summary"]["a"]["vocals"] == {"cSDR": 2.0, "uSDR": 3.0}
    assert results["summary"]["a"]["songs"] == 4
    assert results["scores"][3]["stems"]["vocals"]["uSDR"] is None
    summary, songs = (list(csv.DictReader(path.open())) for path in written[1:3])
    assert summary[0] == {"system": "a", "stem": "vocals", "songs": "4", "cSDR": "2.0", "uSDR": "3.0"}
    assert len(songs) == 10
    assert songs[6]["uSDR"] == ""
    assert written[4].read_bytes().startswith(b"\x89PNG")


def test_markdown_says_which_average_is_which(evaluation):
    text = evaluation.markdown()
    assert "| a | 4 | 2.00 | 3.00 |" in text
    assert "| cSDR | dB | median of the medians over frames of 1 s |" in text
    assert "| uSDR | dB | mean |" in text
    assert "| w | a | – | – |" in text
    assert "- w, b: is missing" in text
    assert "- x, a: x was short" in text


def test_unwritable_folder(evaluation, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot be written .*choose another output folder"):
        evaluation.write(tmp_path / "file")
