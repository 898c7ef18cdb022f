"""Rows with their pictures: what is preferred to what, the differing words coloured; and the page of a preview."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlm_selfalign.core.disk import write_atomic
from vlm_selfalign.core.media import Media
from vlm_selfalign.core.prompts import Prompt
from vlm_selfalign.core.rows import Demo, Episode, Group, Labelled, Pair, Row, Span
from vlm_selfalign.core.spans import differing_spans
from vlm_selfalign.report.folder import RunFolder, StageRows
from vlm_selfalign.report.pictures import Picture, Pictures
from vlm_selfalign.report.render import render

PAIRS = 24
"""Pairs in the gallery of a page."""
PER_STAGE = 30
"""Rows of each stage in a preview."""
NOTE = 60
"""Longest note shown, in characters."""


@dataclass(frozen=True)
class Piece:
    """A run of characters and how it looks: ``""``, ``opening``, ``chosen``, ``rejected``, ``false`` or ``end``."""

    text: str
    look: str = ""


@dataclass(frozen=True)
class Side:
    """One answer of a row."""

    title: str
    look: str
    pieces: tuple[Piece, ...]
    pictures: tuple[Picture, ...] = ()
    """Its own pictures, where they are not the prompt's."""


@dataclass(frozen=True)
class Card:
    """One row as the gallery shows it; ``group`` is what its filter goes by."""

    id: str
    group: str
    question: str
    pictures: tuple[Picture, ...]
    sides: tuple[Side, ...]
    notes: tuple[tuple[str, str], ...] = ()


def cards(stages: Iterable[StageRows], most: int, pictures: Pictures) -> list[Card]:
    """At most ``most`` rows of all stages together, evenly spaced over each."""
    listed = [stage for stage in stages if stage.count]
    several = len({stage.round for stage in listed}) > 1
    found = []
    for place, stage in enumerate(listed):
        share = (place + 1) * most // len(listed) - place * most // len(listed)
        found += [card(row, pictures, f"round {stage.round} " if several else "") for row in stage.spread(share)]
    return found


def card(row: Row, pictures: Pictures, prefix: str = "") -> Card:
    """Any row as a card."""
    prompt = row.turns[0].prompt if isinstance(row, Episode) else row.prompt
    return Card(
        id=row.id,
        group=f"{prefix}{row.notes.get('role', row.origin.stage or row.kind)}",
        question=_question(prompt),
        pictures=_pictures(prompt.media, pictures),
        sides=tuple(_sides(row, pictures)),
        notes=_notes(row),
    )


def caption_cards(
    captions: Mapping[str, Mapping[str, Any]], titles: Mapping[str, str], media: Mapping[str, Sequence[Media]]
) -> list[Card]:
    """The same samples as several arms describe them; what is not in the picture is marked ``false``."""
    pictures = Pictures()
    ids = dict.fromkeys(sample for texts in captions.values() for sample in texts)
    found = []
    for sample in ids:
        sides = [
            Side(titles.get(arm, arm), "plain", caption_pieces(texts[sample]))
            for arm, texts in captions.items()
            if sample in texts
        ]
        found.append(Card(sample, "", "", _pictures(media.get(sample, ()), pictures), tuple(sides)))
    return found


def caption_pieces(caption: Any) -> tuple[Piece, ...]:
    """A caption given as text, or as ``{"text": ..., "false": [[start, end], ...]}``."""
    if isinstance(caption, str):
        return (Piece(caption),) if caption else (Piece("(empty)", "opening"),)
    spans = [(int(start), int(end)) for start, end in caption.get("false") or ()]
    return pieces(caption["text"], spans, "false") or (Piece("(empty)", "opening"),)


def pieces(text: str, spans: Sequence[Span], look: str) -> tuple[Piece, ...]:
    """The text cut at its spans; overlapping spans are joined, what lies outside the text is ignored."""
    found, place = [], 0
    for start, end in sorted(spans):
        start, end = max(place, start), min(end, len(text))
        if start < end:
            found += [Piece(text[place:start]), Piece(text[start:end], look)]
            place = end
    return tuple(piece for piece in (*found, Piece(text[place:])) if piece.text)


