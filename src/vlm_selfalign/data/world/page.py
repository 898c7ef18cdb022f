"""A page of samples of the drawn world: what is drawn, what is true, what is (wrongly) said, what is asked."""

from __future__ import annotations

import base64
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from PIL import Image

from vlm_selfalign.core.disk import make_folder, write_atomic
from vlm_selfalign.core.seeds import rng
from vlm_selfalign.data.world.arithmetic import DIFFICULTY, LEVELS, problems
from vlm_selfalign.data.world.clips.descriptions import ClipDescription, describe_clip
from vlm_selfalign.data.world.clips.draw import draw_story
from vlm_selfalign.data.world.clips.questions import CLIP_TASKS, asked_of_clip, said
from vlm_selfalign.data.world.clips.settings import ClipSettings
from vlm_selfalign.data.world.clips.stories import address as clip_address
from vlm_selfalign.data.world.clips.stories import story
from vlm_selfalign.data.world.clips.truth import clip_truth
from vlm_selfalign.data.world.descriptions import Description, describe
from vlm_selfalign.data.world.draw import draw
from vlm_selfalign.data.world.exports import png
from vlm_selfalign.data.world.plates import strip
from vlm_selfalign.data.world.questions import TASKS, asked
from vlm_selfalign.data.world.scenes import Split, address, scene
from vlm_selfalign.data.world.settings import WorldSettings
from vlm_selfalign.data.world.truth import truth
from vlm_selfalign.data.world.twins import in_words, told_in_words

PAGE = "world.html"


def world_page(
    settings: WorldSettings | None,
    out: str | Path,
    *,
    clips: ClipSettings | None = None,
    split: Split = "train",
    seed: int = 0,
    scenes: int = 12,
    stories: int = 6,
) -> Path:
    """Write ``out/world.html``, one self-contained file, and return its path.

    Args:
        settings: The dials of the pictures; None for the defaults.
        out: A folder; made if it is not there.
        clips: The dials of the clips; None for the defaults.
        split: Which part of the world.
        seed: Another one shows other samples.
        scenes: How many pictures.
        stories: How many clips.

    Raises:
        UserError: A split that does not exist, a folder that cannot be written.
    """
    settings, clips = settings or WorldSettings(), clips or ClipSettings()
    text = _template().render(
        dials=settings.model_dump(mode="json"),
        clip_dials=clips.model_dump(mode="json", exclude={"world"}),
        scenes=[_scene(index, split, seed, settings) for index in range(scenes)],
        stories=[_story(index, split, seed, clips) for index in range(stories)],
        sums=[(level, DIFFICULTY[level], problems(level, split, seed)[:4]) for level in LEVELS],
    )
    path = make_folder(out) / PAGE
    write_atomic(path, text)
    return path


@cache
def _template() -> jinja2.Template:
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    made = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return made.get_template("page.html.j2")


def _scene(index: int, split: Split, seed: int, settings: WorldSettings) -> dict[str, Any]:
    shown, chance = scene(index, split, seed, settings), rng("page", split, seed, index)
    known, told = truth(shown, settings), describe(shown, chance, settings)
    questions = [asked(known, task, chance, settings.partners, count=1)[:1] for task in TASKS]
    return {
        "address": address(index, split, seed, settings),
        "picture": _data(draw(shown, settings)),
        "truth": known,
        "told": _told(told),
        "words": in_words(shown, chance, settings),
        "questions": [question for few in questions for question in few],
    }


def _told(told: Description) -> list[tuple[str, bool]]:
    """Every sentence, and whether it names what is not there."""
    false = {mention.kind for mention in told.false}
    return [(s.text, any(claim.present and claim.kind in false for claim in s.claims)) for s in told.sentences]


def _story(index: int, split: Split, seed: int, settings: ClipSettings) -> dict[str, Any]:
    shown, chance = story(index, split, seed, settings), rng("page clip", split, seed, index)
    known = clip_truth(shown, settings)
    questions = [asked_of_clip(known, task, chance, count=1)[:1] for task in CLIP_TASKS]
    told = describe_clip(shown, chance, settings)
    return {
        "address": clip_address(index, split, seed, settings),
        "strip": _data(strip(draw_story(shown, settings), scale=1)),
        "events": [(said(event), event["start"], event["end"]) for event in known["events"]],
        "told": told.text,
        "false": _false(told),
        "words": told_in_words(shown, chance, settings),
        "questions": [question for few in questions for question in few],
    }


def _false(told: ClipDescription) -> list[str]:
    return [f"{claim.kind}: {claim.action} {claim.direction or ''}".strip() for claim in told.false]


def _data(picture: Image.Image) -> str:
    return "data:image/png;base64," + base64.b64encode(png(picture)).decode("ascii")
