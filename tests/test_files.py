import multiprocessing
import os
import subprocess
import sys

import pytest

from frame_transformer.checkpoints import save_model
from frame_transformer.files import whole


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "new" / "file.txt"
    with whole(target) as temporary:
        temporary.write_text("first")
        assert not target.exists()
        assert temporary.suffix == ".txt"
    with pytest.raises(KeyError), whole(target) as temporary:
        temporary.write_text("second")
        raise KeyError
    assert [path.name for path in target.parent.iterdir()] == ["file.txt"]
    assert target.read_text() == "first"


def test_a_folder_replaces_a_folder(tmp_path):
    for name in ("first", "second"):
        with whole(tmp_path / "folder") as temporary:
            temporary.mkdir()
            (temporary / name).touch()
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["second"]
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="there is no umask")
def test_models_have_the_permissions_of_the_user(tiny_model, tmp_path):
    before = os.umask(0o027)
    try:
        save_model(tiny_model, tmp_path / "model.safetensors")
    finally:
        os.umask(before)
    assert (tmp_path / "model.safetensors").stat().st_mode & 0o777 == 0o640


HALF_WRITTEN = """
import os, sys
from frame_transformer.files import whole
with whole(sys.argv[1]) as temporary:
    temporary.write_text("half")
    print("written", flush=True)
    if sys.argv[2] == "killed":
        os._exit(9)
    sys.stdin.read()
"""


def test_the_next_process_removes_what_a_killed_one_left_and_nothing_else(tmp_path):
    def start(how):
        return subprocess.Popen(
            [sys.executable, "-c", HALF_WRITTEN, tmp_path / how, how], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    killed, living = start("killed"), start("living")
    for process in (killed, living):
        process.stdout.readline()
    killed.wait()
    assert len(list(tmp_path.iterdir())) == 2
    with multiprocessing.get_context("spawn").Pool(1) as pool:  # a process that has not written to the folder yet
        pool.apply(_write, [tmp_path / "next"])
    assert len(list(tmp_path.iterdir())) == 2
    living.communicate()
    assert {path.name for path in tmp_path.iterdir()} == {"living", "next"}


def _write(path):
    with whole(path) as temporary:
        temporary.touch()
