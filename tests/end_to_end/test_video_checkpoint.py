"""The way of clips to a real model: encoded files, a checkpoint of each family, everything but the replies real: pairs,
training, adapter, reload, generation."""

import json
from fractions import Fraction

import av
import numpy as np
import pytest

import vlm_selfalign as sa
from vlm_selfalign.config import ModelSettings
from vlm_selfalign.core.requests import Choose, Generate, Sampling
from vlm_selfalign.methods.videosavi import CRITICISE, REVISE
from vlm_selfalign.models.hf import HFService
from vlm_selfalign.models.load import load
from vlm_selfalign.models.tiny import build

EQUAL = "12"
FAMILIES = [
    ("qwen2_5_vl", "null"),
    ("qwen3_vl", "null"),
    ("smolvlm", "null"),
    ("llava_onevision", EQUAL),
    ("llava_onevision", "null"),
]
"""Each with how many of the clips it learns from: all, or those of as many frames as asked for."""
THINGS = ["dog", "cat", "car", "boat", "bench", "chair", "clock", "bird"]


def write_clip(path, seed, codec="libx264", frames=8):
    """Noise that moves: every clip is another."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=Fraction(4))
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb8" if codec == "gif" else "yuv420p"
        still = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(np.roll(still, 4 * number, axis=1), format="rgb24")
            for packet in stream.encode(frame.reformat(format=stream.pix_fmt)):
                file.mux(packet)
        for packet in stream.encode():
            file.mux(packet)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    for place in range(9):
        write_clip(folder / f"{place}.mp4", place)
    write_clip(folder / "a.webm", 10, "libvpx-vp9")
    write_clip(folder / "b.avi", 11, "mpeg4")
    write_clip(folder / "c.gif", 12, "gif")
    write_clip(folder / "z-short.mp4", 13, frames=1)
    with av.open(str(folder / "0-sound.mp4"), "w") as file:
        stream = file.add_stream("aac", rate=16000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 16000
        for packet in [*stream.encode(sound), *stream.encode()]:
            file.mux(packet)
    (folder / "0-broken.mp4").write_bytes(b"no clip at all")
    return folder


def thing(request):
    return THINGS[int(request.prompt.media[0].content_hash[:4], 16) % len(THINGS)]


def scripted(request):
    """A plausible model: what it says depends on the clip, damaged clips mislead it, it knows its own errors."""
    if isinstance(request, Choose):
        if "A" in request.choices:
            return "A" if "left side" in request.prompt.question.split("\n")[1] else "B"
        return {"Yes": 0.1, "No": 0.9}
    name, question = thing(request), request.prompt.question
    if question.startswith("Ask "):
        return "Where is it?\nWhat happens first?"
    if question == CRITICISE:
        return "The side is wrong."
    if question == REVISE:
        return f"There is a {name} on the left side."
    other = THINGS[(THINGS.index(name) + 1) % len(THINGS)]
    seen = other if request.prompt.media[0].views else name
    return f"There is a {seen} here." if question.startswith("Describe") else f"There is a {name} on the right side."


def run(recipe, clips, checkpoint, out, *more, **services):
    parts = [recipe, "qwen2_5_vl_7b_lora", f"out={out}", f"model.path={checkpoint}", "data.source=folder"]
    parts += [f"data.path={clips}", "data.settings={kind: video}", "data.limit=null", "data.vocabulary=coco"]
    parts += ["model.dtype=float32", "model.device=cpu", "model.media.max_pixels=3136", "model.media.frames=4"]
    parts += ["model.media.fps=null", "model.lora.r=16", "model.lora.alpha=32", "training.bf16=false"]
    parts += ["training.gradient_checkpointing=false", "training.micro_batch=4", "rounds=1", "measure.holdout=0"]
    fit = ["learning_rate=2e-2", "epochs=6", "batch_size=4", "beta=1"]
    parts += [*(f"stages.policy.{key}" for key in fit), *more]
    services = {"policy": sa.Scripted(scripted)} | services
    return sa.run(*parts, services=services, show=lambda line: None, verb="train")


def settings_of(path):
    media = {"frames": 4, "max_pixels": 3136}
    return ModelSettings(path=str(path), device="cpu", media=media)


def learnt(result, checkpoint):
    """At least eight pairs on clips, the loss down by half, and a reloaded adapter that writes something else."""
    pairs = result.rows("pairs")
    assert len(pairs) >= 8 and all(pair.prompt.media[0].kind == "video" for pair in pairs)
    log = [json.loads(line) for line in (result.policy / "log.jsonl").read_text().splitlines()]
    assert log[0]["loss"] == pytest.approx(np.log(2), abs=1e-5)
    assert log[-1]["loss"] < log[0]["loss"] / 2
    assert (result.policy / "adapter_model.safetensors").is_file()
    start, after = HFService(load(settings_of(checkpoint))), HFService(load(settings_of(result.policy)))
    asked = [Generate(prompt=pair.prompt, sampling=Sampling(max_tokens=16)) for pair in pairs[:4]]
    assert [r.text for r in start.serve(asked, [0] * 4)] != [r.text for r in after.serve(asked, [0] * 4)]
    assert start.identity != after.identity
    return pairs


@pytest.mark.parametrize(("family", "limit"), FAMILIES)
def test_rrpo_on_encoded_clips(family, limit, clips, tmp_path):
    checkpoint = build(family, tmp_path / family)
    result = run("rrpo", clips, checkpoint, tmp_path / "run", "stages.policy.alpha=0.001", f"data.limit={limit}")
    pairs = learnt(result, checkpoint)
    for pair in pairs:
        ((start, end),), ((begin, stop),) = pair.chosen_spans, pair.rejected_spans
        assert pair.chosen[:start] == pair.rejected[:begin] and pair.chosen[end:] == pair.rejected[stop:]
        assert {pair.chosen[start:end], pair.rejected[begin:stop]} <= set(THINGS)
    drops = [json.loads(line) for line in (result.folder / "drops.jsonl").read_text().splitlines()]
    left = {drop["reason"]: drop["count"] for drop in drops if drop["stage"] == "data"}
    assert len(left) == 2 and set(left.values()) == {1}, "sound alone and a broken file, each with its reason"


def test_videosavi_on_encoded_clips(clips, tmp_path):
    checkpoint = build("qwen2_5_vl", tmp_path / "qwen2_5_vl")
    result = run("videosavi", clips, checkpoint, tmp_path / "run", "data.limit=8")
    pairs = learnt(result, checkpoint)
    assert all("left" in pair.chosen and "right" in pair.rejected for pair in pairs)
