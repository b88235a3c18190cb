"""
Packed bundles at a real MONAI Label server, in an environment of its own (make monailabel).

LABEL_BRAIN and LABEL_NUCLEI name the folders of packed segmenters. Without LABEL_BRAIN_DATA and LABEL_NUCLEI_DATA,
folders of a datalist.json, phantoms are drawn, and a mask has to be one; LABEL_MIN_DICE asks more. LABEL_ENVIRONMENT
names the environment, LABEL_TEST_CASES, LABEL_TRAINING_CASES and LABEL_EPOCHS say how much is done.
"""

import os
from pathlib import Path

import pytest
from label_checks import Checks, Wanted, brain_phantoms, check_brain, check_nuclei, nuclei_phantoms
from label_server import LabelClient, LabelServer

pytestmark = pytest.mark.monailabel
BUNDLES = {kind: os.environ.get(f"LABEL_{kind}") for kind in ("BRAIN", "NUCLEI")}
WANTED = Wanted(
    *(int(os.environ.get(f"LABEL_{name}", default)) for name, default in (("TEST_CASES", 2), ("TRAINING_CASES", 5))),
    min_dice=float(os.environ.get("LABEL_MIN_DICE", 0)),
    epochs=int(os.environ.get("LABEL_EPOCHS", 2)),
)


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    bundles = [Path(folder).resolve() for folder in BUNDLES.values() if folder]
    if not bundles:
        pytest.skip("LABEL_BRAIN or LABEL_NUCLEI names no packed bundle")
    environment = Path(os.environ.get("LABEL_ENVIRONMENT", ".venv-monailabel"))
    with LabelServer(environment, bundles, tmp_path_factory.mktemp("server")) as server:
        yield LabelClient(server)


@pytest.mark.parametrize(
    ("kind", "phantoms", "check"),
    [("BRAIN", brain_phantoms, check_brain), ("NUCLEI", nuclei_phantoms, check_nuclei)],
)
def test_a_bundle_is_used_as_3d_slicer_uses_it(kind, phantoms, check, client, tmp_path):
    if not BUNDLES[kind]:
        pytest.skip(f"LABEL_{kind} names no packed bundle")
    data = os.environ.get(f"LABEL_{kind}_DATA") or phantoms(tmp_path / "phantoms")
    for image in client.images():  # a training takes all that is labelled, whatever it shows
        client.remove_image(image)
    check(Checks(client, Path(BUNDLES[kind]).resolve().name, tmp_path / "checks"), Path(data), WANTED)
