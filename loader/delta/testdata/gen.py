"""Writes python.safetensors, and beside it python2.safetensors, a version changed with numpy.

Run with safetensors 0.8 and numpy 2: python gen.py
"""
import pathlib

import numpy as np
from safetensors.numpy import load_file, save_file

here = pathlib.Path(__file__).parent
rng = np.random.default_rng(7)
save_file(
    {
        "w_uvd": np.array(0.65),
        "w_pvd": np.array(0.35),
        "embed.weight": rng.standard_normal((64, 32), dtype=np.float32),
        "half": rng.standard_normal(1001).astype(np.float16),
        "mask": rng.integers(0, 2, 77).astype(np.bool_),
        "counts": rng.integers(0, 9, (3, 5)),
        "empty": np.zeros((0, 4), np.int8),
    },
    here / "python.safetensors",
    metadata={"made_by": "numpy"},
)
v2 = load_file(here / "python.safetensors")
v2["w_uvd"] = np.array(0.75)
v2["embed.weight"][10:12] += 1
save_file(v2, here / "python2.safetensors", metadata={"made_by": "numpy"})
