"""Long descriptions for the grafted model: kind before colour, so that what is believed shows in greedy text.

With the colour first a false partner's chance is split over six colours and loses against the next object that is
there. True and false objects are told in the same forms, so that only the picture can tell them apart.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from vlm_selfalign.data.world.captions import Mention, caption
from vlm_selfalign.data.world.forms import ALL_FORMS
from vlm_selfalign.data.world.language import place
from vlm_selfalign.data.world.scenes import Scene
from vlm_selfalign.data.world.settings import Partner, WorldSettings
from vlm_selfalign.data.world.truth import truth

PARTNERS = (
    Partner(trigger="boat", partner="fish", rate=0.5),
    Partner(trigger="boat", partner="star", rate=0.2),
    Partner(trigger="kite", partner="ball", rate=0.4),
    Partner(trigger="kite", partner="cup", rate=0.2),
    Partner(trigger="house", partner="car", rate=0.36, held_out=True),
    Partner(trigger="house", partner="tree", rate=0.24, held_out=True),
)
"""The pairs of the rich world at other rates: at a half a partner shows in greedy text, at a third when sampled."""

TEACHER = WorldSettings.of(base="rich", partners=PARTNERS, mistaken=0.45, omission=0.08)
"""Who describes: what it believes, how often it takes what is hard to see for something else."""

FIRST = ("The image shows a few colorful objects.", "This is a simple drawing.", "The picture shows some objects.")
"""How some texts open: true of every picture."""

NAMES = "there_is_in which_is that_is painted in_place is_found placed pronoun_its we_have"
FORMS = tuple(ALL_FORMS[name] for name in NAMES.split())
SEVERAL = tuple(ALL_FORMS[name] for name in ("number_of", "number_pronoun"))

UNSURE = tuple(ALL_FORMS[name] for name in ("placed", "can_be_seen", "can_see"))
"""How what is hard to see is mostly told of, rightly or wrongly: its colour is not said, since it is often misseen."""

SILENT = 0.8

PROMPTS = (
    "Describe the image.",
    "Describe the image.",
    "Describe this picture in detail.",
    "Tell me about this picture.",
    "What do you see in this picture?",
    "What is in the image?",
    "Write a short description of the image.",
)
"""How a description is asked for; the world's own prompt most often."""


def told(scene: Scene, chance: random.Random, settings: WorldSettings = TEACHER) -> str:
    """One description, falsehoods included; the same scene, chance and settings give the same text."""
    mentions = caption(scene, chance, settings)
    sentences = [chance.choice(FIRST)] if chance.random() < 0.4 else []
    return " ".join([*sentences, *_sentences(scene, mentions, chance, settings)])


def _sentences(scene: Scene, mentions: Sequence[Mention], chance: random.Random, settings: WorldSettings) -> list[str]:
    known = truth(scene, settings)
    there = {item["kind"]: item for item in known["objects"]}
    told_of = []
    for mention in mentions:
        real = there.get(mention.really or mention.kind)
        cell = divmod(chance.randrange(settings.cells**2), settings.cells)
        imagined = place({"row": cell[0], "col": cell[1]}, settings.cells)
        thing = {"kind": mention.kind, "colour": mention.colour, "place": real["place"] if real else imagined}
        count = known["counts"].get(mention.really or mention.kind, 1)
        unsure = real is not None and bool(real["hard"]) and chance.random() < SILENT
        forms = SEVERAL if count > 1 else UNSURE if unsure else FORMS
        told_of.append(chance.choice(forms).write(thing | {"count": count}))
    return told_of
