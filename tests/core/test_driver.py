"""The driver: who is asked what, with whom in a batch, by which chance, and what a crash costs."""

import random
import time
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_selfalign.core.driver import Decoder, Driver, Forgetful
from vlm_selfalign.core.errors import Drop, Interrupted, RequestFailed, TryAgain, UserError
from vlm_selfalign.core.media import Media
from vlm_selfalign.core.prompts import Prompt, Sample
from vlm_selfalign.core.requests import Choose, Chosen, Failed, Generate, Sampling, Text
from vlm_selfalign.core.steps import ask, ask_all, together

DRAWN = Sampling(temperature=1.0)


class Player:
    """Echoes the question (and the first digits of its chance, if the request draws); keeps its batches."""

    def __init__(self, identity="player", batch_size=4, fails=()):
        self.identity, self.batch_size, self.fails = identity, batch_size, fails
        self.batches = []

    @property
    def asked(self):
        return [request for batch in self.batches for request in batch]

    def serve(self, requests, seeds):
        self.batches.append(list(requests))
        return [self.answer(request, seed) for request, seed in zip(requests, seeds, strict=True)]

    def answer(self, request, seed):
        if request.prompt.question in self.fails:
            return Failed(reason="too long")
        if isinstance(request, Choose):
            return Chosen(choices=request.choices, logprobs=(0.0, -1.0))
        chance = f" {seed % 1000}" if request.draws else ""
        return Text(text=f"{request.prompt.question}{chance}")


class Kept:
    """A memory that may fail when it should write."""

    def __init__(self):
        self.known = defaultdict(dict)
        self.batches = 0
        self.raises_at = None

    def replies(self, sample_id):
        return self.known[sample_id]

    def remember(self, batch):
        if self.batches == self.raises_at:
            raise OSError("disk full")
        self.batches += 1
        for sample_id, key, reply in batch:
            self.known[sample_id][key] = reply


def samples(count):
    return [Sample(id=f"s{i}", prompt=Prompt.user(f"q{i}"), seed=11) for i in range(count)]


def one(method, services, memory=None, sample=None):
    """What becomes of a single sample."""
    (outcome,) = Driver(services, memory).run_block(method, [sample or samples(1)[0]])
    return outcome


def said(sample, text, **more):
    return Generate(prompt=sample.prompt.asking(text), **more)


# What is asked, and once


def test_the_same_question_at_once_or_later_is_put_once():
    player = Player()

    def run(sample):
        first, again = yield from ask_all([said(sample, "a"), said(sample, "a")])
        later = yield from ask(said(sample, "a"))
        beside = yield from together(ask(said(sample, "a")), ask(said(sample, "b")))
        return [reply.text for reply in (first, again, later, *beside)]

    assert one(run, {"policy": player}).rows == ["a", "a", "a", "a", "b"]
    assert len(player.asked) == 2


def test_equal_players_share_replies_under_any_role():
    policy, judge, other = Player("m"), Player("m"), Player("n")

    def run(sample):
        replies = yield from ask_all(said(sample, "a", to=role) for role in ("policy", "judge", "other"))
        return [reply.text for reply in replies]

    assert one(run, {"policy": policy, "judge": judge, "other": other}).rows == ["a", "a", "a"]
    assert len(policy.asked) + len(judge.asked) == 1 and len(other.asked) == 1


def test_a_renamed_role_pays_nothing_again():
    memory, later = Kept(), Player("m")
    one(lambda sample: ask_all([said(sample, "a", to="judge")]), {"judge": Player("m")}, memory)
    one(lambda sample: ask_all([said(sample, "a", to="critic")]), {"critic": later}, memory)
    assert later.asked == []


def test_replies_belong_to_their_sample():
    player = Player()
    same = Prompt.user("same")

    def run(sample):
        return [(yield from ask(Generate(prompt=same, sampling=DRAWN))).text]

    outcomes = Driver({"policy": player}).run_block(run, samples(2))
    assert len(player.asked) == 2 and outcomes[0].rows != outcomes[1].rows


