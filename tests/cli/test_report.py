"""The page of a run, written again from what the run left."""

import json
import shutil

import pytest

from bundle.cli.main import main


@pytest.fixture(scope="module")
def finished(phantom_dir, tiny_sizes, tmp_path_factory):
    """A run of one setting through the command, and the words that made it."""
    folder = tmp_path_factory.mktemp("run") / "run"
    sizes = [f"{key}={json.dumps(value)}" for key, value in tiny_sizes.items()]
    words = ["--task", "brats", "--profile", "demo", "--dataset_dir", str(phantom_dir), "--run_dir", str(folder)]
    assert main(["run", *words, "--settings", "real_all", "--set", *sizes]) == 0
    return folder, words, sizes


def test_the_page_is_written_again_and_no_number_changes(finished, tmp_path, capsys):
    folder = shutil.copytree(finished[0], tmp_path / "moved")
    before = (folder / "results.json").read_bytes()
    page = (folder / "report.html").read_text(encoding="utf-8")
    (folder / "report.html").unlink()
    assert main(["report", folder]) == 0
    assert f"report: {folder / 'report.html'}" in capsys.readouterr().out
    assert (folder / "results.json").read_bytes() == before
    assert (folder / "report.html").read_text(encoding="utf-8") == page
    assert json.loads(before)["command"].startswith("asyndgan run --task brats")


def test_stages_one_by_one_leave_what_a_run_does(finished, tmp_path, capsys):
    folder, words, sizes = finished
    own = ["--setting", "real_all", "--set", *sizes]
    words = [*words[:-1], str(tmp_path)]
    for stage in ("segment", "evaluate"):
        assert main([stage, *words, *own]) == 0
    place = "seed_0/real_all"
    assert f"outputs: {tmp_path / place}" in capsys.readouterr().out
    scores = [json.loads((run / place / "evaluation/metrics.json").read_text("utf-8")) for run in (folder, tmp_path)]
    assert scores[0]["metrics"] == scores[1]["metrics"]
    assert main(["segment", *words, *own, "lr=0.5"]) == 0  # the generator's, and finished before
    assert main(["segment", *words, "--setting", "nothing", "--set", *sizes]) == 2
    assert "setting: expected real_all, real_all_common" in capsys.readouterr().err


def test_a_folder_without_a_run(tmp_path, capsys):
    assert main(["report", tmp_path]) == 2
    assert "results.json is missing: a run writes it" in capsys.readouterr().err
    damaged = {'{"command": ': "expected the results of a run in JSON", "{}": "expected the key settings"}
    for content, words in damaged.items():
        (tmp_path / "results.json").write_text(content, encoding="utf-8")
        assert main(["report", tmp_path]) == 2
        assert words in capsys.readouterr().err
    assert not (tmp_path / "report.html").exists()


def test_a_page_to_pass_on_names_no_case(finished, tmp_path):
    folder = shutil.copytree(finished[0], tmp_path / "moved")
    (folder / "report_shareable.html").unlink()
    assert main(["report", folder, "--shareable"]) == 0
    page = (folder / "report_shareable.html").read_text(encoding="utf-8")
    cases = json.loads((folder / "results.json").read_text("utf-8"))["settings"]["real_all"]["dice"]["per_case"]
    assert cases
    assert not [case for case in cases if case in page]
