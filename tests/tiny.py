"""Sizes with which a training of brains ends after seconds on one core, whatever its release policy."""

NETWORKS = {
    "image_size": 32,
    "generator_channels": 8,
    "generator_blocks": 1,
    "discriminator_channels": 8,
    "teacher_channels": 4,
    "teacher_steps": 3,
    "private_teacher_steps": 3,
    "amp": False,
}
