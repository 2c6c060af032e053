"""A visitor without a browser: does what the page does, with any client of httpx's interface."""

import json


class Visitor:
    def __init__(self, client):
        self.client = client
        answer = client.post("/sessions")
        assert answer.status_code == 201, answer.text
        self.id = answer.json()["session"]
        self.address = f"/sessions/{self.id}"

    def upload(self, path, name=None, **options):
        name = name or path.name
        return self.client.post(f"{self.address}/songs", params={"name": name}, content=path.read_bytes(), **options)

    def song(self, path, name=None):
        """Uploads a song and returns its address."""
        answer = self.upload(path, name)
        assert answer.status_code == 201, answer.text
        return f"{self.address}/songs/{answer.json()['song']}"

    def begin(self, song, **choice):
        return self.client.post(f"{song}/separation", json={"models": ["tiny"]} | choice)

    def follow(self, song):
        """All events of a separation, up to its end."""
        text = self.client.get(f"{song}/separation/events").text
        return [json.loads(line[5:]) for line in text.splitlines() if line.startswith("data:")]

    def separate(self, song, **choice):
        """Separates a song and returns its last event."""
        answer = self.begin(song, **choice)
        assert answer.status_code == 202, answer.text
        return self.follow(song)[-1]
