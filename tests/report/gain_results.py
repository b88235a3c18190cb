"""Results of a run with the settings beyond the paper's, made up: four hospitals, of which one may have no patients."""

import numpy as np

SITES = ("CS", "DU", "FG", "HT")
PATIENTS = {"CS": 9, "DU": 12, "FG": 6, "HT": 9}
MEANS = {
    "real_all": 0.70,
    "real_subset/CS": 0.52,
    "real_subset/DU": 0.58,
    "real_subset/FG": 0.31,
    "real_subset/HT": 0.61,
    "real_subset_augmented/CS": 0.57,
    "real_subset_augmented/DU": 0.61,
    "real_subset_augmented/FG": 0.42,
    "real_subset_augmented/HT": 0.64,
    "real_subset_plus_asyndgan/CS": 0.66,
    "real_subset_plus_asyndgan/DU": 0.67,
    "real_subset_plus_asyndgan/FG": 0.61,
    "real_subset_plus_asyndgan/HT": 0.62,
    "asyndgan_then_real_subset/CS": 0.64,
    "asyndgan_then_real_subset/DU": 0.66,
    "asyndgan_then_real_subset/FG": 0.55,
    "asyndgan_then_real_subset/HT": 0.65,
    "asyndgan": 0.63,
    "syn_all": 0.64,
    "syn_subset_pooled": 0.55,
    "labels_only": 0.33,
    "fedavg": 0.68,
    "fedprox": 0.67,
}
MEANS |= {f"syn_subset/{site}": 0.45 + 0.02 * n for n, site in enumerate(SITES)}
MEANS |= {f"leave_out/{site}": 0.57 + 0.01 * n for n, site in enumerate(SITES)}
MEANS |= {f"leave_out_real_all/{site}": 0.67 - 0.01 * n for n, site in enumerate(SITES)}
MEANS |= {f"leave_out_fedavg/{site}": 0.64 - 0.02 * n for n, site in enumerate(SITES)}
MEANS |= {"teachers_only": 0.64}
AVERAGING = {"rounds": 100, "local_steps": 15, "bytes_to_sites": 3_500_000_000, "bytes_from_sites": 3_500_000_000}
ATTACK = {"low": 0.55, "high": 0.68, "chance": 0.5, "control": 0.54}


def gain_results(means=None, patients=None, seeds=3, noise=0.05):
    """Plausible results: patients differ more than settings do, and a hospital's own images serve its own ones best."""
    means, patients = means or MEANS, patients or PATIENTS
    rng = np.random.default_rng(0)
    test = {f"TCGA_{site}_{n:04d}": f"{site}/TCGA_{site}_{n:04d}" for site in patients for n in range(patients[site])}
    hard = dict(zip(test, rng.normal(0, 0.13, len(test)), strict=True))
    settings = {}
    for setting, mean in means.items():
        own = setting.partition("/")[2]
        values = {}
        for case, patient in test.items():
            near = 0.06 if patient.startswith(f"{own}/") else 0.0
            drawn = mean + hard[case] + near + rng.normal(0, noise) + rng.normal(0, noise / 2, seeds)
            values[case] = np.clip(drawn, 0, 0.97).round(4).tolist()
        settings[setting] = {"dice": scores(values), "hd95": scores(hd95(values)), "training_images": 900}
    return {
        "task": "brats",
        "name": "TCGA-LGG, four institutions",
        "profile": "compact",
        "seeds": list(range(seeds)),
        "training_cases": {"CS": 8, "DU": 10, "FG": 6, "HT": 8},
        "test_patients": test,
        "losses": "hinge adversarial",
        "policy": "guarded",
        "units": {"hd95": "px"},
        "settings": settings,
        "wire": {"bytes_to_sites": 198_289_512, "bytes_from_sites": 212_086_584, "steps": 1500, "codec": "float32"},
        "averaging": {"fedavg": AVERAGING | {"proximal_mu": 0.0}, "fedprox": AVERAGING | {"proximal_mu": 0.01}},
        "attacks": {
            "asyndgan": [ATTACK | {"attack": "wall, loss", "value": 0.61}, ATTACK | {"attack": "n", "value": 0.5}],
            "fedavg": [ATTACK | {"attack": "loss of the averaged segmenter", "value": 0.64}],
        },
        "command": "asyndgan run --task brats --settings gain --seeds 0 1 2",
    }


def scores(values):
    """An entry of results.json from values by case, a list over seeds."""
    per_seed = np.array(list(values.values()), dtype=float).mean(axis=0).tolist()
    std = float(np.std(per_seed, ddof=1)) if len(per_seed) > 1 else None
    return {"mean": float(np.mean(per_seed)), "std": std, "per_seed": per_seed, "per_case": values}


def hd95(values):
    return {case: [round(40 * (1 - value) + 5, 3) for value in of_seeds] for case, of_seeds in values.items()}
