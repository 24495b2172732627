"""What an export is made from besides estimators: one file a library, `base` for the seam. Knows no receiver.

`builder` is what SavedModels and Keras models are written with, whose operations become ONNX nodes one by one.
"""
