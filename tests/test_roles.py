"""A CLIP model as a role, from YAML: it adjusts the pairs of VideoSAVi's first form; one that is missing is counted."""

import json

import pytest

import vlm_selfalign as sa
from vlm_selfalign.config import ModelSettings
from vlm_selfalign.core.errors import UserError
from vlm_selfalign.roles import Roles


def run(out, clip, *more):
    lines = []
    parts = ["size=smoke", "data.limit=3", "stages.candidates.clip=clip", f"roles.clip.path=open_clip:{clip}"]
    result = sa.run("videosavi_v1", f"out={out}", *parts, *more, show=lines.append, verb="pairs")
    return result, lines


def test_similarities_of_a_role_adjust_the_pairs(clip_folder, tmp_path):
    result, lines = run(tmp_path / "run", clip_folder, "roles.clip.media.frames=4")
    pairs = result.rows("pairs")
    assert "clip: a CLIP model" in lines and pairs
    for pair in pairs:
        best, worst = pair.notes["clip"]
        assert best != worst and pair.margin == pytest.approx(-10 * (best - worst))
        assert pair.notes["own"][0] + 5 * best > pair.notes["own"][1] + 5 * worst


def test_a_missing_model_is_counted_and_makes_no_pair(tmp_path, caplog):
    result, lines = run(tmp_path / "run", tmp_path / "nowhere")
    assert not result.rows("pairs")
    drops = [json.loads(line) for line in (result.folder / "drops.jsonl").read_text().splitlines()]
    (found,) = [drop for drop in drops if "no CLIP model" in drop["reason"]]
    assert found["stage"] == "pairs" and found["count"] >= 3
    assert [line for line in lines if "no CLIP model at" in line and "give a folder" in line]
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len([record for record in warnings if "no CLIP model" in record.getMessage()]) <= 1


def test_a_clip_model_neither_answers_nor_learns(clip_folder, tmp_path):
    with pytest.raises(UserError, match="policy: a CLIP model writes no answers"):
        sa.run("videosavi_v1", f"out={tmp_path}/run", "size=smoke", f"model.path=open_clip:{clip_folder}")


def test_one_service_for_all_its_versions(clip_folder):
    roles = Roles({"clip": ModelSettings(path=f"open_clip:{clip_folder}", batch_size=5)})
    assert roles["clip"] is roles["clip@0"] and roles["clip"].batch_size == 5
    roles.release()
    assert roles.identities()["clip"].startswith("clip ")
