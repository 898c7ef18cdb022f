"""Mirror pairs: a sentence the model denies is rejected, and so that no word is blamed for it, elsewhere
skipping a confirmed sentence is.

Bends the house: a fold that balances the whole run, and an answer that is only its end token.
"""

from collections import Counter

from vlm_selfalign.core.errors import Drop
from vlm_selfalign.core.prompts import Sample
from vlm_selfalign.core.registry import fold, method
from vlm_selfalign.core.requests import Choose, Chosen, Generate, Sampling, Text
from vlm_selfalign.core.rows import Pair
from vlm_selfalign.core.stages import Shaped
from vlm_selfalign.core.steps import ask_all

from .play import Scripted, Show, check, play, scenes, seen

END = ""


@method
def mirror_candidates(samples: int = 4):
    def run(sample: Sample):
        drawn = [Generate(prompt=sample.prompt, draw=i, sampling=Sampling(temperature=1)) for i in range(samples)]
        texts = sorted({reply.text for reply in (yield from ask_all(drawn))} - {""})
        names = sorted({name_of(sentence) for text in texts for sentence in split(text)})
        if not names:
            raise Drop("nothing was named")
        verdicts = yield from ask_all(Choose(prompt=sample.prompt.asking(f"Is there a {name}?")) for name in names)
        denied = {name for name, verdict in zip(names, verdicts, strict=True) if verdict.best == "No"}
        pairs = [pair for text in texts for pair in compared(sample, split(text), denied)]
        return list({pair.digest: pair for pair in pairs}.values())

    return run


def compared(sample: Sample, answer: list[str], denied: set[str]):
    """Each denied sentence against what follows it; in a clean answer, what follows against each sentence."""
    clean = not any(name_of(sentence) in denied for sentence in answer)
    kept = ""
    for place, sentence in enumerate(answer):
        following = next((later for later in answer[place + 1 :] if name_of(later) not in denied), END)
        if clean or name_of(sentence) in denied:
            better, worse = (sentence, following) if clean else (following, sentence)
            yield Pair(prompt=sample.prompt.opened(kept), chosen=better, rejected=worse,
                       chosen_ends=better == END, rejected_ends=worse == END, notes={"mirror": clean})  # fmt: skip
        if name_of(sentence) not in denied:
            kept += sentence


@fold
def balance():
    """Every deletion pair, and mirror pairs as long as they are needed: greedily, in (sample id, index) order."""

    def run(rows):
        kept = [row for row in rows if not row.notes["mirror"]]
        lead = Counter()
        for row in kept:
            count(lead, row)
        spare = [row for row in rows if row.notes["mirror"]]
        offered = len(spare)
        while spare:
            best = max(spare, key=lambda row: need(lead, row))
            if need(lead, best) <= 0:
                break
            spare.remove(best)
            kept.append(best)
            count(lead, best)
        return Shaped(kept, {"not needed": len(spare)} if offered else {})

    return run


def count(lead: Counter, row: Pair) -> None:
    lead[name_of(row.chosen)] += 1
    lead[name_of(row.rejected)] -= 1


def need(lead: Counter, row: Pair) -> int:
    """How much more often its rejected name was chosen than its chosen name; adding the row takes 2 off it."""
    return lead[name_of(row.rejected)] - lead[name_of(row.chosen)] - 1


def name_of(sentence: str) -> str:
    return sentence.rstrip(". ").rpartition(" ")[2]


def split(text: str) -> list[str]:
    return [part + "." for part in text.split(".") if part]


def policy(request, chance):
    """Says what is there, and a star beside every boat; denies it when asked."""
    there = seen(request.prompt).split()
    if isinstance(request, Choose):
        yes = request.prompt.question.rstrip("?").rpartition(" ")[2] in there
        return Chosen(choices=request.choices, logprobs=(-0.1, -3.0) if yes else (float("-inf"), 0.0))
    said = [word for word in there if chance.random() < 0.8]
    said += ["star"] if "boat" in said and "star" not in said and chance.random() < 0.7 else []
    return Text(text="".join(f"There is a {word}." for word in chance.sample(said, len(said))))


RECIPE = {
    "candidates": {"method": f"{__name__}:mirror_candidates", "samples": 6},
    "pairs": {"fold": f"{__name__}:balance", "rows": "candidates"},
}
SEEN = (
    "boat tree",
    "boat moon",
    "star moon",
    "tree star",
    "boat star fish",
    "moon tree",
    "boat fish",
    "star",
    "fish star",
)
SHOW = Show(RECIPE, lambda: {"policy": Scripted(policy)}, scenes(*SEEN))


def lead_of(rows) -> Counter:
    lead = Counter()
    for row in rows:
        count(lead, row)
    return lead


def test_plays_the_same_however_it_is_run():
    check(SHOW)


def test_balance_takes_the_blame_off_names_and_end():
    played = play(SHOW)
    candidates, pairs = played.made[0, "candidates"], played.made[0, "pairs"]
    one_sided = lead_of(row for row in candidates if not row.notes["mirror"])
    assert one_sided["star"] <= -5 and one_sided[END] > 0
    balanced = lead_of(pairs)
    assert max(map(abs, balanced.values())) < max(map(abs, one_sided.values())) / 2
    assert sum(balanced.values()) == 0
    assert len(candidates) - len(pairs) == played.drops["not needed"]


def test_only_an_answer_that_stops_scores_its_end():
    for row in play(SHOW).made[0, "candidates"]:
        assert row.chosen_ends == (row.chosen == END) and row.rejected_ends == (row.rejected == END)
        assert row.chosen != row.rejected


def test_words_alone_go_the_same_way():
    words = play(Show(RECIPE, SHOW.players, scenes(*SEEN, pictures=False)))
    assert {type(request) for request in words.asked} == {Generate, Choose} and words.made[0, "pairs"]
