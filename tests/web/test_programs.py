"""The page's addresses as programs use them."""

import re
from pathlib import Path

from frame_transformer.audio import decode

DOCS = Path(__file__).parents[2] / "docs" / "web.md"


def test_the_example_of_the_documentation_runs(page, song, tmp_path, monkeypatch, capsys):
    (example,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    song("song.mp3", audio_format="mp3")
    assert '"default"' in example
    exec(example.replace("http://127.0.0.1:7860", page[0]).replace('"default"', '"tiny"'), {})
    assert "done" in capsys.readouterr().out
    assert decode("vocals.flac")[0].shape[0] == 2
    assert not list(page[1].rglob("upload"))
