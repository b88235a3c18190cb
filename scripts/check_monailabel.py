#!/usr/bin/env python
"""Drive a MONAI Label server with packed bundles as 3D Slicer does: list, infer, correct, fine-tune, infer again.

The server is a real one, in an environment of its own (`make monailabel` builds it); this script talks to it over HTTP
alone. Without data it draws phantoms, and asks of a mask that it is one; --min_dice asks more.

Examples:
    python scripts/check_monailabel.py --brain dist/BUNDLE --nuclei dist/BUNDLE
    python scripts/check_monailabel.py --brain dist/BUNDLE --brain_data runs/data/tcga_lgg --min_dice 0.5
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import signal
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bundle.data.datalist import load_datalist
from bundle.data.errors import DataError
from bundle.metrics import aggregated_jaccard_index
from bundle.phantoms.brains import write_brats_phantoms
from bundle.phantoms.nuclei import write_nuclei_phantoms
from bundle.prepare.preparation import PrepareOptions, prepare
from scripts.label_server import LabelClient, LabelError, LabelServer

# about z, in degrees: scanners hardly ever stand straight
TILT = 10.0
VOXEL = (0.9, 1.1, 3.0)
CROP = (150, 220)
"""Rows and columns of a tile that shows whether rows and columns were exchanged."""


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--brain", type=Path, help="packed segmenter of brain tumours")
    parser.add_argument("--nuclei", type=Path, help="packed segmenter of nuclei")
    parser.add_argument("--brain_data", type=Path, help="folder of datalist.json with FLAIR volumes (default phantoms)")
    parser.add_argument("--nuclei_data", type=Path, help="folder of datalist.json with H&E tiles (default phantoms)")
    parser.add_argument("--test_cases", type=int, default=2, help="to infer, of each data list (default 2)")
    parser.add_argument("--training_cases", type=int, default=5, help="to fine-tune on, of each (default 5)")
    parser.add_argument("--min_dice", type=float, default=0.0, help="of the test cases on average (default 0)")
    parser.add_argument("--epochs", type=int, default=2, help="of a fine-tuning (default 2)")
    parser.add_argument(
        "--environment", type=Path, default=Path(".venv-monailabel"), help="MONAI Label's (default .venv-monailabel)"
    )
    parser.add_argument(
        "--run_dir", type=Path, default=Path("runs/monailabel"), help="replaced (default runs/monailabel)"
    )
    options = parser.parse_args(arguments)
    if options.brain is None and options.nuclei is None:
        parser.error("nothing to check, expected --brain, --nuclei or both")
    if options.brain and options.nuclei and options.brain.resolve().name == options.nuclei.resolve().name:
        parser.error(f"--brain and --nuclei are both called {options.brain.name}, expected different names")
    return options


class Checks:
    """
    What is checked of one bundle.

    Args:
        client: of a server that has the bundle.
        model: name of the bundle.
        folder: for files that the checks write.
    """

    def __init__(self, client: LabelClient, model: str, folder: Path) -> None:
        self.client = client
        self.model = model
        self.folder = folder
        self.labels: dict[str, int] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def expect(self, condition: bool, text: str, found: object = None) -> None:
        """
        Raises:
            LabelError: the condition does not hold.
        """
        if not condition:
            raise LabelError(f"{self.model}: expected {text}" + ("" if found is None else f", found {found}"))

    def done(self, text: str) -> None:
        print(f"ok: {self.model}: {text}", flush=True)

    def listed(self) -> None:
        info = self.client.info()
        for section in ("models", "trainers"):
            self.expect(self.model in info[section], f"its name among the {section} of /info/", sorted(info[section]))
        model = info["models"][self.model]
        self.expect(model["type"] == "segmentation", "type segmentation in /info/", model["type"])
        self.labels = model["labels"]
        self.expect(bool(self.labels), "labels in /info/", self.labels)
        self.done(f"listed, version {model['version']}, labels {self.labels}")

    def fine_tune(self, images: list[str], epochs: int) -> None:
        """Train on ``images``, whose labels are at the server."""
        weights = self.client.server.model_path(self.model)
        before, start = _digest(weights), time.monotonic()
        lines = self.client.train_as_slicer(self.model, max_epochs=epochs)
        self.expect(_digest(weights) != before, f"other weights in {weights} after training, its log: {lines}")
        self.done(f"{epochs} epochs on {len(images)} labelled images, {time.monotonic() - start:.0f} s; new weights")


def check_brain(checks: Checks, data: Path, options: argparse.Namespace) -> None:
    """Volumes: one mask a request, in the volume's own grid."""
    datalist = load_datalist(data, ["flair"])
    client, model = checks.client, checks.model
    checks.listed()
    scores = []
    for item in datalist.test[: options.test_cases]:
        client.upload_image(item["case"], _volume(item))
        scores.append(_dice(_volume_mask(checks, item["case"], _volume(item)), _array(Path(item["label"])) > 0))
    checks.expect(bool(scores), f"test cases in {data}")
    mean = float(np.mean(scores))
    checks.expect(mean >= options.min_dice, f"a mean Dice of {options.min_dice:g} or more", f"{mean:.3f}")
    checks.done(f"{len(scores)} volumes: masks of their shape, affine and orientation; mean Dice {mean:.3f}")

    first = datalist.test[0]
    tilted = _tilt(_volume(first), checks.folder / "tilted.nii.gz")
    client.upload_image("tilted", tilted)
    mask = _volume_mask(checks, "tilted", tilted)
    # what the axes are called does not change what is seen
    straight = _write(checks.folder / "straight.nii.gz", client.infer_image(model, first["case"]))
    agreement = _dice(mask.transpose(1, 2, 0)[::-1], np.asarray(nib.as_closest_canonical(nib.load(straight)).dataobj))
    checks.expect(agreement > 0.99, "the same mask of a volume with other axes and a tilt", f"Dice {agreement:.3f}")
    checks.done(f"axes named otherwise, voxels of {VOXEL} mm, tilted by {TILT:g}°: the same mask, Dice {agreement:.3f}")

    sample = client.next_sample()["id"]
    checks.expect(sample in client.images(), "a next sample among the images", sample)
    same = client.download_image(first["case"]) == _volume(first).read_bytes()
    checks.expect(same, f"{first['case']} as it was uploaded, found other bytes")
    session = client.open_session(_volume(first))
    for source in ({"image": first["case"]}, {"session": session}):
        told, nrrd = client.infer_as_slicer(model, **source)
        checks.expect(told["label_names"] == checks.labels, f"label_names {checks.labels}", told.get("label_names"))
        file = _write(checks.folder / f"slicer_{next(iter(source))}.nrrd", nrrd)
        _same_space(checks, _volume(first), file)
        same = bool((_array(straight) == sitk.GetArrayFromImage(sitk.ReadImage(str(file))).T).all())
        checks.expect(same, f"in {file} the mask of {straight}, found another")
    told = client.infer_json(model, first["case"])
    checks.expect("latencies" in told, "latencies of a request for JSON", sorted(told))
    checks.done(
        "3D Slicer's requests: next sample, image, mask as NRRD in the image's space with its label names, also of an "
        f"image that the server has not; {told['latencies']['total']} s a volume"
    )

    label = next(iter(checks.labels))
    trained: list[str] = []
    for count in sorted({min(2, options.training_cases), options.training_cases}):
        for item in datalist.training[len(trained) : count]:
            # values as Slicer saves segments: numbered from 1
            corrected = _binary(Path(item["label"]), checks.folder / f"{item['case']}.nii.gz")
            client.upload_image(item["case"], _volume(item))
            client.save_label(item["case"], corrected, [{"name": label, "idx": checks.labels[label]}])
            trained.append(item["case"])
        _labelled(checks, trained)
        checks.fine_tune(trained, options.epochs)
        after = _volume_mask(checks, first["case"], _volume(first))
    changed = int(((after > 0) != (_array(straight) > 0)).sum())
    checks.expect(changed > 0, "a mask of the new weights, found that of the old ones")
    checks.done(f"infers with the new weights: {changed} voxels differ")


