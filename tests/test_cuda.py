"""What only a GPU shows. `make gpu` runs these; without a GPU they are skipped."""

from pathlib import Path

import monai.bundle
import nibabel as nib
import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.networks.nets import PatchDiscriminator
from small_sites import RandomSamples, members

from bundle.engines import AtomicCheckpointSaver, AutocastInferer, Resume, SeededInferer
from bundle.losses import AdversarialLoss, PerceptualLoss, SiteLoss
from bundle.networks import ResnetGenerator, VGGFeatures
from bundle.seeding import seeded
from bundle.server import DistributedGanTrainer, LocalFederation
from bundle.site.release import POLICIES
from bundle.workflows import DistributedGANWorkflow

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
LENGTHS = {"A": 3, "B": 5}


@pytest.fixture(autouse=True)
def as_in_a_training(monkeypatch):
    """What ``monai.utils.set_determinism`` sets at the start of a training; and float32 is float32."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def adam(parameters):
    return torch.optim.Adam(parameters, lr=2e-4, betas=(0.5, 0.999))


def train(device, steps, folder=None, amp=False, upsampling="resize", noise=0):
    """A training of two sites with the published kinds of networks: losses by step, and all weights at the end."""
    inferer = AutocastInferer(amp=amp)
    sites = members(
        {name: RandomSamples(name, length, size=64) for name, length in LENGTHS.items()},
        lambda: PatchDiscriminator(2, 16, 3, num_layers_d=2, norm="INSTANCE"),
        adam,
        SiteLoss(AdversarialLoss("vanilla"), l1_weight=10.0),
        device=device,
        inferer=inferer,
        policy=POLICIES["published"],
    )
    federation = LocalFederation(sites)
    made = seeded(lambda: ResnetGenerator(2, 1, 16, 2, upsampling=upsampling, noise_channels=noise), 0, "generator")
    network = made.to(device)
    optimizer = adam(network.parameters())
    saved = {"generator": network, "optimizer": optimizer, "federation": federation}
    handlers = (
        []
        if folder is None
        else [
            Resume(str(folder / "latest.pt"), saved),
            AtomicCheckpointSaver(str(folder), saved),
        ]
    )
    trainer = DistributedGanTrainer(
        device, steps // 2, 2, federation, network, optimizer, inferer, train_handlers=handlers
    )
    losses = []
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: losses.append(engine.state.output[0]["losses"])
    )
    trainer.run()
    networks = [network, *(site.critic.discriminator for site in sites)]
    return losses, [p.detach().cpu() for module in networks for p in module.parameters()]


def test_the_first_step_has_the_losses_of_the_cpu():
    (on_gpu, *_), (on_cpu, *_) = train("cuda", 2)[0], train("cpu", 2)[0]
    for site in LENGTHS:
        assert on_gpu[site] == pytest.approx(on_cpu[site], rel=1e-4)


def test_bfloat16_is_near_float32():
    (fast, *_), (exact, *_) = train("cuda", 2, amp=True)[0], train("cuda", 2)[0]
    for site in LENGTHS:
        assert fast[site] == pytest.approx(exact[site], rel=0.05)


@pytest.mark.parametrize("amp", [False, True])
@pytest.mark.parametrize(("upsampling", "noise"), [("resize", 0), ("resize", 2), ("transposed", 0)])
def test_the_same_training_has_the_same_bits_also_when_it_was_interrupted(tmp_path, amp, upsampling, noise):
    how = {"amp": amp, "upsampling": upsampling, "noise": noise}
    (_, first), (_, second) = train("cuda", 6, **how), train("cuda", 6, **how)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    train("cuda", 2, tmp_path, **how)
    _, resumed = train("cuda", 6, tmp_path, **how)
    assert all(torch.equal(a, b) for a, b in zip(first, resumed, strict=True))


def test_noise_of_an_item_does_not_depend_on_its_batch():
    network = ResnetGenerator(2, 1, 8, 1, noise_channels=2).cuda().eval()
    inferer, x = SeededInferer(), torch.randint(0, 2, (3, 2, 32, 32)).float().cuda()
    together = inferer(x, network, seeds=[1, 2, 3])
    alone = torch.cat([inferer(x[i : i + 1], network, seeds=[i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    assert not torch.allclose(together[0], inferer(x[:1], network, seeds=[9])[0])


def test_the_perceptual_term_has_a_gradient_under_autocast(tmp_path):
    weights = tmp_path / "vgg16.pth"
    # the classifier's convolutions are counted: a file of torchvision's has all thirteen
    state = {name: tensor * 0.1 for name, tensor in VGGFeatures(16, ["relu5_3"]).state_dict().items()}
    torch.save(state, weights)
    term = PerceptualLoss(str(weights)).cuda()
    fake = torch.rand(2, 1, 64, 64, device="cuda", requires_grad=True)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        term(fake, torch.rand(2, 1, 64, 64, device="cuda")).backward()
    assert torch.isfinite(fake.grad).all()
    assert fake.grad.abs().sum() > 0


def test_a_training_from_the_configs_takes_the_gpu_and_ends(phantom_dir, tiny_sizes, tmp_path):
    sizes = {key: value for key, value in tiny_sizes.items() if key != "device"}
    files = [str(CONFIGS / f"{name}.yaml") for name in ("train", "brats", "small")]
    given = {"dataset_dir": str(phantom_dir), "run_dir": str(tmp_path), "logging_file": False}
    workflow = DistributedGANWorkflow(config_file=files, **given, **sizes)
    workflow.initialize()
    assert next(workflow.trainer.generator.parameters()).is_cuda
    workflow.run()
    workflow.finalize()
    state = torch.load(tmp_path / "seed_0" / "asyndgan" / "gan" / "generator.pt", weights_only=True)
    assert all(torch.isfinite(tensor).all() for tensor in state.values())


def test_the_shipped_segmenter_marks_what_it_marks_on_the_cpu(phantom_dir, tmp_path):
    volume = next(phantom_dir.rglob("*_flair.nii.gz"))
    masks = []
    for device in ("cpu", "cuda"):
        output = tmp_path / device
        monai.bundle.run(
            config_file=str(CONFIGS / "inference.yaml"),
            bundle_root=str(CONFIGS.parent),
            datalist=str(volume),
            output_dir=str(output),
            device=device,
        )
        masks.append(np.asarray(nib.load(next(output.glob("*.nii.gz"))).dataobj))
    assert masks[0].shape == masks[1].shape
    assert (masks[0] == masks[1]).mean() > 0.999


def test_a_training_goes_on_without_the_gpu(tmp_path):
    train("cuda", 2, tmp_path)
    losses, weights = train("cpu", 4, tmp_path)
    assert len(losses) == 2
    assert all(torch.isfinite(tensor).all() for tensor in weights)
