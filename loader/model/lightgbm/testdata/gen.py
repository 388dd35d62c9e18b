"""Writes the models and rows that the tests compare with: testdata/*.txt and cases.json."""
import json, os, sys
import lightgbm as lgb, numpy as np
out = sys.argv[1]
rng = np.random.default_rng(7)
n = 4000
X = np.column_stack([rng.normal(size=n), rng.normal(size=n) * 10, rng.integers(0, 40, n).astype(float),
                     np.where(rng.random(n) < .2, np.nan, rng.normal(size=n)), np.where(rng.random(n) < .3, 0, rng.normal(size=n)), rng.normal(size=n)])
names = ["visitors", "views", "device", "p95", "bounce", "unused"]
raw = X[:, 0] * 2 + np.nan_to_num(X[:, 3]) * X[:, 1] + (X[:, 2] % 3) + X[:, 4]
XC = X.copy(); XC[:, 5] = 1
base = dict(verbose=-1, num_threads=1, seed=1, deterministic=True, num_leaves=12, min_data_in_leaf=5, min_data_per_group=10)
kinds = {
    "regression": (dict(objective="regression"), raw, [], 12),
    "numeric": (dict(objective="regression", use_missing=False), raw, [], 9),
    "binary": (dict(objective="binary", sigmoid=0.7), (raw > 1).astype(float), [2], 12),
    "zero_missing": (dict(objective="regression", zero_as_missing=True), raw, [2], 8),
    "forest": (dict(objective="regression", boosting="rf", bagging_freq=1, bagging_fraction=.6, feature_fraction=.8), raw, [2], 7),
    "poisson": (dict(objective="poisson"), np.abs(np.round(raw)), [], 6),
    "sqrt": (dict(objective="regression", reg_sqrt=True), raw, [], 6),
    "cross_entropy": (dict(objective="cross_entropy"), 1 / (1 + np.exp(-raw)), [2], 6),
    "cross_entropy_lambda": (dict(objective="cross_entropy_lambda"), 1 / (1 + np.exp(-raw)), [], 6),
    "stump": (dict(objective="regression", num_leaves=2), np.ones(n), [], 1),
}
rows = XC[:400].copy()
rows[rng.random(rows.shape) < .05] = np.nan
rows[rng.random(rows.shape) < .05] = 0
rows[0, 2], rows[1, 2], rows[2, 2], rows[3, 2], rows[4, 2] = -1, 1e9, 2.7, 63, -0.5
cases = {}
for name, (params, y, cat, rounds) in kinds.items():
    d = lgb.Dataset(XC, label=y, feature_name=names, categorical_feature=cat, free_raw_data=False, params={"use_missing": params.get("use_missing", True), "zero_as_missing": params.get("zero_as_missing", False), "verbose": -1})
    b = lgb.train({**base, **params}, d, rounds)
    b.save_model(os.path.join(out, name + ".txt"))
    b = lgb.Booster(model_file=os.path.join(out, name + ".txt"))
    cases[name] = dict(used=[f for f, k in zip(names, b.feature_importance()) if k], want=[float(v).hex() for v in b.predict(rows)])
json.dump(dict(lightgbm=lgb.__version__, features=names, rows=[[None if np.isnan(v) else v for v in r] for r in rows.tolist()], cases=cases), open(os.path.join(out, "cases.json"), "w"))
