"""Trains LightGBM models and writes what they predict.

    forest.py DIR

writes for each kind of model DIR/KIND.txt, as save_model does, and
DIR/KIND.want, a line a row with the shortest text of the prediction; and
DIR/rows.jsonl, the rows, with null for a value that is missing.
"""

import json
import pathlib
import sys

import lightgbm as lgb
import numpy as np

folder = pathlib.Path(sys.argv[1])
rng = np.random.default_rng(11)
n = 6000
names = ["visits", "views", "device", "p95", "bounce", "age"]
X = np.column_stack([
    rng.normal(size=n), rng.normal(size=n) * 10, rng.integers(0, 90, n), np.where(rng.random(n) < 0.2, np.nan, rng.normal(size=n)),
    np.where(rng.random(n) < 0.3, 0, rng.normal(size=n)), rng.gamma(2, size=n),
])
y = X[:, 0] * 2 + np.nan_to_num(X[:, 3]) * X[:, 1] + X[:, 2] % 3 + X[:, 4] + np.sin(X[:, 5] * 3)
rows = X[:500].copy()
rows[rng.random(rows.shape) < 0.1] = np.nan
rows[rng.random(rows.shape) < 0.05] = 0
(folder / "rows.jsonl").write_text("".join(
    json.dumps({k: None if np.isnan(v) else v for k, v in zip(names, r)}) + "\n" for r in rows.tolist()))
common = dict(verbose=-1, num_threads=1, num_leaves=32, min_data_per_group=10)
for kind, params, label, categories in [
    ("regression", dict(objective="regression"), y, []),
    ("zero", dict(objective="regression", zero_as_missing=True), y, [2]),
    ("forest", dict(objective="regression", boosting="rf", bagging_freq=1, bagging_fraction=0.6), y, [2]),
    ("dart", dict(objective="regression", boosting="dart"), y, [2]),
    ("binary", dict(objective="binary"), (y > 1).astype(float), [2]),
    ("tweedie", dict(objective="tweedie"), np.abs(y), []),
]:
    data = lgb.Dataset(X, label=label, feature_name=names, categorical_feature=categories, params={**common, **params})
    model = lgb.train({**common, **params}, data, 40)
    model.save_model(folder / f"{kind}.txt")
    saved = lgb.Booster(model_file=str(folder / f"{kind}.txt"))
    (folder / f"{kind}.want").write_text("".join(repr(float(v)) + "\n" for v in saved.predict(rows)))
    print(kind)
