"""Files that hold a model between runs: checkpoints, and what warm start takes from them.

Knows variables; knows neither columns nor estimators.
"""