def test_draws_differ_and_only_draws_have_chance():
    def run(sample):
        drawn = yield from ask_all(said(sample, "a", draw=i, sampling=DRAWN) for i in range(3))
        greedy = yield from ask_all(said(sample, "a", draw=i) for i in range(3))
        return [[reply.text for reply in replies] for replies in (drawn, greedy)]

    drawn, greedy = one(run, {"policy": Player()}).rows
    assert len(set(drawn)) == 3 and set(greedy) == {"a"}


@pytest.mark.parametrize("sampling", [Sampling(), DRAWN])
def test_a_new_seed_asks_again_only_what_draws(sampling):
    memory, second = Kept(), Player()
    sample = samples(1)[0]

    def run(sample):
        return [(yield from ask(said(sample, "a", sampling=sampling))).text]

    before = one(run, {"policy": Player()}, memory, sample).rows
    after = one(run, {"policy": second}, memory, sample.seeded(11, 1)).rows
    assert (len(second.asked) == 1) == (before != after) == (sampling is DRAWN)


def test_keys_know_content_and_not_paths_roles_or_truth():
    driver = Driver({"policy": Player("m"), "judge": Player("m"), "other": Player("n")})
    here, there, changed = (
        Prompt.user("q", Media(kind="image", uri=uri, content_hash=content))
        for uri, content in (("a.png", "1"), ("b.png", "1"), ("a.png", "2"))
    )
    sample = Sample(id="s", prompt=here)

    def key(prompt=here, to="policy", sample=sample, **more):
        return driver.key(sample, Generate(prompt=prompt, to=to, **more))

    assert key() == key(there) == key(to="judge") == key(sample=sample.model_copy(update={"truth": 1, "seed": 5}))
    prompts = [here, changed, here.opened("The"), here.viewed("noise", 0.5), here.blind()]
    asked = [key(draw=1), key(prefix_ids=(1,)), key(want=("logprobs",)), key(sampling=Sampling(max_tokens=3))]
    others = [key(to="other"), key(sample=sample.model_copy(update={"id": "t"}))]
    assert len({*map(key, prompts), *asked, *others}) == 11


# Odd methods


def test_methods_that_ask_nothing():
    def silent(sample):
        return ["row"]

    def nothing(sample):
        return None

    def empty(sample):
        assert (yield []) == []
        assert (yield from ask_all([])) == []
        assert (yield from together()) == []
        return ["row"]

    def gives_up(sample):
        raise Drop("not today")

    assert one(silent, {}).rows == one(empty, {}).rows == ["row"]
    assert (one(nothing, {}).rows, one(nothing, {}).drop) == ([], None)
    assert one(gives_up, {}).drop == "not today"


def test_a_drop_beside_others_drops_the_sample_and_closes_them():
    closed = []

    def patient(sample):
        try:
            yield from ask(said(sample, "a"))
            yield from ask(said(sample, "b"))
        finally:
            closed.append("patient")

    def hasty(sample):
        yield from ask(said(sample, "a"))
        raise Drop("unparsed")

    outcome = one(lambda sample: together(patient(sample), hasty(sample)), {"policy": Player()})
    assert (outcome.rows, outcome.drop, outcome.error) == ([], "unparsed", None)
    assert closed == ["patient"]


