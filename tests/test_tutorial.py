"""The tutorials' cells run one after the other, and say what they claim."""

import json
import os
from pathlib import Path

import matplotlib
import nibabel
import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "docs" / "tutorial").glob("*.ipynb"))
# minutes less: what comes after fewer steps looks worse, and is made by the same lines
FEWER = {
    "first_run": {"num_steps=200": "num_steps=50 teacher_steps=3"},
    "from_folders_to_a_segmenter": {
        "num_steps=200 segmenter_steps=200": "num_steps=4 epoch_length=2 generator_channels=8 generator_blocks=1 "
        "segmenter_steps=4 segmenter_epoch_length=2 teacher_steps=3 feature_steps=4 feature_epoch_length=2"
    },
}


def cells(name):
    return json.loads((ROOT / "docs" / "tutorial" / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]


@pytest.fixture
def execute(tmp_path, monkeypatch):
    """Runs the cells of a notebook in an empty folder, with fewer steps; returns the names that they leave."""

    def run(name):
        names = {}
        for cell in cells(name):
            if cell["cell_type"] == "code":
                source = "".join(cell["source"])
                for old, new in FEWER[name].items():
                    source = source.replace(old, new)
                exec(compile(source, f"{name}.ipynb", "exec"), names)
        return names

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])))
    before = matplotlib.get_backend()
    matplotlib.use("Agg")
    yield run
    matplotlib.pyplot.close("all")
    matplotlib.use(before)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_kept_without_outputs_and_is_short(path):
    content = cells(path.stem)
    assert all(cell.get("outputs", []) == [] for cell in content)
    assert sum(len("".join(cell["source"]).split()) for cell in content if cell["cell_type"] == "markdown") < 400


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_the_first_run(execute, tmp_path, capsys):
    names = execute("first_run")
    assert (tmp_path / "runs" / "first" / "synthetic.png").stat().st_size > 5000
    assert {item["site"] for item in names["items"]} == {"north", "south"}
    shown = capsys.readouterr().out
    assert "answers to synthetic images 50" in shown
    assert "No differential privacy was used" in shown


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_from_folders_to_a_segmenter(execute, tmp_path):
    names = execute("from_folders_to_a_segmenter")
    folder = tmp_path / "runs" / "second"
    assert (folder / "run" / "report.html").is_file()
    assert list((folder / "run" / "figures").glob("synthesis_asyndgan.png"))
    assert names["dice"].keys() == {"north_4", "south_4"}
    volume, mask = (nibabel.load(folder / name) for name in ("patient.nii.gz", "masks/patient_seg.nii.gz"))
    assert mask.shape == volume.shape == names["mask"].shape
    assert (mask.affine == volume.affine).all()
    assert set(names["mask"].ravel()) <= {0, 1}
