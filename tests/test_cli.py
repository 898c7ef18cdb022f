"""The command line: exit codes, one line that says what to do, finished work intact."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from PIL import Image

from vlm_selfalign.cli import main
from vlm_selfalign.models.tiny import build


@pytest.fixture
def call(capsys, monkeypatch):
    """Call the command line in this process: (exit code, standard output, standard error)."""

    def run(*args):
        monkeypatch.setattr(sys, "argv", ["vlm-selfalign", *map(str, args)])
        code = 0
        try:
            main()
        except SystemExit as stopped:
            code = stopped.code or 0
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def mistake(call):
    """Call it, expect exit code 2 and one line; returns that line."""

    def run(*args):
        code, _, told = call(*args)
        assert code == 2, told
        last = told.strip().splitlines()[-1]
        assert last.startswith("error: ") and "Traceback" not in told
        return last

    return run


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for place in range(3):
        Image.new("RGB", (40, 40), (80 * place, 20, 90)).save(folder / f"{place}.png")
    return folder


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["nope"], "no such recipe or config"),
        (["mirror", "stages.candidates.sampels=3"], "did you mean 'samples'"),
        (["mirror", "modle.path=x"], "did you mean 'model'"),
        (["mirror", "rounds=many"], "rounds: input should be a valid integer"),
        (["mirror", "stages.policy.learning_rat=1"], "did you mean 'learning_rate'"),
        (["mirror", "stages.pairs={fold: balnce, rows: candidates}"], "did you mean 'balance'"),
        (["mirror", "data.path=no/such/folder"], "no such file or folder"),
        (["mirror", "model.path=./no-model"], "no such folder"),
        (["mirror", "model.path=tiny:qwen9"], "no tiny family"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(args, says, tmp_path, mistake):
    assert says in mistake("run", *args, f"out={tmp_path}/run")
    assert not (tmp_path / "run" / "rounds").exists()


def test_an_empty_folder(tmp_path, mistake):
    (tmp_path / "empty").mkdir()
    assert "empty" in mistake("check", "mirror", f"data.path={tmp_path}/empty")


def test_a_model_that_takes_no_images(photos, tmp_path, mistake):
    assert "takes no images" in mistake("check", "mirror", "model.path=tiny:llama", f"data.path={photos}")


def test_a_checkpoint_without_safetensors_or_chat_template(photos, tmp_path, mistake):
    folder = build("qwen2_vl", tmp_path / "bare")
    (folder / "chat_template.jinja").unlink()
    assert "chat template" in mistake("check", "mirror", f"model.path={folder}", f"data.path={photos}")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "safetensors" in mistake("check", "mirror", f"model.path={folder}", f"data.path={photos}")


def test_a_read_only_place(tmp_path, mistake, request):
    where = tmp_path / "locked"
    where.mkdir(mode=0o500)
    if os.access(where, os.W_OK):
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", where], capture_output=True).returncode:
            pytest.skip("this user may write everywhere and mount nothing")
        request.addfinalizer(lambda: subprocess.run(["umount", where], check=True))
    assert "out=" in mistake("pairs", "self_certainty", "size=smoke", f"out={where}")


def test_another_recipe_in_the_same_directory(tmp_path, call, mistake):
    small = ["size=smoke", f"out={tmp_path}/run", "model.path=tiny:qwen2_vl", "data.limit=4", "data.source=world"]
    assert call("pairs", "self_certainty", *small, "data.path=null")[0] == 0
    before = (tmp_path / "run/rounds/0/pairs.jsonl").read_bytes()
    assert "was made with other settings" in mistake("pairs", "mirror", *small)
    assert (tmp_path / "run/rounds/0/pairs.jsonl").read_bytes() == before


def test_status_report_and_recipes(tmp_path, call, mistake):
    out = tmp_path / "run"
    assert call("run", "self_certainty", "size=smoke", f"out={out}")[0] == 0
    told = call("status", out)[1]
    assert "round 0 pairs" in told and "trained" in told and "not running" in told
    (out / "report.html").unlink()
    assert call("report", out)[0] == 0 and (out / "report.html").is_file()
    assert json.loads((out / "metrics.json").read_text())["schema"] == 1
    assert "mirror" in call("recipes")[1]
    assert "stages:" in call("recipes", "show", "apasi")[1]
    assert call("recipes", "copy", "apasi", tmp_path)[0] == 0 and (tmp_path / "apasi.yaml").is_file()
    assert "not a run directory" in mistake("status", tmp_path)


def test_the_disk_is_full(tmp_path, call):
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", small], capture_output=True)
    if mounted.returncode:
        pytest.skip("no right to mount a small file system here")
    try:
        code, _, told = call("pairs", "self_certainty", f"out={small}/run")
        assert code == 75, told
        assert "try again" in told.splitlines()[-1]
    finally:
        subprocess.run(["umount", small], check=True)


def test_preview_shows_five_samples(photos, tmp_path, call):
    code, _, told = call(
        "preview", "mirror", "size=smoke", f"out={tmp_path}/run", "model.path=tiny:qwen2_vl", f"data.path={photos}"
    )
    assert code == 0, told
    page = next(tmp_path.glob("*.preview.html"))
    assert page.stat().st_size > 1000


def test_a_signal_before_anything_is_loaded(tmp_path):
    """Inside an import a signal must not become the library's own error."""
    command = [sys.executable, "-m", "vlm_selfalign.cli", "pairs", "mirror", f"out={tmp_path}/run", "data.limit=4"]
    for wait, number in ((0.6, signal.SIGTERM), (1.2, signal.SIGINT), (2.0, signal.SIGTERM)):
        job = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        time.sleep(wait)
        job.send_signal(number)
        told = job.communicate(timeout=120)[1]
        assert job.returncode == 128 + number, told
        assert "Traceback" not in told and "the same command continues" in told.splitlines()[-1]