def test_a_bug_costs_its_sample_and_shows_its_traceback():
    def run(sample):
        yield from ask(said(sample, "a"))
        return [1 // (sample.id != "s1")]

    good, bad, fine = Driver({"policy": Player()}).run_block(run, samples(3))
    assert good.rows == fine.rows == [1]
    assert bad.drop == "error: ZeroDivisionError: integer division or modulo by zero"
    assert bad.error and "in run" in bad.error


def test_failures_are_remembered_and_can_be_coped_with():
    memory, later = Kept(), Player(fails=("a",))

    def strict(sample):
        return [(yield from ask(said(sample, "a"))).text]

    def coping(sample):
        try:
            yield from ask(said(sample, "a"))
        except RequestFailed as failed:
            return [failed.reason]

    assert one(strict, {"policy": Player(fails=("a",))}, memory).drop == "too long"
    assert one(coping, {"policy": later}, memory).rows == ["too long"]
    assert later.asked == []


def test_an_unknown_role_is_the_users_mistake_with_the_nearest_name():
    def run(sample):
        return [(yield from ask(said(sample, "a", to="polcy")))]

    with pytest.raises(UserError, match="'polcy' is asked but nobody plays it; did you mean 'policy'"):
        one(run, {"policy": Player()})


def test_a_player_that_loses_replies_is_caught():
    class Lossy(Player):
        def serve(self, requests, seeds):
            return []

    with pytest.raises(RuntimeError, match="role 'policy' gave 0 replies to 1 requests"):
        one(lambda sample: ask_all([said(sample, "a")]), {"policy": Lossy()})


# Decoders


def shout(sample, request):
    answer = yield from ask(request)
    more = yield from ask(request.model_copy(update={"prompt": request.prompt.asking("more")}))
    return Text(text=f"{answer.text.upper()} {more.text.upper()}")


def test_a_decoded_role_is_asked_like_any_other():
    bare = Player()

    def run(sample):
        text, plain, chosen = yield from ask_all(
            [said(sample, "a"), said(sample, "b", to="bare"), Choose(prompt=sample.prompt)]
        )
        return [text.text, plain.text, chosen.best]

    assert one(run, {"policy": Decoder(shout, "bare", "shout"), "bare": bare}).rows == ["A MORE", "b", "Yes"]
    assert {request.to for request in bare.asked} == {"bare"}


def test_decoders_stack():
    def twice(sample, request):
        first, second = yield from ask_all([request, request.model_copy(update={"draw": 1})])
        return Text(text=f"{first.text}/{second.text}")

    cast = {"policy": Decoder(twice, "loud", "twice"), "loud": Decoder(shout, "bare", "shout"), "bare": Player()}

    def run(sample):
        chosen = yield from ask(Choose(prompt=sample.prompt))
        return [chosen.best, (yield from ask(said(sample, "a"))).text]

    assert one(run, cast).rows == ["Yes", "A MORE/A MORE"]


def test_a_decoding_that_gives_up_is_a_request_that_failed():
    def never(sample, request):
        yield from ask(request)
        raise Drop("search found nothing")

    def run(sample):
        fine, failed = yield [said(sample, "a", to="bare"), said(sample, "a")]
        return [fine.text, failed.reason]

    assert one(run, {"policy": Decoder(never, "bare", "never"), "bare": Player()}).rows == ["a", "search found nothing"]


# Batches


def dialogue(sample):
    """Asks one to three things at a time, of two roles and kinds, as often as its own chance says."""
    chance, heard = sample.rng("dialogue"), []
    for turn in range(chance.randint(0, 5)):
        asked = []
        for part in range(chance.randint(1, 3)):
            sampling = chance.choice([DRAWN, Sampling()])
            text = f"{turn} {part} {len(heard)}"
            role = chance.choice(["policy", "judge"])
            kind = chance.random() < 0.3
            asked.append(Choose(prompt=Prompt.user(text), to=role) if kind else
                         Generate(prompt=Prompt.user(text), to=role, sampling=sampling))  # fmt: skip
        heard += [reply.model_dump_json() for reply in (yield from ask_all(asked))]
    if chance.random() < 0.2:
        raise Drop("bad luck")
    return heard


def players(batch_size=4):
    return {"policy": Player("p", batch_size), "judge": Player("j", batch_size + 1)}


def outcomes(cast, memory=None, order=None, block=8):
    found = [f for part in Driver(cast, memory, block=block).run(dialogue, order or samples(20)) for f in part]
    return {f.sample.id: (f.rows, f.drop) for f in found}


def test_batches_are_of_one_role_and_kind_and_no_larger_than_wanted():
    cast = players()
    outcomes(cast)
    for player in cast.values():
        for batch in player.batches:
            assert len({(request.to, type(request)) for request in batch}) == 1
            assert len(batch) <= player.batch_size
    assert max(len(batch) for batch in cast["policy"].batches) == 4


@given(st.randoms(use_true_random=False), st.integers(1, 25), st.integers(1, 9))
@settings(max_examples=25, deadline=None)
def test_outcomes_do_not_depend_on_order_window_or_batch(chance, block, batch_size):
    order = chance.sample(samples(20), 20)
    assert outcomes(players(batch_size), order=order, block=block) == outcomes(players())


def test_killed_anywhere_it_goes_on_with_the_very_batch_it_was_at():
    calm, memory = players(), Kept()
    expected = outcomes(calm, memory)
    for place in range(memory.batches):
        broken, cast = Kept(), players()
        broken.raises_at = place
        with pytest.raises(OSError, match="disk full"):
            outcomes(cast, broken)
        broken.raises_at = None
        lost = sum(len(player.batches) for player in cast.values()) - place
        assert outcomes(cast, broken) == expected and lost == 1
        for role, player in cast.items():
            again = [b for i, b in enumerate(player.batches) if i == 0 or b != player.batches[i - 1]]
            assert again == calm[role].batches


def test_interruptions_between_batches_lose_nothing():
    memory, cast = Kept(), players()
    places = iter(range(100))

    def stop():
        if next(places) in (3, 5):
            raise Interrupted(2)

    def attempt():
        driver = Driver(cast, memory, block=8, between=stop)
        return {f.sample.id: (f.rows, f.drop) for part in driver.run(dialogue, samples(20)) for f in part}

    for _ in range(2):
        with pytest.raises(Interrupted):
            attempt()
    calm = players()
    assert attempt() == outcomes(calm)
    assert [player.batches for player in cast.values()] == [player.batches for player in calm.values()]


def test_a_service_that_is_away_stops_the_run_with_the_rest_kept():
    class Away(Player):
        def serve(self, requests, seeds):
            if len(self.batches) == 2:
                raise TryAgain("endpoint away")
            return super().serve(requests, seeds)

    memory = Kept()
    with pytest.raises(TryAgain):
        outcomes({"policy": Away("p"), "judge": Player("j", 5)}, memory)
    assert memory.batches >= 2
    assert outcomes(players(), memory) == outcomes(players())


def test_blocks_come_as_they_are_done_and_samples_are_not_read_ahead():
    taken = []

    def endless():
        for i in range(10**9):
            taken.append(i)
            yield Sample(id=str(i), prompt=Prompt.user("q"))

    def run(sample):
        return [(yield from ask(Generate(prompt=sample.prompt))).text]

    blocks = Driver({"policy": Player()}, block=3).run(run, endless())
    assert [f.sample.id for f in next(blocks)] == ["0", "1", "2"]
    assert len(taken) == 3
    assert [f.sample.id for f in next(blocks)] == ["3", "4", "5"]


def test_the_driver_counts_calls_and_seconds():
    driver = Driver(players())
    list(driver.run(dialogue, samples(20)))
    cast = driver.services
    assert driver.calls == {role: len(player.asked) for role, player in cast.items()}
    assert {"policy", "judge", "method", "ledger"} <= set(driver.seconds)


def test_a_request_costs_under_200_microseconds():
    class Quick(Player):
        def serve(self, requests, seeds):
            return [Text(text="yes")] * len(requests)

    def run(sample):
        drawn = yield from ask_all(said(sample, "a", draw=i, sampling=DRAWN) for i in range(4))
        yield from ask(said(sample, drawn[0].text))
        return []

    photo = Media(kind="image", uri="a.png", content_hash="ab" * 16)
    many = [Sample(id=str(i), prompt=Prompt.user("Describe the image.", photo)) for i in range(600)]
    costs = []
    for _ in range(3):
        driver, start = Driver({"policy": Quick(batch_size=32)}, Forgetful()), time.process_time()
        list(driver.run(run, many))
        costs.append((time.process_time() - start) / driver.calls["policy"])
    assert min(costs) < 200e-6


def test_order_of_asking_is_the_order_of_replies():
    def run(sample):
        texts = [str(i) for i in range(17)]
        random.Random(0).shuffle(texts)
        replies = yield from ask_all(said(sample, text, to=("policy", "judge")[int(text) % 2]) for text in texts)
        return [[reply.text for reply in replies] == texts]

    assert one(run, players()).rows == [True]
