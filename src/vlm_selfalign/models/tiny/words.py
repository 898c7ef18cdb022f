"""A byte-level BPE tokenizer made on the spot: every text can be written, everyday words are one token each."""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

MERGES = 320
"""Pairs of tokens that became one token, on top of the 256 bytes."""

TEXT = """
describe the picture in detail . what do you see in this image ? is there a cat in the picture ? yes , there is .
no , there is not . list all objects , one on each line . how many dogs are there ? two . which colour is the ball ?
the red cup stands on the table next to a small blue box . a black dog runs behind the green tree on the left .
there are three yellow birds above the white house at the top right of the image , and a large car below it .
the video shows a man and a woman who walk along the street in front of a shop . then the boat appears .
a boy with a hat holds a kite under the sky . the answer is correct . the question is about the colour , not the size .
you are a helpful assistant who looks closely and answers truthfully . what is wrong with this answer ? explain why .
"""


def tokenizer_with(
    special: list[str],
    *,
    eos: str,
    pad: str,
    bos: str | None = None,
    adds_bos: bool = False,
    named: dict[str, str] | None = None,
) -> PreTrainedTokenizerFast:
    """A tokenizer that knows the ``special`` tokens; ``named`` ones become attributes, as ``image_token``.

    ``adds_bos``: plain text is encoded with ``bos`` in front, as Llama, LLaVA and Gemma do, so that who encodes
    a piece of an answer by itself must ask for ``add_special_tokens=False``.
    """
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    size = len(special) + len(alphabet) + MERGES
    learn = trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, initial_alphabet=alphabet, show_progress=False, min_frequency=1
    )
    inner.train_from_iterator([TEXT], learn)
    if adds_bos and bos:
        inner.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, inner.token_to_id(bos))]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        eos_token=eos,
        pad_token=pad,
        bos_token=bos,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        extra_special_tokens=[token for token in special if token not in (eos, pad, bos)],
        model_specific_special_tokens=named or {},
    )


def id_of(words: PreTrainedTokenizerFast, token: str) -> int:
    """The id of one token."""
    return words.get_vocab()[token]
