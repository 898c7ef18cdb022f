"""Every word that the rich world's texts hold, so that the tokenizer takes each whole."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tokenizers import pre_tokenizers

from vlm_selfalign.data.world import questions
from vlm_selfalign.data.world.arithmetic import WHAT_IS
from vlm_selfalign.data.world.clips import language as clips
from vlm_selfalign.data.world.clips import questions as clip_questions
from vlm_selfalign.data.world.forms import ALL_FORMS, ENDINGS
from vlm_selfalign.data.world.language import NUMBERS, RELATIONS, plural
from vlm_selfalign.data.world.settings import COLOURS, KINDS
from vlm_selfalign.data.world.twins import STYLES
from vlm_selfalign.pretrain.rich.tasks.ask import ASK
from vlm_selfalign.pretrain.rich.tasks.checked import FAULT, FINE
from vlm_selfalign.pretrain.rich.tasks.describe import DESCRIBE
from vlm_selfalign.scoring.judging import BETTER, RIGHT
from vlm_selfalign.scoring.revisions import CRITICISE, REVISE
from vlm_selfalign.scoring.self_asked import SPATIAL, TEMPORAL

DIRECTIONS = ("left", "right", "up", "down")
SINGLE = (*KINDS, *COLOURS, *DIRECTIONS)
"""Words that may be an answer: with a space before them in a sentence, without one as an answer."""

OTHER = "Yes No no at the a an and first then start there is image picture clip scene story top bottom left right small"
"""Words that only code puts into texts."""


def words() -> list[str]:
    """All words as they stand in text, a leading space included, byte characters as ``Ġ``."""
    texts = [*SINGLE, *OTHER.split(), *NUMBERS, *map(plural, KINDS), *RELATIONS.values(), "large", "middle"]
    carriers = [re.sub(r"\{\w+\}", "it", template) for template in _templates()]
    said = [part for text in [*texts, *carriers] for part in (text, text[0].upper() + text[1:])]
    split = pre_tokenizers.ByteLevel(add_prefix_space=False)
    both = [*said, *(" " + text for text in said)]
    found = {word for text in both for word, _ in split.pre_tokenize_str(text)}
    return sorted(word for word in found if len(word) > 1 and not word.strip("Ġ").isdigit())


def _templates() -> Iterable[str]:
    yield from (form.template for form in ALL_FORMS.values())
    yield from (clause.template for pool in clips.CLAUSES.values() for clause in pool.values())
    for pool in (clips.OPENERS, clips.FIRST, clips.NEXT, clips.LAST, clips.CHAINS.values(), clips.STILL):
        yield from pool
    yield from clips.TOWARDS.values()
    for event in _events():
        yield from (clip_questions.said(event), clip_questions.does(event))
    for module in (questions, clip_questions):
        yield from (text for name, text in vars(module).items() if name.isupper() and isinstance(text, str))
    yield from (CRITICISE, REVISE, RIGHT, BETTER, SPATIAL, TEMPORAL, FAULT, FINE)
    yield from (*questions.EXISTENCE, *ENDINGS, *STYLES, WHAT_IS, ASK, DESCRIBE, "Is the {kind} {first} or {second}")


def _events() -> list[dict[str, str | None]]:
    return [{"action": a, "kind": "it", "direction": "up", "other": "it"} for a in clips.CLAUSES]
