import json
import os
import signal
import subprocess
import sys
import urllib.request

import pytest

from frame_transformer.web import PageOptions, create_app


@pytest.fixture
def client(tiny_file):
    """A client of the page in this process, with its visits at ``client.app.state.visits``."""
    from starlette.testclient import TestClient

    opened = []

    def make(**options):
        client = TestClient(create_app(PageOptions(models=(str(tiny_file),), **options)))
        opened.append(client.__enter__())
        return client

    yield make
    for client in opened:
        client.__exit__(None, None, None)


@pytest.fixture(scope="module")
def page(tiny_file, tmp_path_factory):
    """The command's page in a process of its own: (address, folder of its temporary files). It must leave none."""
    temporary = tmp_path_factory.mktemp("temporary")
    code = "import sys; from frame_transformer.cli import main; sys.argv[0] = 'frame-transformer'; main()"
    options = ("--port", "0", "--max-minutes", "10", "--jobs", "2")
    line = [sys.executable, "-c", code, "web", "-n", str(tiny_file), *options]
    environment = os.environ | {"TMPDIR": str(temporary), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            address = process.stdout.readline().split()[4]
            for _ in range(100):
                try:
                    json.load(urllib.request.urlopen(f"{address}/settings", timeout=30))
                    break
                except OSError:
                    assert process.poll() is None
            yield address, temporary
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
    assert not list(temporary.glob("frame-transformer*"))
