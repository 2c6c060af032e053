"""The server without a browser: separations, the queue, limits, clean-up."""

import base64
import io
import os
import sys
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from frame_transformer.audio import AudioWriter
from frame_transformer.errors import AudioError, ModelError, OptionError
from frame_transformer.separation import separate_file
from frame_transformer.separation.windows import WindowedModel
from frame_transformer.web import Limits, PageOptions, create_app, jobs, separations
from frame_transformer.web.archive import stream_zip
from tests.web.visitor import Visitor


def stored(client):
    """What lies in the temporary folder, without the lock."""
    return [path for path in client.app.state.sessions.folder.rglob("*") if path.name != "lock"]


def hold_separations(monkeypatch):
    """Separations wait until the event that is returned is set."""
    go = threading.Event()

    def wait(*arguments):
        assert go.wait(60)
        return separate_file(*arguments)

    monkeypatch.setattr(separations, "separate_file", wait)
    return go


def wait_for(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert condition()


def test_separation_names_no_folder_of_the_server(client, song):
    client = client()
    visitor = Visitor(client)
    answer = visitor.upload(song(), "../../etc/My: song?.wav")
    assert answer.json()["name"] == "My_ song_.wav"
    address = f"{visitor.address}/songs/{answer.json()['song']}"
    assert visitor.begin(address).status_code == 202
    events = visitor.follow(address)
    assert events[-1]["state"] == "done"
    result = events[-1]["result"]
    assert [track["samples"] for track in result["tracks"]] == [30_000] * 3
    assert client.get(f"{address}/separation").json() == events[-1]
    stem = client.get(f"{address}/stems/vocals")
    assert "My_%20song_%20%28vocals%29.wav" in stem.headers["content-disposition"]
    assert len(client.get(f"{address}/tracks/mixture.pcm").content) == 4 * 30_000
    part = client.get(f"{address}/tracks/mixture.pcm", headers={"Range": "bytes=400-799"})
    assert (part.status_code, len(part.content)) == (206, 400)
    assert client.get(f"{address}/tracks/vocals.png").content.startswith(b"\x89PNG")
    folder = str(client.app.state.sessions.folder)
    for said in (str(events), str(stem.headers), client.get("/settings").text, answer.text):
        assert folder not in said
        assert "/root" not in said


def test_errors_of_damaged_songs_name_the_song_only(client, tmp_path):
    client = client()
    visitor = Visitor(client)
    text = tmp_path / "letter.mp3"
    text.write_text("no sound in here " * 100)
    answer = visitor.upload(text)
    assert answer.status_code == 422
    assert answer.json()["error"].startswith("letter.mp3: cannot be read as audio")
    assert visitor.upload(text, "..").json()["error"].startswith("song: ")
    assert stored(client) == []


def test_a_failure_nobody_foresaw_is_told_in_plain_words(client, song, monkeypatch, caplog):
    client = client()
    visitor = Visitor(client)
    address = visitor.song(song("a.wav"))

    def fail(error):
        def raise_error(*arguments):
            raise error

        monkeypatch.setattr(separations, "separate_file", raise_error)
        return visitor.separate(address)

    (upload,) = client.app.state.sessions.folder.rglob("upload")
    for error, said in (
        (TypeError("'<=' not supported between str and /etc/passwd"), jobs.FAILED),
        (OSError(28, "No space left on device", "/tmp/x"), "a.wav: No space left on device"),
        (MemoryError(), "a.wav: the server does not have enough memory for it."),
        (AudioError(f"{upload}: damaged beyond use"), "a.wav: damaged beyond use"),
    ):
        last = fail(error)
        assert (last["state"], last["error"]) == ("failed", said)
    assert "not supported between" in caplog.text
    assert [path.name for path in stored(client) if path.is_file()] == ["upload"]


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"models": []}, "models: List should have at least 1 item"),
        ({"models": ["/etc/passwd"]}, "unknown model"),
        ({"stems": ["drums"]}, "stems.0: Input should be 'vocals' or 'instrumental'"),
        ({"format": "tape"}, "unknown audio format"),
        ({"ensemble": "vote"}, "ensemble: Input should be"),
        ({"overlap": 0.9}, "overlap: Input should be less than or equal to 0.5"),
        ({"smoothing": 1}, "smoothing: Input should be less than 1"),
        ({"weights": [1, 2]}, "2 weights for 1 models"),
        ({"weights": [0]}, "not all zero"),
        ({"tta": "yes"}, "tta: Input should be a valid boolean"),
        ({"stream": 1}, "has no audio stream number 1"),
        ({"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}, "path: Extra inputs are not permitted"),
    ],
)
def test_choices_that_the_page_does_not_offer(client, song, choice, message):
    visitor = Visitor(client())
    answer = visitor.begin(visitor.song(song()), **choice)
    assert answer.status_code == 422
    assert message in answer.json()["error"]


