"""Keras models -> ONNX without tracing: one ONNX node, or a few, for each operation that Keras itself records.

Keras writes down what a model computes: a Functional model is a graph of layers, and a layer that is called on symbolic
tensors (KerasTensor) is a graph of operations (keras.ops). So there is a rule for each operation, and a layer needs one
only where its `call` leaves keras.ops.

    graph.py ─▶ layers.py      layers that leave keras.ops
             ─▶ recurrent.py   layers that go through steps: loops over any number of them, with masks
             ─▶ operations.py, neural.py   the operations
    values.py                  a value of the graph, and how constants enter it
"""
