"""Writes versions of a score model and prints what each answers.

    score.py DIR UV PV COUNT [NAN]

writes DIR/v1.safetensors to DIR/vCOUNT.safetensors. Each version differs from
the one before it in one weight and some rows of a table. The scale of version
NAN is not a number. A line a version: its number, and the score of UV and PV as
the shortest text of the float64.
"""

import pathlib
import sys

import numpy as np
from safetensors.numpy import save_file

folder, uv, pv, count = pathlib.Path(sys.argv[1]), np.float64(sys.argv[2]), np.float64(sys.argv[3]), int(sys.argv[4])
bad = int(sys.argv[5]) if len(sys.argv) > 5 else 0

rng = np.random.default_rng(9)
tensors = {
    "bias": np.array(0.1, dtype=np.float64),
    "ids": rng.integers(0, 1 << 40, size=50_000, dtype=np.int64),
    "scale": np.array(0.0, dtype=np.float64),
    "table": rng.standard_normal((4096, 192), dtype=np.float32),
    "tower.0.weight": rng.standard_normal((512, 512), dtype=np.float32).astype(np.float16),
}
for n in range(1, count + 1):
    tensors["scale"][...] = np.nan if n == bad else 2 + n / 3
    rows = rng.choice(4096, size=40, replace=False)
    tensors["table"][rows] += rng.standard_normal((40, 192), dtype=np.float32)
    save_file(tensors, folder / f"v{n}.safetensors", metadata={"format": "np", "version": str(n)})
    print(n, repr(float(tensors["scale"] * (uv / pv) + tensors["bias"])))
