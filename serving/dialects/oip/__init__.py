"""The Open Inference Protocol v2 over REST and gRPC, with Triton's extensions."""
