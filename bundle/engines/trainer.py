"""The distributed training step as an Ignite engine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch
from monai.engines import Trainer
from monai.inferers import Inferer, SimpleInferer

from bundle.federation import Federation
from bundle.federation.messages import SyntheticBatch
from bundle.seeding import derive_seed, forked_rng

__all__ = ["DistributedGanTrainer", "losses_by_tag", "mean_losses", "mixture_weights"]


def mixture_weights(
    num_samples: dict[str, int], mixture: Literal["proportional", "sum"] = "proportional"
) -> dict[str, float]:
    """
    Weights of the sites' image gradients.

    Args:
        num_samples: n_j by site, of the sites that take part.
        mixture: ``proportional`` for π_j = n_j / Σ n_i (Chang et al. 2020, equation 1), ``sum`` for 1 each, as the
            authors' code of 2020 has it.

    Raises:
        ValueError: for another name of a mixture.
    """
    if mixture == "sum":
        return dict.fromkeys(num_samples, 1.0)
    if mixture != "proportional":
        raise ValueError(f"mixture is 'proportional' or 'sum', not {mixture!r}")
    total = sum(num_samples.values())
    return {site: n / total for site, n in num_samples.items()}


class DistributedGanTrainer(Trainer):
    """
    Trains a generator against the discriminators of a federation (Chang et al., *Synthetic Learning*, CVPR 2020).

    One iteration is one step, and one round trip: ŷ_j = G(x_j) to every site j, ∂L_j/∂ŷ_j and the next conditions back,
    Σ_j π_j ∂L_j/∂ŷ_j through G, one update of G. The trainer knows a :class:`bundle.federation.Federation` and not
    where its sites are. Handlers do everything else.

    Args:
        device: where the generator computes.
        max_epochs: number of epochs.
        epoch_length: steps per epoch; an epoch is only the interval at which handlers act.
        federation: the sites.
        generator: G, from conditions B×X×H×W to images B×C×H×W in [-1, 1].
        optimizer: optimiser of ``generator``.
        inferer: how the generator is called; :class:`bundle.engines.AutocastInferer` for mixed precision.
        mixture: see :func:`mixture_weights`.
        seed: seed of the run, for a generator with random layers.
        train_data_loader: nothing by default: the server holds no data. MONAI's bundle properties require the key.
        train_handlers: MONAI or Ignite handlers.

    After an iteration ``engine.state.output`` is ``{"loss": Σ_j π_j adversarial_j, "losses": {site: {name: value}},
    "synthetic": {site: B×C×H×W}, "conditions": {site: B×X×H×W}}``.

    Raises:
        FloatingPointError: when a site returns a gradient that is not finite.
    """

    def __init__(
        self,
        device: torch.device | str,
        max_epochs: int,
        epoch_length: int,
        federation: Federation,
        generator: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        inferer: Inferer | None = None,
        mixture: Literal["proportional", "sum"] = "proportional",
        seed: int = 0,
        train_data_loader: Iterable | None = None,
        train_handlers: Sequence | None = None,
    ) -> None:
        self.federation = federation
        self.generator = generator
        self.optimizer = optimizer
        self.inferer = SimpleInferer() if inferer is None else inferer
        self.mixture = mixture
        mixture_weights({}, mixture)  # refuses another name now and not at the first step
        self.seed = seed
        self._num_samples: dict[str, int] = {}
        self._conditions: dict[str, torch.Tensor] = {}
        super().__init__(
            device=device,
            max_epochs=max_epochs,
            data_loader=train_data_loader if train_data_loader else range(epoch_length),
            epoch_length=epoch_length,
            handlers=train_handlers,
            decollate=False,
        )

    def _iteration(self, engine: DistributedGanTrainer, batchdata: Any) -> dict[str, Any]:
        step = engine.state.iteration
        if not self._conditions:
            # here and not at the start of the run: a checkpoint may have been loaded in between
            infos = self.federation.open(step)
            self._num_samples = {site: info.num_samples for site, info in infos.items()}
            self._conditions = {site: info.conditions for site, info in infos.items()}
        conditions = self._conditions

        self.generator.train()
        self.optimizer.zero_grad(set_to_none=True)
        synthetic = {site: self._generate(conditions[site], site, step) for site in sorted(conditions)}
        replies = self.federation.exchange(
            {site: SyntheticBatch(site, step, images.detach()) for site, images in synthetic.items()}
        )

        # in the order of names: floating-point sums depend on their order
        present = sorted(replies)
        weights = mixture_weights({site: self._num_samples[site] for site in present}, self.mixture)
        gradients = [weights[s] * replies[s].image_gradient.to(engine.state.device) for s in present]
        for site, gradient in zip(present, gradients, strict=True):
            if not torch.isfinite(gradient).all():
                raise FloatingPointError(f"step {step}: site {site} returned an image gradient that is not finite")
        torch.autograd.backward([synthetic[s] for s in present], gradients)
        self.optimizer.step()

        self._conditions = {site: reply.conditions for site, reply in replies.items()}
        return {
            "loss": sum(weights[s] * replies[s].losses["adversarial"] for s in present),
            "losses": {s: replies[s].losses for s in present},
            "synthetic": {s: synthetic[s].detach() for s in present},
            "conditions": {s: conditions[s] for s in present},
        }

    def _generate(self, conditions: torch.Tensor, site: str, step: int) -> torch.Tensor:
        inputs = conditions.to(self.state.device, torch.float32)
        with forked_rng(derive_seed(self.seed, "generator", site, step), self.state.device):
            return self.inferer(inputs, self.generator)


def losses_by_tag(output: dict[str, Any]) -> dict[str, float]:
    """The output of a step as TensorBoard scalars: ``loss/SITE/TERM``."""
    return {f"loss/{site}/{term}": v for site, terms in output["losses"].items() for term, v in terms.items()}


def mean_losses(output: dict[str, Any]) -> dict[str, float]:
    """The losses of a step by term, averaged over the sites."""
    by_site = list(output["losses"].values())
    return {term: sum(losses[term] for losses in by_site) / len(by_site) for term in by_site[0]}
