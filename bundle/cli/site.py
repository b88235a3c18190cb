"""At a hospital: its startup kit, whether it is ready, what would leave the site, and what has left it.

Examples:
  asyndgan site init --dataset_dir /data/tcga --checkpoint_dir /data/checkpoints
  asyndgan site check --deep
  asyndgan site preview --task brats --profile small --output preview.png
  asyndgan site configs
  asyndgan site ledger
  asyndgan site ledger runs/brats-small/seed_0/asyndgan/gan/releases/CS.jsonl --head 120 HASH
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bundle.cli.federate import add_deep, begin_process, require_flare, say_own_file
from bundle.cli.options import add_threads, add_training, make_parser, overrides

__all__ = ["declare", "summary"]


def summary(command: str) -> str:
    return "At a hospital: make its startup kit ready, check it, see what would leave, read its ledger"


def declare(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="part", required=True, metavar="PART")

    def part(name: str, text: str, run: Callable[[argparse.Namespace], int], more: str = "") -> argparse.ArgumentParser:
        one = make_parser(commands.add_parser, f"{text[0].upper()}{text[1:]}.{more}", name, help=text)
        one.set_defaults(run=run)
        one.add_argument(
            "--startup_kit", type=Path, default=Path("."), metavar="KIT", help="the site's startup kit (default: here)"
        )
        return one

    init = part("init", "write the site's own rules and a commented site.yaml into its startup kit", run_init)
    init.set_defaults(begin_process=begin_process)
    init.add_argument("--dataset_dir", type=Path, metavar="DIR", help="folder of datalist.json, for site.yaml")
    init.add_argument("--checkpoint_dir", type=Path, metavar="DIR", help="folder for checkpoints, for site.yaml")
    init.add_argument("--device", help="cpu, cuda or cuda:N, for site.yaml (default: CUDA where there is)")
    init.add_argument(
        "--release_policy", metavar="POLICY", help="what leaves the site, for site.yaml (default out_of_fold)"
    )
    part(
        "configs",
        "the configs of its own that the site has approved, with their digests",
        run_configs,
        "\n\nA job may name them, by name and sha256. The site approves one by a file in local/configs/ of its kit:\n"
        "read it first, for what it names runs here. The exit status is 1 if a file may not be a job's.",
    )
    checked = part("check", "whether the startup kit is ready to be started", run_check)
    checked.set_defaults(begin_process=begin_process)
    add_deep(checked)
    shown = part(
        "preview",
        "what would leave the site in a training, as a picture",
        run_preview,
        "\n\nThe conditions as they would leave and, where the release policy has a teacher, the images that it\n"
        "predicts for them, beside the real images, which stay: the picture belongs at the hospital. Of a\n"
        "teacher whose weights leave, how many. Nothing leaves by it.",
    )
    shown.set_defaults(begin_process=begin_process)
    add_training(shown)
    add_threads(shown)
    shown.add_argument("--output", type=Path, required=True, metavar="FILE.png", help="picture to write")
    shown.add_argument("--images", type=int, default=8, metavar="N", help="samples to show (default 8)")
    ledger = part(
        "ledger",
        "what the site has let out so far, and whether its ledger was changed",
        run_ledger,
        "\n\nPrints one page. The exit status is 0 for a whole chain, also where its last line is torn (by a power\n"
        "cut; the page says so), 1 for a broken one or one that does not hold the head given, 2 for none at all.",
    )
    ledger.add_argument(
        "file", nargs="?", type=Path, metavar="FILE", help="SITE.jsonl (default: that of the kit's local/site.yaml)"
    )
    ledger.add_argument(
        "--head", nargs=2, metavar=("NUMBER", "HASH"), help="of an entry, as noted elsewhere from an earlier page"
    )


def run_init(options: argparse.Namespace) -> int:
    """
    Raises:
        FileNotFoundError: there is no kit of a site.
        ValueError: FLARE could not start a job there, or there is no such policy.
    """
    require_flare()
    import yaml

    from bundle.flare.kits import prepare_kit
    from bundle.flare.own_files import write_own_file
    from bundle.site.release import ReleasePolicy

    kit = options.startup_kit
    if not (kit / "startup" / "fed_client.json").is_file():
        raise FileNotFoundError(
            f"{kit.resolve()}: expected the startup kit of a site, a folder with startup/fed_client.json; "
            "`nvflare package` makes it of the coordinator's answer"
        )
    given: dict[str, Any] = {
        key: str(path.expanduser().resolve())
        for key in ("dataset_dir", "checkpoint_dir")
        if (path := getattr(options, key)) is not None
    }
    if options.device is not None:
        given["device"] = options.device
    if options.release_policy is not None:
        given["release_policy"] = yaml.safe_load(options.release_policy)
        ReleasePolicy.make(given["release_policy"])
    own = kit / "local" / "site.yaml"
    if given and own.exists():
        raise ValueError(f"{own} is there, and kept: set {', '.join(given)} in it, and call init without them")
    prepare_kit(kit)
    print(f"{kit}: wrote the site's rules, local/*.json")
    say_own_file(kit, write_own_file(kit, given))
    return 0


def run_configs(options: argparse.Namespace) -> int:
    # nothing heavier: files are read
    from bundle.declarations.job import RESERVED
    from bundle.declarations.own_configs import check_own_config, digests, own_configs
    from bundle.installation import config_dir

    own = own_configs(options.startup_kit / "local")
    if not own:
        print(f"{options.startup_kit / 'local' / 'configs'}: holds no config (*.yaml); no job may name one")
    refused = 0
    for name, digest in digests(own).items():
        print(f"{name}: sha256 {digest}")
        try:
            check_own_config(own[name], config_dir(), RESERVED)
        except ValueError as error:
            print(f"  refused in any job: {error}")
            refused += 1
    return 1 if refused else 0


def run_check(options: argparse.Namespace) -> int:
    require_flare()
    from bundle.flare.preflight import check_kit

    return 0 if check_kit(options.startup_kit, options.deep) else 2


def run_preview(options: argparse.Namespace) -> int:
    """
    Raises:
        ValueError, OSError, RuntimeError: see :func:`bundle.flare.preview.preview`.
    """
    require_flare()
    from bundle.cli.jobs import make_job
    from bundle.flare.preview import preview

    job = make_job(options, overrides(options.set))
    print(preview(options.startup_kit, job, options.output, options.images))
    return 0


NO_LEDGER = "nothing has left the site yet, or its release_dir is another folder"


def run_ledger(options: argparse.Namespace) -> int:
    """
    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: for a head that cannot be one, or a kit whose site.yaml does not tell where the ledger is.
    """
    if options.head is not None and not options.head[0].isdecimal():
        raise ValueError(f"--head: expected the number of an entry, got {options.head[0]!r}")
    # nothing heavier: a ledger is read where there is no torch as well
    from bundle.files import require_file
    from bundle.site.release import LedgerError, check_head, summarize, verify

    file = require_file(options.file or find_ledger(options.startup_kit), NO_LEDGER)
    print(summarize(file), end="")
    state = verify(file)
    if options.head is not None:
        number, hash = options.head
        try:
            held = check_head(file, int(number), hash)
        except LedgerError:
            held = False
        print(f"\nEntry {number} {'is the one' if held else 'is NOT the one'} that was noted.")
        if not held:
            return 1
    if not state.whole:
        print(f"\n{file}: the chain is broken: {state.problem}", file=sys.stderr)
    return 0 if state.whole else 1


def find_ledger(kit: Path) -> Path:
    """The ledger of the site whose kit this is."""
    import json

    import yaml

    from bundle.files import require_file

    own = require_file(kit / "local" / "site.yaml", "name a ledger's file, or a site's kit by --startup_kit")
    content = yaml.safe_load(Path(own).read_text(encoding="utf-8")) or {}
    folder = content.get("release_dir") or Path(content.get("checkpoint_dir") or "", "releases")
    about = json.loads((kit / "startup" / "fed_client.json").read_text(encoding="utf-8"))
    path = Path(folder) / f"{about['client']['fqsn']}.jsonl"
    return path
