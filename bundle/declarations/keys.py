"""Every key of the configs that holds a plain value or a path: what it may be, and what it means. Declared here, once.

The command line, the configs, jobs, and the files of participants are checked against it
(:func:`bundle.workflows.config_checks.check_values`, :class:`bundle.declarations.job.Job`,
:func:`bundle.declarations.job.read_local`), before anything is made. Bounds are far beyond what is useful, and below
what takes a machine down. A component, an expression and a reference to another key are not judged here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bundle.declarations.kinds import (
    ByName,
    Either,
    Fields,
    Flag,
    Kind,
    ListOf,
    Matching,
    Name,
    Nothing,
    Number,
    OneOf,
    Path,
    Scalar,
    Setting,
    Text,
    Whole,
    in_brief,
    optional,
)
from bundle.settings import GROUPS as SETTING_GROUPS
from bundle.settings import KINDS

__all__ = ["COMPONENTS", "GROUPS", "KEYS", "PARTICIPANT_KEYS", "PATH_KEYS", "Key", "problem"]


@dataclass(frozen=True)
class Key:
    """
    Attributes:
        kind: what a plain value of it may be.
        meaning: in a line; units where there are some.
        published: the value of the authors' publications or code, where they say one and it is not only the default.
    """

    kind: Kind
    meaning: str
    published: str | None = None


_STEPS = Whole(1, 10**8)
_CHANNELS = Whole(1, 1024)
_SEED = Whole(0, 2**32 - 1)
_RATE = Number(0, 10)
_SHARE = Number(0, 1)
_WEIGHT = Number(0, 1e6)
_SECONDS = Number(0.001, 10**7)
_BATCH = Whole(1, 4096)
_LAYERS = Whole(1, 64)
_PIXELS = Whole(0, 10**6)
_NORM_NAME = Matching(r"[A-Za-z_]+", "MONAI's name of a normalisation, such as INSTANCE or BATCH")
# a name with arguments: [GROUP, {num_groups: 8}]
_NORM = optional(Either(_NORM_NAME, ListOf(Either(_NORM_NAME, ByName(Scalar(), 8)), 2, 2)))
_SUFFIX = Matching(r"(\.[A-Za-z0-9]+){1,3}", "the ending of a file's name, such as .nii.gz")
_MAYBE_PATH = optional(Path())
_SITES = 10_000
# which fields a policy has, and what they may be, is for bundle.site.release.ReleasePolicy to say
_POLICY = ByName(Either(Scalar(), ListOf(Name(), 0, 16)), 100)

GROUPS: dict[str, dict[str, Key]] = {
    "What and where": {
        "task": Key(Name(), "name of the task; runs lie in a folder of that name"),
        "setting": Key(Setting(), "what is trained on what"),
        "seed": Key(_SEED, "of every random draw of the run"),
        "bundle_root": Key(Path(), "folder that holds configs/"),
        "dataset_dir": Key(Path(), "folder of datalist.json"),
        "run_dir": Key(Path(), "folder of the run"),
        "output_dir": Key(Path(), "folder of the outputs of one setting and seed"),
        "earlier": Key(_MAYBE_PATH, "folder of the outputs of an earlier training, which this one goes on from"),
        "earlier_training": Key(
            optional(Matching(r"[0-9a-f]{16}", "the identity of a job, 16 hexadecimal digits")),
            "behind FLARE: the earlier job, whose discriminators the sites go on with",
        ),
        "replay_dir": Key(Path(), "folder for what is kept of sites that have left"),
        "config_path": Key(_MAYBE_PATH, "file that keeps the resolved configuration"),
        "finished": Key(_MAYBE_PATH, "file that the stage writes last"),
        "checkpoint_dir": Key(Path(), "folder of checkpoints"),
        "synthetic_dir": Key(Path(), "folder of the synthetic data set"),
        "prediction_dir": Key(Path(), "folder of the masks of held-out cases"),
        "feature_dir": Key(Path(), "folder of the feature network"),
        "generator_path": Key(Path(), "weights of the generator"),
        "segmenter_path": Key(Path(), "weights of the segmenter"),
        "conditions_path": Key(Path(), ".npz of the conditions that sites released"),
        "cache_dir": Key(_MAYBE_PATH, "folder for decoded cases that are not kept in memory; null for a temporary one"),
        "device": Key(Matching(r"(cpu|mps|cuda)(:\d{1,3})?", "a device such as cpu, cuda or cuda:1"), "what computes"),
        "ddp_backend": Key(OneOf("nccl", "gloo"), "how several processes talk to each other"),
        "amp": Key(
            Either(Flag(), OneOf("auto")),
            "bfloat16 where a network is called; auto: where the CPU or GPU is fast with it, and the log says so",
            "false",
        ),
        "cache_rate": Key(_SHARE, "share of the cases kept in memory; the others lie decoded on disk"),
    },
    "What an experiment consists of": {
        "stages": Key(
            ListOf(OneOf("train", "generate", "segment", "evaluate", "features", "quality"), 1, 6), "of an experiment"
        ),
        "settings": Key(
            ListOf(OneOf(*KINDS, *SETTING_GROUPS), 1, len(KINDS)),
            "of an experiment: kinds, or a group: paper, gain",
        ),
        "profile": Key(optional(Name()), "config with the sizes, if none is asked for"),
    },
    "Data": {
        "modalities": Key(optional(ListOf(Text(), 1, 64)), "channels of the image, by name in the data list", "[t2]"),
        "image_modalities": Key(ListOf(Text(), 1, 64), "channels of a stage's images, of the modalities"),
        "fill_absent": Key(Flag(), "whether training images have black channels for what their site lacks"),
        "label_groups": Key(
            ByName(Either(Whole(1, 2**31 - 1), ListOf(Whole(1, 2**31 - 1), 1, 1000)), 255, Text()),
            "classes by label value",
        ),
        "num_classes": Key(Whole(1, 255), "classes of the segmenter beside the background"),
        "image_channels": Key(Whole(1, 64), "channels of the image"),
        "condition_channels": Key(Whole(1, 512), "channels of the condition"),
        "min_tumor_pixels": Key(_PIXELS, "that a slice to train on has at least, in pixels of the data", "10"),
        "empty_slices": Key(Number(0, 1000), "slices without tumour that are trained on, per slice with", "0"),
        "boundary_width": Key(Whole(1, 100), "pixels along the edge of a nucleus, inside it, that are boundary"),
        "normalize_stains": Key(Flag(), "H&E stain normalisation of every real tile"),
        "image_range": Key(ListOf(Number(-1e9, 1e9), 2, 2), "what the generator's -1 and 1 are stored as"),
        "image_suffix": Key(_SUFFIX, "format of synthetic images"),
        "prediction_suffix": Key(_SUFFIX, "format of the masks of held-out cases"),
        "prediction_writer": Key(
            Nothing(), "what writes the masks of held-out cases; null for the one of their format"
        ),
        "as_slices": Key(Flag(), "whether the images of a site become the slices of one case"),
        "augmentation": Key(Nothing(), "random transforms of a site's samples"),
    },
    "Sizes": {
        "image_size": Key(Whole(1, 4096), "of images and crops, in pixels", "256"),
        "generator_channels": Key(_CHANNELS, "filters of G's first layer", "64"),
        "generator_blocks": Key(Whole(0, 64), "residual blocks of G", "9"),
        "generator_layers": Key(_LAYERS, "hidden layers of the toy's G"),
        "spade_levels": Key(Whole(1, 8), "of SPADE's G: resolutions, each half of the one above"),
        "discriminator_channels": Key(_CHANNELS, "filters of D's first layer", "64"),
        "discriminator_layers": Key(
            Whole(1, 16), "of patch: 1, 2 or 3 judge 16, 34 or 70 pixels at a time; smaller images want fewer", "3"
        ),
        "discriminator_levels": Key(
            Whole(1, 16), "of segmentation: how often the resolution is halved, and the filters doubled"
        ),
        "batch_size": Key(Either(_BATCH, ByName(_BATCH, _SITES)), "of every site, or by name of the site", "1"),
        "num_steps": Key(_STEPS, "steps of the training of G", "about 200,000"),
        "epoch_length": Key(_STEPS, "steps between two checkpoints"),
        "teacher_channels": Key(_CHANNELS, "filters of the first layer of a teacher, R"),
        "teacher_blocks": Key(Whole(0, 64), "residual blocks of R"),
        "teacher_batch_size": Key(_BATCH, "of the training of R"),
        "teacher_steps": Key(_STEPS, "of the training of R, of every fold; before the first step"),
        "private_teacher_channels": Key(
            _CHANNELS, "between the two convolutions of an R that learns with noise (dp_sgd)"
        ),
        "private_teacher_steps": Key(_STEPS, "of its training, out of the site's epsilon; before the first step"),
        "segmenter_channels": Key(ListOf(_CHANNELS, 2, 10), "filters of the segmenter by level"),
        "segmenter_batch_size": Key(_BATCH, "of the segmenter's training"),
        "segmenter_steps": Key(_STEPS, "of the segmenter's training"),
    },
    "Networks": {
        "generator_norm": Key(_NORM, "normalisation in G; null for none", "BATCH in 2020, then INSTANCE"),
        "generator_demodulation": Key(
            Flag(), "weight demodulation in G (StyleGAN2), in the place of a normalisation", "false"
        ),
        "generator_dropout": Key(Number(0, 0.999), "probability in G", "0.5 in 2020, then 0"),
        "generator_upsampling": Key(
            OneOf("resize", "transposed"),
            "how G grows: interpolation and a convolution, or transposed convolutions",
            "transposed",
        ),
        "generator_noise": Key(Whole(0, 512), "channels of noise that G sees beside the condition", "0"),
        "generator_coordinates": Key(Flag(), "whether G sees the position of every pixel", "false"),
        "generator_guide": Key(Flag(), "whether G sees the teacher's image of a condition beside it", "false"),
        "generator_ema": Key(Number(0, 0.999999), "decay per step of an average of G's weights; 0 for none", "0"),
        "discriminator_norm": Key(_NORM, "normalisation in D; null for none", "BATCH in 2020, then INSTANCE"),
        "discriminator_spectral": Key(Flag(), "spectral normalisation of D's weights", "false"),
        "discriminator": Key(
            Name(),
            "patch judges patches of label map and image; segmentation, a U-Net, says of every pixel its class",
            "patch",
        ),
    },
    "The loss at a site, and the training": {
        "adversarial": Key(OneOf("vanilla", "least_squares", "hinge"), "the loss of the game", "vanilla"),
        "l1_weight": Key(_WEIGHT, "of the paired L1 term; above 0 only with release_policy: published", "100"),
        "perceptual_weight": Key(_WEIGHT, "of the perceptual term", "1 (brains), 10 (nuclei)"),
        "perceptual_weights_path": Key(_MAYBE_PATH, "weights of torchvision's VGG-16; without them the term is off"),
        "generator_scale": Key(_WEIGHT, "factor of G's whole loss", "0.1 in 2020, then 1"),
        "discriminator_scale": Key(_WEIGHT, "factor of D's whole loss", "0.05 in 2020, then 1"),
        "foreground_weight": Key(_WEIGHT, "what pixels of the classes count in the adversarial terms", "1"),
        "class_weights": Key(ListOf(_WEIGHT, 1, 512), "the same by channel of the condition, the background last"),
        "staleness": Key(Whole(0, 1), "updates by which the weights that make a step's images may lag", "0"),
        "mixture": Key(OneOf("proportional", "sum"), "weights of the sites", "proportional; sum in the code of 2020"),
        "sites_per_step": Key(
            optional(Whole(1, _SITES)),
            "how many sites a step asks, large ones oftener and what they say counting less; null: all",
            "all",
        ),
        "replay_weight": Key(_WEIGHT, "of |G(x) - G'(x)|, for sites that have left: G' is the generator when they did"),
        "replay_batch_size": Key(_BATCH, "conditions of sites that have left, a step"),
        "forget": Key(ListOf(Name(), 0, _SITES), "sites that have left an earlier training, and are not replayed"),
        "lr": Key(_RATE, "learning rate of G", "2e-4"),
        "discriminator_lr": Key(_RATE, "learning rate of every D", "2e-4"),
        "teacher_lr": Key(_RATE, "learning rate of R"),
        "private_teacher_lr": Key(_RATE, "learning rate of an R that learns with noise"),
        "paired_weight": Key(
            _WEIGHT, "of |G(x) - R(x)| at the server, for sites whose release policy has a teacher", "100 (to y)"
        ),
        "betas": Key(ListOf(Number(0, 0.999999), 2, 2), "of Adam", "[0.5, 0.999]"),
        "constant_lr": Key(_SHARE, "share of the steps before the linear decay to 0 begins", "0.5"),
        "discriminator_augmentation": Key(
            Fields(
                brightness=Number(0, 100),
                contrast=Number(0, 0.999),
                translation=Number(0, 0.999),
                cutout=Number(0, 0.999),
            ),
            "of all that a D sees, real and synthetic (Zhao et al. 2020), for sites with few images; {} for none",
            "{}",
        ),
        "discriminator_updates": Key(
            optional(Whole(1, 1000)),
            "a step, where a site's policy has folds, of their critics in turn, or is dp_sgd; null: one of each",
        ),
        "checkpoint_epochs": Key(_STEPS, "epochs between two checkpoints"),
        "crop_margin": Key(Whole(0, 4096), "pixels that an image is padded by before a random crop", "0"),
        "bend_unit": Key(Whole(1, 4096), "pixels that a bend is measured by"),
        "image_padding": Key(
            OneOf("border", "reflection", "zeros"), "what an image is continued with where it is bent or warped"
        ),
        "bend_prob": Key(_SHARE, "probability of a random bend of what a site sets against each other", "0"),
        "segmenter_lr": Key(_RATE, "learning rate of the segmenter"),
        "segmenter_epoch_length": Key(_STEPS, "steps between two checkpoints of the segmenter"),
        "painter_background": Key(optional(Number(-1, 1)), "intensity of painted images beyond all classes"),
        "own_share": Key(_SHARE, "of a batch that mixes a site's own real images with synthetic ones: the real ones"),
        "fine_tuning_share": Key(
            _SHARE, "of the steps of asyndgan_then_real_subset: the last ones, on the site's own images"
        ),
        "in_rounds": Key(Flag(), "whether somebody else keeps checkpoints and weights, round by round"),
        "averaging_steps": Key(_STEPS, "of every site in a round of federated averaging"),
        "proximal_mu": Key(Number(0, 1e6), "of FedProx: what moving away from the averaged weights costs a site"),
        "segmenter_affine": Key(_SHARE, "probability that a segmenter's image is rotated and scaled"),
        "segmenter_jitter": Key(_SHARE, "probability of each of: another contrast, smoothing, noise"),
        "segmenter_stain_jitter": Key(_SHARE, "probability that a tile is stained anew for a segmenter"),
        "stain_factor": Key(
            Number(1, 1000),
            "by how much at most: haematoxylin and eosin each by a factor of its own from 1/stain_factor to it",
        ),
    },
    "Sites that fail, and messages": {
        "min_sites": Key(
            Whole(1, 10**6),
            "a step that fewer answer is not done: the run stops with a checkpoint; more than there are means all",
            "all",
        ),
        "rejoin_interval": Key(
            _STEPS,
            "steps after which a site that failed is asked again; until then the weights are those of the others",
        ),
        "max_strikes": Key(Whole(1, 10**9), "impossible answers after which a site is left out"),
        "max_gradient_norm": Key(optional(Number(1e-12, 1e30)), "bound of the L2 norm of one image's gradient", "null"),
        "step_timeout": Key(_SECONDS, "seconds after which a step goes on without a site"),
        "open_timeout": Key(_SECONDS, "seconds that a site may take to open, or to release conditions"),
        "round_timeout": Key(_SECONDS, "seconds that a site may take for a round of federated averaging"),
        "score_timeout": Key(_SECONDS, "seconds that a site may take to score one segmenter"),
        "max_message_bytes": Key(Whole(2**16, 2**40), "larger messages are refused before they are decoded"),
        "max_batch_size": Key(Whole(1, 65536), "batch that any site may have"),
        "max_condition_size": Key(
            optional(Whole(1, 10**5)),
            "height and width that a condition for generation may have; null: that of a step's",
        ),
        "max_kept_bytes": Key(optional(Whole(1, 2**50)), "conditions of one site for generation, a byte a pixel"),
        "precision_to_sites": Key(OneOf("float32", "float16", "int8"), "of images", "float32"),
        "precision_from_sites": Key(OneOf("float32", "float16", "int8"), "of image gradients", "float32"),
        "compression": Key(optional(OneOf("zstd")), "of messages"),
        "site_name": Key(Either(Name(), OneOf("")), "known where a site runs"),
        "site_names": Key(
            optional(ListOf(Name(), 1, _SITES)), "of all sites; null for those that are there at the start"
        ),
    },
    "What leaves a site": {
        "release_policy": Key(
            Either(Name(), _POLICY, ByName(Either(Name(), _POLICY), _SITES)),
            "a policy, by its name or its fields, or by site",
        ),
        "release_dir": Key(Path(), "folder of every site's ledger of releases"),
        "keep_conditions": Key(
            Either(Flag(), ByName(Flag(), _SITES)), "whether the server may keep conditions, or by name of the site"
        ),
        "allow_averaging": Key(Flag(), "whether weights trained on the site's images leave it (federate average)"),
        "min_cases": Key(Whole(1, 10**6), "held-out cases that a sum of scores is over at least (federate evaluate)"),
        "per_case": Key(Flag(), "whether scores of single held-out cases leave as well, without their names"),
        "released_conditions": Key(Path(), ".npz of the conditions that sites released"),
        "teacher_images": Key(Path(), ".npz of the images that sites' teachers predicted for them"),
        "teacher_weights": Key(Path(), "folder of the weights of sites' teachers that learned with noise"),
        "public_conditions": Key(_MAYBE_PATH, ".npz of the server's own conditions"),
        "condition_deformation": Key(Nothing(), "random transforms of image and condition, for conditions: deformed"),
        "condition_augmentation": Key(Nothing(), "random transforms of public conditions"),
        "shape_model": Key(Nothing(), "what label maps are drawn by, for conditions: drawn"),
    },
    "The synthetic data set": {
        "condition_bank": Key(_MAYBE_PATH, ".npz to generate from"),
        "use_released": Key(Flag(), "whether what sites released is generated from as well"),
        "copies": Key(
            Whole(1, 10_000), "synthetic images per condition; from the second on, of randomly transformed ones", "1"
        ),
        "transform_first_copy": Key(
            Flag(),
            "whether the first is of a transformed one as well, so that no label map is the very one of a patient",
            "false",
        ),
        "copy_augmentation": Key(Nothing(), "random transforms of the conditions that images are drawn on"),
        "generation_batch_size": Key(_BATCH, "conditions that G sees at once"),
    },
    "Scores": {
        "metric_channels": Key(Fields(), "metrics of several channels that are scored apart: names of the channels"),
        "metric_units": Key(ByName(Text(), 100), "units of the scores, by name of the score"),
        "case_groups": Key(Fields(), "held-out cases that are also scored apart; by name, an expression each"),
        "marker_threshold": Key(_SHARE, "markers are where 1 - the probability of the interior is below"),
        "marker_radius": Key(Whole(0, 1000), "of the opening of markers, in pixels"),
        "min_marker_pixels": Key(_PIXELS, "smaller markers are dropped"),
        "min_nucleus_pixels": Key(_PIXELS, "smaller nuclei are dropped"),
        "feature_seed": Key(_SEED, "of the feature network"),
        "feature_steps": Key(_STEPS, "of the feature network's training"),
        "feature_lr": Key(_RATE, "learning rate of the feature network"),
        "feature_epoch_length": Key(_STEPS, "steps between two checkpoints of the feature network"),
        "feature_weights": Key(Path(), "weights of the feature network"),
        "segmenter_of_real": Key(Nothing(), "finds in synthetic images what they were drawn for"),
        "neighbour_examples": Key(Whole(0, 1000), "nearest neighbours that the report shows"),
    },
    "How the report shows images": {
        "condition_labels": Key(optional(ListOf(Text(), 1, 512)), "names of the condition's channels"),
        "display_preprocessing": Key(Nothing(), "from a case's files to what is shown"),
        "display_y_up": Key(Flag(), "whether the second axis of an image runs upwards"),
        "display_rgb": Key(Flag(), "whether the channels of an image are red, green and blue"),
        "display_size": Key(optional(Whole(1, 10**5)), "of an image larger than this, the middle is shown"),
        "display_histogram": Key(Flag(), "whether images are numbers, whose distributions are shown"),
        "display_instances": Key(Flag(), "whether labels are instance maps"),
    },
    "Inference": {
        "output_postfix": Key(Either(Name(), OneOf("")), "of the names of masks"),
        "output_ext": Key(_SUFFIX, "format of masks"),
        "weights": Key(Path(), "of the segmenter"),
    },
}
"""The keys by what they are about."""

KEYS: dict[str, Key] = {key: about for group in GROUPS.values() for key, about in group.items()}

COMPONENTS = {
    "generator_def": "conditions B×X×H×W of 0 and 1 to one tensor, images B×C×H×W in [-1, 1] whatever its weights are: "
    "it ends in tanh or the like",
    "discriminator_def": "condition and image as channels, B×(X+C)×H×W, to logits, or to a list of layers with the "
    "logits last",
    "segmenter_def": "images B×C×H×W to one tensor of logits, B×(classes + 1)×H×W, the background first",
    "feature_network_def": "the same as `segmenter_def`",
}
"""What is asked of networks that an overlay may exchange; :mod:`bundle.workflows.network_checks` checks it."""

PARTICIPANT_KEYS: dict[str, Key] = {
    "allowed_overrides": Key(optional(ListOf(Name(), 0, 1000)), "keys that a job may override at this site"),
    "num_threads": Key(Whole(1, 4096), "threads that compute"),
    "segmenters": Key(
        ByName(Path(), 1000, Text()), "of the server: weights, or folders of packed bundles, that sites score, by name"
    ),
}
"""Keys of ``site.yaml`` and ``server.yaml`` that are none of the configs."""

PATH_KEYS = frozenset(key for key, about in KEYS.items() if about.kind in (Path(), _MAYBE_PATH))
"""Keys that say where something lies: none of them is a job's to set, and their text is taken as it is."""


def problem(key: str, value: Any, declared: Mapping[str, Key] = KEYS) -> str | None:
    """Why a declared key cannot have this plain value, in one line that shows it in brief; None where it can."""
    kind = declared[key].kind
    return None if kind.accepts(value) else f"{key}: expected {kind}, got {_what(value)}"


def _what(value: Any) -> str:
    # a number where a text is meant looks the same without its type
    named = {bool: "the truth value ", int: "the number ", float: "the number ", str: "the text "}
    return named.get(type(value), "") + in_brief(value)
