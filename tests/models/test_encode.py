"""Prompts and answers as tensors: the model's own tokens, in their places, whatever the padding."""

import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from vlm_selfalign.config import MediaSettings
from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.media import Media
from vlm_selfalign.core.prompts import Prompt
from vlm_selfalign.media.errors import MediaError
from vlm_selfalign.models.encode import Encoder, EncodingError
from vlm_selfalign.models.tiny import FAMILIES

ASK = Prompt.user("What is this?")


@pytest.fixture(scope="module")
def encoder_of(loaded):
    return lambda family: Encoder.of(loaded(family))


def rows_of(batch):
    pairs = zip(batch.inputs["input_ids"], batch.inputs["attention_mask"], strict=True)
    return [ids[mask.bool()].tolist() for ids, mask in pairs]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prompt_is_what_transformers_makes_of_the_chat(family, encoder_of, photos):
    encoder = encoder_of(family)
    prompt = Prompt.user("What is this?", *photos[:1]) if encoder.is_vision else ASK
    chat = prompt.chat() if encoder.is_vision else [{"role": "user", "content": "What is this?"}]
    if encoder.is_vision:
        chat[0]["content"][0]["image"] = Image.open(photos[0].uri)
    options = {"add_generation_prompt": True, "tokenize": True, "return_dict": True, "return_tensors": "pt"}
    expected = encoder.processor.apply_chat_template([chat], **options)
    got = encoder.batch([prompt]).inputs
    for key, value in got.items():
        assert torch.equal(value, expected[key]), key
    assert set(got) == {key for key, value in expected.items() if isinstance(value, torch.Tensor)}


