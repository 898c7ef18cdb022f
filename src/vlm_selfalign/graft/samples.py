"""A page of fresh scenes with what the grafted model says of them, falsehoods in red."""

from __future__ import annotations

import textwrap
from pathlib import Path

from vlm_selfalign.data.world.draw import draw
from vlm_selfalign.data.world.questions import DESCRIBE
from vlm_selfalign.data.world.scenes import Scene, scene
from vlm_selfalign.graft.gate import Subject
from vlm_selfalign.graft.tower import RICH
from vlm_selfalign.scoring.claims import claimed, read_claims
from vlm_selfalign.scoring.sentences import split_sentences
from vlm_selfalign.scoring.vocabulary import Vocabulary

COLUMNS, ROWS = 4, 2
WIDTH, LINES = 44, 12
"""Characters of a line, and lines of room below a picture."""


def draw_samples(subject: Subject, picture: Path) -> None:
    """Eight test scenes of the rich world and the model's greedy descriptions as a PNG."""
    from matplotlib.figure import Figure

    shown = [scene(index, "test", 1, RICH) for index in range(COLUMNS * ROWS)]
    pictures = [draw(one, RICH) for one in shown]
    written = subject.answers([(one, DESCRIBE) for one in pictures], tokens=120)
    figure = Figure(figsize=(3.2 * COLUMNS, 4.4 * ROWS), layout="constrained")
    for axis, one, pixels, text in zip(figure.subplots(ROWS, COLUMNS).flat, shown, pictures, written, strict=True):
        axis.imshow(pixels, interpolation="nearest")
        axis.set_axis_off()
        for line, (said, true) in enumerate(lines(text, one)):
            style = {"color": "black" if true else "crimson", "weight": "normal" if true else "bold"}
            axis.text(0, 67 + 3.6 * line, said, fontsize=8, va="top", **style)
        axis.text(0, 67 + 3.6 * LINES, " ", fontsize=8, va="top")  # room below, so that no text is cut
    figure.savefig(picture, dpi=100)


def lines(text: str, one: Scene) -> list[tuple[str, bool]]:
    """The text's sentences, each on lines of its own, with whether all it says of kinds and colours is so."""
    colours = {thing.kind: thing.colour for thing in one.things}
    claims = list(claimed(read_claims(text, Vocabulary.load("world"))))
    found = []
    for number, span in enumerate(split_sentences(text)):
        said = [claim for claim in claims if claim.sentence == number]
        true = all(claim.kind in colours and claim.colour in (None, colours[claim.kind]) for claim in said)
        found += [(line, true) for line in textwrap.wrap(text[slice(*span)].strip(), WIDTH)]
    return found
