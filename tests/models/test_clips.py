"""Clips in prompts: every family's own tokens and times, in any company, decoded and seen once."""

import functools
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from vlm_selfalign.config import MediaSettings
from vlm_selfalign.core.prompts import Message, Prompt
from vlm_selfalign.core.requests import Choose, Failed, Generate, Sampling, Score
from vlm_selfalign.media.clip import Clip
from vlm_selfalign.models import shown
from vlm_selfalign.models.encode import Encoder, EncodingError
from vlm_selfalign.models.hf import HFService
from vlm_selfalign.models.tiny import FAMILIES
from vlm_selfalign.models.vision import features_of

WATCHING = [family for family, takes in FAMILIES.items() if takes.video]
SEEING = [family for family, takes in FAMILIES.items() if takes.images]
BLIND = ["llava", "idefics3", "gemma3"]
LONG_GAPS = [0.5, 3.5, 8.0, 64.0, 70.0]
"""When the frames of the uneven clip that 16 even shares of its time fall on are shown."""


@pytest.fixture(scope="module")
def encoder_of(loaded):
    return lambda family: Encoder.of(loaded(family))


def restrained(loaded, family, **media):
    """The family's model under other media settings."""
    model = loaded(family)
    return type(model)(**{**vars(model), "media": MediaSettings(**media)})


def logits(model, batch):
    inputs = dict(batch.inputs)
    if batch.looks:
        inputs["mm_encoder_outputs"] = features_of(model.model, batch.looks, torch.device("cpu"))
    with torch.no_grad():
        return model.model(**inputs).logits


def after(model, prompt, **options):
    """Logits after the last token of a prompt alone."""
    return logits(model, Encoder.of(model).batch([prompt], **options))[0, -1]


def between(picture, clip, other):
    """A prompt with words between its media."""
    parts = (0, "then", 1, "and", 2, "What changed?")
    return Prompt(messages=(Message(role="user", parts=parts),), media=(picture, clip, other))


@pytest.mark.parametrize("family", WATCHING)
def test_one_clip_is_what_transformers_makes_of_its_frames(family, encoder_of, clips):
    encoder = encoder_of(family)
    prompt = Prompt.user("What happens?", clips[0])
    (clip,) = encoder.shown(prompt)
    assert clip.times.tolist() == LONG_GAPS
    expected = encoder.processor(
        text=[encoder.text(prompt)],
        videos=[clip.frames],
        videos_kwargs={"video_metadata": [clip.metadata], "do_sample_frames": False, "return_metadata": True},
        return_tensors="pt",
    )
    got = encoder.batch([prompt]).inputs
    assert set(got) == {key for key, value in expected.items() if isinstance(value, torch.Tensor)}
    for key, value in got.items():
        assert torch.equal(value, expected[key]), key


@pytest.mark.parametrize("family", WATCHING)
def test_placeholders_features_and_the_count_agree(family, loaded, photos, clips):
    model = loaded(family)
    encoder = Encoder.of(model)
    for prompt in (Prompt.user("?", clips[0]), Prompt.user("?", clips[2]), between(photos[0], clips[0], clips[1])):
        look = encoder.look(prompt)
        ids = encoder.batch([prompt], apart=True).inputs["input_ids"][0].tolist()
        assert look.tokens == sum(i in encoder.placeholders for i in ids) > 0
        width = model.model.get_input_embeddings().weight.shape[1]
        features = features_of(model.model, [look], torch.device("cpu"))
        pooled = [part for one in features.values() for part in one.pooler_output]
        assert sum(part.numel() for part in pooled) == look.tokens * width


def test_qwen3_vl_writes_the_true_times(encoder_of, clips):
    encoder = encoder_of("qwen3_vl")
    text = encoder.tokenizer.decode(encoder.batch([Prompt.user("?", clips[0])]).inputs["input_ids"][0])
    # two frames go into one token, which is shown in the middle between them
    assert re.findall(r"<([\d.]+) seconds>", text) == ["2.0", "36.0", "70.0"]
    text = encoder.tokenizer.decode(encoder.batch([Prompt.user("?", clips[2])]).inputs["input_ids"][0])
    assert re.findall(r"<([\d.]+) seconds>", text) == ["0.0"]


