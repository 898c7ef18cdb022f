"""The same method on clips: things and events are named, asked back and balanced alike."""

from vlm_selfalign.core.driver import Driver
from vlm_selfalign.core.media import Media
from vlm_selfalign.core.prompts import Prompt, Sample
from vlm_selfalign.core.requests import Choose
from vlm_selfalign.core.rows import Origin
from vlm_selfalign.methods.mirror import balance, mirror_candidates
from vlm_selfalign.models.scripted import Scripted

SAMPLE = Sample.of(Prompt.user("Describe the clip.", Media(kind="video", uri="a.mp4", content_hash="00"))).seeded(0, 0)
TRUE = {
    "Is there a boat in the clip?",
    "Is there a star in the clip?",
    "Is there a cup in the clip?",
    "Does the boat move to the left?",
    "Does a star appear?",
    "Does the boat meet the cup?",
}
ASKED = []


def model(*texts):
    def answer(request):
        if not isinstance(request, Choose):
            return texts[request.draw % len(texts)]
        ASKED.append(request.prompt.question)
        if "Yes" in request.choices:
            yes = request.prompt.question in TRUE
            return {"Yes": 0.99 if yes else 0.01, "No": 0.01 if yes else 0.99}
        return {colour: 0.9 if colour == "red" else 0.02 for colour in request.choices}

    return Scripted(answer)


def candidates(*texts, **settings):
    run = mirror_candidates(samples=len(texts), vocabulary="world_clips", **settings)
    (finished,) = Driver({"policy": model(*texts)}).run_block(run, [SAMPLE])
    assert not finished.error, finished.error
    return finished


def test_events_denied_are_rejected():
    text = "There is a red boat. The boat moves left. Then the boat moves up. Finally a star appears."
    (pair,) = candidates(text).rows
    assert pair.notes == {
        "role": "deletion",
        "before": "boat+boat moves left",
        "chosen": "star+star appears",
        "rejected": "boat+boat moves up",
    }
    assert pair.rejected == " Then the boat moves up." and pair.chosen == " Finally a star appears."
    assert "What colour is the boat moves left?" not in ASKED and "Is there a boat in the clip?" in ASKED


def test_clean_clip_gives_mirror_pairs_and_balance():
    rows = candidates("There is a red boat. The boat moves left. Then a star appears.").rows
    assert [r.notes["role"] for r in rows] == ["mirror"] * 3
    bad = candidates("There is a red boat. The boat moves left. The cup vanishes.").rows
    rows = [r.model_copy(update={"origin": Origin(sample="s"), "index": i}) for i, r in enumerate([*rows, *bad])]
    assert balance()(rows).rows
