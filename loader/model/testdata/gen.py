"""Writes golden.json: what numpy computes. Run: python3 gen.py > golden.json

Needs numpy (made with 2.4). Each group has its weights as the bytes that numpy
holds them in, so that reading them is tested too. A result that is not finite
is null.
"""

import json
import sys

import numpy as np

rng = np.random.default_rng(9999)
MAX = np.finfo(np.float64).max


def ratio(uv, pv, w):
    r = np.where(pv == 0, 0.0, np.clip(uv / pv, -MAX, MAX))
    return w["scale"] * r + w["bias"]


def weighted_difference(uvd, pvd, w):
    return w["w_uvd"] * uvd - w["w_pvd"] * pvd + w["bias"]


KINDS = {
    "ratio": (ratio, ["uv", "pv"], ["scale", "bias"]),
    "weighted_difference": (weighted_difference, ["uvd", "pvd"], ["w_uvd", "w_pvd", "bias"]),
}


def group(kind, weights, inputs):
    compute, names, _ = KINDS[kind]
    wide = {k: v.astype(np.float64)[()] for k, v in weights.items()}
    with np.errstate(all="ignore"):
        out = compute(*inputs, wide)
    return {
        "kind": kind,
        "weights": {
            k: {"dtype": {"f4": "F32", "f8": "F64"}[v.dtype.str[1:]], "hex": v.astype(v.dtype.newbyteorder("<")).tobytes().hex()}
            for k, v in weights.items()
        },
        "inputs": [[float(v) for v in column] for column in inputs],
        "want": [float(v) if np.isfinite(v) else None for v in out],
    }


def groups():
    for kind, (_, names, weights) in KINDS.items():
        for dtypes in (["f4"] * 3, ["f8"] * 3, ["f4", "f8", "f4"]):
            w = {k: np.array(rng.normal(0, 3), dtype=d) for k, d in zip(weights, dtypes)}
            counts = [rng.integers(0, 1_000_000, 40).astype(np.float64) for _ in names]
            yield group(kind, w, counts)
            wide = [rng.choice([-1, 1], 40) * 10.0 ** rng.uniform(-300, 300, 40) for _ in names]
            yield group(kind, w, wide)
        # no traffic, smallest and largest numbers, in all pairs
        edge = np.array([0.0, -0.0, 1.0, -1.0, 5e-324, 1e-310, MAX, -MAX])
        pairs = [v.ravel() for v in np.meshgrid(edge, edge)]
        for bad in (1.5, 1e300, np.nan, np.inf, -np.inf):
            w = {k: np.array(0.25) for k in weights}
            w[weights[0]] = np.array(bad)
            yield group(kind, w, pairs)
    # nearly equal terms: what a fused multiply-add would round otherwise
    a = rng.uniform(1, 2, 200)
    w = {"w_uvd": np.array(1 / 3), "w_pvd": np.array(1 / 3), "bias": np.array(0.0)}
    yield group("weighted_difference", w, [a, np.nextafter(a, 2)])


sys.stdout.write("[\n" + ",\n".join(json.dumps(g) for g in groups()) + "\n]\n")
