"""Recipes as mappings: what is understood, and what each mistake says."""

import pytest

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.registry import fold, method
from vlm_selfalign.core.stages import parse_stages


@method
def describe(samples: int = 1):
    def run(sample):
        return []

    return run


@method
def pairs(rate: float = 0.2, names: tuple[str, ...] = ()):
    def run(sample, describe, graph):
        return []

    return run


@fold
def graph(most: int = 10):
    def run(rows):
        return {}

    return run


@fold
def weighed():
    def run(rows, graph):
        return rows

    return run


HERE = __name__
RECIPE = {
    "describe": {"method": f"{HERE}:describe", "samples": 2},
    "graph": {"fold": f"{HERE}:graph", "rows": "describe"},
    "pairs": {"method": f"{HERE}:pairs", "rate": {"per_round": [0.4, 0.2]}, "in_rounds": [0, 2]},
    "policy": {"fit": "dpo", "rows": "pairs", "beta": 0.1},
}


def test_a_recipe_is_read_in_order():
    stages = parse_stages(RECIPE)
    assert [(s.name, s.kind) for s in stages] == [
        ("describe", "method"), ("graph", "fold"), ("pairs", "method"), ("policy", "fit")]  # fmt: skip
    assert [s.reads for s in stages[:3]] == [(), ("describe",), ("describe", "graph")]
    assert stages[3].rows == ("pairs",) and stages[3].role == "policy"
    assert stages[3].settings == {"loss": "dpo", "beta": 0.1}


def test_settings_per_round_repeat_the_last():
    stage = parse_stages(RECIPE)[2]
    assert [stage.at(number)["rate"] for number in range(4)] == [0.4, 0.2, 0.2, 0.2]
    assert [stage.runs_in(number) for number in range(4)] == [True, False, True, False]


def test_a_fit_may_train_another_role_than_its_name():
    stages = parse_stages(RECIPE | {"warm": {"fit": "sft", "rows": "describe", "role": "judge"}})
    assert stages[-1].role == "judge"


def test_a_fold_may_read_several_stages_and_values():
    stages = parse_stages(RECIPE | {"all": {"fold": f"{HERE}:weighed", "rows": ["pairs", "describe"]}})
    assert stages[-1].rows == ("pairs", "describe") and stages[-1].reads == ("pairs", "describe", "graph")


def test_the_key_knows_name_round_settings_and_what_else_is_given():
    stage = parse_stages(RECIPE)[2]
    same = parse_stages(RECIPE)[2]
    other = parse_stages(RECIPE | {"pairs": RECIPE["pairs"] | {"names": ["a"]}})[2]
    spelled_out = parse_stages(RECIPE | {"pairs": RECIPE["pairs"] | {"names": []}})[2]
    assert stage.key(0, "m") == same.key(0, "m") == spelled_out.key(0, "m")
    assert len({stage.key(0, "m"), stage.key(1, "m"), stage.key(0, "n"), other.key(0, "m")}) == 4


def test_having_adds_settings():
    stage = parse_stages(RECIPE)[0]
    assert stage.having(samples=5).at(0) == {"samples": 5} and stage.at(0) == {"samples": 2}


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ({}, "stages: a recipe needs at least one stage"),
        ({"on": {"method": f"{HERE}:describe"}}, "stages.on: a stage's name must be a plain word"),
        ({True: {"method": f"{HERE}:describe"}}, "stages.True: a stage's name must be a plain word"),
        ({"a b": {"method": f"{HERE}:describe"}}, "stages.a b: a stage's name must be a plain word"),
        ({"x": "describe"}, r"stages.x: expected a mapping like \{method: describe\}, got 'describe'"),
        ({"x": {"samples": 1}}, r"stages.x: needs exactly one of method, fold or fit, has none"),
        ({"x": {"method": f"{HERE}:describe", "fit": "dpo"}}, r"needs exactly one of .*has \['method', 'fit'\]"),
        ({"x": {"method": f"{HERE}:describe", "smples": 1}}, r"stages.x.smples: unknown key; did you mean 'samples'\?"),
        ({"x": {"method": f"{HERE}:describe", "samples": "few"}}, "stages.x.samples: input should be a valid integer"),
        (
            {"x": {"method": f"{HERE}:describe", "in_rounds": 0}},
            r"stages.x.in_rounds: expected a list of round numbers",
        ),
        ({"x": {"method": f"{HERE}:describe", "in_rounds": [-1]}}, r"stages.x.in_rounds: expected a list"),
        ({"x": {"method": f"{HERE}:missing"}}, "stages.x.method: cannot load method"),
        ({"x": {"fold": f"{HERE}:graph"}}, "stages.x: a fold needs 'rows', the name of an earlier stage"),
        ({"x": {"fit": "dpo"}}, "stages.x: a fit needs 'rows'"),
        ({"x": {"fit": "dpo", "rows": "pars"}}, "stages.x.rows: no earlier stage called 'pars'"),
        ({"x": {"method": f"{HERE}:pairs"}}, "stages.x: reads the stage 'describe', which no earlier stage provides"),
        ({"x": {"method": f"{HERE}:describe", "samples": {"per_round": []}}}, "stages.x: per_round needs a list"),
        ({"x": {"method": f"{HERE}:describe", "samples": {"per_round": 3}}}, "stages.x: per_round needs a list"),
        ({"x": {"method": f"{HERE}:describe", "samples": {"per_round": [1, "few"]}}}, "stages.x.samples: input should"),
    ],
)
def test_mistakes_name_their_address(stages, message):
    with pytest.raises(UserError, match=message):
        parse_stages(stages)


def test_stages_may_only_read_what_came_before():
    shuffled = {name: RECIPE[name] for name in ("describe", "pairs", "graph")}
    with pytest.raises(UserError, match=r"stages.pairs: reads the stage 'graph', which no earlier stage provides"):
        parse_stages(shuffled)