def check_nuclei(checks: Checks, data: Path, options: argparse.Namespace) -> None:
    """Tiles: an instance map a request, a number each nucleus."""
    datalist = load_datalist(data)
    client = checks.client
    checks.listed()
    scores, indices, counts = [], [], []
    for item in datalist.test[: options.test_cases]:
        client.upload_image(item["case"], Path(item["image"]))
        found, truth = _tile_mask(checks, item["case"], Path(item["image"])), np.asarray(Image.open(item["label"]))
        scores.append(_dice(found > 0, truth > 0))
        indices.append(aggregated_jaccard_index(found.astype(np.int64), truth.astype(np.int64)))
        counts.append(f"{len(np.unique(found)) - 1} of {len(np.unique(truth)) - 1}")
    checks.expect(bool(scores), f"test cases in {data}")
    mean = float(np.mean(scores))
    checks.expect(mean >= options.min_dice, f"a mean Dice of {options.min_dice:g} or more", f"{mean:.3f}")
    checks.done(
        f"{len(scores)} tiles: nuclei found {', '.join(counts)}; mean Dice {mean:.3f}, mean AJI {np.mean(indices):.3f}"
    )

    first = datalist.test[0]
    crop = Image.open(first["image"]).convert("RGB").crop((0, 0, CROP[1], CROP[0]))
    masks = []
    for suffix in (".png", ".tif"):
        file = checks.folder / f"crop{suffix}"
        crop.save(file)
        name = f"crop-{suffix[1:]}"
        client.upload_image(name, file)
        masks.append(_tile_mask(checks, name, file))
    checks.expect(bool((masks[0] == masks[1]).all()), "the same mask of a PNG and of a TIFF")
    checks.done(f"{CROP[1]} × {CROP[0]} pixels as PNG and as TIFF: the same mask, rows and columns in place")

    trained = []
    for item in datalist.training[: options.training_cases]:
        client.upload_image(item["case"], Path(item["image"]))
        client.save_label(item["case"], Path(item["label"]), [])
        trained.append(item["case"])
    _labelled(checks, trained)
    before = _tile_mask(checks, first["case"], Path(first["image"]))
    checks.fine_tune(trained, options.epochs)
    changed = int(((_tile_mask(checks, first["case"], Path(first["image"])) > 0) != (before > 0)).sum())
    checks.expect(changed > 0, "a mask of the new weights, found that of the old ones")
    checks.done(f"infers with the new weights: {changed} pixels differ")


