"""Sites that have let nothing out yet, as every attack finds them."""

from __future__ import annotations

from bundle.site import Site
from bundle.site.folds import FoldedCritic
from bundle.site.private_critic import PrivateCritic
from bundle.site.release import ReleaseGate

__all__ = ["renew_gate"]


def renew_gate(site: Site, num_steps: int | None, step: int = 1) -> None:
    """
    Give a site a gate of its policy that has released nothing, without a ledger: what attacks ask counts nowhere, and
    none finds the budget of another one spent.

    Args:
        site: the site, with the loss that it is asked with.
        num_steps: of the training; None where that is not known. The noise of a private policy is that of such a
            training, at whatever step it is.
        step: the first step that the site is going to be asked for.

    Raises:
        ReleaseRefused: when the policy forbids the loss, or such a training.
    """
    # samples stay as they are deformed or drawn, and patients in their folds: asked for while the ledger is there
    folded = isinstance(site.critic, FoldedCritic) and bool(site.critic.folds.digest)
    secret = site.gate.secret if folded or site.policy.conditions in ("deformed", "drawn") else None
    private = num_steps is not None and site.policy.private
    # the gate divides its budget among the steps that are left
    steps = num_steps + step - 1 if private else num_steps
    keep = site.gate.keep_conditions
    gate = ReleaseGate(site.policy, site.name, num_steps=steps, keep_conditions=keep, secret=secret)
    gate.plan(site.critic.loss.terms)
    if not private:
        # possible; but attacks ask for steps past the end of a training as well
        gate.num_steps = None
    if isinstance(site.critic, PrivateCritic):
        site.critic.plan(gate)
    site.gate = gate
