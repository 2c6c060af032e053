"""Scores of songs, their averages, and reports: JSON, CSV, Markdown and a box plot."""

import contextlib
import csv
import dataclasses
import io
import json
import os
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..errors import DataError, OptionError
from ..files import whole
from ..separation import STEMS


@dataclass(frozen=True)
class Metric:
    """How a metric is reported: ``average`` over songs; ``framewise`` ones are medians over the frames of a song."""

    unit: str
    average: Literal["median", "mean"]
    description: str
    framewise: bool = False


METRICS = {
    "cSDR": Metric("dB", "median", "BSS Eval v4 signal-to-distortion ratio", True),
    "ISR": Metric("dB", "median", "BSS Eval v4 image-to-spatial-distortion ratio", True),
    "SIR": Metric("dB", "median", "BSS Eval v4 signal-to-interference ratio", True),
    "SAR": Metric("dB", "median", "BSS Eval v4 signal-to-artifacts ratio", True),
    "uSDR": Metric("dB", "mean", "signal-to-distortion ratio of the whole song, as in the Music Demixing Challenge"),
    "SI-SDR": Metric("dB", "mean", "scale-invariant signal-to-distortion ratio of the whole song"),
    "bleedless": Metric("0 to 100", "mean", "how little there is of other sources, on a mel spectrogram"),
    "fullness": Metric("0 to 100", "mean", "how much there is of the source, on a mel spectrogram"),
}
Scores = dict[str, dict[str, float | None]]
Frames = dict[str, dict[str, list[float | None]]]


@dataclass
class SongScore:
    """The metrics of one system on one song.

    ``stems`` has a value for each stem and metric, None if it is undefined (silent reference). ``frames`` has
    the values, one a second, of which framewise metrics are the medians. ``seconds`` is the length of the song,
    ``separation_seconds`` the processing time of the system, or the time of reading for stems from files.
    ``warnings`` are about the system's stems, ``song_warnings`` about the song's own files.
    """

    system: str
    song: str
    seconds: float
    separation_seconds: float
    stems: Scores
    frames: Frames
    warnings: list[str] = field(default_factory=list)
    song_warnings: list[str] = field(default_factory=list)


