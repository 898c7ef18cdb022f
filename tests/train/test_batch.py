import pytest
import torch
from transformers import AutoModelForImageTextToText

from train.made import photo_pairs, text_pairs
from vlm_selfalign.config import ModelSettings
from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.prompts import Prompt
from vlm_selfalign.core.registry import resolve
from vlm_selfalign.core.rows import Demo, Pair
from vlm_selfalign.models.encode import Encoder
from vlm_selfalign.models.load import load
from vlm_selfalign.models.tiny import build
from vlm_selfalign.train.batch import Collator, ignored_columns, prepare
from vlm_selfalign.train.score import score_tokens
from vlm_selfalign.train.texts import Texts, tokens_in_spans

SPAN = resolve("loss", "span_dpo")()
SFT = resolve("loss", "sft")()


@pytest.fixture(scope="module")
def words(llama):
    return Texts(Encoder.of(load(ModelSettings(path=str(llama), device="cpu"))))


@pytest.fixture(scope="module")
def eyes(qwen):
    return Texts(Encoder.of(load(ModelSettings(path=str(qwen), device="cpu"))))


def pair(chosen="a red ball", rejected="a dog", **given):
    return Pair(prompt=Prompt.user("describe"), chosen=chosen, rejected=rejected, **given)


def only(rows, maker, loss=SPAN):
    (item,), _ = prepare(rows, loss, maker, None)
    return item


def shown(maker, text, where=None):
    ids = torch.tensor(text.ids[len(text.ids) - text.scored :])
    return maker.encoder.tokenizer.decode(ids if where is None else ids[torch.tensor(where)])


def test_scored_tokens_are_the_answer_and_its_end(words):
    item = only([pair(rejected_ends=False)], words)
    assert shown(words, item.texts["chosen"]) == "a red ball<|eot_id|>"
    assert shown(words, item.texts["rejected"]) == "a dog"
    assert all(item.texts["chosen"].in_span)


def test_an_empty_answer_that_ends_is_one_token(words):
    item = only([pair(chosen="")], words)
    assert shown(words, item.texts["chosen"]) == "<|eot_id|>"


def test_the_opening_is_read_and_not_scored(words):
    row = pair(chosen=" red ball", rejected=" dog").model_copy(
        update={"prompt": Prompt.user("hi").opened("There is a")}
    )
    text = only([row], words).texts["chosen"]
    assert shown(words, text) == " red ball<|eot_id|>"
    assert words.encoder.tokenizer.decode(text.ids[: -text.scored]).endswith("There is a")


def test_spans_take_every_token_they_touch(words):
    item = only([pair(chosen_spans=((3, 4),), rejected_spans=((2, 5),))], words)  # the "e" of "red"
    assert "red" in shown(words, item.texts["chosen"], item.texts["chosen"].in_span)
    assert "ball" not in shown(words, item.texts["chosen"], item.texts["chosen"].in_span)
    assert shown(words, item.texts["rejected"], item.texts["rejected"].in_span).strip() == "dog"


def test_span_on_one_side_is_an_insertion(words):
    item = only([pair(rejected_spans=((2, 5),))], words)
    assert not any(item.texts["chosen"].in_span) and any(item.texts["rejected"].in_span)


def test_overlap_with_tokens_by_characters():
    offsets = ((0, 3), (3, 7), (7, 7), (9, 9))
    assert tokens_in_spans(offsets, ((2, 4),), 9) == (True, True, False, False)
    assert tokens_in_spans(offsets, ((3, 7),), 9) == (False, True, False, False)
    assert tokens_in_spans(offsets, ((3, 10),), 9) == (False, True, True, True)
    assert tokens_in_spans(offsets, (), 9) == (False,) * 4


def test_reasons_are_counted(words):
    rows = [
        pair(),
        pair(chosen="a dog"),
        pair(chosen="", chosen_ends=False),
        pair(chosen_spans=((50, 60),), rejected_spans=((0, 2),)),
        pair(chosen="a red ball " * 40),
    ]
    items, dropped = prepare(rows, SPAN, words, 60)
    assert len(items) == 1
    assert dropped.counts == {
        "chosen and rejected are equal after tokenisation": 1,
        "no scored token: empty answer whose end is not scored": 1,
        "spans vanished: no token lies in them": 1,
        "longer than max_length=60 tokens": 1,
    }
    assert len(dropped.rows) == 4


def test_equal_words_under_other_pictures_are_a_pair(eyes, photos):
    row = Pair(prompt=Prompt.user("q", photos[0]), chosen="a", rejected="a", rejected_media=(photos[3],))
    assert len(prepare([row], SPAN, eyes, None)[0]) == 1
    with pytest.raises(UserError, match="equal after tokenisation"):
        prepare([row.model_copy(update={"rejected_media": None})], SPAN, eyes, None)


