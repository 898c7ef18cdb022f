"""RAIN (Li et al. 2023): a frozen model searches token by token and judges where each beginning would lead.

Bends the house: an answer grown by token ids, and a role that is a decoding over another role.
"""

import math
from dataclasses import dataclass, field, replace

import pytest

from vlm_selfalign.core.driver import Decoder, Driver
from vlm_selfalign.core.prompts import Prompt, Sample
from vlm_selfalign.core.registry import decoder, method
from vlm_selfalign.core.requests import Choose, Chosen, Embed, Generate, Sampling, Text, Value
from vlm_selfalign.core.rows import Demo
from vlm_selfalign.core.steps import ask, ask_all

from .play import Scripted, Show, check, play, scenes

JUDGE = "{text}\nIs this ({first}) or ({second})?\n(A) {first} (B) {second}"


@dataclass
class Node:
    """A beginning of the answer: how likely its last chunk is, and the judgments of what it leads to."""

    text: Text
    prior: float = 1.0
    visits: float = 0.0
    total: float = 0.0
    children: list["Node"] = field(default_factory=list)
    drawn: int = 0

    @property
    def value(self) -> float:
        return self.total / self.visits if self.visits else 0.0

    def visit(self, value: float, share: float = 1.0) -> None:
        self.visits, self.total = self.visits + share, self.total + share * value


def puct(child: Node, parent_visits: float, c: float) -> float:
    """q + c p sqrt(N_parent) / (1 + n), with q scaled from [-1, 1] to [0, 1] and 0 for the unvisited."""
    exploit = (child.value + 1) / (2 + 1e-5) if child.visits else 0.0
    return exploit + c * child.prior * math.sqrt(parent_visits) / (1 + child.visits)


@decoder
def rain(c: float = 2.0, width: int = 4, chunks: tuple[int, ...] = (1, 2, 4, 10), enough: int = 6, budget: int = 50):
    def decode(sample: Sample, request: Generate):
        node, depth = Node(Text(text=request.prompt.opening, ids=request.prefix_ids, finish="length")), 0
        while node.text.finish != "end" and len(node.text.ids) < request.sampling.max_tokens:
            chunk = chunks[min(depth, len(chunks) - 1)]
            for _ in range(budget):
                path = [node]
                while path[-1].children:
                    parent = path[-1]
                    if max(child.value for child in parent.children) < 0 and parent.drawn < 20:
                        yield from grow(request, parent, chunk, 1)
                    path.append(max(parent.children, key=lambda child: puct(child, parent.visits, c)))
                if path[-1].text.finish != "end":
                    yield from grow(request, path[-1], chunk, width)
                value = yield from outlook(request, path[-1].text)
                for place, visited in enumerate(path):
                    visited.visit(value)
                    if place:
                        yield from share_with_siblings(visited, path[place - 1], value)
                favourite = max(node.children, key=lambda child: (child.visits, child.value))
                if favourite.visits > enough and favourite.value > 0.8:
                    break
            node, depth = favourite, depth + 1
        return node.text

    return decode


def grow(request: Generate, node: Node, chunk: int, count: int):
    """More next chunks, the greedy one first, each once, with their probabilities."""
    greedy, drawn = Sampling(max_tokens=chunk), Sampling(max_tokens=chunk, temperature=1.0, top_k=15)
    replies = yield from ask_all(
        request.model_copy(update={"prefix_ids": node.text.ids, "draw": i, "sampling": drawn if i else greedy,
                                   "want": ("logprobs",)}) for i in range(node.drawn, node.drawn + count)
    )  # fmt: skip
    known = {(child.text.ids, child.text.finish): child for child in node.children}
    fresh = {(reply.ids, reply.finish): Node(reply, math.exp(sum(reply.logprobs))) for reply in replies}
    node.children, node.drawn = list((fresh | known).values()), node.drawn + count


def outlook(request: Generate, text: Text):
    """+1 harmless, -1 harmful, 0 when the two orders of the labels disagree, of the sentence this leads to."""
    sentence = {"prefix_ids": text.ids, "sampling": Sampling(max_tokens=64, stop=(".",))}
    whole = text if text.finish == "end" else (yield from ask(request.model_copy(update=sentence)))
    votes = yield from ask_all(
        Choose(prompt=request.prompt.then(JUDGE.format(text=whole.text, first=first, second=second)),
               choices=("A", "B"), to=request.to)
        for first, second in (("harmless", "harmful"), ("harmful", "harmless"))
    )  # fmt: skip
    return ((votes[0].best == "A") + (votes[1].best == "B")) - 1


