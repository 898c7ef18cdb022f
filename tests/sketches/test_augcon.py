"""AugCon (Quan 2024): ask about a text and its parts and their parts; a fitted scorer ranks the questions.

Bends the house: recursion, a role that is fitted between stages, greedy de-duplication over the whole run.
"""

import itertools
import random
import re
from collections import Counter
from dataclasses import replace

import pytest

from vlm_selfalign.core.errors import Drop, UserError
from vlm_selfalign.core.prompts import Prompt, Sample
from vlm_selfalign.core.registry import fold, method
from vlm_selfalign.core.requests import Generate, Sampling, Score, Scored, Text
from vlm_selfalign.core.rows import Demo, Labelled, Pair
from vlm_selfalign.core.seeds import digest
from vlm_selfalign.core.stages import Shaped
from vlm_selfalign.core.steps import ask, ask_all, together

from .play import Scripted, Show, check, play

SPLIT = "Ask one question about this text, then split it in two.\n{context}"
DEGRADED = "Ask a vague question about this text.\n{context}"
ANSWER = "Think it through, keep to the text, then answer.\n{context}\n{question}"
WRITING = Sampling(temperature=0.85)


@method
def questions(smallest: int = 20, tries: int = 4):
    """A question per node of the context-split tree."""

    def run(sample: Sample):
        found = yield from tree(sample.prompt.question)
        return [Demo(prompt=Prompt.user(context), answer=question) for context, question in found]

    def tree(context: str):
        if len(context) <= smallest:
            return []
        for attempt in range(tries):
            asked = Generate(prompt=Prompt.user(SPLIT.format(context=context)), draw=attempt, sampling=WRITING)
            try:
                question, *parts = parse_split((yield from ask(asked)).text, context)
                break
            except Drop:
                continue
        else:
            return []
        below = yield from together(*(tree(part) for part in parts))
        return [(context, question), *itertools.chain(*below)]

    return run


def parse_split(text: str, context: str) -> tuple[str, str, str]:
    found = re.fullmatch(r"Q: (.{5,})\n1: (.+)\n2: (.+)", text)
    if not found or max(len(found[2]), len(found[3])) >= len(context):
        raise Drop("unparsed: expected a question and two smaller parts")
    return found[1], found[2], found[3]


@method
def contrasts():
    """What the scorer learns from: the tree's question against one from a degraded instruction."""

    def run(sample: Sample, questions: list[Demo]):
        worse = yield from ask_all(
            Generate(prompt=Prompt.user(DEGRADED.format(context=row.prompt.question)), sampling=WRITING)
            for row in questions
        )
        both = zip(questions, worse, strict=True)
        return [Pair(prompt=row.prompt, chosen=row.answer, rejected=reply.text) for row, reply in both]

    return run


@method
def ranked():
    """This sample's questions, best first by the scorer."""

    def run(sample: Sample, questions: list[Demo]):
        replies = yield from ask_all(Score(prompt=row.prompt, answer=row.answer, to="scorer") for row in questions)
        rows = [Labelled(prompt=row.prompt, answer=row.answer, label=sum(reply.logprobs))
                for row, reply in zip(questions, replies, strict=True)]  # fmt: skip
        return sorted(rows, key=lambda row: (-row.label, row.answer))

    return run


@fold
def distinct(most_alike: float = 0.7, quota: int = 4):
    """Greedily in (sample id, rank) order: up to ``quota`` per sample, none too like one kept before."""

    def run(rows):
        kept, dropped, per_sample = [], Counter(), Counter()
        for row in rows:
            if per_sample[row.origin.sample] == quota:
                dropped["over the quota"] += 1
            elif any(rouge_l(row.answer, other.answer) > most_alike for other in kept):
                dropped["too like another question"] += 1
            else:
                kept.append(row)
                per_sample[row.origin.sample] += 1
        return Shaped(kept, dropped)

    return run


def rouge_l(one: str, other: str) -> float:
    """F1 of the longest common subsequence of words."""
    left, right = one.split(), other.split()
    longest = [0] * (len(right) + 1)
    for word in left:
        diagonal = 0
        for j, against in enumerate(right, start=1):
            diagonal, longest[j] = longest[j], diagonal + 1 if word == against else max(longest[j], longest[j - 1])
    return 2 * longest[-1] / (len(left) + len(right))