def test_equal_words_with_other_ends_are_a_pair(words):
    assert len(prepare([pair(chosen="a dog", rejected_ends=False)], SPAN, words, None)[0]) == 1


def test_a_bad_picture_drops_its_row(eyes, photos, tmp_path):
    broken = photos[0].model_copy(update={"uri": str(tmp_path / "gone.png"), "content_hash": "0" * 32})
    rows = [*photo_pairs(photos, 1), Pair(prompt=Prompt.user("q", broken), chosen="a", rejected="b")]
    items, dropped = prepare(rows, SPAN, eyes, None)
    assert len(items) == 1 and sum(dropped.counts.values()) == 1


def test_wrong_kind_of_row_and_media_for_a_blind_model(words, photos):
    with pytest.raises(UserError, match="a demo has no text 'chosen'"):
        prepare([Demo(prompt=Prompt.user("q"), answer="a")], SPAN, words, None)
    with pytest.raises(UserError, match="takes no images"):
        prepare(photo_pairs(photos, 1), SPAN, words, None)
    with pytest.raises(UserError, match="no row to learn from"):
        prepare([], SPAN, words, None)


def test_what_a_loss_does_not_read_is_said(words):
    rows = [pair(weight=2.0, chosen_spans=((0, 1),), rejected_spans=((0, 1),)), *text_pairs(1)]
    items, _ = prepare(rows, SPAN, words, None)
    assert ignored_columns(items, resolve("loss", "dpo")(), reads_spans=False) == [
        "1 rows set weight, which this loss does not read",
        "1 rows have spans, but this loss scores whole answers",
    ]
    assert ignored_columns(items, SPAN, reads_spans=True) == []


def test_layout_and_reference(words):
    items, _ = prepare(text_pairs(3), SPAN, words, None)
    collator = Collator(items, SPAN, words)
    for place, item in enumerate(items):
        collator.reference[place] = {
            name: torch.arange(text.scored) + 100.0 * place + 1 for name, text in item.texts.items()
        }
    batch = collator([{"item": 2}, {"item": 0}])
    assert batch["inputs"]["input_ids"].shape[0] == 4 and batch["item"].tolist() == [2, 0]
    expected = [items[2].texts["chosen"], items[0].texts["chosen"], items[2].texts["rejected"]]
    for row, text in enumerate(expected):
        ids, mask = batch["inputs"]["input_ids"][row], batch["answer"][row]
        assert ids[mask].tolist() == list(text.ids[-text.scored :])
        assert batch["reference"][row][mask[1:]].tolist()[0] == (201 if row in (0, 2) else 1)
    assert batch["inputs"]["attention_mask"].sum(1).tolist()[0] == len(expected[0].ids)


@pytest.mark.parametrize(
    "family",
    ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "llava", "llava_onevision", "smolvlm", "idefics3", "internvl", "gemma3"],
)
def test_a_batch_scores_its_rows_as_each_alone(family, photos, tmp_path):
    """Pictures of other sizes, two of them, and none at all in one batch."""
    maker = Texts(Encoder.of(load(ModelSettings(path=str(build(family, tmp_path / family)), device="cpu"))))
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / family).eval()
    two = Prompt.user("compare", photos[1], photos[2])
    rows = [*photo_pairs(photos, 3), pair(), Pair(prompt=two, chosen="one red", rejected="two dogs and a cat")]
    items, _ = prepare(rows, SPAN, maker, None)
    assert len(items) == len(rows)

    def scored(texts):
        batch = Collator(items, SPAN, maker).marked(texts)
        with torch.no_grad():
            return score_tokens(model, batch["inputs"], batch["answer"]).logp_NT.sum(1)

    texts = [item.texts[name] for name in ("chosen", "rejected") for item in items]
    together = scored(texts)
    alone = torch.cat([scored([text]) for text in texts])
    assert torch.allclose(together, alone, atol=2e-4), (together - alone).abs().max()


def test_pictures_beyond_the_memory_limit_are_read_again(qwen, photos):
    small = Texts(Encoder.of(load(ModelSettings(path=str(qwen), device="cpu"))), keep_bytes=0)
    large = Texts(small.encoder)
    for maker in (small, large):
        items, _ = prepare(photo_pairs(photos), SPAN, maker, None)
        batch = Collator(items, SPAN, maker)([{"item": 0}, {"item": 1}])
        maker.made = batch["inputs"]
    assert not small._media and len(large._media) == 4
    for name, tensor in small.made.items():
        assert torch.equal(tensor, large.made[name]), name


def test_demos(words):
    rows = [Demo(prompt=Prompt.user("q"), answer="a red ball", weight=0.5), Demo(prompt=Prompt.user("q"), answer="a")]
    items, _ = prepare(rows, SFT, words, None)
    batch = Collator(items, SFT, words)([{"item": 0}, {"item": 1}])
    assert batch["columns"]["weight"].tolist() == [0.5, 1.0] and "reference" not in batch