def _volume_mask(checks: Checks, image: str, volume: Path) -> np.ndarray:
    """The mask that the server gives of a volume, checked against the volume and the labels."""
    file = _write(checks.folder / f"{image}_mask.nii.gz", checks.client.infer_image(checks.model, image))
    mask, source = nib.load(file), nib.load(volume)
    checks.expect(mask.shape == source.shape, f"a mask of the shape {source.shape} of {image}", mask.shape)
    axes = "".join(nib.aff2axcodes(source.affine))
    found = "".join(nib.aff2axcodes(mask.affine))
    checks.expect(found == axes, f"a mask of the orientation {axes} of {image}", found)
    near = np.allclose(mask.affine, source.affine, atol=1e-3)
    checks.expect(near, f"a mask of the affine of {image}, {source.affine.tolist()}", mask.affine.tolist())
    values = np.asarray(mask.dataobj)
    whole = np.issubdtype(values.dtype, np.integer)
    checks.expect(whole, f"whole numbers in the mask of {image}", values.dtype)
    strange = sorted(set(np.unique(values).tolist()) - {0, *checks.labels.values()})
    checks.expect(not strange, f"values 0 and {sorted(checks.labels.values())} in the mask of {image}", strange)
    return values


def _tile_mask(checks: Checks, image: str, tile: Path) -> np.ndarray:
    """The instance map that the server gives of a tile, checked against the tile."""
    file = _write(checks.folder / f"{image}_mask{tile.suffix}", checks.client.infer_image(checks.model, image))
    mask = np.asarray(Image.open(file))
    width, height = Image.open(tile).size
    checks.expect(mask.shape == (height, width), f"a mask of {height} × {width} pixels of {image}", mask.shape)
    checks.expect(mask.dtype == np.uint16, f"16 bits a pixel in the mask of {image}", mask.dtype)
    checks.expect(bool(mask.any()), f"nuclei in the mask of {image}, found none")
    return mask


