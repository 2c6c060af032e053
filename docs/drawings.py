"""Draws the architecture pages' pictures: ``python docs/drawings.py`` writes docs/images/*.svg.

A drawing is a list of boxes placed by hand on a grid and arrows between them; colours tell the kind of operation.
"""

from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape

IMAGES = Path(__file__).parent / "images"
FILLS = {
    "data": "#eceff1",
    "norm": "#fff3c4",
    "linear": "#cfe8fc",
    "convolution": "#d3f0d6",
    "attention": "#f9d5e5",
    "sum": "#ffffff",
}


@dataclass
class Drawing:
    """SVG of ``width`` × ``height`` pixels; `box` returns the centre and size of the box for `arrow`."""

    width: int
    height: int
    title: str
    parts: list[str] = field(default_factory=list)

    def box(self, x: float, y: float, text: str, kind: str, width: float = 150, height: float = 30) -> "Box":
        self.parts.append(
            f'<rect x="{x - width / 2}" y="{y - height / 2}" width="{width}" height="{height}" rx="6" '
            f'fill="{FILLS[kind]}" stroke="#455a64"/>'
        )
        self.text(x, y, text, 12)
        return Box(x, y, width, height)

    def plus(self, x: float, y: float) -> "Box":
        self.parts.append(f'<circle cx="{x}" cy="{y}" r="11" fill="#fff" stroke="#455a64"/>')
        self.text(x, y, "+")
        return Box(x, y, 22, 22)

    def text(
        self, x: float, y: float, text: str, size: int = 13, anchor: str = "middle", colour: str = "#1f2a30"
    ) -> None:
        lines = text.split("\n")
        for number, line in enumerate(lines):
            baseline = y + size * (0.35 + 1.2 * (number - (len(lines) - 1) / 2))
            self.parts.append(
                f'<text x="{x}" y="{baseline:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{colour}">'
                f"{escape(line)}</text>"
            )

    def arrow(self, *points: tuple[float, float], dashed: bool = False) -> None:
        path = " ".join(f"{x},{y}" for x, y in points)
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self.parts.append(f'<polyline points="{path}" fill="none" stroke="#455a64"{dash} marker-end="url(#head)"/>')

    def save(self, name: str) -> None:
        content = "\n".join(self.parts)
        (IMAGES / f"{name}.svg").write_text(
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" '
            f'width="{self.width}" height="{self.height}" role="img" aria-label="{escape(self.title)}" '
            'font-family="Helvetica, Arial, sans-serif">\n'
            f"<title>{escape(self.title)}</title>\n"
            '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
            'orient="auto"><path d="M0 0 8 4 0 8z" fill="#455a64"/></marker></defs>\n'
            f'<rect width="{self.width}" height="{self.height}" fill="#ffffff"/>\n{content}\n</svg>\n'
        )


@dataclass(frozen=True)
class Box:
    """Where arrows may begin and end."""

    x: float
    y: float
    width: float
    height: float

    @property
    def top(self) -> tuple[float, float]:
        return self.x, self.y - self.height / 2

    @property
    def bottom(self) -> tuple[float, float]:
        return self.x, self.y + self.height / 2

    @property
    def left(self) -> tuple[float, float]:
        return self.x - self.width / 2, self.y

    @property
    def right(self) -> tuple[float, float]:
        return self.x + self.width / 2, self.y


Step = tuple[str, str]


def residual_chain(name: str, title: str, first: str, groups: list[list[list[Step]]], notes: dict[int, str]) -> None:
    """Pre-norm residual groups one below the other: every group is branches of steps whose sum is added to its input.

    ``notes``, by number of the group, are texts with a dashed arrow into the last step of its last branch.
    """
    x, y, gap = 300, 36, 46
    height = 90 + sum((max(map(len, group)) + 1) * gap + 8 for group in groups)
    drawing = Drawing(640, height, title)
    above = drawing.box(x, y, first, "data", 230)
    for number, group in enumerate(groups):
        start = (above.bottom[0], above.bottom[1] + 9)
        depth = max(map(len, group))
        total = drawing.plus(x, above.y + (depth + 1) * gap + 4)
        drawing.arrow(above.bottom, start, (x - 205, start[1]), (x - 205, total.y), total.left)
        columns = [x] if len(group) == 1 else [x - 97, x + 103]
        for column, branch in zip(columns, group, strict=True):
            previous = above
            for place, (text, kind) in enumerate(branch):
                box = drawing.box(column, above.y + (place + 1) * gap, text, kind, 192, 36 if "\n" in text else 30)
                if place == 0 and column != x:
                    drawing.arrow(start, (column, start[1]), box.top)
                else:
                    drawing.arrow(previous.bottom, box.top)
                previous = box
            if column == x:
                drawing.arrow(previous.bottom, total.top)
            else:
                side = total.y - 18
                drawing.arrow(previous.bottom, (column, side), (x, side), total.top)
        if number in notes:
            edge = previous.right
            drawing.arrow((edge[0] + 40, edge[1]), edge, dashed=True)
            drawing.text(edge[0] + 46, edge[1], notes[number], 11, "start")
        above = total
    end = drawing.box(x, above.y + gap, "maps out", "data", 230)
    drawing.arrow(above.bottom, end.top)
    drawing.save(name)


