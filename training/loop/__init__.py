"""The steps of a run: what happens between two batches. Knows hooks, data and model_fn; knows no Estimator."""