def test_the_words_that_claims_are_read_with(tmp_path, mistake):
    assert "words" in mistake("check", "mirror", "data.vocabulary=words.yaml", f"out={tmp_path}/run")


def test_measuring_where_nothing_was_trained(tmp_path, mistake):
    assert "use run or train first" in mistake("measure", "self_certainty", "size=smoke", f"out={tmp_path}/run")
    assert not (tmp_path / "run").exists()


def test_a_page_of_the_drawn_world(tmp_path, call, mistake):
    told = call("world", tmp_path / "drawn", "base=rich", "small=.3")[1]
    assert told.startswith("page: ") and (tmp_path / "drawn/world.html").stat().st_size > 10_000
    assert "world.small" in mistake("world", tmp_path / "other", "small=3")


def test_what_is_left_out_of_a_folder_is_said(photos, tmp_path, call):
    folder = shutil.copytree(photos, tmp_path / "mixed")
    (folder / "broken.png").write_bytes((folder / "0.png").read_bytes()[:20])
    shutil.copy(folder / "1.png", folder / "again.png")
    code, told, _ = call("check", "apasi", f"data.path={folder}", "model.path=tiny:qwen2_vl", f"out={tmp_path}/run")
    assert code == 0
    assert "2 samples to learn from, 1 held out" in told and "too narrow" in told
    assert "1 left out: a broken header" in told and "1 left out: the same content" in told


def test_a_role_that_nothing_names(tmp_path, call):
    told = call("check", "mirror", "roles.jugde.path=tiny:qwen2_vl", f"out={tmp_path}/run")[1]
    assert "note: roles.jugde: no stage's settings name this role" in told


def test_a_method_of_the_users_own_beside_the_recipe(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "own.yaml").write_text("stages: {answers: {method: 'mine:twice'}}\nmodel: {path: 'tiny:qwen2_vl'}\n")
    script = os.path.join(os.path.dirname(sys.executable), "vlm-selfalign")
    done = subprocess.run(
        [script, "pairs", "own.yaml", "data.limit=3"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "runs/own/rounds/0/answers.jsonl").read_text().splitlines()) == 6


MINE = """
from vlm_selfalign.core.requests import Generate, Sampling
from vlm_selfalign.core.registry import method
from vlm_selfalign.core.rows import Demo
from vlm_selfalign.core.steps import ask_all


@method
def twice():
    sampling = Sampling(max_tokens=4)

    def run(sample):
        replies = yield from ask_all(Generate(prompt=sample.prompt, draw=i, sampling=sampling) for i in range(2))
        return [Demo(prompt=sample.prompt, answer=reply.text or "-") for reply in replies]

    return run
"""