@dataclass
class Evaluation:
    """Scores of systems on songs. ``errors`` has a message for each score or song that failed."""

    systems: list[str]
    songs: list[str]
    metrics: tuple[str, ...]
    scores: list[SongScore] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def of(self, system: str) -> list[SongScore]:
        """The scores of one system, in the order of the songs."""
        order = {song: number for number, song in enumerate(self.songs)}
        return sorted((score for score in self.scores if score.system == system), key=lambda score: order[score.song])

    @property
    def warnings(self) -> list[str]:
        """One line for each warning. Warnings about a song appear once, however many systems are evaluated."""
        lines = []
        for score in self.scores:
            lines += [f"{score.song}: {line}" for line in score.song_warnings]
            lines += [f"{score.song}, {score.system}: {line}" for line in score.warnings]
        return list(dict.fromkeys(lines))

    def average(self, system: str, stem: str, metric: str) -> float | None:
        """The median or mean over the songs for which the metric is defined, see `METRICS`; None if there are none."""
        values = self.values(system, stem, metric)
        return getattr(statistics, METRICS[metric].average)(values) if values else None

    def values(self, system: str, stem: str, metric: str) -> list[float]:
        """The values of a metric for all songs for which it is defined."""
        return [value for score in self.of(system) if (value := score.stems[stem][metric]) is not None]

    def write(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Writes results.json, summary.csv, songs.csv, report.md and, where matplotlib is installed, boxplot.png.

        Raises:
            DataError: a file cannot be written.
        """
        root = Path(folder)
        written = [
            write_whole(root / "results.json", json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n"),
            write_whole(root / "summary.csv", _csv(self._summary_rows())),
            write_whole(root / "songs.csv", _csv(self._song_rows())),
            write_whole(root / "report.md", self.markdown()),
        ]
        with contextlib.suppress(OptionError):
            written.append(write_whole(root / "boxplot.png", self.boxplot()))
        return written

    def to_dict(self) -> dict[str, Any]:
        """The contents of results.json: the metrics and their conventions, the averages, and every song."""
        return {
            "metrics": {name: dataclasses.asdict(METRICS[name]) for name in self.metrics},
            "summary": {
                system: {
                    stem: {metric: self.average(system, stem, metric) for metric in self.metrics} for stem in STEMS
                }
                | {"songs": len(self.of(system))}
                for system in self.systems
            },
            "scores": [dataclasses.asdict(score) for system in self.systems for score in self.of(system)],
            "warnings": self.warnings,
            "errors": self.errors,
        }

    def _summary_rows(self) -> Iterable[Sequence[object]]:
        yield "system", "stem", "songs", *self.metrics
        for stem in STEMS:
            for system in self.systems:
                averages = (self.average(system, stem, metric) for metric in self.metrics)
                yield system, stem, len(self.of(system)), *averages

    def _song_rows(self) -> Iterable[Sequence[object]]:
        yield "system", "song", "stem", "seconds", "separation_seconds", *self.metrics
        for system in self.systems:
            for score in self.of(system):
                for stem in STEMS:
                    values = (score.stems[stem][metric] for metric in self.metrics)
                    yield score.system, score.song, stem, score.seconds, score.separation_seconds, *values

    def table(self, stem: str) -> list[list[str]]:
        """The averages of one stem as text: a row of titles, then one row for each system."""
        rows = [["system", "songs", *self.metrics]]
        for system in self.systems:
            averages = (self.average(system, stem, metric) for metric in self.metrics)
            rows.append([system, str(len(self.of(system))), *(format_score(value) for value in averages)])
        return rows

    def markdown(self) -> str:
        """The contents of report.md: averages and their definitions, every song, warnings and errors."""
        lines = ["# Evaluation", "", f"{len(self.songs)} song{'s' if len(self.songs) != 1 else ''}.", ""]
        for stem in STEMS:
            lines += [f"## {stem.capitalize()}", "", *_markdown_table(self.table(stem)), ""]
        lines += ["| metric | unit | over songs | meaning |", "| --- | --- | --- | --- |"]
        for name in self.metrics:
            metric = METRICS[name]
            average = f"{metric.average} of the medians over frames of 1 s" if metric.framewise else metric.average
            lines.append(f"| {name} | {metric.unit} | {average} | {metric.description} |")
        lines += ["", "## Songs", ""]
        for stem in STEMS:
            rows = [["song", "system", *self.metrics]]
            for song in self.songs:
                for system in self.systems:
                    for score in self.of(system):
                        if score.song == song:
                            values = (format_score(score.stems[stem][metric]) for metric in self.metrics)
                            rows.append([song, system, *values])
            lines += [f"### {stem.capitalize()}", "", *_markdown_table(rows), ""]
        for title, entries in (("Warnings", self.warnings), ("Not scored", self.errors)):
            if entries:
                lines += [f"## {title}", "", *(f"- {line}" for line in entries), ""]
        return "\n".join(lines)

    def boxplot(self) -> bytes:
        """A PNG with one box for each system, stem and metric, over the songs.

        Raises:
            OptionError: matplotlib is not installed.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise OptionError("the box plot needs matplotlib: pip install 'frame-transformer[eval]'") from error
        columns, rows = len(self.metrics), len(STEMS)
        height = 1.2 + 0.35 * len(self.systems)
        figure = Figure(figsize=(1.5 + 2.2 * columns, rows * height), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False, sharey=True, sharex="col")
        for row, stem in zip(axes, STEMS, strict=True):
            for axis, metric in zip(row, self.metrics, strict=True):
                values = [self.values(system, stem, metric) for system in self.systems]
                axis.boxplot(values, orientation="horizontal", tick_labels=self.systems, widths=0.6)
                # With few songs a box hides how few there are.
                for position, points in enumerate(values, 1):
                    axis.plot(points, [position] * len(points), "o", markersize=3, alpha=0.5, color="tab:blue")
                axis.grid(axis="x", alpha=0.3)
                unit = METRICS[metric].unit
                axis.set_title(f"{metric} ({unit})" if unit == "dB" else metric, fontsize=9)
            row[0].set_ylabel(stem)
        axes[0, 0].invert_yaxis()  # shared by all: the first system comes at the top
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=150)
        return buffer.getvalue()


def format_score(value: float | None) -> str:
    """Formats a score with two decimals, or as a dash if it is undefined."""
    return "–" if value is None else f"{value:.2f}"


def write_whole(path: Path, content: str | bytes) -> Path:
    """Writes a file atomically, and creates its folder if it is missing.

    Raises:
        DataError: it cannot be written.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        with whole(path) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror}); choose another output folder") from error
    return path


def _csv(rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _markdown_table(rows: list[list[str]]) -> list[str]:
    head, *body = rows
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in body]
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *escaped)]
