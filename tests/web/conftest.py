import os
import signal
import subprocess
import sys
import time

import av
import httpx
import numpy as np
import pytest

from frame_transformer.web import PageOptions, create_app


@pytest.fixture
def client(tiny_file):
    """A client of the page in this process, with its sessions at ``client.app.state.sessions``."""
    from starlette.testclient import TestClient

    opened = []

    def make(**options):
        app = create_app(PageOptions(models=(str(tiny_file),), **options))
        client = TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)
        opened.append(client.__enter__())
        return client

    yield make
    for client in opened:
        client.__exit__(None, None, None)


@pytest.fixture(scope="module")
def start_page(tmp_path_factory):
    """Runs Python code that serves the page in a process of its own: (address, folder of its files, process).

    At its end none may leave a file or a traceback behind.
    """
    running = []

    def start(code, *arguments, folder=None):
        temporary = folder or tmp_path_factory.mktemp("temporary")
        log = (tmp_path_factory.mktemp("log") / "stderr").open("w+")
        environment = os.environ | {"TMPDIR": str(temporary), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        running.append((process, temporary, log))
        address = process.stdout.readline().split()[4]
        for _ in range(100):
            try:
                httpx.get(f"{address}/settings", timeout=30)
                break
            except httpx.TransportError:
                assert process.poll() is None
                time.sleep(0.1)
        return address, temporary, process

    yield start
    for process, _, _ in running:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(30)
        process.stdout.close()
    for _, temporary, log in running:
        assert not list(temporary.glob("frame-transformer*"))
        with log:
            log.seek(0)
            assert "Traceback" not in (written := log.read()), written


COMMAND = "import sys; from frame_transformer.cli import main; sys.argv[0] = 'frame-transformer'; main()"


@pytest.fixture(scope="module")
def page(start_page, tiny_file):
    """The command's page: (address, folder of its temporary files)."""
    return start_page(COMMAND, "web", "-n", tiny_file, "--port", 0, "--max-minutes", 10, "--jobs", 2)[:2]


@pytest.fixture
def two_streams(tmp_path):
    """A Matroska file of two audio streams: a loud one in stereo, a faint one in mono."""
    path = tmp_path / "two.mka"
    seconds = np.arange(44_100) / 44_100
    with av.open(path, "w") as container:
        kinds = (("stereo", 0.5, 440.0), ("mono", 0.125, 660.0))
        streams = [container.add_stream("pcm_s16le", rate=44_100, layout=layout) for layout, _, _ in kinds]
        for stream, (layout, level, pitch) in zip(streams, kinds, strict=True):
            tone = np.round(32767 * level * np.sin(2 * np.pi * pitch * seconds)).astype(np.int16)
            channels = 2 if layout == "stereo" else 1
            frame = av.AudioFrame.from_ndarray(np.repeat(tone, channels)[None], "s16", layout)
            frame.sample_rate = 44_100
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return path
