#!/bin/sh
# Serves what train.py exported: REST on 8501, gRPC on 8500.
exec estimator-serving serve --model_name=titanic --model_base_path="${1:-build/titanic/servable}"