def _same_space(checks: Checks, volume: Path, mask: Path) -> None:
    """Slicer reads the mask with ITK and lays it over the volume as that says."""
    one, other = sitk.ReadImage(str(volume)), sitk.ReadImage(str(mask))
    for name in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        wanted, found = getattr(one, name)(), getattr(other, name)()
        checks.expect(np.allclose(wanted, found, atol=1e-3), f"{name[3:].lower()} {wanted} of 3D Slicer's mask", found)


def _labelled(checks: Checks, images: list[str]) -> None:
    stored = checks.client.images()
    missing = [image for image in images if "final" not in stored.get(image, {}).get("labels", {})]
    checks.expect(not missing, "a final label of every image at the server, missing for", missing)


def _volume(item: dict) -> Path:
    image = item["image"]
    return Path(image if isinstance(image, str) else image[0])


def _tilt(volume: Path, output: Path) -> Path:
    """The same voxels with other names of the axes, other sizes and a rotation about z."""
    source = nib.as_closest_canonical(nib.load(volume))
    voxels = np.asarray(source.dataobj)
    angle = np.deg2rad(TILT)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    # axes I, J, K are S, L and A: from z, x backwards and y
    affine[:3, :3] = turn @ np.array([[0, -VOXEL[0], 0], [0, 0, VOXEL[1]], [VOXEL[2], 0, 0]])
    affine[:3, 3] = (12.0, -40.0, 7.5)
    nib.save(nib.Nifti1Image(voxels[::-1].transpose(2, 0, 1), affine), output)
    return output


def _binary(label: Path, output: Path) -> Path:
    source = nib.load(label)
    nib.save(nib.Nifti1Image((np.asarray(source.dataobj) > 0).astype(np.uint8), source.affine), output)
    return output


def _array(file: Path) -> np.ndarray:
    return np.asarray(nib.load(file).dataobj)


def _write(file: Path, content: bytes) -> Path:
    file.write_bytes(content)
    return file


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _dice(one: np.ndarray, other: np.ndarray) -> float:
    one, other = one > 0, other > 0
    total = int(one.sum() + other.sum())
    return 2 * int((one & other).sum()) / total if total else 1.0


def _brain_phantoms(folder: Path) -> Path:
    table = write_brats_phantoms(folder, ("A", "B"), cases_per_site=3, test_cases_per_site=1, shape=(96, 96, 16))
    prepare(PrepareOptions("brats", folder, folder, sites="table", table=table, name="brain phantoms"))
    return folder


def _nuclei_phantoms(folder: Path) -> Path:
    table = write_nuclei_phantoms(folder, ("breast", "liver"), 3, 1, size=256, other_cases=0)
    prepare(PrepareOptions("multi_organ", folder, folder, sites="table", table=table, name="nuclei phantoms"))
    return folder


def main(arguments: list[str] | None = None) -> int:
    """Run; returns the exit status: 0, 1 where something is not as expected, or 2 for bad data."""
    options = parse_arguments(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the server is ended on the way out
    if options.run_dir.exists():
        shutil.rmtree(options.run_dir)
    bundles = [bundle.resolve() for bundle in (options.brain, options.nuclei) if bundle]
    try:
        brain = nuclei = None
        if options.brain:
            brain = options.brain_data or _brain_phantoms(options.run_dir / "phantoms" / "brains")
        if options.nuclei:
            nuclei = options.nuclei_data or _nuclei_phantoms(options.run_dir / "phantoms" / "nuclei")
        server = LabelServer(options.environment, bundles, options.run_dir / "server")
        start = time.monotonic()
        with server:
            print(f"ok: a server with {len(bundles)} models after {time.monotonic() - start:.0f} s", flush=True)
            client = LabelClient(server)
            if brain:
                check_brain(Checks(client, options.brain.resolve().name, options.run_dir / "brain"), brain, options)
                for image in client.images():  # a training takes all that is labelled, whatever it shows
                    client.remove_image(image)
            if nuclei:
                check_nuclei(Checks(client, options.nuclei.resolve().name, options.run_dir / "nuclei"), nuclei, options)
    except LabelError as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    except (DataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"ok: the server has ended; its log is {server.log}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