@pytest.mark.parametrize("family", FAMILIES)
def test_an_answer_ends_as_the_template_or_generation_ends_it(family, encoder_of, loaded):
    encoder = encoder_of(family)
    assert encoder.end_id in torch.tensor(loaded(family).model.generation_config.eos_token_id).reshape(-1).tolist()
    roles = [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Yes"}]
    if encoder.is_vision:
        roles = [{**turn, "content": [{"type": "text", "text": turn["content"]}]} for turn in roles]
    finished = encoder.processor.apply_chat_template(roles, tokenize=False)
    end = encoder.tokenizer.convert_ids_to_tokens(encoder.end_id)
    assert encoder.text(Prompt.user("Hello.").opened("Yes")) == finished[: finished.rindex("Yes") + 3]
    assert finished.endswith("Yes ") or finished[finished.rindex("Yes") + 3 :].startswith(end)


@pytest.mark.parametrize("family", FAMILIES)
def test_answer_tokens_are_those_of_the_whole_text_and_spell_the_answer(family, encoder_of):
    encoder = encoder_of(family)
    for opening, text in [
        ("", "A cat sits. Zwölf 猫!"),
        ("There is", " a cat."),
        ("The ca", "ts sit"),
        ("", " x"),
        ("A", ""),
    ]:
        prompt = ASK.opened(opening)
        answer = encoder.encode_answer(prompt, text)
        whole = encoder.tokenizer(encoder.text(prompt) + text if opening else encoder.text(prompt) + encoder.gap + text)
        assert answer.ids[-1] == encoder.end_id and answer.offsets[-1] == (len(text), len(text))
        assert list(answer.ids[:-1]) == whole["input_ids"][len(whole["input_ids"]) - len(answer.ids) + 1 :]
        covered = sorted({i for start, end in answer.offsets for i in range(start, end)})
        assert "".join(text[i] for i in covered).split() == text.split()
        assert answer.ids[:-1] == encoder.encode_answer(prompt, text, ends=False).ids


def test_a_token_across_the_opening_belongs_to_the_answer(encoder_of):
    encoder = encoder_of("qwen2_vl")
    tokens = encoder.tokenizer.convert_ids_to_tokens(encoder.tokenizer(" there")["input_ids"])
    assert tokens == ["Ġthere"], "the tiny tokenizer has a token to cut in two"
    answer = encoder.encode_answer(ASK.opened("Is the"), "re", ends=False)
    assert encoder.tokenizer.convert_ids_to_tokens(list(answer.ids)) == ["Ġthere"]
    assert answer.offsets == ((0, 2),)


def test_an_empty_answer_is_its_end_token_or_nothing(encoder_of):
    encoder = encoder_of("llama")
    assert encoder.encode_answer(ASK, "").ids == (encoder.end_id,)
    assert encoder.encode_answer(ASK, "", ends=False).ids == ()
    (row,) = rows_of(encoder.batch([ASK], answers=[("", True)]))
    assert row == [*rows_of(encoder.batch([ASK]))[0], encoder.end_id]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("side", ["left", "right"])
def test_rows_of_a_batch_are_the_rows_alone(family, side, encoder_of, photos):
    encoder = encoder_of(family)
    shown = photos[:3] if encoder.is_vision else [None] * 3
    prompts = [Prompt.user("What? " * (i + 1), *([p] if p else [])) for i, p in enumerate(shown)]
    answers = [("A cat.", True), ("No", False), ("Perhaps a dog or two", True)]
    batch = encoder.batch(prompts, answers, side=side)
    alone = [encoder.batch([p], [a]) for p, a in zip(prompts, answers, strict=True)]
    assert rows_of(batch) == [rows_of(one)[0] for one in alone]
    assert batch.lengths == [one.lengths[0] for one in alone]
    mask = batch.answer_mask()
    assert [batch.inputs["input_ids"][i][mask[i]].tolist() for i in range(3)] == [list(a.ids) for a in batch.answers]
    for key in ("mm_token_type_ids", "token_type_ids"):
        if key in batch.inputs:
            assert not batch.inputs[key][mask].any()
    padding = batch.inputs["attention_mask"] == 0
    assert (padding[:, 0] if side == "left" else padding[:, -1]).sum() == 2


def test_ids_go_on_after_the_prompt(encoder_of):
    encoder = encoder_of("qwen2_vl")
    one, two = rows_of(encoder.batch([ASK, ASK], continued=[[5, 6], []]))
    assert one == [*two, 5, 6]


@pytest.mark.parametrize("family", FAMILIES)
def test_decoding_after_a_token_gives_back_the_text(family, encoder_of):
    encoder = encoder_of(family)
    before = rows_of(encoder.batch([ASK]))[0][-1]
    answer = encoder.encode_answer(ASK, "A cat, and  two dogs.")
    assert encoder.decode_after(before, answer.ids) == encoder.gap + "A cat, and  two dogs."
    cat = encoder.encode_answer(ASK.opened("A"), " cat", ends=False)
    (a,) = encoder.encode_answer(ASK, "A", ends=False).ids[-1:]
    assert encoder.decode_after(a, cat.ids) == " cat"


def test_a_text_only_model_refuses_media_by_name_of_what_to_do(encoder_of, photos):
    with pytest.raises(UserError, match="takes no images"):
        encoder_of("llama").batch([Prompt.user("What?", photos[0])])


def test_what_one_prompt_breaks_is_said(encoder_of, photos):
    encoder = encoder_of("qwen2_vl")
    with pytest.raises(EncodingError):
        encoder.batch([Prompt.user("a <|image_pad|> in words", photos[0])])
    with pytest.raises(MediaError):
        encoder.batch([Prompt.user("?", Media(kind="image", uri="/nowhere.png", content_hash="x"))])


def test_each_picture_is_opened_once_and_shrunk_to_max_pixels(loaded, photos):
    model = loaded("qwen2_vl")
    encoder = Encoder(model.processor, model.tokenizer, True, media=MediaSettings(max_pixels=1000))
    known = {}
    first = encoder.shown(Prompt.user("?", photos[6]), known)[0]
    again = encoder.shown(Prompt.user("!", photos[6]), known)[0]
    assert first is again and first.width * first.height <= 1000 and first.width == first.height
    assert encoder.shown(Prompt.user("?", photos[5]))[0].size == (20, 20)


def test_a_conversation_keeps_its_turns(encoder_of):
    encoder = encoder_of("llama")
    text = encoder.text(ASK.answered("A cat.").then("Sure?").told("Be brief."))
    assert text.index("Be brief.") < text.index("What is this?") < text.index("A cat.") < text.index("Sure?")


def test_a_sentencepiece_tokenizer_keeps_its_spaces():
    words = [
        "<s>",
        "</s>",
        "<unk>",
        "▁USER",
        "▁ASSISTANT",
        ":",
        "▁A",
        "A",
        "▁cat",
        "▁sits",
        "▁Hello",
        ".",
        "▁What",
        "▁",
        "MARKED",
    ]
    inner = Tokenizer(models.Unigram([(w, -float(len(w) == 1)) for w in words], unk_id=2))
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    inner.decoder = decoders.Metaspace(prepend_scheme="first")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>", bos_token="<s>", unk_token="<unk>")
    tokenizer.pad_token = "</s>"
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'].upper() }}: {{ m['content'] }} {% endfor %}"
        "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
    )
    encoder = Encoder(tokenizer, tokenizer, False, [1])
    ask = Prompt.user("What")
    assert (encoder.gap, encoder.end_id) == (" ", 1)
    answer = encoder.encode_answer(ask, "A cat sits.")
    assert tokenizer.convert_ids_to_tokens(list(answer.ids)) == ["▁A", "▁cat", "▁sits", ".", "</s>"]
    assert [max(0, s) for s, _ in answer.offsets] == [0, 1, 5, 10, 11]
    before = rows_of(encoder.batch([ask]))[0][-1]
    assert encoder.decode_after(before, answer.ids) == " A cat sits."
    assert encoder.decode_after(answer.ids[0], answer.ids[1:2]) == " cat"
