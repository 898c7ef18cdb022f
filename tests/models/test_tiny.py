import os

os.environ["HF_HUB_OFFLINE"] = "1"

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.models.tiny import FAMILIES, Takes, build

SEEING = [family for family, takes in FAMILIES.items() if takes.images]
WATCHING = [family for family, takes in FAMILIES.items() if takes.video]
ODD_TEXT = "Don't describe 1,234 things!\n\n\n  na\u00efve \u65e5\u672c \U0001f600\tend"


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@dataclass
class Loaded:
    family: str
    folder: Path
    takes: Takes
    processor: Any
    model: Any

    @property
    def tokenizer(self) -> Any:
        return getattr(self.processor, "tokenizer", self.processor)

    def text(self, messages: list[dict[str, Any]], ask: bool = True) -> str:
        return self.processor.apply_chat_template(messages, add_generation_prompt=ask, tokenize=False)

    def encode(self, *prompts: tuple[str, list[Image.Image]], **more: Any) -> dict[str, torch.Tensor]:
        texts = [text for text, _ in prompts]
        images = [shown for _, shown in prompts]
        if any(images):
            more["images"] = images
        # add_special_tokens: the templates of some families write the first token, the tokenizer would add another
        starts = bool(self.tokenizer.bos_token) and texts[0].startswith(self.tokenizer.bos_token)
        return self.processor(text=texts, return_tensors="pt", padding=True, add_special_tokens=not starts, **more)

    def logits(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        with torch.no_grad():
            return self.model(**batch).logits

    def greedy(self, batch: dict[str, torch.Tensor], tokens: int = 8) -> list[list[int]]:
        written = self.model.generate(**batch, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False)
        return written[:, batch["input_ids"].shape[1] :].tolist()


def load(family: str, folder: Path) -> Loaded:
    takes = FAMILIES[family]
    processor = (AutoProcessor if takes.images else AutoTokenizer).from_pretrained(folder)
    model = (AutoModelForImageTextToText if takes.images else AutoModelForCausalLM).from_pretrained(folder)
    return Loaded(family, folder, takes, processor, model.eval())


@pytest.fixture(scope="module", params=FAMILIES)
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    return load(request.param, build(request.param, tmp_path_factory.mktemp(request.param)))


def only(*families: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("tiny", families, indirect=True)


def photo(seed: int, width: int = 60, height: int = 40) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def user(text: str, images: int = 0) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "image"}] * images + [{"type": "text", "text": text}]}


def said(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "text": text}]}


def three_turns(images: int) -> list[dict[str, Any]]:
    return [
        said("system", "Answer truthfully."),
        user("What is there?", images),
        said("assistant", "a black dog"),
        user("Which colour?"),
        said("assistant", "black"),
        user("Are you sure?"),
    ]


def test_a_folder_holds_everything_and_is_small(tiny: Loaded) -> None:
    names = {path.name for path in tiny.folder.iterdir()}
    needed = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert needed | {"chat_template.jinja"} <= names
    assert ("processor_config.json" in names) == tiny.takes.images
    assert sum(path.stat().st_size for path in tiny.folder.iterdir()) < 1_000_000


def test_the_same_seed_gives_the_same_bytes_and_leaves_torch_alone(tiny: Loaded, tmp_path: Path) -> None:
    state = torch.random.get_rng_state()
    again, other = build(tiny.family, tmp_path / "again"), build(tiny.family, tmp_path / "other", seed=1)
    assert torch.equal(state, torch.random.get_rng_state())
    for path in tiny.folder.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes(), path.name
    assert (tiny.folder / "model.safetensors").read_bytes() != (other / "model.safetensors").read_bytes()


def test_saved_again_it_gives_the_same_logits(tiny: Loaded, tmp_path: Path) -> None:
    tiny.model.save_pretrained(tmp_path)
    tiny.processor.save_pretrained(tmp_path)
    images = [photo(0)] if tiny.takes.images else []
    prompt = (tiny.text([user("Describe the picture.", len(images))]), images)
    again = load(tiny.family, tmp_path)
    assert torch.equal(tiny.logits(tiny.encode(prompt)), again.logits(again.encode(prompt)))


def test_every_text_survives_the_tokenizer(tiny: Loaded) -> None:
    ids = tiny.tokenizer(ODD_TEXT, add_special_tokens=False).input_ids
    assert tiny.tokenizer.decode(ids) == ODD_TEXT
    assert len(tiny.tokenizer("the black dog runs behind the green tree", add_special_tokens=False).input_ids) <= 10
    assert max(tiny.tokenizer.get_vocab().values()) + 1 == len(tiny.tokenizer)
    assert tiny.model.get_input_embeddings().weight.shape[0] == len(tiny.tokenizer)


def test_special_tokens_are_skipped_when_decoding(tiny: Loaded) -> None:
    images = [photo(0)] if tiny.takes.images else []
    batch = tiny.encode((tiny.text(three_turns(len(images))), images))
    shown = tiny.tokenizer.decode(batch["input_ids"][0], skip_special_tokens=True)
    assert "Which colour?" in shown
    special = [str(token) for token in tiny.tokenizer.added_tokens_decoder.values()]
    assert len(special) >= 3
    assert not [token for token in special if token in shown]


