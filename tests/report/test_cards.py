"""Cards have a valid header and the same numbers as the page."""

from __future__ import annotations

from pathlib import Path

import yaml

from vlm_selfalign.report.cards import data_card, model_card

from . import made


def parts(card: str) -> tuple[dict, str]:
    assert card.startswith("---\n")
    header, body = card.removeprefix("---\n").split("\n---\n", 1)
    return yaml.safe_load(header), body


def test_model_card(finished: Path) -> None:
    header, body = parts(model_card(finished))
    assert header["pipeline_tag"] == "image-text-to-text" and "base_model" not in header
    (result,) = header["model-index"][0]["results"]
    assert {metric["type"]: metric["value"] for metric in result["metrics"]}["chair_i"] == 0.031
    assert "lower than the untrained envelope" in body and "| Recall | 98.5 % [97.8, 99.2] |" in body
    assert "synthetic world, nothing more" in body and "fit: span_dpo" in body
    assert model_card(finished) == (finished / "model_card.md").read_text()


def test_data_card(finished: Path) -> None:
    header, body = parts(data_card(finished))
    assert header["size_categories"] == ["n<1K"]
    assert {"config_name": "pairs", "data_files": ["rounds/0/pairs.jsonl"]} in header["configs"]
    assert "| 0 | pairs (trained on) | pair | 60 |" in body and "1,712 pairs" in body


def test_cards_of_a_run_that_has_only_begun(tmp_path: Path) -> None:
    config = {
        **made.CONFIG,
        "model": {"path": "org/model", "lora": {"r": 8}},
        "roles": {"judge": {"path": "org/judge"}},
    }
    folder = made.write_run(tmp_path, {}, config)
    header, body = parts(model_card(folder))
    assert header["base_model"] == "org/model" and header["library_name"] == "peft" and "model-index" not in header
    assert "Nothing has been measured" in body and "judge `org/judge`" in body
    assert "not audited" in parts(data_card(folder))[1]
