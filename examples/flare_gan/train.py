"""A GAN between hospitals, with MONAI and NVIDIA FLARE's Collab API, in one file. No image leaves a hospital.

    pip install torch "monai>=1.6,<1.7" "nvflare>=2.9,<2.10" matplotlib
    python examples/flare_gan/train.py       # less than two minutes on two cores

The generator is at the server, and has never seen an image. Each hospital keeps its images and a discriminator. A step
is one call of each hospital: synthetic images go out, and the gradient of the loss with respect to them comes back,
with label maps to draw next. One hospital has bright lesions and the other dark ones, all phantoms; at the end the
generator draws both into one image, which no hospital could teach it.

It uses nothing of this repository, so that who knows MONAI and FLARE need not learn a third thing to read it. It
protects less than the bundle does: gradients and label maps leave as they are (docs/what_leaves_your_hospital.md).
"""

import argparse
import itertools
from pathlib import Path

import matplotlib.image
import torch
from monai.data import create_test_image_2d
from monai.losses import PatchAdversarialLoss
from monai.networks.blocks import Convolution
from monai.networks.nets import PatchDiscriminator
from numpy.random import RandomState
from nvflare.collab import CollabRecipe, collab
from nvflare.recipe import SimEnv

SIZE, BATCH, KINDS = 32, 4, 2
# by hospital: which kind of lesion it has, how bright that is in images from -1 to 1, and how many images there are
HOSPITALS = {"north": (0, 0.7, 40), "south": (1, -0.7, 30)}
LOSS = PatchAdversarialLoss(criterion="least_squares", no_activation_leastsq=True)


def draw_mask(seed: int) -> torch.Tensor:
    """Three round lesions: 1 or 0, float32, SIZE x SIZE."""
    _, mask = create_test_image_2d(SIZE, SIZE, 3, rad_max=8, num_seg_classes=1, random_state=RandomState(seed))
    return torch.tensor(mask, dtype=torch.float32)


def adam(network: torch.nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(network.parameters(), lr=1e-3, betas=(0.5, 0.999))


def make_generator() -> torch.nn.Module:
    """Label maps, N x KINDS x SIZE x SIZE, to images in [-1, 1], N x 1 x SIZE x SIZE."""
    channels = [KINDS, 16, 16, 16]
    hidden = [Convolution(2, *pair, norm=None) for pair in itertools.pairwise(channels)]
    return torch.nn.Sequential(*hidden, Convolution(2, channels[-1], 1, conv_only=True), torch.nn.Tanh())


class Hospital:
    """One site: its images, its discriminator. Only what :meth:`start` and :meth:`judge` return leaves it."""

    @collab.init
    def open(self) -> None:
        self.prepare(collab.site_name)

    def prepare(self, name: str) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(0)
        kind, brightness, count = HOSPITALS[name]
        lesions = torch.stack([draw_mask(1000 * kind + number) for number in range(count)])
        # what the generator draws from: a channel for each kind of lesion
        self.masks = torch.zeros(count, KINDS, SIZE, SIZE)
        self.masks[:, kind] = lesions
        self.images = (brightness * lesions + 0.05 * torch.randn(lesions.shape)).clamp(-1, 1)[:, None]
        self.discriminator = PatchDiscriminator(2, channels=16, in_channels=KINDS + 1, num_layers_d=2, norm=None)
        self.optimizer = adam(self.discriminator)

    @collab.publish
    def start(self) -> dict:
        """How many images there are, and the first label maps to draw."""
        return {"count": len(self.images), "masks": self.batch(0)[0]}

    @collab.publish
    def judge(self, step: int, synthetic: torch.Tensor) -> dict:
        """Learn to tell the synthetic images of a step from real ones; then say how to change them to pass for real."""
        masks, images = self.batch(step)
        real, fake = self.verdict(masks, images), self.verdict(masks, synthetic)
        loss = LOSS(real, True, for_discriminator=True) + LOSS(fake, False, for_discriminator=True)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

        synthetic = synthetic.requires_grad_()
        fooled = LOSS(self.verdict(masks, synthetic), True, for_discriminator=False)
        (gradient,) = torch.autograd.grad(fooled, synthetic)
        return {"gradient": gradient.contiguous(), "loss": fooled.item(), "masks": self.batch(step + 1)[0]}

    def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        chosen = RandomState(step).randint(len(self.images), size=BATCH)
        return self.masks[chosen], self.images[chosen]

    def verdict(self, masks: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        # it returns all its layers; the last are the logits
        return self.discriminator(torch.cat([masks, images], dim=1))[-1]


class Server:
    """The generator. ``steps`` of training, and the ``folder`` for what comes of it."""

    def __init__(self, steps: int, folder: str) -> None:
        self.steps, self.folder = steps, folder

    @collab.main
    def train(self) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(0)
        generator = self.learn(make_generator(), sorted(collab.clients, key=lambda site: site.name))
        torch.save(generator.state_dict(), Path(self.folder, "generator.pt"))
        bright, dark = (torch.stack([draw_mask(seed + number) for number in range(8)]) for seed in (9000, 9100))
        with torch.no_grad():
            images = generator(torch.stack([bright, dark * (1 - bright)], dim=1))
        picture = torch.cat([*images[:, 0]], dim=1).numpy()
        matplotlib.image.imsave(Path(self.folder, "synthetic.png"), picture, cmap="gray")

    def learn(self, generator: torch.nn.Module, sites: list) -> torch.nn.Module:
        optimizer = adam(generator)
        about = {site.name: site.start() for site in sites}
        total = sum(each["count"] for each in about.values())
        masks = {name: each["masks"] for name, each in about.items()}
        for step in range(self.steps):
            optimizer.zero_grad()
            for site in sites:  # a call for each: a call of them all would send every hospital's images to all
                synthetic = generator(masks[site.name])
                reply = site.judge(step, synthetic.detach())
                synthetic.backward(reply["gradient"] * about[site.name]["count"] / total)
                masks[site.name] = reply["masks"]
                if step % 50 == 0:
                    print(f"step {step}, {site.name}: generator loss {reply['loss']:.3f}", flush=True)
            optimizer.step()
        return generator


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--output", type=Path, default=Path("runs/flare_gan"))
    options = parser.parse_args()
    folder = options.output.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    recipe = CollabRecipe("flare_gan", Server(options.steps, str(folder)), Hospital(), sync_task_timeout=600)
    recipe.run(SimEnv(clients=list(HOSPITALS), workspace_root=str(folder / "flare"), log_config="error"))
    print(f"drawn after {options.steps} steps, both kinds of lesion in one image: {folder / 'synthetic.png'}")


if __name__ == "__main__":
    main()
