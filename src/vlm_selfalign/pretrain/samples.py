"""A page of fresh scenes with what the model says of them, falsehoods in red."""

from __future__ import annotations

from pathlib import Path

from vlm_selfalign.data.world.draw import draw
from vlm_selfalign.data.world.questions import DESCRIBE
from vlm_selfalign.data.world.scenes import scene
from vlm_selfalign.pretrain.gate import MENTION, Asked, Subject

COLUMNS, ROWS = 6, 2


def draw_samples(folder: Path, picture: Path) -> None:
    """Twelve test scenes and the checkpoint's greedy descriptions as a PNG."""
    from matplotlib.figure import Figure

    shown = [scene(index, "test", 1) for index in range(COLUMNS * ROWS)]
    pictures = [draw(one) for one in shown]
    written = Subject(folder).answers([Asked(DESCRIBE, one) for one in pictures], tokens=96)
    figure = Figure(figsize=(2.1 * COLUMNS, 3.2 * ROWS), layout="constrained")
    axes = figure.subplots(ROWS, COLUMNS).flat
    for axis, one, pixels, text in zip(axes, shown, pictures, written, strict=True):
        axis.imshow(pixels, interpolation="nearest")
        axis.set_axis_off()
        colours = {thing.kind: thing.colour for thing in one.things}
        for line, said in enumerate(MENTION.finditer(text)):
            right = colours.get(said[1]) == said[2]
            style = {"color": "black" if right else "crimson", "weight": "normal" if right else "bold"}
            axis.text(0, 70 + 6 * line, said[0], fontsize=8, va="top", **style)
        axis.text(0, 70 + 6 * 6, " ", fontsize=8, va="top")  # room below, so that no caption is cut
    figure.savefig(picture, dpi=110)
