"""Draws the README's picture: ``python docs/spectrograms.py SONG START SECONDS OUTPUT``.

The picture there is of Sodium by Software-Entwicklungskit (CC0), from second 213, separated by the default model.
"""

import sys

from PIL import Image, ImageDraw

from frame_transformer import Separator
from frame_transformer.audio import decode
from frame_transformer.separation.pictures import SpectrogramPictures

WIDTH, HEIGHT, GAP, COLOURS = 720, 150, 4, 32


def main(song: str, start: str, seconds: str, output: str) -> None:
    samples, rate = decode(song)
    first = round(float(start) * rate)
    drawn = SpectrogramPictures()
    for block in Separator().stream(samples[:, first : first + round(float(seconds) * rate)], rate):
        drawn.push(block)
    pictures = drawn.finish()
    names = ("mixture", "vocals", "instrumental")
    canvas = Image.new("RGB", (WIDTH, len(names) * (HEIGHT + GAP) - GAP), "white")
    draw = ImageDraw.Draw(canvas)
    for number, name in enumerate(names):
        top = number * (HEIGHT + GAP)
        # The lower half: above 11 kHz there is little to see.
        picture = pictures[name]
        canvas.paste(
            picture.crop((0, picture.height // 2, *picture.size)).resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS),
            (0, top),
        )
        draw.text((10, top + 6), name, "white", font_size=20)
    canvas.quantize(COLOURS).save(output, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
