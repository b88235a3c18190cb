"""What is left of FLARE's logs when a trial removes its kits."""

import zipfile

import pytest

pytest.importorskip("nvflare", reason="the extra `federation` is not installed")

from bundle.flare.logs import keep_logs


def test_logs_of_jobs_are_kept_packed_or_not_and_nothing_else(tmp_path):
    kits = {name: tmp_path / "kits" / name for name in ("server", "A")}
    for path in ("server/log.txt", "server/startup/server.key", "A/log.txt", "A/job-1/log.txt", "A/job-1/audit.log"):
        (tmp_path / "kits" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "kits" / path).write_text(path, encoding="utf-8")
    (kits["server"] / "jobs" / "job-1").mkdir(parents=True)
    with zipfile.ZipFile(kits["server"] / "jobs" / "job-1" / "workspace", "w") as archive:
        for name in ("log.txt", "error_log.txt", "audit.log", "generator.pt", "app_server/config/x.json"):
            archive.writestr(name, name)
    keep_logs(kits, tmp_path / "kept")
    kept = tmp_path / "kept"
    assert {path.relative_to(kept).as_posix() for path in kept.rglob("*") if path.is_file()} == {
        *("server/log.txt", "server/job-1/log.txt", "server/job-1/error_log.txt", "server/job-1/audit.log"),
        *("A/log.txt", "A/job-1/log.txt", "A/job-1/audit.log"),
    }
    assert (kept / "server" / "job-1" / "log.txt").read_text(encoding="utf-8") == "log.txt"