def test_smolvlm_writes_the_true_times(encoder_of, clips):
    encoder = encoder_of("smolvlm")
    text = encoder.tokenizer.decode(encoder.batch([Prompt.user("?", clips[0])]).inputs["input_ids"][0])
    assert re.findall(r"Frame from (\d\d:\d\d):", text) == ["00:00", "00:03", "00:08", "01:04", "01:10"]
    assert "five frames from a 0:01:16 " in text


def test_qwen2_5_vl_is_told_the_seconds_between_its_tokens(encoder_of, clips):
    encoder = encoder_of("qwen2_5_vl")
    cut = clips[1].model_copy(update={"start": 1.0, "end": 2.0})
    seconds = [
        encoder.batch([Prompt.user("?", clip)]).inputs["second_per_grid_ts"].item() for clip in (*clips[:2], cut)
    ]
    # a token holds two frames: twice the mean gap between those shown, which for a segment is no other
    assert seconds == pytest.approx([2 * (70.0 - 0.5) / 4, 2 * 0.25, 2 * 0.25], rel=1e-3)


@pytest.mark.parametrize("family", WATCHING)
@pytest.mark.parametrize("side", ["left", "right"])
def test_rows_of_all_kinds_share_a_batch_as_if_alone(family, side, loaded, photos, clips):
    model = loaded(family)
    encoder = Encoder.of(model)
    prompts = [
        Prompt.user("What happens here, and why?", clips[0]),
        Prompt.user("Words alone."),
        Prompt.user("What is this?", photos[1]),
        between(photos[0], clips[0], photos[3]),
        Prompt.user("And?", photos[2], photos[4]),
        Prompt.user("What is this?", photos[1]),
    ]
    prompts += [] if family == "llava_onevision" else [Prompt.user("Then?", clips[1], clips[2])]
    batch = encoder.batch(prompts, side=side)
    assert not batch.looks
    found = logits(model, batch)
    for row, prompt in enumerate(prompts):
        mine = found[row][batch.inputs["attention_mask"][row].bool()]
        torch.testing.assert_close(mine, logits(model, encoder.batch([prompt]))[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", WATCHING)
def test_seen_apart_gives_the_same_logits(family, loaded, photos, clips):
    model = loaded(family)
    encoder = Encoder.of(model)
    prompts = [
        Prompt.user("First?", clips[0]),
        between(photos[0], clips[1], photos[3]),
        Prompt.user("Second?", clips[0]),
        Prompt.user("Words alone."),
        Prompt.user("What is it?", photos[5]),
        Prompt.user("What is it?", clips[2]),
    ]
    batch = encoder.batch(prompts, apart=True)
    assert len(batch.looks) == 5 and batch.looks[0] is batch.looks[2]
    assert not any("pixel" in name for name in batch.inputs)
    found = logits(model, batch)
    for row, prompt in enumerate(prompts):
        mine = found[row][batch.inputs["attention_mask"][row].bool()]
        torch.testing.assert_close(mine, logits(model, encoder.batch([prompt]))[0], atol=1e-5, rtol=1e-5)


def test_clips_of_unequal_length_cannot_always_be_stacked(encoder_of, clips):
    with pytest.raises(EncodingError, match="unequal length"):
        encoder_of("llava_onevision").batch([Prompt.user("?", clip) for clip in clips])


@pytest.mark.parametrize("family", WATCHING)
def test_the_order_of_frames_is_seen(family, loaded, clips):
    prompt = Prompt.user("What happens first?", clips[1])
    model = loaded(family)
    forth, back = after(model, prompt), after(model, prompt.viewed("reverse"))
    assert (forth - back).abs().max() > 1e-3


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl", "smolvlm", "llava_onevision"])
def test_no_answer_about_a_clip_depends_on_its_batch(family, loaded, photos, clips):
    model = loaded(family)
    prompts = [
        Prompt.user("What happens?", clips[0]),
        Prompt.user("What else happens in it?", clips[0]),
        Prompt.user("And here?", clips[1]),
        Prompt.user("Words"),
        Prompt.user("Still?", photos[0]),
        between(photos[0], clips[2], clips[1]),
    ]
    requests = [request for i, prompt in enumerate(prompts) for request in asked(prompt, i)]
    alone = HFService(model, 1).serve(requests, range(len(requests)))
    together = HFService(model, 8).serve(requests, range(len(requests)))
    for mine, other in zip(alone, together, strict=True):
        assert not isinstance(mine, Failed), mine
        for name in type(mine).model_fields:
            one, two = getattr(mine, name), getattr(other, name)
            assert two == (pytest.approx(one, abs=2e-5) if name == "logprobs" else one), name


def asked(prompt, i):
    sampling = Sampling(temperature=i % 2, max_tokens=5)
    yield Generate(prompt=prompt, sampling=sampling, want=("logprobs",))
    yield Choose(prompt=prompt)
    yield Score(prompt=prompt, answer="A cat sits")


@pytest.mark.parametrize("family", WATCHING)
def test_what_is_written_about_a_clip_scores_as_it_was_written(family, loaded, clips):
    service = HFService(loaded(family))
    prompt = Prompt.user("What happens?", clips[0])
    sampling = Sampling(temperature=1, max_tokens=3)
    replies = service.serve(
        [Generate(prompt=prompt, draw=i, sampling=sampling, want=("logprobs",)) for i in range(12)], [0] * 12
    )
    scores = service.serve([Score(prompt=prompt, answer=reply.text, ends=False) for reply in replies], [0] * 12)
    pairs = [(r, s) for r, s in zip(replies, scores, strict=True) if r.ids == s.ids]
    assert pairs, "random text seldom has the tokens it would be read with, but not that seldom"
    for reply, score in pairs:
        assert reply.logprobs[: len(reply.ids)] == pytest.approx(score.logprobs, abs=2e-5)


@pytest.mark.parametrize("family", ["qwen2_vl", "smolvlm"])
def test_a_clip_is_seen_once_however_many_questions(family, loaded, clips, monkeypatch):
    model = loaded(family)
    eye = "get_video_features" if family == "qwen2_vl" else "get_image_features"
    inner, calls = getattr(model.model.base_model, eye), []
    counted = functools.wraps(inner)(lambda *a, **k: calls.append(1) or inner(*a, **k))
    monkeypatch.setattr(model.model.base_model, eye, counted)
    requests = [Choose(prompt=Prompt.user(f"Question {i}?", clips[i % 2])) for i in range(6)]
    replies = HFService(model).serve(requests, [0] * 6)
    assert len(calls) == 2 and not any(isinstance(reply, Failed) for reply in replies)


@pytest.mark.parametrize("family", SEEING)
def test_many_questions_about_one_picture_are_answered_as_one_by_one(family, loaded, photos, monkeypatch):
    model = loaded(family)
    inner, calls = model.model.base_model.get_image_features, []
    counted = functools.wraps(inner)(lambda *a, **k: calls.append(1) or inner(*a, **k))
    requests = [
        Score(prompt=Prompt.user(f"What? {i}", photos[0], *photos[1 : 1 + many]), answer="A cat")
        for many in range(1 + FAMILIES[family].several_images)
        for i in range(3)
    ]
    alone = HFService(model, 1).serve(requests, [0] * len(requests))
    monkeypatch.setattr(model.model.base_model, "get_image_features", counted)
    together = HFService(model, 8).serve(requests, [0] * len(requests))
    assert len(calls) == len(requests) / 3
    for mine, other in zip(alone, together, strict=True):
        assert mine.ids == other.ids and other.logprobs == pytest.approx(mine.logprobs, abs=1e-5)


def test_placeholders_in_words_are_refused(loaded, photos, clips):
    service = HFService(loaded("qwen2_vl"))
    said = ["a <|video_pad|>", "an <|image_pad|>", "fine"]
    replies = service.serve([Choose(prompt=Prompt.user(text, clips[0])) for text in said], [0] * 3)
    assert [isinstance(reply, Failed) for reply in replies] == [True, True, False]


@pytest.mark.parametrize("family", BLIND)
def test_a_family_that_takes_no_clips_says_so(family, loaded, clips):
    service = HFService(loaded(family))
    (reply,) = service.serve([Choose(prompt=Prompt.user("?", clips[0]))], [0])
    assert isinstance(reply, Failed) and reply.reason.lower() == f"{family} takes no clips"


def test_a_prompt_over_budget_fails_alone_with_a_reason_that_can_be_counted(loaded, photos, clips):
    service = HFService(restrained(loaded, "qwen2_5_vl", max_visual_tokens=20))
    requests = [Choose(prompt=Prompt.user("?", media)) for media in (photos[5], clips[1], clips[0], photos[5])]
    fine, over, also, same = service.serve(requests, [0] * 4)
    assert isinstance(over, Failed) and over == also and "max_visual_tokens=20" in over.reason
    assert fine == same and not isinstance(fine, Failed)
    open_ended = HFService(loaded("qwen2_5_vl")).serve(requests[:1], [0])
    assert open_ended[0].logprobs == pytest.approx(fine.logprobs, abs=1e-5)


@pytest.mark.parametrize("family", WATCHING)
def test_shrinking_takes_frames_before_pixels_and_only_when_allowed(family, loaded, clips, caplog):
    whole = Encoder.of(loaded(family)).look(Prompt.user("?", clips[1]))
    limit = whole.tokens * 2 // 3
    encoder = Encoder.of(restrained(loaded, family, max_visual_tokens=limit, shrink=True))
    look = encoder.look(Prompt.user("?", clips[1]))
    assert whole.tokens / 4 < look.tokens <= limit
    encoder.look(Prompt.user("?", clips[1]))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    with pytest.raises(EncodingError, match="shows too much"):
        Encoder.of(restrained(loaded, family, max_visual_tokens=limit)).look(Prompt.user("?", clips[1]))
    with pytest.raises(EncodingError, match="even shrunk"):
        Encoder.of(restrained(loaded, family, max_visual_tokens=2, shrink=True)).look(Prompt.user("?", clips[1]))


def test_frames_are_no_larger_than_max_pixels_and_as_many_as_set(loaded, clips):
    encoder = Encoder.of(restrained(loaded, "qwen2_vl", frames=3, max_pixels=1000))
    (clip,) = encoder.shown(Prompt.user("?", clips[1]))
    assert clip.frames.shape == (3, 36, 27, 3) and clip.times.tolist() == [0.25, 1.25, 2.25]
    encoder = Encoder.of(restrained(loaded, "qwen2_vl", fps=2, max_frames=5, policy="left"))
    (clip,) = encoder.shown(Prompt.user("?", clips[1]))
    assert len(clip) == 5 and clip.times[0] == 0


def test_a_damaged_clip_is_refused_or_kept(loaded, clips, tmp_path):
    from vlm_selfalign.media.video import video_media

    data = bytearray(Path(clips[1].uri).read_bytes())
    start = data.index(b"mdat") + 4
    for place in range(start + 2000, min(start + 4000, len(data)), 7):
        data[place] ^= 0xFF
    path = tmp_path / "damaged.mp4"
    path.write_bytes(data)
    prompt = Prompt.user("?", video_media(str(path)))
    (reply,) = HFService(loaded("qwen2_vl")).serve([Choose(prompt=prompt)], [0])
    assert isinstance(reply, Failed) and reply.reason.startswith("damaged: ")
    kept = HFService(restrained(loaded, "qwen2_vl", on_damage="keep"))
    assert not isinstance(kept.serve([Choose(prompt=prompt)], [0])[0], Failed)


def test_smolvlm_keeps_its_own_template_where_that_shows_clips(loaded, clips):
    model = loaded("smolvlm")
    prompt = Prompt.user("What?", clips[0])
    own = model.processor.chat_template
    try:
        model.processor.chat_template = "OWN" + own
        assert Encoder.of(model).text(prompt).startswith("OWN")
        model.processor.chat_template = "OWN" + own.replace("'video': '<video>'", "'video': ''")
        text = Encoder.of(model).text(prompt)
        assert text.count("<video>") == 1 and not text.startswith("OWN")
    finally:
        model.processor.chat_template = own


def test_clips_are_decoded_once_for_all_roles(loaded, clips, monkeypatch):
    opened = []
    monkeypatch.setattr(shown, "load_video", lambda media, **how: opened.append(how) or a_clip())
    viewed = Prompt.user("?", clips[1].viewed("grey", 0.123))
    for family in ("qwen2_vl", "smolvlm", "qwen2_vl"):
        Encoder.of(loaded(family)).batch([viewed])
    assert len(opened) == 1
    Encoder.of(restrained(loaded, "qwen2_vl", frames=2)).batch([viewed])
    Encoder.of(loaded("qwen2_vl")).batch([viewed.viewed("reverse")])
    assert len(opened) == 3


def a_clip():
    frames = np.zeros((4, 32, 32, 3), np.uint8)
    return Clip(frames, np.arange(4.0), np.arange(4), 1.0, 4, 4.0)
