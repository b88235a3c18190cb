"""What a stage says when MONAI's own workflow runs it, which takes misspelt keys for new ones."""

from __future__ import annotations

import logging

from bundle.composition import BASES
from bundle.declarations.keys import PATH_KEYS
from bundle.inputs import misread, running_workflow
from bundle.workflows.config_checks import ConfigError, check_merged, keys_in_use, references
from bundle.workflows.workflow import CheckedWorkflow

__all__ = ["check_plain_run"]

logger = logging.getLogger(__name__)


def check_plain_run() -> None:
    """
    For the first line of a config's ``run``: what our workflows refuse when they are made, for those that MONAI makes
    where no ``--workflow_name`` is given, and what only those can get wrong: places that are read as something else,
    and a list without what its configs are based on.

    Raises:
        ConfigError: a key that nothing uses, a value that is none of its key's kind, steps that do not fill epochs.
    """
    workflow = running_workflow()
    if workflow is None or isinstance(workflow, CheckedWorkflow):
        return
    logger.warning("MONAI's own workflow checks little: --workflow_name, as in the head of the config, checks all")
    config = workflow.parser.get()
    for key in PATH_KEYS & config.keys():
        if wrong := misread(key, config[key], config):
            raise ConfigError(wrong)
    for key in sorted(keys_in_use(config, ["run", "inputs", "finished"])):
        if absent := sorted(references(config[key]) - config.keys()):
            raise ConfigError(
                f"{key} refers to {absent[0]}, which no config has; MONAI's own workflow wants what configs are "
                f"{BASES} in its list, before them, and a profile with the sizes"
            )
    check_merged(config, workflow.config_root_path)