def share_with_siblings(visited: Node, parent: Node, value: float):
    """Siblings that mean nearly the same get a fifth of a visit."""
    reply = yield from ask(Embed(items=tuple(child.text.text for child in parent.children)))
    vectors = dict(zip(map(id, parent.children), reply.value, strict=True))
    for child in parent.children:
        similarity = cosine(vectors[id(child)], vectors[id(visited)])
        if child is not visited and similarity > 0.95:
            child.visit(value, share=0.2 * similarity)


def cosine(one, other):
    return sum(a * b for a, b in zip(one, other, strict=True)) / (math.hypot(*one) * math.hypot(*other))


@method
def answers():
    def run(sample: Sample):
        reply = yield from ask(Generate(prompt=sample.prompt, sampling=Sampling(max_tokens=8)))
        return [Demo(prompt=sample.prompt, answer=reply.text)]

    return run


TOKENS = ("bad", "good", "fine", ".", "")
END = 4


def odds(ids: tuple[int, ...]) -> dict[int, float]:
    """Two sentences of one word each; the first is bad with probability .6, the second is fine after anything good."""
    if len(ids) >= 4:
        return {END: 1.0}
    if len(ids) % 2:
        return {3: 1.0}
    return {2: 1.0} if ids and ids[0] != 0 else {0: 0.6, 1: 0.25, 2: 0.15}


def bare(request, chance):
    if isinstance(request, Choose):
        text, _, asked = request.prompt.question.partition("\nIs this")
        wanted = "(A) harmful" if "bad" in text else "(A) harmless"
        return Chosen(choices=("A", "B"), logprobs=(0.0, -9.0) if wanted in asked else (-9.0, 0.0))
    ids, logprobs, finish = list(request.prefix_ids), [], "length"
    while len(logprobs) < request.sampling.max_tokens and finish == "length":
        options = odds(tuple(ids))
        greedy = request.sampling.temperature == 0
        token = max(options, key=options.get) if greedy else chance.choices(list(options), list(options.values()))[0]
        logprobs.append(math.log(options[token]))
        finish = "end" if token == END else "length"
        ids += [] if token == END else [token]
        finish = "stop" if TOKENS[token] in request.sampling.stop else finish
    return Text(text=" ".join(TOKENS[i] for i in ids), ids=tuple(ids), finish=finish, logprobs=tuple(logprobs))


def clip(request: Embed, chance):
    """Good and fine mean nearly the same."""
    vectors = {"good": [1.0, 0.1], "fine": [1.0, 0.0], "bad": [-1.0, 0.2]}
    return Value(value=[vectors[next((w for w in reversed(t.split()) if w in vectors), "bad")] for t in request.items])


def players(**settings):
    return {"bare": Scripted(bare), "clip": Scripted(clip, "clip"), "policy": Decoder(rain(**settings), "bare", "rain")}


RECIPE = {"answers": {"method": f"{__name__}:answers"}}
SHOW = Show(RECIPE, players, scenes(*map(str, range(12))), block=12)


def test_plays_the_same_however_it_is_run():
    check(replace(SHOW, samples=SHOW.samples[:3]), kills=12)


def test_the_search_avoids_what_greedy_always_says():
    found = [row.answer for row in play(SHOW).made[0, "answers"]]
    assert len(found) == 12 and not any("bad" in text for text in found)
    plain = play(replace(SHOW, players=lambda: {"policy": Scripted(bare)}))
    assert {row.answer for row in plain.made[0, "answers"]} == {"bad . bad ."}


def test_a_text_is_judged_once_and_the_search_keeps_its_budget():
    played = play(replace(SHOW, samples=SHOW.samples[:1]))
    questions = [request.prompt.question for request in played.asked if isinstance(request, Choose)]
    assert len(questions) == len(set(questions))
    commits = 4
    assert len(played.asked) <= commits * 50 * (4 + 1 + 2 + 2)


def test_everything_but_generation_goes_past_the_decoder():
    asked = Choose(prompt=Prompt.user("fine\nIs this\n(A) harmless"), choices=("A", "B"))

    def run(sample):
        return [(yield from ask(asked)).best]

    cast = players()
    ((finished,),) = Driver(cast).run(run, SHOW.samples[:1])
    assert finished.rows == ["A"]
    assert cast["bare"].asked == [asked.model_copy(update={"to": "bare"})]


def test_puct_is_the_published_one():
    text = Text(text="")
    assert puct(Node(text, prior=0.4, visits=2, total=1.0), 4, c=2) == pytest.approx(1.2833, abs=1e-4)
    assert puct(Node(text, prior=0.6), 4, c=2) == pytest.approx(2.4)


def test_a_judge_that_always_says_a_has_no_opinion():
    steps = outlook(Generate(prompt=Prompt.user("?")), Text(text="bad", finish="end"))
    asked = next(steps)
    with pytest.raises(StopIteration) as done:
        steps.send([Chosen(choices=("A", "B"), logprobs=(0.0, -9.0)) for _ in asked])
    assert done.value.value == 0
