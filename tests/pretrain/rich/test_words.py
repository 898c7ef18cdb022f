"""Whatever a lesson says is made of whole words: only numbers and line breaks fall into bytes."""

import random
import re

from vlm_selfalign.pretrain.architecture import MERGE, PATCH, SIDE
from vlm_selfalign.pretrain.rich.curriculum import CURRICULUM, exchanges
from vlm_selfalign.pretrain.rich.items import item
from vlm_selfalign.pretrain.rich.words import words
from vlm_selfalign.pretrain.tokens import processor


def test_lessons_fall_into_no_bytes():
    tokenizer = processor(SIDE, PATCH, MERGE, words()).tokenizer
    loose = set()
    for medium in ("picture", "clip", "text"):
        for index in range(60):
            one = item(medium, index, "dev")
            for phase in CURRICULUM:
                for branch in exchanges(phase, one, random.Random(index)):
                    text = f"{one.words}\n{branch.question} {branch.answer}"
                    pieces = [tokenizer.decode([i]) for i in tokenizer.encode(text)]
                    assert "".join(pieces) == text
                    loose |= {piece for piece in pieces if re.fullmatch(r"[A-Za-z]", piece)}
    assert loose <= {"A", "a", "I"}