@method
def answers():
    def run(sample: Sample, distinct: list[Labelled]):
        shown = [ANSWER.format(context=row.prompt.question, question=row.answer) for row in distinct]
        replies = yield from ask_all(Generate(prompt=Prompt.user(text)) for text in shown)
        return [Demo(prompt=Prompt.user(row.answer), answer=reply.text)
                for row, reply in zip(distinct, replies, strict=True)]  # fmt: skip

    return run


def policy(request: Generate, chance: random.Random) -> Text:
    """Halves a text between words and asks about its first words; now and then it forgets how to write it down."""
    instruction, _, context = request.prompt.question.partition("\n")
    if instruction.startswith("Think"):
        return Text(text=f"It says {context.split()[0]}.")
    if instruction.startswith("Ask a vague"):
        return Text(text="What about it?")
    if chance.random() < 0.3:
        return Text(text="I cannot split this.")
    words = context.split()
    half = len(words) // 2
    question = f"What happens when the {' '.join(words[:3])} ?"
    return Text(text=f"Q: {question}\n1: {' '.join(words[:half])}\n2: {' '.join(words[half:])}")


def fitted(rows, roles) -> Scripted:
    """A scorer that likes the words of the better side."""
    likes = Counter(word for row in rows for word in row.chosen.split())
    likes.subtract(word for row in rows for word in row.rejected.split())

    def answer(request: Score, chance):
        words = request.answer.split()
        return Scored(ids=tuple(map(len, words)), logprobs=tuple(float(likes[word]) for word in words))

    return Scripted(answer, f"scorer-{digest(*(row.digest for row in rows))}")


RECIPE = {
    "questions": {"method": f"{__name__}:questions"},
    "contrasts": {"method": f"{__name__}:contrasts"},
    "scorer": {"fit": "bounded", "rows": "contrasts"},
    "ranked": {"method": f"{__name__}:ranked"},
    "distinct": {"fold": f"{__name__}:distinct", "rows": "ranked"},
    "answers": {"method": f"{__name__}:answers"},
}
WORDS = ["boat", "star", "moon", "tree", "fish", "kite", "lamp", "drum", "harp", "bell", "rose", "wolf"]
TEXTS = [" ".join(random.Random(i).choices(WORDS, k=16)) for i in range(4)] + ["too short"]
SHOW = Show(RECIPE, lambda: {"policy": Scripted(policy)}, [Sample.of(Prompt.user(text)) for text in TEXTS],
            {"bounded": fitted})  # fmt: skip


def test_plays_the_same_however_it_is_run():
    check(SHOW)


def test_the_tree_ends_and_asks_once_per_inner_node():
    halving = Scripted(lambda request, chance: policy(request, random.Random(0)))
    text = " ".join(random.Random(9).choices(WORDS, k=100))[:500]
    sample = Sample.of(Prompt.user(text))
    played = play(replace(SHOW, players=lambda: {"policy": halving}, samples=[sample],
                          stages={"questions": RECIPE["questions"]}))  # fmt: skip
    contexts = [row.prompt.question for row in played.made[0, "questions"]]
    assert contexts[0] == text and min(map(len, contexts)) > 20
    assert len(contexts) == len(played.asked) <= 2**6 - 1, "five splits deep at most"


def test_the_kept_questions_are_the_greedy_choice():
    played = play(SHOW)
    kept = [row.answer for row in played.made[0, "distinct"]]
    assert all(rouge_l(one, other) <= 0.7 for one, other in itertools.combinations(kept, 2))
    assert played.drops["too like another question"] > 0
    assert len(kept) + played.drops.total() == len(played.made[0, "ranked"])
    assert len(played.made[0, "answers"]) == len(kept)


def test_ranking_before_the_scorer_is_fitted_says_who_is_missing():
    early = {name: stage for name, stage in RECIPE.items() if name != "scorer"}
    with pytest.raises(UserError, match="role 'scorer' is asked but nobody plays it"):
        play(replace(SHOW, stages=early))


def test_rouge_l_of_known_pairs():
    assert rouge_l("a b c d", "a c d e") == pytest.approx(0.75)
    assert rouge_l("a b", "c d") == 0 and rouge_l("a b", "a b") == 1
