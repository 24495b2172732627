"""What a model_fn computes with: variables under TensorFlow's names, layers, losses, metrics, summaries.

The lowest room of training: it knows neither columns nor data nor estimators.
"""
