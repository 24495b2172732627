"""Feature columns: what a column declares, and the one ONNX graph that computes it.

Owns everything from a column's definition to the tensors a model_fn receives. Knows how columns read variables
(`training.nn`), nothing of estimators, heads or hooks. The public names are in `training.feature_column`.
"""
