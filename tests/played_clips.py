"""A plausible model of drawn clips, played from their truth: it describes as the world's teacher does, falsehoods and
all, answers about what it sees rightly, and asks the world's own questions.
"""

from __future__ import annotations

from typing import Any

from vlm_selfalign.core.requests import Choose, Request, Score
from vlm_selfalign.core.seeds import rng
from vlm_selfalign.data.world.clips.descriptions import describe_clip
from vlm_selfalign.data.world.clips.questions import asked_of_clip
from vlm_selfalign.data.world.clips.settings import ClipSettings
from vlm_selfalign.data.world.clips.stories import located
from vlm_selfalign.data.world.clips.truth import clip_truth
from vlm_selfalign.metrics.audit import holds
from vlm_selfalign.scoring.told import read_told
from vlm_selfalign.scoring.vocabulary import Vocabulary

WORDS = Vocabulary.load("world_clips")
SETTINGS = ClipSettings()


def plays(request: Request) -> Any:
    """The reply to any request about a drawn clip."""
    shown, question = request.prompt.media[0], request.prompt.question
    seen = located(shown.uri)[0]
    if isinstance(request, Choose) and "Yes" not in request.choices:
        colours = {item["kind"]: item["colour"] for item in clip_truth(seen, SETTINGS)["objects"]}
        return colours.get(question.rstrip("?").split()[-1], request.choices[0])
    if isinstance(request, Choose):
        return {"Yes": 0.98, "No": 0.02} if answers_yes(question, clip_truth(seen, SETTINGS)) else {"Yes": 0.02}
    if isinstance(request, Score):
        return -1.0
    chance = rng("played", shown.content_hash, question, request.draw if request.sampling.temperature else 0)
    if question.startswith("Ask "):
        found = [q for task in ("colour", "direction", "count", "order") for q in
                 asked_of_clip(clip_truth(seen, SETTINGS), task, chance, 1)]  # fmt: skip
        return "\n".join(q.text for q in found)
    if any(view.name == "reverse" for view in shown.views):
        return "The boat moves to the left."
    return describe_clip(seen, chance, SETTINGS).text


def answers_yes(question: str, truth: Any) -> bool:
    """Whether what a yes/no question asks about holds; of an order it always says yes."""
    if question.startswith("Does it happen in this order"):
        return True
    said = question.removeprefix("Does ").removesuffix("?").removesuffix(" in the clip")
    text = f"{said.replace('Is there', 'There is')}." if said.startswith("Is there") else f"{said.capitalize()}."
    return all(holds(claim.kind, truth, WORDS) for claim in read_told(text, WORDS, WORDS.event_words))
