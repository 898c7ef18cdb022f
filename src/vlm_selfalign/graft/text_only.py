"""What keeps the language model's own knowledge: easy questions without a picture, answered by itself before training.

The frozen model's greedy answers to ``PROMPTS`` are learnt along; ``EASY`` is never learnt and measures what is left.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

PROMPTS = tuple(
    """What is the capital of Italy?|What is the capital of Spain?|What is the capital of Japan?
What is the capital of Egypt?|Name the capital of Canada.|Which city is the capital of Greece?
What is the capital of Russia?|How many months are in a year?|How many hours are in a day?
How many minutes are in an hour?|How many legs does a dog have?|How many legs does an insect have?
How many wheels does a bicycle have?|What is 2 plus 2?|What is 3 + 4?|What is 10 minus 3?|What is 5 times 2?
What is the opposite of big?|What is the opposite of day?|What is the opposite of left?
What color is grass?|What color is the sky?|What color is snow?|What color is a lemon?|What color is a strawberry?
What do bees make?|What do cows drink?|What do birds use to fly?|Which animal barks?|Which animal has a trunk?
What is the largest planet in the solar system?|Which planet do we live on?|What is the closest star to Earth?
Who wrote Romeo and Juliet?|Who painted the Mona Lisa?|Who invented the telephone?
What language is spoken in France?|What language is spoken in Mexico?|What language is spoken in Germany?
Which ocean is the largest?|What is the longest river in Africa?|On which continent is China?
On which continent is Brazil?|What is the tallest mountain in the world?|What gas do plants take in?
What is H2O?|What is ice made of?|At what temperature does water freeze?|What season comes after spring?
What day comes after Monday?|What month comes after March?|What is the first month of the year?
What is the plural of child?|What is the past tense of see?|Spell the word cat.
Give me a word that rhymes with hat.|Name three fruits.|Name three animals that live in the sea.
Name two musical instruments.|Name a sport that is played with a ball.|Say hello in Spanish.
Write a sentence about the sun.|Write a sentence about a dog.|What do you use to cut paper?
What do you wear on your feet?|What do you use an umbrella for?|Where do fish live?|Where do birds sleep?
What is a doctor?|What is a library?|What is a kitchen?|What is a boat?|What is a kite?|What is a house made of?
Who are you?|What can you do?|How are you today?|Thank you for your help.|What is rain?|Why do people sleep?
What is a computer?|What is money used for?|Is fire hot or cold?|Is the moon bigger than the sun?
Is a whale a fish?|Can penguins fly?|Do cats have tails?|Is seven larger than three?|Is water wet?
Is Paris in France?|Is a tomato a vegetable?""".replace("\n", "|").split("|")
)

EASY: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("What is the capital of France?", ("paris",)),
    ("What is the capital of Germany?", ("berlin",)),
    ("What is the capital of England?", ("london",)),
    ("What is the capital of China?", ("beijing",)),
    ("What is the capital of the United States?", ("washington",)),
    ("How many days are in a week?", ("7", "seven")),
    ("How many seconds are in a minute?", ("60", "sixty")),
    ("How many legs does a cat have?", ("4", "four")),
    ("How many legs does a spider have?", ("8", "eight")),
    ("How many wheels does a car have?", ("4", "four")),
    ("What is 1 plus 1?", ("2", "two")),
    ("What is 2 + 3?", ("5", "five")),
    ("What is 10 minus 5?", ("5", "five")),
    ("What is the opposite of hot?", ("cold",)),
    ("What is the opposite of up?", ("down",)),
    ("What is the opposite of black?", ("white",)),
    ("What color is a banana?", ("yellow",)),
    ("What color is blood?", ("red",)),
    ("What color is coal?", ("black",)),
    ("Which animal says meow?", ("cat",)),
    ("Which planet is known as the red planet?", ("mars",)),
    ("What is the chemical symbol for water?", ("h2o",)),
    ("What star is at the center of our solar system?", ("sun",)),
    ("Who wrote Hamlet?", ("shakespeare",)),
    ("What language is spoken in Italy?", ("italian",)),
    ("On which continent is Egypt?", ("africa",)),
    ("What day comes after Friday?", ("saturday",)),
    ("What is the last month of the year?", ("december",)),
    ("What is frozen water called?", ("ice",)),
    ("What do we call a baby dog?", ("puppy", "pup")),
)
"""Thirty questions and the words of which one must stand in the answer."""


@dataclass(frozen=True)
class TextAnswer:
    """A prompt without a picture, and what the frozen model says to it."""

    prompt: str
    answer: str


def remembered(model: Any, processor: Any, file: Path) -> list[TextAnswer]:
    """The frozen model's own answers, made once and kept in ``file``."""
    if not file.is_file():
        texts = said(model, processor, PROMPTS, 48)
        answers = [TextAnswer(prompt, text) for prompt, text in zip(PROMPTS, texts, strict=True)]
        file.write_text("".join(json.dumps(asdict(one)) + "\n" for one in answers if one.answer))
    return [TextAnswer(**json.loads(line)) for line in file.read_bytes().splitlines()]


def easy(model: Any, processor: Any) -> float:
    """Share of ``EASY`` questions whose answer holds one of the right words."""
    answers = said(model, processor, [question for question, _ in EASY], 24)
    right = [_holds(text, words) for text, (_, words) in zip(answers, EASY, strict=True)]
    return sum(right) / len(right)


def _holds(text: str, words: tuple[str, ...]) -> bool:
    spoken = "".join(char if char.isalnum() else " " for char in text.lower()).split()
    return any(word in spoken for word in words)


@torch.no_grad()
def said(model: Any, processor: Any, prompts: tuple[str, ...] | list[str], tokens: int, batch: int = 16) -> list[str]:
    """Greedy answers to prompts without a picture, cut at the last full stop where they were not ended."""
    answers: list[str] = []
    for start in range(0, len(prompts), batch):
        chats = [[{"role": "user", "content": prompt}] for prompt in prompts[start : start + batch]]
        texts = [processor.apply_chat_template(chat, add_generation_prompt=True) for chat in chats]
        inputs = processor.tokenizer(texts, padding=True, return_tensors="pt")
        ids = model.generate(**inputs, max_new_tokens=tokens, do_sample=False)
        for row in ids[:, inputs["input_ids"].shape[1] :]:
            text = processor.tokenizer.decode(row, skip_special_tokens=True).strip()
            ended = processor.tokenizer.eos_token_id in row
            answers.append(text if ended else text[: text.rfind(".") + 1])
    return answers
