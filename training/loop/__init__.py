"""Training, evaluation and what they share: the steps of a run, with hooks, data and model_fn. Knows no Estimator."""
