"""What keeps the language model's own knowledge: easy questions without a picture, learnt along with the pictures.

``KNOWN`` have true answers; to ``PROMPTS`` the frozen model's greedy answers are learnt. ``EASY`` is never learnt and
measures what is left.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

KNOWN = tuple(
    tuple(line.split("|"))
    for line in """What is the capital of Italy?|The capital of Italy is Rome.
What is the capital of Spain?|The capital of Spain is Madrid.
What is the capital of Japan?|The capital of Japan is Tokyo.
What is the capital of Egypt?|The capital of Egypt is Cairo.
Name the capital of Canada.|The capital of Canada is Ottawa.
Which city is the capital of Greece?|The capital of Greece is Athens.
What is the capital of Russia?|The capital of Russia is Moscow.
How many months are in a year?|There are 12 months in a year.
How many hours are in a day?|There are 24 hours in a day.
How many minutes are in an hour?|There are 60 minutes in an hour.
How many legs does a dog have?|A dog has four legs.
How many legs does an insect have?|An insect has six legs.
How many wheels does a bicycle have?|A bicycle has two wheels.
What is 2 plus 2?|2 plus 2 is 4.
What is 3 + 4?|3 + 4 is 7.
What is 10 minus 3?|10 minus 3 is 7.
What is 5 times 2?|5 times 2 is 10.
What is 6 + 3?|6 + 3 is 9.
What is 8 minus 2?|8 minus 2 is 6.
What is the opposite of big?|The opposite of big is small.
What is the opposite of day?|The opposite of day is night.
What is the opposite of left?|The opposite of left is right.
What is the opposite of slow?|The opposite of slow is fast.
What color is grass?|Grass is green.
What color is the sky?|On a clear day the sky is blue.
What color is snow?|Snow is white.
What color is a lemon?|A lemon is yellow.
What color is a strawberry?|A ripe strawberry is red.
What color is a carrot?|A carrot is orange.
What do bees make?|Bees make honey.
What do cows eat?|Cows eat grass.
What do birds use to fly?|Birds use their wings to fly.
Which animal barks?|The dog is the animal that barks.
Which animal has a trunk?|The elephant has a trunk.
What do we call a baby cow?|A baby cow is called a calf.
What do we call a baby cat?|A baby cat is called a kitten.
What is the largest planet in the solar system?|The largest planet in the solar system is Jupiter.
Which planet do we live on?|We live on the planet Earth.
Which planet has rings?|Saturn is the planet with the famous rings.
What goes around the Earth?|The Moon goes around the Earth.
Who wrote Romeo and Juliet?|Romeo and Juliet was written by William Shakespeare.
Who painted the Mona Lisa?|The Mona Lisa was painted by Leonardo da Vinci.
Who invented the telephone?|The telephone was invented by Alexander Graham Bell.
Who wrote The Odyssey?|The Odyssey was written by Homer.
What language is spoken in France?|The language spoken in France is French.
What language is spoken in Mexico?|The language spoken in Mexico is Spanish.
What language is spoken in Germany?|The language spoken in Germany is German.
Which ocean is the largest?|The Pacific Ocean is the largest.
What is the longest river in Africa?|The longest river in Africa is the Nile.
On which continent is China?|China is in Asia.
On which continent is Brazil?|Brazil is in South America.
On which continent is France?|France is in Europe.
What is the tallest mountain in the world?|The tallest mountain in the world is Mount Everest.
What gas do plants take in?|Plants take in carbon dioxide.
What gas do people breathe?|People breathe air, and need the oxygen in it.
What is the chemical symbol for gold?|The chemical symbol for gold is Au.
What is ice made of?|Ice is made of water.
What is steam?|Steam is water that has become a gas.
At what temperature does water freeze?|Water freezes at 0 degrees Celsius.
What season comes after spring?|Summer comes after spring.
What day comes after Monday?|Tuesday comes after Monday.
What day comes before Sunday?|Saturday comes before Sunday.
What month comes after March?|April comes after March.
What is the first month of the year?|The first month of the year is January.
What is the plural of child?|The plural of child is children.
What is the past tense of see?|The past tense of see is saw.
Spell the word cat.|C-A-T.
Give me a word that rhymes with hat.|Cat rhymes with hat.
Name three fruits.|Apples, bananas and oranges.
Name three animals that live in the sea.|Whales, sharks and octopuses live in the sea.
Name two musical instruments.|The piano and the violin.
Name a sport that is played with a ball.|Football is played with a ball.
Say hello in Spanish.|Hola!
What do you use to cut paper?|You use scissors to cut paper.
What do you wear on your feet?|You wear shoes and socks on your feet.
What do you use an umbrella for?|You use an umbrella to keep dry in the rain.
Where do fish live?|Fish live in water.
Where do birds sleep?|Many birds sleep in trees.
What is a house made of?|A house is made of wood, brick or stone.
Is fire hot or cold?|Fire is hot.
Is the moon bigger than the sun?|No, the sun is much bigger than the moon.
Is a whale a fish?|No, a whale is a mammal.
Can penguins fly?|No, penguins cannot fly, but they swim very well.
Do cats have tails?|Yes, most cats have tails.
Is seven larger than three?|Yes, seven is larger than three.
Is water wet?|Yes, water is wet.
Is Paris in France?|Yes, Paris is in France.
Is Rome in Spain?|No, Rome is in Italy.""".splitlines()
)
"""Questions with one short true answer. The frozen model gets a third of them wrong, so it is not asked."""

PROMPTS = tuple(
    """What is a doctor?|What is a library?|What is a kitchen?|What is a boat?|What is a kite?|What is rain?
Who are you?|What can you do?|Thank you for your help.|Why do people sleep?|What is a computer?
What is money used for?|Write a sentence about the sun.|Write a sentence about a dog.""".replace("\n", "|").split("|")
)
"""What has many good answers: the frozen model's own are learnt."""

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
    """A prompt without a picture, and what to say to it."""

    prompt: str
    answer: str


def remembered(model: Any, processor: Any, file: Path) -> list[TextAnswer]:
    """What is known, and the frozen model's own answers, made once and kept in ``file``."""
    if not file.is_file():
        texts = said(model, processor, PROMPTS, 48)
        answers = [TextAnswer(prompt, text) for prompt, text in zip(PROMPTS, texts, strict=True)]
        file.write_text("".join(json.dumps(asdict(one)) + "\n" for one in answers if one.answer))
    own = [TextAnswer(**json.loads(line)) for line in file.read_bytes().splitlines()]
    return [*(TextAnswer(*pair) for pair in KNOWN), *own]


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
