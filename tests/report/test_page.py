"""The page is whole in one file, escapes what models wrote, and leaves out what a run has not."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.media import Media
from vlm_selfalign.core.prompts import Prompt
from vlm_selfalign.core.rows import Origin, Pair
from vlm_selfalign.report.numbers import MINUS
from vlm_selfalign.report.page import write_page

from . import made

Page = Callable[[Path], str]
VOID = {"meta", "img", "br", "hr", "input", "link"}


class Elements(HTMLParser):
    """All elements with their attributes; balanced tags are checked on the way."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def test_page_is_one_small_file(finished: Path) -> None:
    path = finished / "report.html"
    assert path.stat().st_size < 3_000_000
    elements = Elements(path.read_text()).found
    for tag, attributes in elements:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form")
        for name in ("src", "href", "xlink:href", "srcset", "poster", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:image/", "#")), (tag, name, value)
    assert sum(tag == "img" for tag, _ in elements) == 24 + 6
    page = path.read_text()
    assert "@import" not in page
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", page))
    assert "http:" not in page and "https:" not in page


def test_anchors_and_plot_references_exist_once(finished: Path) -> None:
    page = (finished / "report.html").read_text()
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="|url\()#([\w-]+)', page)) <= set(ids)


def test_plots_take_the_colours_of_the_page(finished: Path) -> None:
    page = (finished / "report.html").read_text()
    plots = re.findall(r"<svg.*?</svg>", page, flags=re.S)
    assert len(plots) == 4
    declared = set(re.findall(r"(--[\w-]+):", page))
    for plot in plots:
        used = set(re.findall(r"var\((--[\w-]+)\)", plot))
        assert "--ink" in used and used <= declared
        assert set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", plot)) == set()


def test_numbers_and_honest_sentences(finished: Path) -> None:
    text = Elements((finished / "report.html").read_text()).text.replace(MINUS, "-")
    assert "9.6 %" in text and "[8.2, 11.0]" in text and "3.1 %" in text
    assert "lower than the untrained envelope at the same recall: difference -6.4 points [-7.5, -5.2]" in text
    assert "untrained envelope at the same recall (97.6 %)" in text
    assert "for 4.9 model calls and 0.071 s per picture instead of 1.0 and 0.018 s" in text
    assert "training does not reach that: +2.5 points" in text
    assert "3,128" in text and "mirror pair not needed for balance" in text
    assert "before, cut after 3 sentences" in text and "policy generate" in text
    assert "synthetic world, nothing more" in text


HOSTILE = '<script>alert(1)</script><img src=x onerror="alert(2)"> & "quoted" </p></article>\ud800\x00 ${x} {{ 7 * 7 }}'


def test_hostile_texts_stay_text(tmp_path: Path, page_of: Page) -> None:
    missing = Media(kind="image", uri='x" onerror="alert(3).png', content_hash="0" * 32)
    row = Pair(
        origin=Origin(sample=HOSTILE, stage="pairs"),
        prompt=Prompt.user(HOSTILE, missing).opened(HOSTILE),
        chosen=HOSTILE + " yes",
        rejected=HOSTILE + " no",
        notes={"role": HOSTILE, "<b>": HOSTILE},
    )
    other = row.model_copy(update={"notes": {"role": "two"}, "index": 1})
    config: dict[str, Any] = {**made.CONFIG, "name": HOSTILE, "about": HOSTILE, "model": {"path": HOSTILE}}
    folder = made.write_run(tmp_path / "run", {"pairs": [row, other]}, config)
    metrics = made.metrics(captions=1)
    metrics["captions"]["start"]["t0"] = HOSTILE
    metrics["arms"][0]["title"] = HOSTILE
    metrics["audit"]["names"][0]["name"] = HOSTILE
    metrics["seconds"] = {HOSTILE: 1.0}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "drops.jsonl").write_text(json.dumps({"round": 0, "stage": HOSTILE, "reason": HOSTILE, "count": 1}))
    page = Elements(page_of(folder))
    assert [tag for tag, _ in page.found].count("script") == 1
    assert not any(name.startswith("on") for _, attributes in page.found for name in attributes)
    assert all((attributes.get("src") or "data:").startswith("data:") for _, attributes in page.found)
    assert page.text.count("<script>alert(1)</script>") > 8
    assert "{{ 7 * 7 }}" in page.text
    for card in ("model_card.md", "data_card.md"):
        header, body = (folder / card).read_text().removeprefix("---\n").split("\n---\n", 1)
        assert "<script>" not in body.split("## Settings")[0], card
        assert header