def test_numbers_that_are_none_are_refused_in_plain_words(client, song):
    client = client()
    visitor = Visitor(client)
    address = visitor.song(song())
    for number in ("NaN", "Infinity", "-1e999"):
        body = f'{{"models": ["tiny"], "weights": [{number}]}}'
        answer = client.post(f"{address}/separation", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 422
        assert "Input should be" in answer.json()["error"]


def test_several_audio_streams_can_be_told_apart_and_chosen(client, two_streams):
    client = client()
    visitor = Visitor(client)
    answer = visitor.upload(two_streams).json()
    assert [stream["number"] for stream in answer["streams"]] == [0, 1]
    assert ["stereo" in stream["label"] for stream in answer["streams"]] == [True, False]
    address = f"{visitor.address}/songs/{answer['song']}"
    peaks = {}
    for stream in (0, 1):
        assert visitor.separate(address, stream=stream)["state"] == "done"
        sound = np.frombuffer(client.get(f"{address}/tracks/mixture.pcm").content, "<i2")
        peaks[stream] = np.abs(sound).max() / 32767
    assert peaks[0] == pytest.approx(0.5, abs=0.02)
    assert peaks[1] == pytest.approx(0.125, abs=0.02)


def test_size_length_and_number_are_limited(client, song):
    client = client(max_megabytes=1, max_minutes=1, max_songs=1)
    visitor = Visitor(client)
    answer = visitor.upload(song("large.wav", samples=300_000))
    assert (answer.status_code, "larger than this page takes (1 MB)" in answer.json()["error"]) == (413, True)
    big = iter([b"0" * 600_000, b"0" * 600_000])  # no length is announced
    assert client.post(f"{visitor.address}/songs", params={"name": "x.wav"}, content=big).status_code == 413
    answer = visitor.upload(song("long.wav", channels=1, samples=8000 * 61, rate=8000))
    assert (answer.status_code, "more than this page takes (1 minutes)" in answer.json()["error"]) == (422, True)
    assert stored(client) == []
    path = song("short.wav")
    assert visitor.upload(path).status_code == 201
    assert visitor.upload(path).status_code == 429


def test_channels_and_rates_count_as_length(client, tmp_path):
    """A small file of 1 Hz and 8 channels would become gigabytes at the rate of the model."""
    client = client(max_minutes=20)
    visitor = Visitor(client)
    path = tmp_path / "slow.wav"
    # Eight minutes in 8 channels are as much as thirty in stereo.
    with AudioWriter(path, 8000, 8) as writer:
        writer.write(np.zeros((8, 8000 * 60 * 8), np.float32))
    answer = visitor.upload(path)
    assert answer.status_code == 422
    assert "8 channels at 8000 Hz" in answer.json()["error"]


def test_a_header_that_lies_about_the_length_is_found_out_while_reading(client, song, monkeypatch):
    client = client(max_minutes=1)
    visitor = Visitor(client)
    path = song("long.wav", channels=1, samples=8000 * 70, rate=8000)
    data = bytearray(path.read_bytes())
    place = data.index(b"data") + 4
    data[place : place + 4] = b"\xff\xff\xff\xff"  # a length that was never filled in, as in recordings of streams
    path.write_bytes(data)
    answer = visitor.upload(path)
    if answer.status_code == 201:
        last = visitor.separate(f"{visitor.address}/songs/{answer.json()['song']}")
        assert (last["state"], "more than this page takes" in last["error"]) == ("failed", True)
    else:
        assert "more than this page takes" in answer.json()["error"]


def test_room_is_limited_for_one_address_and_given_back(client, song):
    client = client(max_gigabytes=0.002)
    visitor = Visitor(client)
    first, second = song("1.wav", samples=200_000), song("2.wav", samples=100_000)
    address = visitor.song(first)
    assert visitor.begin(address).status_code == 507  # its stems would not find room
    answer = visitor.upload(second)
    assert (answer.status_code, "no room" in answer.json()["error"]) == (507, True)
    big = iter([second.read_bytes()])
    assert client.post(f"{visitor.address}/songs", params={"name": "x.wav"}, content=big).status_code == 507
    assert client.delete(address).status_code == 204
    assert visitor.upload(second).status_code == 201


def test_cancel_while_the_song_is_read_before_the_network_sees_it(client, song, monkeypatch):
    client = client()
    visitor = Visitor(client)
    address = visitor.song(song(samples=300_000))

    def cancelled_meanwhile(*arguments):
        assert client.delete(f"{address}/separation").status_code == 204
        return separate_file(*arguments)

    monkeypatch.setattr(separations, "separate_file", cancelled_meanwhile)
    monkeypatch.setattr(WindowedModel, "mask", None)
    assert visitor.separate(address)["state"] == "cancelled"
    assert [path.name for path in stored(client) if path.is_file()] == ["upload"]


def test_a_song_removed_while_it_is_separated_leaves_nothing(client, song, monkeypatch):
    client = client()
    go = hold_separations(monkeypatch)
    visitor = Visitor(client)
    address = visitor.song(song())
    visitor.begin(address)
    assert client.delete(address).status_code == 204
    go.set()
    wait_for(lambda: stored(client) == [])
    assert client.get(f"{address}/separation").status_code == 410


def test_as_many_at_once_as_jobs(client, song, monkeypatch):
    client = client(jobs=2)
    together = threading.Barrier(2, timeout=30)

    def meet(*arguments):
        together.wait()
        return separate_file(*arguments)

    monkeypatch.setattr(separations, "separate_file", meet)
    visitors = [Visitor(client) for _ in range(2)]
    addresses = [visitor.song(song(f"{number}.wav")) for number, visitor in enumerate(visitors)]
    with ThreadPoolExecutor(2) as pool:
        ends = pool.map(lambda visitor, address: visitor.separate(address, tta=True), visitors, addresses)
        assert [end["state"] for end in ends] == ["done", "done"]


def test_visitors_take_turns_and_are_told_their_place_and_time(client, song, monkeypatch):
    client = client()
    first, second = Visitor(client), Visitor(client)
    warm_up = first.song(song("warm-up.wav"))
    assert first.separate(warm_up)["state"] == "done"  # from now on the pace is known
    go = hold_separations(monkeypatch)
    songs = [first.song(song(f"{number}.wav")) for number in range(3)]
    guest = second.song(song("guest.wav"))
    for address in songs:
        assert first.begin(address).status_code == 202
    wait_for(lambda: client.get(f"{songs[0]}/separation").json()["state"] == "running")
    assert second.begin(guest).json()["before"] == 0  # the other visitor's turn has been
    assert client.get(f"{songs[1]}/separation").json()["before"] == 1
    last = client.get(f"{songs[2]}/separation").json()
    assert (last["before"], last["seconds_left"] is not None) == (2, True)
    again = first.begin(songs[1])
    assert (again.status_code, "is already being separated" in again.json()["error"]) == (409, True)
    client.delete(f"{songs[1]}/separation")
    assert client.get(f"{songs[1]}/separation").json()["state"] == "cancelled"
    assert client.get(f"{songs[2]}/separation").json()["before"] == 1
    go.set()
    assert first.follow(songs[2])[-1]["state"] == second.follow(guest)[-1]["state"] == "done"


def test_places_are_limited_for_a_session_an_address_and_in_all(client, song, monkeypatch):
    client = client(limits=Limits(places=8, session_places=2))
    go = hold_separations(monkeypatch)
    visitors = [Visitor(client) for _ in range(4)]
    path = song()
    codes = [[visitor.begin(visitor.song(path)).status_code for _ in range(3)] for visitor in visitors]
    # Two each; one of them runs and takes no place; then the half of all places that one address may take is full.
    assert codes == [[202, 202, 429], [202, 202, 429], [202, 429, 429], [429, 429, 429]]
    go.set()
    client.app.state.queue._limits = Limits(places=0)
    assert visitors[3].begin(visitors[3].song(path)).status_code == 503


def test_nobody_reaches_the_songs_of_others(client, song):
    client = client()
    visitor = Visitor(client)
    address = visitor.song(song())
    assert visitor.separate(address)["state"] == "done"
    identity = address.rsplit("/", 1)[1]
    other = Visitor(client)
    paths = ("stems/vocals", "tracks/mixture.pcm", "separation", "separation/events")
    for path in paths:
        assert client.get(f"{other.address}/songs/{identity}/{path}").status_code == 410
    for method in ("DELETE", "POST"):
        for path in ("", "/separation"):
            answer = client.request(method, f"{other.address}/songs/{identity}{path}", json={"models": ["tiny"]})
            assert answer.status_code in (405, 410)
    # The address alone is not enough: the cookie of the session is missing, or that of another session.
    client.cookies.clear()
    for path in ("stems.zip", *(f"songs/{identity}/{path}" for path in paths)):
        assert client.get(f"{visitor.address}/{path}").status_code == 410
        client.cookies.set(f"session-{visitor.id}", "guessed")
        assert client.get(f"{visitor.address}/{path}").status_code == 410
        client.cookies.clear()


def test_cookies_are_strict(client):
    cookie = client().post("/sessions").headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "path=/sessions/" in cookie


def test_zip_holds_a_folder_for_each_song_and_nothing_is_written_for_it(client, song):
    client = client()
    visitor = Visitor(client)
    assert client.get(f"{visitor.address}/stems.zip").status_code == 404
    stems = {}
    for path, name in ((song("1.wav"), "Lied é.wav"), (song("2.wav"), "lied É.flac"), (song("3.wav"), "output")):
        address = visitor.song(path, name)
        assert visitor.separate(address, format="flac")["state"] == "done"
        stems[name] = client.get(f"{address}/stems/vocals").content
    before = set(stored(client))
    answer = client.get(f"{visitor.address}/stems.zip")
    assert set(stored(client)) == before
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert {
            name: archive.read(f"{folder}/vocals.flac") for name, folder in zip(stems, _folders(archive), strict=True)
        } == stems
        assert _folders(archive) == ["Lied é", "lied É (2)", "output"]


def test_zip_is_made_piece_by_piece(tmp_path):
    (tmp_path / "large").write_bytes(os.urandom(5_000_000))
    pieces = list(stream_zip([("a/large", tmp_path / "large"), ("b/large", tmp_path / "large")]))
    assert max(map(len, pieces)) < 2_000_000
    with zipfile.ZipFile(io.BytesIO(b"".join(pieces))) as archive:
        assert archive.read("b/large") == (tmp_path / "large").read_bytes()


def _folders(archive):
    return list(dict.fromkeys(name.split("/")[0] for name in archive.namelist()))


def test_downloads_of_what_was_just_deleted_are_not_found(client, song):
    client = client()
    visitor = Visitor(client)
    address = visitor.song(song())
    assert visitor.separate(address)["state"] == "done"
    for path in client.app.state.sessions.folder.rglob("*.*"):
        path.unlink()
    for path in (f"{address}/stems/vocals", f"{address}/tracks/vocals.pcm", f"{visitor.address}/stems.zip"):
        assert client.get(path).status_code == 404, path


def test_abandoned_sessions_are_removed(client, song):
    client = client(keep_minutes=0.01)
    visitor = Visitor(client)
    address = visitor.song(song())
    wait_for(lambda: stored(client) == [], 10)
    assert client.post(f"{visitor.address}/alive").status_code == 410
    assert client.get(f"{address}/separation").status_code == 410


def test_leaving_and_closing_remove_everything(client, song):
    client = client()
    visitor = Visitor(client)
    visitor.separate(visitor.song(song()))
    assert client.post(f"{visitor.address}/leave").status_code == 204
    assert stored(client) == []
    visitor = Visitor(client)
    visitor.song(song())
    folder = client.app.state.sessions.folder
    client.__exit__(None, None, None)
    assert not folder.exists()
    client.__enter__()


def test_a_server_that_was_killed_is_cleaned_up_after(client, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    left = tmp_path / "frame-transformer-web-dead"
    (left / "song").mkdir(parents=True)
    (left / "song" / "upload").write_bytes(b"x")
    (left / "lock").touch()
    alive = client()
    assert not left.exists()
    client()
    assert alive.app.state.sessions.folder.exists()


def test_password(client):
    client = client(password="pässword")
    assert client.get("/").status_code == 401
    for word, code in (("wrong", 401), ("pässword", 200)):
        token = base64.b64encode(f"anyone:{word}".encode()).decode()
        assert client.get("/settings", headers={"Authorization": f"Basic {token}"}).status_code == code
    assert client.get("/", headers={"Authorization": "Basic §§".encode()}).status_code == 401


def test_a_client_that_has_hung_up_already_is_no_fault(client):
    page = client(password="7")
    page._transport.client = None  # as uvicorn says it
    assert page.get("/settings", auth=("me", "7")).status_code == 200


def test_the_description_for_programs_names_every_address_and_refuses_unknown_fields(client):
    description = client().get("/openapi.json").json()
    assert set(description["paths"]) >= {"/settings", "/sessions", "/sessions/{session}/songs/{song}/separation/events"}
    assert description["components"]["schemas"]["SeparationRequest"]["additionalProperties"] is False


def test_models_that_must_be_downloaded_tell_their_size(monkeypatch, tmp_path):
    from starlette.testclient import TestClient

    monkeypatch.setenv("FRAME_TRANSFORMER_CACHE", str(tmp_path))
    with TestClient(create_app(), base_url="http://localhost") as client:
        models = {model["name"]: model["megabytes"] for model in client.get("/settings").json()["models"]}
    assert models["default"] == 0
    assert 800 <= models["v1"] <= 850


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
    monkeypatch.setitem(sys.modules, "fastapi", None)
    code, _, err = run("web")
    assert (code, err) == (
        2,
        "error: the web page needs fastapi: install it with pip install 'frame-transformer[web]'\n",
    )
