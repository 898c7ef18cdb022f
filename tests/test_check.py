"""What ``check`` foretells about tokens, memory and decoding, and what it refuses."""

from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from vlm_selfalign.check import ModelCheck
from vlm_selfalign.config import ModelSettings, check_settings
from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.prompts import Prompt, Sample
from vlm_selfalign.core.stages import parse_stages
from vlm_selfalign.media.image import image_media
from vlm_selfalign.media.video import video_media
from vlm_selfalign.models import skeleton
from vlm_selfalign.models.encode import Encoder
from vlm_selfalign.models.estimate import to_answer, to_learn
from vlm_selfalign.models.load import load


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """Two pictures, one large, and a clip of two seconds."""
    folder = tmp_path_factory.mktemp("media")
    media = []
    for name, side in (("small", 30), ("large", 200)):
        Image.new("RGB", (side, side), "red").save(folder / f"{name}.png")
        media.append(image_media(str(folder / f"{name}.png")))
    with av.open(str(folder / "clip.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for k in range(16):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 10 * k, np.uint8), format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, 8)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    media.append(video_media(str(folder / "clip.mp4")))
    return [Sample.of(Prompt.user("What is it?", one)) for one in media]


def checked(samples, total=3, **tree):
    tree.setdefault("stages", {"pairs": {"method": "mirror_candidates"}})
    settings = check_settings({"model": {"path": "tiny:qwen2_5_vl"}, **tree})
    fits = [stage for stage in parse_stages(settings.stages) if stage.kind == "fit"]
    lines = []
    ModelCheck("policy", settings.model, fits, settings, lines.append).run(samples, total)
    return lines


def line(lines, words):
    (found,) = [one for one in lines if words in one]
    return found


def test_it_counts_the_tokens_of_the_real_processor(samples):
    told = line(checked(samples), "the first prompt is")
    encoder = Encoder.of(load(ModelSettings(path="tiny:qwen2_5_vl", device="cpu")))
    counts = [(len(encoder.batch([s.prompt]).inputs["input_ids"][0]), encoder.look(s.prompt).tokens) for s in samples]
    (first, visual), (longest, most) = counts[0], max(counts)
    assert f"is {first} tokens, {visual} of them visual; the longest of 3 is {longest}, {most} visual" in told


def test_it_times_the_first_clip_and_says_when_the_cache_is_too_small(samples):
    lines = checked(samples, model={"path": "tiny:qwen2_5_vl", "media": {"cache_mb": 0}})
    assert " s to decode to 16 frames" in line(lines, "the first clip takes")
    assert "of 3 worked on at once the cache holds 0," in line(lines, "decodes its clip anew")
    assert not any("anew" in one for one in checked(samples))


def test_samples_over_budget_are_counted_and_all_of_them_refused(samples):
    small = {"path": "tiny:qwen2_5_vl", "media": {"max_visual_tokens": 20}}
    assert line(checked(samples, model=small), "cannot be shown").startswith("policy: 1 of the samples")
    with pytest.raises(UserError, match=r"none of 1 .*max_visual_tokens=20; lower model.media.frames"):
        checked(samples[2:], model=small)
    with pytest.raises(UserError, match="Llava takes no clips"):
        checked(samples[2:], model={"path": "tiny:llava"})


def test_rows_that_max_length_would_drop_are_foretold(samples):
    stages = {"pairs": {"method": "mirror_candidates"}, "policy": {"fit": "dpo", "rows": "pairs", "max_length": 30}}
    note = line(checked(samples, stages=stages), "drops every row")
    assert note.startswith("note: stages.policy.max_length=30 drops every row about ")
    stages["policy"]["max_length"] = 3000
    assert not any("drops every row" in one for one in checked(samples, stages=stages))


def test_what_cannot_fit_is_refused_with_what_to_set(samples, monkeypatch):
    stages = {"pairs": {"method": "mirror_candidates"}, "policy": {"fit": "dpo", "rows": "pairs"}}
    lines = checked(samples, stages=stages)
    assert "for 32 of the longest prompts" in line(lines, "more for")
    assert "on 8 such rows at once" in line(lines, "activations to train")
    weights = skeleton.needs(load_meta(), ModelSettings()).to_answer
    for free, words in [(weights - 1, "quantize=4bit"), (weights + 1000, "max_visual_tokens")]:
        monkeypatch.setattr(skeleton, "free_memory", lambda free=free: free)
        with pytest.raises(UserError, match=words):
            checked(samples, stages=stages)
    monkeypatch.setattr(skeleton, "free_memory", lambda: weights + 2_000_000)
    lines = checked(samples, stages=stages)
    assert line(lines, "batches will be halved") and line(lines, "training may run out of memory")


def load_meta():
    return skeleton.skeleton(ModelSettings(path="tiny:qwen2_5_vl"))


def test_memory_grows_as_the_formulas_say():
    config = load_meta().model.config
    # two layers of width 32, two key-value heads of 8, an inner width of 64
    assert to_answer(config, 10, 3, 4) == (2 * 2 * 2 * 8 + 4 * 32 + 2 * 64) * 4 * 10 * 3
    assert to_learn(config, 10, 3, 2, checkpointing=False) == 17 * 2 * 32 * 2 * 10 * 3
    assert to_learn(config, 10, 3, 2, checkpointing=True) == (2 + 17) * 32 * 2 * 10 * 3
