"""Audits compare images of all modalities: sites that lack some are refused before anything is trained or asked."""

import pytest

from bundle.audit.audited_run import audited
from bundle.data import DataError
from bundle.installation import config_dir
from bundle.prepare.preparation import PrepareOptions, prepare


def test_an_audit_of_sites_that_lack_modalities_is_refused(phantom_dir, tiny_sizes, tmp_path):
    options = {"sites": "table", "table": phantom_dir / "cases.csv", "modalities": ("flair", "t2")}
    prepare(PrepareOptions("brats", phantom_dir, tmp_path, lacks={"B": ["t2"]}, **options))
    files = [str(config_dir() / name) for name in ("train.yaml", "brats.yaml", "demo.yaml")]
    sizes = {key: value for key, value in tiny_sizes.items() if key != "device"} | {"modalities": ["flair", "t2"]}
    with pytest.raises(DataError, match="an audit needs every modality at every site, but site B has no t2"):
        audited(files, str(tmp_path), sizes)
