"""Keras models -> ONNX without tracing: one ONNX node, or a few, for each operation that Keras itself records.

Keras writes down what a model computes: a Functional model is a graph of layers, and a layer that is called on symbolic
tensors (KerasTensor) is a graph of operations (keras.ops). So there is a rule for each operation, and a layer needs one
only where its `call` leaves keras.ops.

    graph.py ─▶ layers.py      layers that leave keras.ops
             ─▶ recurrent.py   layers that go through steps: loops over any number of them, with masks
             ─▶ operations.py, neural.py   the operations
    rules.py                   the tables of rules: every rule registers itself, by the names of Keras's classes
    values.py                  a value of the graph, and how constants enter it

Importing this registers all rules.
"""

from estimator_serving.exporter.sources.keras_graph import layers, neural, operations, recurrent

__all__ = ["layers", "neural", "operations", "recurrent"]
