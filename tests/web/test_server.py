"""The server without a browser: limits, secrets, clean-up."""

import base64
import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from frame_transformer.errors import ModelError, OptionError
from frame_transformer.separation import Separator, separate_file
from frame_transformer.web import PageOptions, create_app, server


def upload(client, path, name=None):
    visit = client.post("/visits").json()["visit"]
    answer = client.post(f"/visits/{visit}/songs", params={"name": name or path.name}, content=path.read_bytes())
    return visit, answer


def separate(client, visit, song, session="test", **choice):
    """Goes through the queue as the page does and returns the last message and all text that was received."""
    chosen = {"models": ["tiny"], "ensemble": "mean", "stems": ["vocals", "instrumental"], "format": "wav"}
    chosen |= {"overlap": 0.25, "tta": False, "smoothing": 0, "weights": None} | choice
    body = {"data": [visit, song, *chosen.values()], "fn_index": 0, "session_hash": session}
    text = client.post("/engine/gradio_api/queue/join", json=body).text
    text += client.get("/engine/gradio_api/queue/data", params={"session_hash": session}).text
    lines = [json.loads(line[5:]) for line in text.splitlines() if line.startswith("data:")]
    return next(line for line in lines if line["msg"] == "process_completed"), text


def test_separation_through_the_queue_names_no_folder_of_the_server(client, song):
    client = client()
    visit, answer = upload(client, song(), "../../etc/My: song?.wav")
    assert answer.json()["name"] == "My_ song_.wav"
    identity = answer.json()["song"]
    address = f"/visits/{visit}/songs/{identity}"
    message, text = separate(client, visit, identity)
    assert message["success"]
    result = message["output"]["data"][0]
    assert [track["samples"] for track in result["tracks"]] == [30_000] * 3
    stem = client.get(f"{address}/stems/vocals")
    assert 'filename="My_ song_ (vocals).wav"' in stem.headers["content-disposition"] or (
        "My_%20song_%20%28vocals%29.wav" in stem.headers["content-disposition"]
    )
    assert len(client.get(f"{address}/tracks/mixture.pcm").content) == 4 * 30_000
    part = client.get(f"{address}/tracks/mixture.pcm", headers={"Range": "bytes=400-799"})
    assert (part.status_code, len(part.content)) == (206, 400)
    assert client.get(f"{address}/tracks/vocals.png").content.startswith(b"\x89PNG")

    bad, more = separate(client, visit, identity, format="tape")
    assert not bad["success"]
    assert "unknown audio format" in bad["output"]["error"]
    folder = str(client.app.state.visits.folder)
    for said in (text, more, str(stem.headers), client.get("/settings").text, answer.text):
        assert folder not in said
        assert "/root" not in said


def test_errors_of_damaged_songs_name_the_song_only(client, song, tmp_path):
    client = client()
    text = tmp_path / "letter.mp3"
    text.write_text("no sound in here " * 100)
    _, answer = upload(client, text)
    assert answer.status_code == 422
    assert answer.json()["error"].startswith("letter.mp3: cannot be read as audio")
    assert not any(client.app.state.visits.folder.glob("*/*"))
    assert upload(client, tmp_path / "letter.mp3", "..")[1].json()["error"].startswith("song: ")


def test_choices_that_the_page_does_not_offer(client, song):
    client = client()
    visit, answer = upload(client, song())
    for choice, message in (
        ({"models": []}, "at least one model"),
        ({"models": ["/etc/passwd"]}, "unknown model"),
        ({"stems": ["drums"]}, "stems must be of"),
        ({"ensemble": "vote"}, "unknown ensemble"),
        ({"overlap": 0.9}, "overlap between 0 and 0.5"),
        ({"smoothing": 1}, "smoothing at least 0 and below 1"),
        ({"weights": [1, 2]}, "2 weights for 1 models"),
    ):
        done, _ = separate(client, visit, answer.json()["song"], **choice)
        assert not done["success"]
        assert message in done["output"]["error"]


def test_size_length_and_number_are_limited(client, song):
    client = client(max_megabytes=1, max_minutes=1, max_songs=1)
    visit, answer = upload(client, song("large.wav", samples=300_000))
    assert (answer.status_code, "larger than this page takes (1 MB)" in answer.json()["error"]) == (413, True)
    big = iter([b"0" * 600_000, b"0" * 600_000])  # no length is announced
    assert client.post(f"/visits/{visit}/songs", params={"name": "x.wav"}, content=big).status_code == 413
    visit, answer = upload(client, song("long.wav", channels=1, samples=8000 * 61, rate=8000))
    assert (answer.status_code, "more than this page takes (1 minutes)" in answer.json()["error"]) == (422, True)
    assert not any(client.app.state.visits.folder.glob("*/*"))
    path = song("short.wav")
    visit, answer = upload(client, path)
    assert answer.status_code == 200
    more = client.post(f"/visits/{visit}/songs", params={"name": "x.wav"}, content=path.read_bytes())
    assert more.status_code == 429