def network() -> None:
    """AsymUNetMCT as published: nine levels, transformers beside every level, skips across."""
    widths = (8, 16, 32, 48, 64, 80, 96, 112, 128)
    drawing = Drawing(960, 830, "AsymUNetMCT: an asymmetric U-Net with multichannel transformers")
    left, right, top, step = 250, 690, 90, 74
    first = drawing.box(left, 34, "mixture magnitudes, 2 × 1024 × time", "data", 270)
    drawing.text(left - 205, 34, "+ position map", 11)
    drawing.arrow((left - 155, 34), first.left, dashed=True)
    previous, decoders = first, []
    for level, width in enumerate(widths[:-1]):
        y, bins = top + level * step, 1024 >> level
        encoder = drawing.box(left - 75, y, f"ResBlock\n{width} × {bins}", "convolution", 130, 42)
        transformer = drawing.box(left + 85, y, "frame transformer\nencoder, 4 maps", "attention", 140, 42)
        decoder = drawing.box(right + 75, y, f"FrameDecoder\n{width} × {bins}", "convolution", 130, 42)
        cross = drawing.box(right - 85, y, "frame transformer\ndecoder, 4 maps", "attention", 140, 42)
        above = previous.bottom if level == 0 else (left - 75, y - step + 21)
        drawing.arrow(above, (above[0], y - 30), (encoder.x, y - 30), encoder.top)
        drawing.arrow(encoder.right, transformer.left)
        drawing.arrow(transformer.right, cross.left)
        drawing.arrow(decoder.left, cross.right)
        if level:
            drawing.arrow((transformer.x, y - step + 21), transformer.top, dashed=True)
            drawing.arrow(cross.top, (cross.x, y - step + 21), dashed=True)
            drawing.arrow(decoder.top, (decoder.x, y - step + 21))
        decoders.append(decoder)
        previous = encoder
    y = top + 8 * step + 20
    bottom = drawing.box(left - 75, y, "ResBlock\n128 × 4", "convolution", 130, 42)
    latent = drawing.box(
        (left + right) / 2, y, "4 × latent transformer\n(convolutional), 128 × 4 × time", "attention", 250, 42
    )
    drawing.arrow(previous.bottom, bottom.top)
    drawing.arrow(bottom.right, latent.left)
    drawing.arrow(latent.right, (decoders[-1].x, y), decoders[-1].bottom)
    out = drawing.box(right + 75, 34, "1×1 convolution", "convolution", 130)
    drawing.arrow(decoders[0].top, out.bottom)
    mask = drawing.box(right - 100, 34, "mask logits, 2 × 1024 × time", "data", 190)
    drawing.arrow(out.left, mask.right)
    legend = 800
    for number, (kind, text) in enumerate(
        [("convolution", "convolution"), ("attention", "transformer"), ("data", "spectrogram")]
    ):
        drawing.box(150 + number * 150, legend, text, kind, 120, 24)
    drawing.arrow((580, legend), (620, legend))
    drawing.text(628, legend, "maps", 11, "start")
    drawing.arrow((690, legend), (730, legend), dashed=True)
    drawing.text(738, legend, "residual scores, level to level", 11, "start")
    drawing.text(
        480,
        772,
        "the maps of a transformer are appended to the channels of its level, for the next level and the decoder",
        12,
    )
    drawing.save("asym-unet-mct")


