"""Clips in every family that takes them; encoded by the family's own processor."""

import numpy as np
import pytest
import torch

from train.engine.made import PAIR, asked, bench, both
from vlm_selfalign.core.media import Media
from vlm_selfalign.models.tiny import FAMILIES
from vlm_selfalign.train.texts import PER_TOKEN, Text

WATCHING = [family for family, takes in FAMILIES.items() if takes.video]
LIMIT = 1e-5


def clip_texts(found, seed=0, words="What happens?", answers=PAIR):
    """A pair about a clip of four frames."""
    processor = found.learner.loaded.processor
    clip = np.random.default_rng(seed).integers(0, 255, (4, 40, 60, 3), dtype=np.uint8)
    media = Media(kind="video", uri="made", content_hash=f"{seed:02d}")
    turn = {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": words}]}
    prompt = processor.apply_chat_template([turn], tokenize=False, add_generation_prompt=True)
    made = []
    for answer in answers:
        inputs = dict(processor(text=[prompt + answer], videos=[[clip]], return_tensors="pt"))
        ids = tuple(inputs.pop("input_ids")[0].tolist())
        inputs.pop("attention_mask")
        kinds = {name: tuple(inputs.pop(name)[0].tolist()) for name in PER_TOKEN if name in inputs}
        scored = len(found.maker.encoder.tokenizer(answer, add_special_tokens=False)["input_ids"])
        found.maker._keep((media,), {k: v for k, v in inputs.items() if isinstance(v, torch.Tensor)})
        made.append(Text(asked(words, media), answer, True, ids, scored, (True,) * scored, kinds))
    return made


@pytest.mark.parametrize("family, lora", [*((family, None) for family in WATCHING), ("qwen2_5_vl", "language")])
def test_equals_the_plain_forward(family, lora, photos):
    found = bench(family, lora)
    texts = clip_texts(found) + clip_texts(found, words="Where?") + clip_texts(found, seed=1)
    texts += found.texts(asked("describe", photos[0]))
    error, gradient = both(found, texts)
    assert found.engine.backend == "split" and found.engine.vision.calls == 3
    assert error <= LIMIT and gradient <= LIMIT


def test_another_clip_shows():
    found = bench("qwen2_5_vl", "language")
    other = found.planner(clip_texts(found, seed=1))

    def swapped(texts):
        tree = found.planner(texts)
        tree.looks = other.looks
        return found.engine.score(found.learner.model, tree, found.plain(texts)[1][:, 1:])

    error, _ = both(found, clip_texts(found), swapped)
    assert error > 100 * LIMIT
