"""The contracts by which clouds and MLflow run a model's container: a few fixed paths over one predictor."""