def test_cancel_while_the_song_is_read_before_the_network_sees_it(client, song, monkeypatch):
    client = client()
    visit, answer = upload(client, song(samples=300_000))
    found = client.app.state.visits.get(visit).songs[answer.json()["song"]]

    def cancelled_meanwhile(*arguments):
        found.cancelled.set()
        return separate_file(*arguments)

    monkeypatch.setattr(server, "separate_file", cancelled_meanwhile)
    monkeypatch.setattr(Separator, "window_mask", None)
    message, _ = separate(client, visit, answer.json()["song"])
    assert message["output"]["data"] == [{"cancelled": True}]
    assert list(found.folder.iterdir()) == [found.source]


def test_as_many_at_once_as_jobs(client, song, monkeypatch):
    client = client(jobs=2)
    together = threading.Barrier(2, timeout=30)

    def meet(*arguments):
        together.wait()
        return separate_file(*arguments)

    monkeypatch.setattr(server, "separate_file", meet)
    uploads = [upload(client, song(f"{number}.wav")) for number in range(2)]
    with ThreadPoolExecutor(2) as pool:
        jobs = [
            pool.submit(separate, client, visit, answer.json()["song"], session=visit, tta=True, weights=[2])
            for visit, answer in uploads
        ]
        assert all(job.result()[0]["success"] for job in jobs)


def test_nobody_reaches_the_songs_of_others(client, song):
    client = client()
    _, answer = upload(client, song())
    other = client.post("/visits").json()["visit"]
    identity = answer.json()["song"]
    for method, path in (("GET", "/stems/vocals"), ("GET", "/tracks/mixture.pcm"), ("DELETE", ""), ("POST", "/cancel")):
        assert client.request(method, f"/visits/{other}/songs/{identity}{path}").status_code == 410


def test_there_is_no_other_way_to_files(client):
    client = client()
    for path in (
        *("engine/gradio_api/file=/etc/passwd", "engine/gradio_api/upload", "engine/config", "engine/"),
        *("docs", "openapi.json", "server.py", "..%2fserver.py", "%2e%2e/server.py"),
        "visits/x/songs/y/stems/..%2f..%2fx",
    ):
        assert client.get(path).status_code in (404, 410), path


def test_abandoned_visits_are_removed(client, song):
    client = client(keep_minutes=0.01)
    visits = client.app.state.visits
    visit, answer = upload(client, song())
    found = visits.get(visit).songs[answer.json()["song"]]
    deadline = time.monotonic() + 10
    while any(visits.folder.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(visits.folder.iterdir())
    assert found.cancelled.is_set()
    assert client.post(f"/visits/{visit}/alive").status_code == 410


def test_leaving_and_closing_remove_everything(client, song):
    client = client()
    visits = client.app.state.visits
    visit, answer = upload(client, song())
    separate(client, visit, answer.json()["song"])
    assert client.post(f"/visits/{visit}/leave").status_code == 204
    assert not any(visits.folder.iterdir())
    upload(client, song())
    client.__exit__(None, None, None)
    assert not visits.folder.exists()
    client.__enter__()


def test_password(client):
    client = client(password="pässword")
    assert client.get("/").status_code == 401
    for word, code in (("wrong", 401), ("pässword", 200)):
        token = base64.b64encode(f"anyone:{word}".encode()).decode()
        assert client.get("/settings", headers={"Authorization": f"Basic {token}"}).status_code == code
    assert client.get("/", headers={"Authorization": "Basic §§".encode()}).status_code == 401


def test_models_are_checked_at_the_start(tiny_file, tmp_path):
    with pytest.raises(ModelError, match="unknown model 'nobody'"):
        create_app(PageOptions(models=("nobody",)))
    twin = tmp_path / "tiny.safetensors"
    twin.write_bytes(tiny_file.read_bytes())
    with pytest.raises(OptionError, match="same name"):
        create_app(PageOptions(models=(str(tiny_file), str(twin))))


def test_command_names_the_extra_and_the_taken_port(run, monkeypatch, tiny_file):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, _, err = run("web", "-n", tiny_file, "--port", taken.getsockname()[1])
    assert (code, "in use" in err, err.count("\n")) == (2, True, 1)
    for name in [name for name in sys.modules if name.startswith("frame_transformer.web")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "gradio", None)
    code, _, err = run("web")
    assert (code, err) == (
        2,
        "error: the web page needs gradio: install it with pip install 'frame-transformer[web]'\n",
    )
