"""Which part of the run a step belongs to, and what its pictures are asked."""

from vlm_selfalign.core.seeds import rng
from vlm_selfalign.data.world.scenes import scene
from vlm_selfalign.graft.language import EARLY, FIRST, SECOND, dials_of, leg_at
from vlm_selfalign.graft.lessons import exchanges


def test_legs_follow_one_another():
    legs = [leg_at(step, 200) for step in range(300)]
    assert legs == [EARLY] * 50 + [FIRST] * 150 + [SECOND] * 100


def test_the_second_leg_asks_for_more_colours():
    def asked(leg):
        found = [
            exchanges(scene(n, "train", 0, dials_of(n)), dials_of(n), rng("legs", n), leg.describe, colours=leg.colours)
            for n in range(60)
        ]
        return sum(one.question.startswith("What colour") for row in found for one in row) / len(found)

    assert 1 <= asked(FIRST) <= 2 < asked(SECOND) <= 4
    assert SECOND.colour_weight > FIRST.colour_weight == 1
