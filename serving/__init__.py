"""The model server: TensorFlow Serving's API over ONNX Runtime. Knows servables on disk, never how they were made."""