def _sides(row: Row, pictures: Pictures) -> Iterator[Side]:
    match row:
        case Pair():
            yield from _pair_sides(row, pictures)
        case Demo():
            yield Side("imitate", "plain", _answer(row.prompt.opening, row.answer, ends=row.ends))
        case Labelled():
            yield Side(f"label {row.label:g}", "plain", _answer(row.prompt.opening, row.answer))
            if row.judgment:
                yield Side("judgment", "plain", (Piece(row.judgment),))
        case Group():
            for text, score in zip(row.completions, row.scores, strict=True):
                yield Side(f"score {score:.3g}", "plain", _answer(row.prompt.opening, text))
        case Episode():
            for place, (turn, reward) in enumerate(zip(row.turns, row.rewards, strict=True), 1):
                yield Side(f"turn {place}, reward {reward:.3g}", "plain", _answer(turn.prompt.opening, turn.answer))


def _pair_sides(row: Pair, pictures: Pictures) -> Iterator[Side]:
    given = (row.chosen_spans, row.rejected_spans)
    chosen, rejected = given if any(given) else differing_spans(row.chosen, row.rejected)
    # An end is part of the difference where only one side has it.
    apart = row.chosen_ends != row.rejected_ends
    opening, other = row.prompt.opening, row.rejected_media
    yield Side("chosen", "chosen", _answer(opening, row.chosen, chosen, "chosen", row.chosen_ends, apart))
    yield Side(
        "rejected",
        "rejected",
        _answer(opening, row.rejected, rejected, "rejected", row.rejected_ends, apart),
        _pictures(other, pictures) if other is not None and other != row.prompt.media else (),
    )


def _answer(
    opening: str, text: str, spans: Sequence[Span] = (), look: str = "", ends: bool = False, apart: bool = False
) -> tuple[Piece, ...]:
    before = (Piece(opening, "opening"),) if opening else ()
    end = "¶ stops here" if not text else "¶"
    after = (Piece(end, f"end {look}" if apart or not text else "end"),) if ends else ()
    return (*before, *pieces(text, spans, look), *after)


def _question(prompt: Prompt) -> str:
    turns = [message for message in prompt.messages if message.text]
    if len(turns) == 1:
        return turns[0].text
    return "\n".join(f"{message.role}: {message.text}" for message in turns)


def _pictures(media: Sequence[Media] | None, pictures: Pictures, most: int = 4) -> tuple[Picture, ...]:
    return tuple(pictures(one) for one in (media or ())[:most])


def _notes(row: Row) -> tuple[tuple[str, str], ...]:
    notes = sorted(row.notes.items(), key=lambda note: note[0] != "role")
    shown = {name: value for name, value in notes if value not in (None, "", [], {})}
    if isinstance(row, Pair) and row.label_prob != 1:
        shown["label_prob"] = row.label_prob
    if getattr(row, "weight", 1) != 1:
        shown["weight"] = row.weight  # type: ignore[union-attr]
    return tuple((name.replace("_", " "), _short(value)) for name, value in list(shown.items())[:6])


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= NOTE else text[: NOTE - 1] + "…"


def write_preview(folder: str | Path) -> Path:
    """Write ``preview.html``: rows of every stage with their pictures, and every value.

    Raises ``UserError`` when the folder is no run directory.
    """
    found, pictures = RunFolder(Path(folder)), Pictures()
    stages = [(stage, cards([stage], PER_STAGE, pictures)) for stage in found.rows]
    values = [(number, name, _indented(value)) for number, name, value in found.values]
    page = found.path / "preview.html"
    config = found.config
    write_atomic(page, render("preview.html", config=config, stages=stages, values=values, drops=found.drops))
    return page


def _indented(value: Any, most: int = 2000) -> str:
    text = json.dumps(value, indent=1, ensure_ascii=False)
    return text if len(text) <= most else text[:most] + " …"
