"""TensorFlow Serving's dialect: its JSON, its messages, its URLs and its services, over the one predictor."""