def blocks() -> None:
    norm = ("layer norm", "norm")
    self_attention = [norm, ("self-attention over frames", "attention")]
    skip_attention = [norm, ("skip attention, gated", "attention")]
    linear = [norm, ("linear, squared ReLU, linear", "linear")]
    feed_forward = [norm, ("feed-forward, squared ReLU", "linear")]
    of_encoder = "encoder's maps\nand scores"
    of_block = "residual scores of the\nblock before"
    residual_chain(
        "frame-transformer-encoder",
        "Frame transformer encoder block of AsymUNetMCT",
        "1×1 convolution to the maps",
        [
            [[norm, ("gated linear unit", "linear")]],
            [
                [norm, ("linear, squared ReLU", "linear")],
                [norm, ("3×3 conv + linear, sq. ReLU", "convolution")],
            ],
            [[norm, ("9×9 conv + linear", "convolution")]],
            [self_attention],
            [linear],
        ],
        {3: "residual scores of the\nlevel above"},
    )
    residual_chain(
        "frame-transformer-decoder",
        "Frame transformer decoder block of AsymUNetMCT",
        "1×1 convolution to the maps",
        [
            [self_attention, skip_attention],
            [
                [
                    norm,
                    ("11×11 conv + linear, sq. ReLU\nplus 7×7 conv + linear", "convolution"),
                    norm,
                    ("7×7 conv + linear", "convolution"),
                ],
            ],
            [self_attention],
            [skip_attention],
            [linear],
        ],
        {0: of_encoder, 3: of_encoder},
    )
    residual_chain(
        "latent-transformer",
        "Latent transformer block of AsymUNetMCT",
        "channels × bins × time",
        [
            [[norm, ("1×1 conv, gated linear unit", "convolution")]],
            [
                [norm, ("1×1 conv, squared ReLU", "convolution")],
                [norm, ("separable 3×3, sq. ReLU", "convolution")],
            ],
            [[norm, ("separable 9×9 conv", "convolution")]],
            [[norm, ("attention, positions f × t", "attention")]],
            [[norm, ("3×3 conv, sq. ReLU, 3×3 conv", "convolution")]],
        ],
        {3: "residual scores of the\nlayer before"},
    )
    residual_chain(
        "transformer-encoder",
        "Transformer encoder block of V1, V2b and V3",
        "1×1 convolution to the maps",
        [
            [self_attention],
            [feed_forward],
        ],
        {0: of_block},
    )
    residual_chain(
        "transformer-decoder",
        "Transformer decoder block of V1 and V2b",
        "1×1 convolution to the maps",
        [
            [self_attention],
            [[norm, ("attention to the encoder", "attention")]],
            [feed_forward],
        ],
        {0: of_block, 1: of_encoder},
    )
    residual_chain(
        "resblock",
        "Residual block",
        "maps × bins × time",
        [
            [
                [
                    norm,
                    ("3×3 convolution", "convolution"),
                    ("squared ReLU", "linear"),
                    ("3×3 conv, stride 2 × 1", "convolution"),
                ]
            ]
        ],
        {},
    )


def attention() -> None:
    """Multichannel attention: queries and keys from every map, scores added to those of the layers before."""
    drawing = Drawing(760, 430, "Multichannel attention with residual scores")
    source = drawing.box(330, 34, "maps × bins × time (normalised)", "data", 260)
    columns = {"queries": 130, "keys": 330, "values": 530}
    last = {}
    for name, x in columns.items():
        projection = drawing.box(x, 100, f"{name}: linear, 1×3 conv", "linear", 170)
        drawing.arrow(source.bottom, (330, 62), (x, 62), projection.top)
        last[name] = projection
        if name != "values":
            rotary = drawing.box(x, 156, "rotary positions", "norm", 150)
            drawing.arrow(projection.bottom, rotary.top)
            last[name] = rotary
    product = drawing.box(230, 222, "q · k, per map and head: time × time", "attention", 250)
    drawing.arrow(last["queries"].bottom, (130, 190), (200, 190), (200, product.top[1]))
    drawing.arrow(last["keys"].bottom, (330, 190), (260, 190), (260, product.top[1]))
    total = drawing.plus(230, 276)
    drawing.arrow(product.bottom, total.top)
    drawing.arrow((60, 276), total.left, dashed=True)
    drawing.text(52, 258, "scores of the layers before", 11, "start")
    drawing.arrow(total.right, (470, 276), dashed=True)
    drawing.text(400, 262, "to the next layer", 11)
    softmax = drawing.box(230, 326, "softmax, times values", "attention", 200)
    drawing.arrow(total.bottom, softmax.top)
    drawing.arrow(last["values"].bottom, (530, 326), softmax.right)
    out = drawing.box(230, 388, "output projection", "linear", 170)
    drawing.arrow(softmax.bottom, out.top)
    drawing.save("attention")


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    network()
    blocks()
    attention()


if __name__ == "__main__":
    main()
