"""What the local service answers: genuine generation and scores, the same in every batch."""

import math

import pytest
import torch
from PIL import Image

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.media import Media
from vlm_selfalign.core.prompts import Prompt
from vlm_selfalign.core.requests import Call, Choose, Embed, Failed, Generate, Sampling, Score, Text
from vlm_selfalign.models import forms
from vlm_selfalign.models.encode import Encoder
from vlm_selfalign.models.forms import merged, surface_forms
from vlm_selfalign.models.hf import TOP_K, HFService

ASK = Prompt.user("What is this?")
HOT = Sampling(temperature=1.0, max_tokens=12)
MEASURES = ("logprobs", "entropy", "certainty")
WORDS = ["What", "is", "in", "the", "picture", "now", "and", "then"]


def one(service, request, seed=0):
    (reply,) = service.serve([request], [seed])
    assert not isinstance(reply, Failed), reply
    return reply


def questions(loaded, photos):
    return [
        Prompt.user(" ".join(WORDS[: i + 1]), *([photo] if loaded.is_vision else [])) for i, photo in enumerate(photos)
    ]


def every_kind(prompts):
    for i, prompt in enumerate(prompts):
        sampling = Sampling(
            temperature=(0, 1, 0.7, 1.3)[i % 4],
            top_k=(0, 5, 0, 20)[i % 4],
            top_p=(1, 1, 0.8, 0.95)[i % 4],
            repetition_penalty=(1, 1.2)[i % 2],
            min_tokens=i % 3,
            max_tokens=4 + i,
            stop=("a",) if i % 3 else (),
        )
        yield Generate(prompt=prompt, sampling=sampling, want=MEASURES, prefix_ids=(40,) * (i % 2))
        yield Choose(prompt=prompt.opened("I say" if i % 2 else ""), choices=("Yes", "No", "A cat"))
        yield Score(prompt=prompt, answer="A cat sits" + " there" * i, ends=i % 2 == 0, want=MEASURES)


@pytest.mark.parametrize("family", ["qwen2_vl", "llava", "gemma3", "smolvlm", "llama"])
def test_no_answer_depends_on_its_batch(family, loaded, photos):
    model = loaded(family)
    prompts = 8 if family in ("qwen2_vl", "llama") else 4
    requests = list(every_kind(questions(model, photos[:prompts])))
    alone = HFService(model, 1).serve(requests, range(len(requests)))
    assert not any(isinstance(reply, Failed) for reply in alone)
    for size, order in [(3, range(len(requests))), (8, sorted(range(len(requests)), key=lambda i: -i * 7 % 11))]:
        replies = HFService(model, size).serve([requests[i] for i in order], list(order))
        for i, reply in zip(order, replies, strict=True):
            for name in type(reply).model_fields:
                mine, other = getattr(alone[i], name), getattr(reply, name)
                if name in MEASURES and mine is not None:
                    assert other == pytest.approx(mine, abs=1e-5), (requests[i], name)
                else:
                    assert other == mine, (requests[i], name)


