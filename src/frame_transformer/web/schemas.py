"""What the page and programs send and get, all of it checked before anything is done."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..separation.options import Ensemble

Stem = Literal["vocals", "instrumental"]


class Body(BaseModel):
    """Of a request: unknown fields, wrong types, NaN and infinity are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


class SeparationRequest(Body):
    """How to separate a song; the settings say which models and formats there are."""

    models: list[str] = Field(min_length=1, max_length=8, description="several form an ensemble")
    ensemble: Ensemble = Field("mean", description="how the masks of several models are joined")
    weights: list[Annotated[float, Field(ge=0, le=1000)]] | None = Field(
        None, max_length=8, description="of each model in the ensemble's mean"
    )
    stems: list[Stem] = Field(["vocals", "instrumental"], min_length=1, max_length=2)
    format: str = Field("wav", max_length=20)
    stream: int | None = Field(None, ge=0, description="number of the audio stream, for files that hold several")
    overlap: float = Field(0.0625, ge=0, le=0.5, description="share of a window that is blended with the next")
    smoothing: float = Field(
        0, ge=0, lt=1, description="vocals fainter than this for longer than 1.5 s are removed; 0 keeps all"
    )
    tta: bool = Field(False, description="test-time averaging: four times the work")


class UploadQuery(Body):
    """Of an upload."""

    name: str = Field(min_length=1, max_length=1000, description="file name of the song")


class Error(BaseModel):
    """Why a request was refused, as a sentence for people."""

    error: str


class Model(BaseModel):
    """A model that the page offers. ``megabytes``: about what is downloaded before it is first used, 0 for nothing."""

    name: str
    description: str
    megabytes: int


class Settings(BaseModel):
    """What the page offers and allows."""

    models: list[Model]
    formats: list[str]
    max_megabytes: int
    max_minutes: int
    max_songs: int


class OpenedVisit(BaseModel):
    """A visit. Its cookie, which came with it, is needed for everything below ``/visits/{visit}``."""

    visit: str


class Stream(BaseModel):
    """An audio stream of a file: its number, and what to call it."""

    number: int
    label: str


class UploadedSong(BaseModel):
    """A song on the server. ``seconds`` is None where the file does not say; ``stream`` is played by default."""

    song: str
    name: str
    seconds: float | None
    streams: list[Stream]
    stream: int


class Track(BaseModel):
    """What the page plays: ``samples`` of headerless 16-bit stereo (little-endian) at ``tracks/{name}.pcm``."""

    name: str
    samples: int


class Result(BaseModel):
    """A separated song. ``rate`` in Hz; ``seconds`` of audio took ``elapsed`` seconds of work."""

    stems: list[Stem]
    tracks: list[Track]
    rate: int
    seconds: float
    elapsed: float
    warnings: list[str]


class Separation(BaseModel):
    """Where a separation stands.

    Attributes:
        state: waiting in the queue, running, or one of the three ends.
        before: songs before this one in the queue. seconds_left: about until it begins (waiting) or until the end of
            its stage (running), None where that is not known yet.
        stage: what is being done. share: of the stage that is done, 0 to 1.
        error: why it failed. result: of one that is done.
    """

    state: Literal["waiting", "running", "done", "failed", "cancelled"]
    before: int = 0
    seconds_left: int | None = None
    stage: str = ""
    share: float | None = None
    error: str | None = None
    result: Result | None = None