def test_a_prompt_is_the_beginning_of_its_answered_conversation(tiny: Loaded) -> None:
    asked = three_turns(int(tiny.takes.images))
    prompt, whole = tiny.text(asked), tiny.text([*asked, said("assistant", "quite sure")], ask=False)
    assert whole.startswith(prompt)
    answer = whole[len(prompt) :].strip()
    assert answer.startswith("quite sure")
    end = tiny.tokenizer(answer.removeprefix("quite sure"), add_special_tokens=False).input_ids
    assert len(end) == 1 and end[0] in tiny.model.generation_config.eos_token_id


def test_the_words_of_all_turns_are_in_the_prompt_and_strings_mean_the_same(tiny: Loaded) -> None:
    typed = three_turns(0)
    plain = [{"role": turn["role"], "content": turn["content"][0]["text"]} for turn in typed]
    prompt = tiny.text(typed)
    words = [turn["content"] for turn in plain]
    assert [prompt.count(word) for word in words[:2] + words[3:4] + words[5:]] == [1, 1, 1, 1]
    assert sorted(words, key=prompt.rindex)[-1] == "Are you sure?"
    assert tiny.text(plain) == prompt


def test_a_text_prompt_gives_finite_logits(tiny: Loaded) -> None:
    logits = tiny.logits(tiny.encode((tiny.text(three_turns(0)), [])))
    assert logits.isfinite().all()
    assert 0.5 < logits.std() < 2.0  # neither all tokens alike nor one certain


def test_a_batch_of_texts_is_its_rows(tiny: Loaded) -> None:
    prompts = [(tiny.text([user(text)]), []) for text in ("Hi", "Tell me about the green tree behind the house.")]
    together = tiny.encode(*prompts)
    assert together["attention_mask"][0, 0] == 0, "padded on the left"
    assert tiny.greedy(together) == [tiny.greedy(tiny.encode(prompt))[0] for prompt in prompts]


@only(*SEEING)
def test_a_batch_of_pictures_is_its_rows(tiny: Loaded) -> None:
    prompts = [
        (tiny.text([user("Hi", 1)]), [photo(0)]),
        (tiny.text(three_turns(1)), [photo(1, 30, 70)]),
    ]
    together = tiny.encode(*prompts)
    assert together["attention_mask"][0, 0] == 0
    assert tiny.logits(together).isfinite().all()
    assert tiny.greedy(together) == [tiny.greedy(tiny.encode(prompt))[0] for prompt in prompts]


@only(*SEEING)
def test_rows_with_two_one_and_no_pictures_share_a_batch(tiny: Loaded) -> None:
    counts = (2, 1, 0)
    prompts = [
        (tiny.text([user("What?" * (n + 1), n)]), [photo(10 * n + i, 50 + 9 * i) for i in range(n)]) for n in counts
    ]
    together = tiny.logits(tiny.encode(*prompts))[:, -1]
    alone = torch.stack([tiny.logits(tiny.encode(prompt))[0, -1] for prompt in prompts])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)


@only(*SEEING)
def test_the_picture_and_its_order_matter(tiny: Loaded) -> None:
    text = tiny.text([user("Compare.", 2)])
    first, second, third = photo(1), photo(2), photo(3)
    here, there, swapped = (
        tiny.logits(tiny.encode((text, shown)))[0, -1] for shown in ([first, second], [first, third], [second, first])
    )
    assert (here - there).abs().max() > 0.01
    assert (here - swapped).abs().max() > 0.01


@only(*SEEING)
def test_a_picture_costs_tens_of_tokens_and_none_are_ever_written(tiny: Loaded) -> None:
    config = tiny.model.config
    batch = tiny.encode((tiny.text([user("Describe it.", 1)]), [photo(0, 200, 150)]))
    assert 10 <= (batch["input_ids"] == config.image_token_id).sum() <= 60
    assert config.image_token_id in tiny.model.generation_config.suppress_tokens
    torch.manual_seed(0)
    written = tiny.model.generate(**batch, max_new_tokens=200, do_sample=True, top_k=0, eos_token_id=-1)
    assert config.image_token_id not in written[0, batch["input_ids"].shape[1] :]


def test_adapters_reach_the_language_model(tiny: Loaded) -> None:
    names = [name for name, _ in tiny.model.named_modules() if name.endswith("q_proj")]
    assert any("vision" not in name and "visual" not in name for name in names)


@only(*WATCHING)
def test_a_clip_is_watched(tiny: Loaded) -> None:
    turn = {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "What happens?"}]}
    clips = [np.random.default_rng(seed).integers(0, 255, (4, 40, 60, 3), dtype=np.uint8) for seed in (0, 1)]
    one, other = (tiny.logits(tiny.encode((tiny.text([turn]), []), videos=[[clip]]))[0, -1] for clip in clips)
    assert one.isfinite().all()
    assert (one - other).abs().max() > 0.01


@only(*[family for family in FAMILIES if family not in WATCHING])
def test_media_that_a_family_does_not_take_are_refused(tiny: Loaded) -> None:
    kind = "video" if tiny.takes.images else "image"
    with pytest.raises(Exception, match=f"takes no {kind}"):
        tiny.text([{"role": "user", "content": [{"type": kind}]}])


def test_an_unknown_family_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"qwen4_vl.*did you mean 'qwen3_vl'"):
        build("qwen4_vl", tmp_path)
