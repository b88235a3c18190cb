"""The whole path on tiny phantom tiles: what is written, and the scores once more from what was written."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bundle.data import load_datalist
from bundle.server import read_conditions
from bundle.transforms import NormalizeStainsd, TernaryLabeld
from bundle.workflows.experiment import Experiment
from bundle.workflows.figure_data import synthesis_rows
from bundle.workflows.figures import write_pages

pytestmark = pytest.mark.long

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
SETTINGS = ["real_all", "real_subset/breast", "real_subset/liver", "syn_all", "asyndgan"]
GROUPS = ["same organs", "other organs"]


def make_experiment(data, run_dir, sizes, **overrides):
    return Experiment(
        "multi_organ",
        str(data),
        profile="demo",
        run_dir=str(run_dir),
        config_dir=str(CONFIGS),
        overrides=sizes | {"min_nucleus_pixels": 3, "min_marker_pixels": 1, "marker_radius": 0} | overrides,
    )


@pytest.fixture(scope="module")
def finished(nuclei_dir, tiny_sizes, tmp_path_factory):
    """An experiment with all settings, and its results: read only."""
    experiment = make_experiment(nuclei_dir, tmp_path_factory.mktemp("run"), tiny_sizes)
    results = experiment.run()
    return experiment, results


def pixels(path):
    return np.asarray(Image.open(path)).astype(int)


def slow_aji(found, truth):
    """Kumar et al. 2017, algorithm 1, word by word; of equals, the one that shares more pixels."""
    intersection, union, used = 0, 0, set()
    for number in np.unique(truth[truth > 0]):
        nucleus = truth == number
        shared = {other: (nucleus & (found == other)).sum() for other in np.unique(found[nucleus]) if other}
        joined = {other: (nucleus | (found == other)).sum() for other in shared}
        best = max(shared, key=lambda other: (shared[other] / joined[other], shared[other]), default=None)
        intersection += shared.get(best, 0)
        union += joined.get(best, nucleus.sum())
        used.add(best)
    union += sum((found == other).sum() for other in np.unique(found[found > 0]) if other not in used)
    return intersection / union


def test_every_setting_is_scored_on_tiles_of_its_organs_and_of_others(finished, nuclei_dir):
    _, results = finished
    assert list(results["settings"]) == SETTINGS
    test = load_datalist(nuclei_dir).test
    inside = {item["case"] for item in test if item["site"]}
    outside = {item["case"] for item in test} - inside
    assert (len(inside), len(outside)) == (2, 1)
    for scores in results["settings"].values():
        names = {f"{metric}{group}" for metric in ("dice", "aji", "pq") for group in ("", *(f"/{g}" for g in GROUPS))}
        assert set(scores) == {*names, "training_images", "segmenter_loss"}
        for metric in ("dice", "aji", "pq"):
            assert set(scores[metric]["per_case"]) == inside | outside
            assert set(scores[f"{metric}/{GROUPS[0]}"]["per_case"]) == inside
            assert set(scores[f"{metric}/{GROUPS[1]}"]["per_case"]) == outside
            parts = [scores[f"{metric}/{group}"]["mean"] for group in GROUPS]
            assert scores[metric]["mean"] == pytest.approx((2 * parts[0] + parts[1]) / 3)


def test_scores_are_those_of_the_instances_on_disk(finished, nuclei_dir):
    experiment, results = finished
    seen = set()
    for setting in SETTINGS:
        for item in load_datalist(nuclei_dir).test:
            path = experiment.output_dir(setting, 0) / "evaluation" / "predictions" / f"{item['case']}.png"
            found, truth = pixels(path), pixels(item["label"])
            assert found.shape == truth.shape == (90, 90)
            scores = results["settings"][setting]
            assert scores["aji"]["per_case"][item["case"]][0] == pytest.approx(slow_aji(found, truth), abs=1e-6)
            dice = 2 * ((found > 0) & (truth > 0)).sum() / ((found > 0).sum() + (truth > 0).sum())
            assert scores["dice"]["per_case"][item["case"]][0] == pytest.approx(dice, abs=1e-6)
            seen.add(len(np.unique(found)))
    assert max(seen) > 3  # something was found, or the scores say nothing


def test_synthetic_tiles_are_as_large_as_the_real_ones_and_carry_their_labels(finished, nuclei_dir):
    experiment, _ = finished
    folder = experiment.output_dir("asyndgan", 0)
    synthetic = load_datalist(folder / "synthetic", deep=True)
    assert synthetic.label_type == "classes"
    assert synthetic.labels == {0: "background", 1: "nucleus interior", 2: "nucleus boundary"}
    real = load_datalist(nuclei_dir)
    conditions = read_conditions(folder / "gan" / "conditions.npz")
    assert len(synthetic.training) == len(real.training) == 4
    for item in synthetic.training:
        site, number, _ = item["case"].rsplit("_", 2)
        source = real.site_items(site)[int(number)]
        ternary = TernaryLabeld(keys="label")({"label": torch.as_tensor(pixels(source["label"]).T[None])})["label"][0]
        label = pixels(item["label"]).T
        np.testing.assert_array_equal(label, ternary)
        np.testing.assert_array_equal(conditions[site][int(number)], np.stack([label == 1, label == 2]))
        image = pixels(item["image"])
        assert image.shape == (90, 90, 3)
        assert image.std() > 0


def test_pictures_show_condition_and_images_the_same_way_up(finished, nuclei_dir):
    experiment, results = finished
    rows = synthesis_rows(experiment, "asyndgan")
    assert [row["site"] for row in rows] == ["breast", "liver"]
    for row in rows:
        first, second = row["samples"]
        assert not np.array_equal(first["real"], second["real"])
        item = load_datalist(nuclei_dir).site_items(row["site"])[0]
        tile = torch.from_numpy(pixels(item["image"])).movedim(-1, 0)
        seen = NormalizeStainsd(keys="image")({"image": tile})["image"].as_tensor()  # as the site's discriminator does
        np.testing.assert_allclose((first["real"] + 1) * 127.5, seen, atol=1e-3)
        np.testing.assert_array_equal(first["condition"].any(axis=0), pixels(item["label"]) > 0)
        drawn = experiment.output_dir("asyndgan", 0) / "synthetic" / "images" / f"{row['site']}_00000_0.png"
        np.testing.assert_allclose(np.moveaxis((first["synthetic"] + 1) * 127.5, 0, -1), pixels(drawn), atol=1e-3)
    page = write_pages(experiment, results)
    assert "AJI, other organs" in page.read_text(encoding="utf-8")
    figures = sorted(path.name for path in (page.parent / "figures").iterdir())
    assert figures == [
        "cases_aji.png",
        "cases_dice.png",
        "cases_pq.png",
        "extremes.png",
        "figures.json",
        "first_look.png",
        "first_look_shareable.png",
        "losses.png",
        "neighbours_asyndgan.png",
        "neighbours_syn_all.png",
        "segmentations.png",
        "synthesis_asyndgan.png",
        "synthesis_asyndgan_shareable.png",
        "synthesis_syn_all.png",
        "synthesis_syn_all_shareable.png",
    ]


def test_stains_can_be_normalised_on_the_way(nuclei_dir, tiny_sizes, tmp_path):
    plain, normalised = (
        make_experiment(nuclei_dir, tmp_path, tiny_sizes, normalize_stains=on)
        .workflow("segment", "real_all", 0)
        .parser.get_parsed_content("train::dataset")[0]["image"]
        for on in (False, True)
    )
    assert plain.shape == normalised.shape
    assert (plain - normalised).abs().mean() > 0.01
    assert normalised.abs().max() <= 1


def test_a_tile_smaller_than_the_crop_is_mirrored_at_its_edges(nuclei_dir, tiny_sizes, tmp_path):
    samples = (
        make_experiment(nuclei_dir, tmp_path, tiny_sizes | {"image_size": 96})
        .workflow("segment", "real_all", 0)
        .parser.get_parsed_content("train::dataset")
    )
    sample = samples[0]
    assert sample["image"].shape == (3, 96, 96)
    # 90 pixels in the middle of 96
    torch.testing.assert_close(sample["image"][:, 2, 3:93], sample["image"][:, 4, 3:93])
    assert torch.equal(sample["label"][:, :3].flip(1), sample["label"][:, 4:7])


def test_a_data_list_of_another_task_is_refused_before_anything_is_computed(
    phantom_dir, nuclei_dir, tiny_sizes, tmp_path
):
    with pytest.raises(ValueError, match="modalities red, green, blue"):
        make_experiment(phantom_dir, tmp_path, tiny_sizes)
    content = json.loads((nuclei_dir / "datalist.json").read_text(encoding="utf-8"))
    assert content["label_type"] == "instances"
