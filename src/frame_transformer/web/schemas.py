"""Schemas of requests and responses."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..separation.options import Ensemble

Stem = Literal["vocals", "instrumental"]


class Body(BaseModel):
    """Body of a request. Unknown fields, wrong types, NaN and infinity are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


class SeparationRequest(Body):
    """How to separate a song. ``/settings`` lists the models and formats."""

    models: list[str] = Field(min_length=1, max_length=8, description="several form an ensemble")
    ensemble: Ensemble = Field("mean", description="how several models are combined")
    weights: list[Annotated[float, Field(ge=0, le=1000)]] | None = Field(
        None, max_length=8, description="weight of each model in the mean of the ensemble"
    )
    stems: list[Stem] = Field(["vocals", "instrumental"], min_length=1, max_length=2)
    format: str = Field("wav", max_length=20)
    stream: int | None = Field(None, ge=0, description="number of the audio stream, for files that hold several")
    overlap: float = Field(0.0625, ge=0, le=0.5, description="fraction of a window that overlaps the next")
    smoothing: float = Field(
        0, ge=0, lt=1, description="vocals below this fraction for longer than 1.5 s are removed; 0 keeps all"
    )
    tta: bool = Field(False, description="test-time augmentation: average of four passes")


class UploadQuery(Body):
    """Query parameters of an upload."""

    name: str = Field(min_length=1, max_length=1000, description="file name of the song")


class Error(BaseModel):
    """The reason why a request was refused, as a sentence."""

    error: str


class Model(BaseModel):
    """A model of the page. ``megabytes``: approximate size of the download before its first use, else 0."""

    name: str
    description: str
    megabytes: int


class Settings(BaseModel):
    """Models, formats and limits of the page."""

    models: list[Model]
    formats: list[str]
    max_megabytes: int
    max_minutes: int
    max_songs: int


class OpenedSession(BaseModel):
    """A session. All requests below ``/sessions/{session}`` need the cookie that is set with it."""

    session: str


class Stream(BaseModel):
    """An audio stream of a file: its number and its name."""

    number: int
    label: str


class UploadedSong(BaseModel):
    """An uploaded song. ``seconds`` is None if the file does not state it; ``stream`` is the default stream."""

    song: str
    name: str
    seconds: float | None
    streams: list[Stream]
    stream: int


class Track(BaseModel):
    """A track of the player: ``samples`` of headerless 16-bit stereo (little-endian) at ``tracks/{name}.pcm``."""

    name: str
    samples: int


class Result(BaseModel):
    """A separated song. ``rate`` is in Hz. Separating ``seconds`` of audio took ``elapsed`` seconds."""

    stems: list[Stem]
    tracks: list[Track]
    rate: int
    seconds: float
    elapsed: float
    warnings: list[str]


class Separation(BaseModel):
    """The state of a separation.

    Attributes:
        state: waiting, running, or one of the three final states.
        before: number of songs before it in the queue. seconds_left: estimated seconds until it starts (waiting) or
            until its stage ends (running); None if not known yet.
        stage: the current step. share: fraction of the stage that is done, 0 to 1.
        error: why it failed. result: set when it is done.
    """

    state: Literal["waiting", "running", "done", "failed", "cancelled"]
    before: int = 0
    seconds_left: int | None = None
    stage: str = ""
    share: float | None = None
    error: str | None = None
    result: Result | None = None
