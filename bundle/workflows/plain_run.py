"""What a stage says when MONAI's own workflow runs it, which takes misspelt keys for new ones."""

from __future__ import annotations

import inspect
import logging

from monai.bundle import ConfigWorkflow

from bundle.declarations.keys import PATH_KEYS
from bundle.declarations.kinds import in_brief
from bundle.workflows.config_checks import ConfigError, check_merged, is_computed
from bundle.workflows.workflow import CheckedWorkflow

__all__ = ["check_plain_run"]

logger = logging.getLogger(__name__)


def check_plain_run() -> None:
    """
    For the first line of a config's ``run``: what our workflows refuse when they are made, for those that MONAI makes
    where no ``--workflow_name`` is given.

    Raises:
        ConfigError: a key that nothing uses, a value that is none of its key's kind, steps that do not fill epochs.
    """
    # MONAI hands an expression nothing of the config that it stands in, so it is looked for where it is evaluated from
    callers = (frame.frame.f_locals.get("self") for frame in inspect.stack(context=0))
    workflow = next((caller for caller in callers if isinstance(caller, ConfigWorkflow)), None)
    if workflow is None or isinstance(workflow, CheckedWorkflow):
        return
    logger.warning("MONAI's own workflow checks little: --workflow_name, as in the head of the config, checks all")
    config = workflow.parser.get()
    check_merged(config, workflow.config_root_path)
    for key in PATH_KEYS & config.keys():
        if not is_computed(config[key]) and "::" in str(config[key]):
            raise ConfigError(
                f"{key}: MONAI's own workflow reads {in_brief(config[key])} where # stood; rename the folder"
            )
