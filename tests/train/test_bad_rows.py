"""Rows that tokenisation shows to be bad: each is named, counted, and dropped, kept with a word, or stops the fit."""

from dataclasses import replace

import pytest

from train.made import photo_pairs, spec_for, text_pairs
from vlm_selfalign.config import ModelSettings
from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.prompts import Prompt
from vlm_selfalign.core.registry import resolve
from vlm_selfalign.core.rows import Demo, Pair
from vlm_selfalign.models.encode import Encoder
from vlm_selfalign.models.load import load
from vlm_selfalign.models.tiny import build
from vlm_selfalign.train import fit as fits
from vlm_selfalign.train import remember
from vlm_selfalign.train.batch import prepare, uneven_prompts
from vlm_selfalign.train.fit import fit
from vlm_selfalign.train.texts import Texts

SPAN = resolve("loss", "span_dpo")()
LORA = {"lora": {"r": 2, "alpha": 4}}


@pytest.fixture(scope="module")
def eyes(qwen):
    return Texts(Encoder.of(load(ModelSettings(path=str(qwen), device="cpu"))))


def test_an_answer_that_begins_inside_the_prompts_last_token_is_kept_and_named(eyes):
    opened = Prompt.user("what is it ?").opened("a do")
    rows = [Pair(prompt=opened, chosen="g runs", rejected=" runs", index=3), *text_pairs(2)]
    items, dropped = prepare(rows, SPAN, eyes, None)
    assert not dropped.rows and len(items) == 3
    (line,) = uneven_prompts(items)
    assert line.startswith("1 rows") and line.endswith(": /0//3")
    prompts = [text.ids[: -text.scored] for text in items[0].texts.values()]
    assert prompts[0] != prompts[1]


def test_a_placeholder_in_a_text_drops_its_row_by_name(eyes, photos):
    mark = eyes.encoder.processor.image_token
    ask = Prompt.user("describe", photos[0])
    rows = [
        Pair(prompt=ask, chosen=f"a {mark} ball", rejected="a dog", index=1),
        Pair(prompt=Prompt.user(f"what is {mark} ?"), chosen="a ball", rejected="a dog", index=2),
        Pair(prompt=Prompt.user(f"what is {mark} ?", photos[0]), chosen="a ball", rejected="a dog", index=3),
        *photo_pairs(photos, 1),
    ]
    items, dropped = prepare(rows, SPAN, eyes, None)
    assert [row for row, _ in dropped.rows] == ["/0//1", "/0//2", "/0//3"] and len(items) == 1
    assert all("/0//" in line for line in dropped.told())


@pytest.mark.parametrize("loss, engine", [("span_dpo", "auto"), ("sft", "auto"), ("sft", "plain")])
def test_fewer_placeholders_than_features_stop_the_fit_and_name_the_row(
    qwen, photos, tmp_path, monkeypatch, loss, engine
):
    mark, real = load(ModelSettings(path=str(qwen), device="cpu")).processor.tokenizer, fits.prepare
    place = mark.convert_tokens_to_ids("<|image_pad|>")

    def one_short(rows, *given):
        items, dropped = real(rows, *given)
        for name, text in items[-1].texts.items():
            at = text.ids.index(place)
            kinds = {kind: (*values[:at], *values[at + 1 :]) for kind, values in text.kinds.items()}
            items[-1].texts[name] = replace(text, ids=(*text.ids[:at], *text.ids[at + 1 :]), kinds=kinds)
        return items, dropped

    monkeypatch.setattr(fits, "prepare", one_short)
    rows = photo_pairs(photos)
    if loss == "sft":
        rows = [Demo(prompt=row.prompt, answer=row.chosen, index=row.index) for row in rows]
    training = {"engine": engine, "micro_batch": 1 if loss == "sft" else 4}
    with pytest.raises(UserError, match=r"^rows /0//3: what is shown and its placeholders do not match"):
        fit(spec_for(tmp_path, rows, qwen, loss=loss, training=training, model=LORA))


def test_what_another_model_thought_is_not_taken_for_the_references(llama, tmp_path, monkeypatch):
    """A fit that was stopped after the reference, whose folder of the reference then holds another model."""
    asked, real = [], remember._asked
    monkeypatch.setattr(remember, "_asked", lambda *given: asked.append(1) or real(*given))
    other = build("llama", tmp_path / "other")
    spec = spec_for(tmp_path, text_pairs(4), llama, loss="dpo", reference=str(other))

    def stop(phase, *_):
        if phase == "train":
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            fit(spec, stop)
    assert len(asked) == 2, "two rows at a time, asked once"
    (other / "generation_config.json").write_text('{"temperature": 0.5}')
    with pytest.raises(KeyboardInterrupt):
        fit(spec, stop)
    assert len(asked) == 4