def test_only_run_json(tmp_path: Path, page_of: Page) -> None:
    page = Elements(page_of(made.write_run(tmp_path, {})))
    for sentence in ("Nothing has been measured yet", "No training log", "No pairs were audited", "No rows yet",
                     "Nothing was dropped", "No times were kept", "No answers were kept"):  # fmt: skip
        assert sentence in page.text
    assert not any(tag in ("svg", "img", "script") for tag, _ in page.found)


def test_half_a_run_says_where_it_is(tmp_path: Path, page_of: Page) -> None:
    folder = made.write_run(tmp_path, {"pairs": made.mirror_pairs(3)})
    made.write_log(folder, steps=1, role="policy.work")
    (folder / "rounds" / "0" / "policy.work" / "log.jsonl").open("a").write('{"step": 2, "lo')
    state = {"round": 0, "stage": "policy", "done": 1, "total": 300, "time": 0.0}
    (folder / "progress.json").write_text(json.dumps(state))
    text = Elements(page_of(folder)).text
    assert "round 0, policy: 1 of 300" in text
    assert "round 0, policy, 1 steps" in text and "Still training, or stopped on the way" in text


def test_text_only_run_without_truth(tmp_path: Path, page_of: Page) -> None:
    prompt = Prompt.user("Why is the sky blue?")
    pair = Pair(origin=Origin(sample="q", stage="pairs"), prompt=prompt, chosen="It scatters.", rejected="It is sad.")
    config = {**made.CONFIG, "data": {"path": "questions.jsonl"}}
    folder = made.write_run(tmp_path, {"pairs": [pair]}, config)
    arms = [
        {"name": name, "kind": name, "measures": {"chair_i": None, "length": made.estimate(length, 1.5)}}
        for name, length in (("start", 30.0), ("trained", 28.0))
    ]
    metrics = {"schema": 1, "samples": 20, "primary": "chair_i", "arms": arms, "differences": [], "envelope": None,
               "audit": None, "captions": None, "seconds": None}  # fmt: skip
    (folder / "metrics.json").write_text(json.dumps(metrics))
    page = Elements(page_of(folder))
    assert "Hallucination was not measured here" in page.text
    assert "No plot: it needs hallucination and recall" in page.text
    assert "Length" in page.text and "28.0" in page.text
    assert "Why is the sky blue?" in page.text and not any(tag == "img" for tag, _ in page.found)
    assert "synthetic world" not in page.text


@pytest.mark.parametrize("kept", [(), ("arms",), ("arms", "samples", "primary", "media", "seconds")])
def test_any_part_may_be_null_or_missing(kept: tuple[str, ...], tmp_path: Path, page_of: Page) -> None:
    whole = made.metrics(1)
    whole["arms"] = [{**arm, "measures": {"chair_i": arm["measures"]["chair_i"]}} for arm in whole["arms"][:2]]
    folder = made.write_run(tmp_path, {})
    pages = []
    for gone in ({name: None for name in whole if name not in kept}, {}):
        (folder / "metrics.json").write_text(json.dumps({name: whole[name] for name in kept} | gone))
        pages.append(page_of(folder))
    assert pages[0] == pages[1]
    assert ("9.6 %" in Elements(pages[0]).text) == ("arms" in kept)


def test_other_rows_have_cards(tmp_path: Path, page_of: Page) -> None:
    config = {**made.CONFIG, "stages": {"describe": {"method": "describe"}, "warm": {"fit": "sft", "rows": "describe"}}}
    text = Elements(page_of(made.write_run(tmp_path, {"describe": made.demos(2)}, config))).text
    assert "imitate" in text and "There is a" in text


def test_writing_again_gives_the_same_bytes(finished: Path) -> None:
    first = (finished / "report.html").read_bytes()
    assert write_page(finished).read_bytes() == first


def test_wrong_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not a run directory \(no run.json\)"):
        write_page(tmp_path)
    folder = made.write_run(tmp_path, {})
    (folder / "metrics.json").write_text("{")
    with pytest.raises(UserError, match=r"metrics.json: not valid JSON"):
        write_page(folder)
    (folder / "metrics.json").unlink()
    rows = folder / "rounds" / "0" / "pairs.jsonl"
    rows.parent.mkdir(parents=True)
    rows.write_text('{"kind": "pair"}\n')
    with pytest.raises(UserError, match=r"pairs.jsonl: holds a line that is no row"):
        write_page(folder)
