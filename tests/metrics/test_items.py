from vlm_selfalign.metrics.items import Item, Measure


def test_the_value_is_a_ratio_of_sums_never_a_mean_of_ratios():
    measure = Measure.of("m", [Item("a", 1, 1), Item("b", 0, 3)])
    assert measure.value == 0.25


def test_nothing_to_count_has_no_value():
    assert Measure.of("m", []).value is None
    assert Measure.of("m", [Item("a", 0, 0)]).value is None


def test_sums_per_cluster():
    measure = Measure.of("m", [Item("b", 1, 2), Item("a", 1, 1), Item("b", 0, 2)])
    num, den = measure.sums(measure.clusters)
    assert measure.clusters == ("a", "b")
    assert num.tolist() == [1, 1]
    assert den.tolist() == [1, 4]


def test_it_survives_the_disk():
    measure = Measure.of("m", [Item("a", 1, 2)], lower_is_better=True, protocol="strict")
    assert Measure.model_validate_json(measure.model_dump_json()) == measure
