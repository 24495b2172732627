"""Input: data sets, files, input functions, and the batches that a loop reads from them.

Knows columns, because batches pass through their transform ahead of the step. Knows no estimator.
"""