@pytest.mark.parametrize("family", ["qwen2_vl", "llama"])
def test_greedy_is_what_transformers_generates(family, loaded, photos):
    model = loaded(family)
    prompt = questions(model, photos)[3]
    inputs = Encoder.of(model).batch([prompt]).inputs
    ids = model.model.generate(**inputs, max_new_tokens=15, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    reply = one(HFService(model), Generate(prompt=prompt, sampling=Sampling(max_tokens=15)))
    assert list(reply.ids) == [i for i in ids.tolist() if i not in model.model.generation_config.eos_token_id]
    assert reply.text == model.tokenizer.decode(ids, skip_special_tokens=True)


def test_draws_seeds_and_steps_differ_and_repeat(loaded, photos):
    service = HFService(loaded("qwen2_vl"))
    prompt = Prompt.user("What?", photos[0])
    asked = [Generate(prompt=prompt, draw=draw, sampling=HOT) for draw in (0, 1, 0, 0)]
    first, other_draw, other_seed, same = service.serve(asked, [3, 3, 4, 3])
    assert first == same
    assert len({first.text, other_draw.text, other_seed.text}) == 3
    assert len(set(first.ids)) > 3, "one noise for all steps would repeat a token"


def test_what_was_written_scores_as_it_was_observed(loaded, photos):
    service = HFService(loaded("llama"))
    short = Sampling(temperature=1, max_tokens=3)
    asked = [Generate(prompt=ASK, draw=i, sampling=short, want=MEASURES) for i in range(60)]
    compared = 0
    for reply in service.serve(asked, [0] * len(asked)):
        scored = one(service, Score(prompt=ASK, answer=reply.text, ends=False, want=MEASURES))
        if scored.ids == reply.ids:
            compared += 1
            for name in MEASURES:
                assert getattr(scored, name) == pytest.approx(getattr(reply, name)[: len(reply.ids)], abs=2e-5)
    assert compared >= 10, "random text seldom has the tokens it would be read with, but not that seldom"


def test_an_answer_ends_at_the_end_token_and_counts_it(loaded):
    service = HFService(loaded("llama"))
    sampling = Sampling(temperature=1.5, max_tokens=200)
    replies = service.serve(
        [Generate(prompt=ASK, draw=i, sampling=sampling, want=("logprobs",)) for i in range(16)], [0] * 16
    )
    ended = [reply for reply in replies if reply.finish == "end"]
    cut = [reply for reply in replies if reply.finish == "length"]
    assert ended and all(len(reply.logprobs) == len(reply.ids) + 1 for reply in ended)
    assert not any(service.encoder.end_id in reply.ids for reply in replies)
    assert all(len(reply.ids) == len(reply.logprobs) == 200 for reply in cut)


def test_min_tokens_hold_the_end_back(loaded):
    service = HFService(loaded("llama"))
    free = Sampling(temperature=1.5, max_tokens=40)
    held = free.model_copy(update={"min_tokens": 40})
    shortest = min(
        len(r.ids) for r in service.serve([Generate(prompt=ASK, draw=i, sampling=free) for i in range(32)], [0] * 32)
    )
    assert shortest < 40
    replies = service.serve([Generate(prompt=ASK, draw=i, sampling=held) for i in range(32)], [0] * 32)
    assert {len(reply.ids) for reply in replies} == {40}


def test_an_opening_is_part_of_the_answer(loaded, photos):
    service = HFService(loaded("qwen2_vl"))
    prompt = Prompt.user("What?", photos[0])
    reply = one(service, Generate(prompt=prompt.opened("There is"), sampling=Sampling(max_tokens=5)))
    assert reply.text.startswith("There is") and len(reply.ids) == 5
    assert reply.text == "There is" + service.encoder.tokenizer.decode(reply.ids, skip_special_tokens=True)


@pytest.mark.parametrize("sampling", [Sampling(max_tokens=10), Sampling(temperature=1, max_tokens=10)])
def test_a_prefix_is_gone_on_from_as_if_never_interrupted(sampling, loaded, photos):
    service = HFService(loaded("qwen2_vl"))
    request = Generate(prompt=Prompt.user("What?", photos[1]), sampling=sampling, want=("logprobs",))
    whole = one(service, request, seed=9)
    rest = sampling.model_copy(update={"max_tokens": 6})
    resumed = one(service, request.model_copy(update={"prefix_ids": whole.ids[:4], "sampling": rest}), seed=9)
    assert (resumed.ids, resumed.text) == (whole.ids, whole.text)
    assert resumed.logprobs == pytest.approx(whole.logprobs[4:], abs=1e-5)


def test_a_reply_is_cut_right_after_the_first_stop_string(loaded):
    service = HFService(loaded("llama"))
    free = one(service, Generate(prompt=ASK, sampling=Sampling(temperature=1, max_tokens=30)), seed=2)
    stop = free.text[12:14]
    at = free.text.index(stop) + len(stop)
    sampling = Sampling(temperature=1, max_tokens=30, stop=("not in there at all", stop))
    request = Generate(prompt=ASK, sampling=sampling, want=("logprobs",))
    cut, other = service.serve([request, request.model_copy(update={"draw": 1})], [2, 2])
    assert cut.text == free.text[:at] and cut.finish == "stop"
    assert cut.ids == free.ids[: len(cut.ids)] and len(cut.logprobs) == len(cut.ids) < 30
    assert other.finish != "stop" or other.text.endswith(stop)


def test_a_stop_string_in_the_opening_does_not_count(loaded):
    service = HFService(loaded("llama"))
    sampling = Sampling(max_tokens=3, stop=("dog.",))
    reply = one(service, Generate(prompt=ASK.opened("A dog."), sampling=sampling))
    assert reply.text.startswith("A dog.") and len(reply.ids) == 3 and reply.finish == "length"


def brute(service, prompt, choice):
    values = []
    for ids in surface_forms(service.encoder, prompt, choice):
        inputs = service.encoder.batch([prompt], continued=[ids]).to(service.loaded.device, torch.float32).inputs
        with torch.no_grad():
            logp = service.loaded.model(**inputs).logits[0].log_softmax(-1)
        values.append(sum(logp[-1 - len(ids) + i, token].item() for i, token in enumerate(ids)))
    return merged(values)


@pytest.mark.parametrize("family", ["qwen2_vl", "llama"])
def test_a_choice_is_the_sum_over_its_surface_forms(family, loaded, photos, monkeypatch):
    service = HFService(loaded(family))
    for prompt in questions(loaded(family), photos)[:2]:
        for asked in (prompt, prompt.opened("I say")):
            request = Choose(prompt=asked, choices=("Yes", "No", "a red cat"))
            every = [brute(service, asked, choice) for choice in request.choices]
            # left to itself it gives up on what cannot matter to a probability
            assert list(map(math.exp, one(service, request).logprobs)) == pytest.approx(
                list(map(math.exp, every)), abs=1e-5
            )
            with monkeypatch.context() as patch:
                patch.setattr(forms, "_NEGLIGIBLE", math.inf)
                assert one(service, request).logprobs == pytest.approx(every, abs=1e-5)


def test_surface_forms_are_distinct_events(loaded):
    encoder = Encoder.of(loaded("llama"))
    written = surface_forms(encoder, ASK, "yes")
    texts = [encoder.tokenizer.decode(ids) for ids in written]
    assert {text.strip() for text in texts} == {"yes", "YES", "Yes"} and len(texts) == 6
    assert not any(a != b and b[: len(a)] == a for a in written for b in written)
    assert surface_forms(encoder, ASK, "7") == [encoder.encode_answer(ASK, t, ends=False).ids for t in ("7", " 7")]
    assert merged([math.log(0.25), math.log(0.5)]) == pytest.approx(math.log(0.75))
    assert merged([]) == -math.inf


def test_score_is_the_model_s_own_log_softmax(loaded, photos):
    service = HFService(loaded("qwen2_vl"))
    prompt = Prompt.user("What?", photos[2]).opened("There")
    reply = one(service, Score(prompt=prompt, answer=" is a cat.", want=(*MEASURES, "top_k", "hidden")))
    batch = service.encoder.batch([prompt], [(" is a cat.", True)])
    with torch.no_grad():
        out = service.loaded.model(**batch.inputs, output_hidden_states=True)
    logp = out.logits[0, -len(reply.ids) - 1 : -1].log_softmax(-1)
    n = len(reply.ids)
    assert reply.ids[-1] == service.encoder.end_id and n >= 4
    assert reply.logprobs == pytest.approx(logp[range(n), list(reply.ids)].tolist(), abs=1e-5)
    assert reply.entropy == pytest.approx((-(logp.exp() * logp).sum(-1)).tolist(), abs=1e-5)
    assert len(reply.top_k) == n and len(reply.top_k[0]) == TOP_K
    assert reply.top_k[0][0][0] == logp[0].argmax().item()
    assert torch.allclose(torch.tensor(reply.hidden), out.hidden_states[-1][0, -n:], atol=1e-5)
    short = one(service, Score(prompt=prompt, answer=" is a cat.", ends=False))
    assert short.ids == reply.ids[:-1] and short.entropy is None


def test_an_empty_answer_scores_its_end_or_nothing(loaded):
    service = HFService(loaded("llama"))
    nothing, end = service.serve([Score(prompt=ASK, answer="", ends=e) for e in (False, True)], [0, 0])
    assert nothing.ids == () and nothing.logprobs == ()
    assert end.ids == (service.encoder.end_id,) and len(end.logprobs) == 1


def test_a_bad_request_fails_alone(loaded, photos, tmp_path):
    service = HFService(loaded("qwen2_vl"), batch_size=8)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    bad = [
        Prompt.user("What?", Media(kind="image", uri=str(broken), content_hash="x")),
        Prompt.user("What?", Media(kind="image", uri="/nowhere.png", content_hash="y")),
        Prompt.user("What is a <|image_pad|>?", photos[0]),
        Prompt.user("What?", Media(kind="video", uri=str(broken), content_hash="z")),
        Prompt.user("word " * 3000, photos[0]),
    ]
    good = Prompt.user("What?", photos[0])
    for kind in (
        lambda p: Generate(prompt=p, sampling=Sampling(max_tokens=3)),
        lambda p: Choose(prompt=p),
        lambda p: Score(prompt=p, answer="A cat"),
    ):
        requests = [kind(prompt) for prompt in (good, *bad, good)]
        replies = service.serve(requests, [0] * len(requests))
        assert [isinstance(reply, Failed) for reply in replies] == [False, *[True] * len(bad), False]
        assert replies[0] == replies[-1] == one(service, kind(good))
        assert all(reply.reason and "\n" not in reply.reason for reply in replies[1:-1])


def test_what_a_language_model_does_not_do_fails_with_the_reason(loaded):
    replies = HFService(loaded("llama")).serve(
        [Embed(items=("x",)), Call(to="tool"), Generate(prompt=ASK, want=("hidden",), sampling=Sampling(max_tokens=1))],
        [0] * 3,
    )
    assert [reply.reason.split()[-1] for reply in replies] == ["Embed", "Call", "can"]


def test_pictures_for_a_text_only_model_are_the_user_s_mistake(loaded, photos):
    with pytest.raises(UserError, match="takes no images"):
        HFService(loaded("llama")).serve([Choose(prompt=Prompt.user("What?", photos[0]))], [0])


def test_out_of_memory_halves_the_batch_and_remembers(loaded):
    model = loaded("llama")
    sizes = []

    def small_card(module, args, kwargs):
        rows = kwargs["input_ids"].shape[0]
        sizes.append(rows)
        if rows > fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    requests = [Score(prompt=ASK, answer="a" * (i + 1)) for i in range(11)]
    expected = HFService(model).serve(requests, [0] * 11)
    hook = model.model.register_forward_pre_hook(small_card, with_kwargs=True)
    try:
        fits, service = 3, HFService(model, batch_size=8)
        replies = service.serve(requests, [0] * 11)
        assert [reply.ids for reply in replies] == [reply.ids for reply in expected]
        sizes.clear()
        service.serve(requests, [0] * 11)
        assert max(sizes) <= 3
        fits = 8
        for _ in range(12):
            service.serve(requests, [0] * 11)
        assert sizes[-1] > 2, "after a while of peace a bigger batch is tried again"
        fits = 0
        (reply,) = service.serve(requests[:1], [0])
        assert isinstance(reply, Failed) and "out of memory" in reply.reason
    finally:
        hook.remove()


def test_a_broken_model_fails_its_requests(folder_of):
    from vlm_selfalign.config import ModelSettings
    from vlm_selfalign.models.load import load

    model = load(ModelSettings(path=str(folder_of("llama")), device="cpu"))
    with torch.no_grad():
        model.model.lm_head.weight.fill_(torch.nan)
    requests = [
        Generate(prompt=ASK, sampling=Sampling(max_tokens=2)),
        Choose(prompt=ASK),
        Score(prompt=ASK, answer="x"),
    ]
    replies = HFService(model).serve(requests, [0] * 3)
    assert [isinstance(reply, Failed) and "NaN" in reply.reason for reply in replies] == [True] * 3


def test_serving_leaves_the_model_as_it_was(loaded):
    model = loaded("llama")
    known = model.model.generation_config
    model.model.train()
    try:
        HFService(model).serve([Generate(prompt=ASK, sampling=Sampling(max_tokens=1))], [0])
        assert model.model.training and model.model.generation_config is known
    finally:
        model.model.eval()


def test_the_model_s_own_sampling_habits_do_not_enter(loaded):
    model = loaded("llama")
    service = HFService(model)
    asked = Generate(prompt=ASK, sampling=Sampling(max_tokens=8))
    plain = one(service, asked)
    model.model.generation_config.repetition_penalty = 5.0
    model.model.generation_config.do_sample = True
    try:
        assert one(service, asked) == plain
    finally:
        model.model.generation_config.repetition_penalty = model.model.generation_config.do_sample = None


def test_an_answer_never_holds_a_place_for_a_picture(loaded, photos):
    service = HFService(loaded("qwen2_vl"))
    hot = Sampling(temperature=20, max_tokens=100)
    prompt = Prompt.user("What?", photos[0])
    replies = service.serve([Generate(prompt=prompt, draw=i, sampling=hot) for i in range(8)], [0] * 8)
    written = {token for reply in replies for token in reply.ids}
    assert len(written) > 100
    config = service.loaded.model.config
    assert not written & {config.image_token_id, config.video_token_id}


def test_views_of_a_picture_are_seen(loaded, tmp_path):
    from vlm_selfalign.media.image import image_media

    path = tmp_path / "half.png"
    picture = Image.new("RGB", (64, 64), "red")
    picture.paste("blue", (0, 0, 32, 64))
    picture.save(path)
    service = HFService(loaded("qwen2_vl"))
    prompt = Prompt.user("What?", image_media(str(path)))
    plain, noisy = service.serve(
        [Score(prompt=p, answer="A cat") for p in (prompt, prompt.viewed("noise", 0.9))], [0, 0]
    )
    assert plain.ids == noisy.ids and plain.logprobs != noisy.logprobs


def test_it_says_who_it_is(loaded):
    service = HFService(loaded("llama"), batch_size=4)
    assert service.identity == loaded("llama").identity and service.batch_size == 4
    assert isinstance(one(service, Generate(prompt=ASK, sampling=Sampling(max_tokens=1))), Text)
