"""Mirror pairs: who is chosen against whom, and that nothing is blamed one-sidedly."""

from collections import Counter

from vlm_selfalign.core.driver import Driver
from vlm_selfalign.core.media import Media
from vlm_selfalign.core.prompts import Prompt, Sample
from vlm_selfalign.core.requests import Choose
from vlm_selfalign.core.rows import Origin, Pair
from vlm_selfalign.methods.mirror import END, balance, mirror_candidates
from vlm_selfalign.models.scripted import Scripted

PROMPT = Prompt.user("Describe the image.", Media(kind="image", uri="photo.png", content_hash="00"))
SAMPLE = Sample.of(PROMPT).seeded(0, 0)
TRUE = {"boat": "red", "car": "blue", "cup": "white"}


def model(*texts):
    """Writes the texts as its draws, and answers about them by the truth."""

    def answer(request):
        if not isinstance(request, Choose):
            return texts[request.draw % len(texts)]
        kind = next((word for word in ("boat", "fish", "car", "cup") if word in request.prompt.question), "")
        if "Yes" in request.choices:
            return {"Yes": 0.99, "No": 0.01} if kind in TRUE else {"Yes": 0.01, "No": 0.99}
        return {colour: 0.9 if colour == TRUE.get(kind) else 0.02 for colour in request.choices}

    return Scripted(answer)


def candidates(*texts, **settings):
    run = mirror_candidates(samples=len(texts), vocabulary="world", **settings)
    (finished,) = Driver({"policy": model(*texts)}).run_block(run, [SAMPLE])
    assert not finished.error, finished.error
    return finished


def test_a_denied_sentence_is_rejected_against_what_follows_it():
    text = "There is a boat in red. There is a fish in blue. There is a car in blue."
    (pair,) = candidates(text).rows
    assert pair.notes["role"] == "deletion"
    assert pair.prompt.opening == "There is a boat in red."
    assert pair.chosen == " There is a car in blue." and pair.rejected == " There is a fish in blue."
    assert not pair.chosen_ends and not pair.rejected_ends


def test_a_denied_last_sentence_is_rejected_against_the_end():
    (pair,) = candidates("There is a boat in red. There is a fish in blue.").rows
    assert pair.chosen == "" and pair.chosen_ends and pair.notes["chosen"] == END


def test_clean_text_gives_mirror_pairs_that_reject_skipping():
    pairs = candidates("There is a boat in red. There is a car in blue.").rows
    assert [pair.notes["role"] for pair in pairs] == ["mirror", "mirror"]
    first, last = pairs
    assert (first.prompt.opening, first.chosen, first.rejected) == (
        "",
        "There is a boat in red.",
        "There is a car in blue.",
    )
    assert last.chosen == " There is a car in blue." and last.rejected == "" and last.rejected_ends


def test_the_words_of_a_pair_are_the_models_own():
    text = "There is a boat in red. There is a fish in blue. There is a cup in white."
    (pair,) = candidates(text).rows
    assert pair.prompt.opening + pair.rejected in text


def test_a_repeat_is_rejected_like_a_denied_sentence():
    text = "There is a boat in red. There is a boat in red. There is a car in blue."
    (pair,) = candidates(text).rows
    assert pair.notes["role"] == "repeat"
    assert candidates(text, repeats=False).rows == []


def test_a_sentence_with_another_colour_than_the_own_answer_makes_the_text_unclean():
    assert candidates("There is a boat in green. There is a car in blue.").rows == []
    assert len(candidates("There is a boat in green. There is a car in blue.", colours=False).rows) == 2


def test_no_claims_no_pairs():
    assert candidates("Nothing much to say.").drop == "no claim in any own description"


def row(role, before, chosen, rejected, index=0, sample="s"):
    notes = {"role": role, "before": before, "chosen": chosen, "rejected": rejected}
    return Pair(prompt=PROMPT, chosen=chosen, rejected=rejected, notes=notes, index=index, origin=Origin(sample=sample))


def leads(rows):
    count = Counter()
    for pair in rows:
        count[pair.notes["before"], pair.notes["chosen"]] += 1
        count[pair.notes["before"], pair.notes["rejected"]] -= 1
    return count


def test_balance_evens_out_names_and_the_end():
    denied = [row("deletion", "boat", END, "fish", i) for i in range(10)]
    mirrors = [row("mirror", "boat", "fish", END, i, "t") for i in range(30)]
    shaped = balance()(denied + mirrors)
    assert [pair for pair in shaped.rows if pair.notes["role"] == "deletion"] == denied
    assert max(abs(lead) for lead in leads(shaped.rows).values()) <= 1
    assert shaped.dropped == {"mirror pair not needed for balance": 30 - (len(shaped.rows) - 10)}


def test_balance_counts_names_after_their_previous_name():
    denied = [row("deletion", "boat", END, "fish", i) for i in range(6)]
    elsewhere = [row("mirror", "car", "fish", END, i, "t") for i in range(6)]
    assert len(balance()(denied + elsewhere).rows) == 6
    assert len(balance(given_previous=False)(denied + elsewhere).rows) > 6


def test_balance_does_not_depend_on_the_order_it_is_given():
    rows = [row("deletion", "boat", "car", "fish", i) for i in range(5)]
    rows += [row("mirror", "boat", "fish", "car", i, f"t{i % 3}") for i in range(9)]
    one = {pair.id for pair in balance()(rows).rows}
    assert one == {pair.id for pair in balance()(sorted(rows, key=lambda pair: pair.id)).rows}
