# /// script
# dependencies = ["nvidia-pytriton==0.7.0", "onnxruntime==1.31.1", "numpy==1.26.4"]
# [tool.field]
# title = "Triton 2.51"
# path = "/v2/models/m/infer"
# body = "infer"
# grpc = true
# binary = true
# ///
"""NVIDIA Triton's C++ server with ONNX Runtime in its Python backend: it comes in the wheel of nvidia-pytriton.

The wheel has no ONNX backend. The server passes each request to a stub process, which runs this file as its model, with
numpy 1: as the stub reads the arrays of numpy 2, each answer is an internal error.
"""

import os
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path

CONFIG = """
backend: "python"
max_batch_size: 0
input [{ name: "x" data_type: TYPE_FP32 dims: [-1, 13] }]
output [{ name: "y" data_type: TYPE_FP32 dims: [-1, 1] }]
instance_group [{ kind: KIND_CPU count: 1 }]
"""


if "PACKAGES" in os.environ:
    # The stub's Python is isolated: it ignores PYTHONPATH. It imports numpy after this file.
    sys.path.insert(0, os.environ["PACKAGES"])


class TritonPythonModel:
    def initialize(self, args):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(os.environ["MODEL"], options)

    def execute(self, requests):
        import triton_python_backend_utils as utils

        responses = []
        for request in requests:
            x = utils.get_input_tensor_by_name(request, "x").as_numpy()
            (y,) = self.session.run(["y"], {"x": x})
            responses.append(utils.InferenceResponse([utils.Tensor("y", y)]))
        return responses


def main() -> None:
    model, *ports = sys.argv[1:5]
    packages = Path(sysconfig.get_path("platlib"))
    server = packages / "pytriton" / "tritonserver"
    folder = Path(tempfile.mkdtemp(dir=Path(model).parent))
    shutil.copytree(server / "backends", folder / "backends")
    version = "{}.{}".format(*sys.version_info)
    stub = server / "python_backend_stubs" / version / "triton_python_backend_stub"
    shutil.copy(stub, folder / "backends" / "python")
    (folder / "models" / "m" / "1").mkdir(parents=True)
    (folder / "models" / "m" / "config.pbtxt").write_text(CONFIG)
    shutil.copy(__file__, folder / "models" / "m" / "1" / "model.py")
    libraries = [sysconfig.get_config_var("LIBDIR"), str(packages / "nvidia_pytriton.libs")]
    environment = {"LD_LIBRARY_PATH": ":".join(libraries), "PACKAGES": str(packages), "MODEL": model}
    flags = {
        "model-repository": folder / "models", "backend-directory": folder / "backends",
        "cache-directory": server / "caches", "http-port": ports[0], "grpc-port": ports[1], "metrics-port": ports[2],
        "model-control-mode": "explicit", "load-model": "m", "http-address": "127.0.0.1", "grpc-address": "127.0.0.1",
    }  # fmt: skip
    binary = str(server / "bin" / "tritonserver")
    os.execve(binary, [binary, *(f"--{name}={value}" for name, value in flags.items())], os.environ | environment)


if __name__ == "__main__":
    main()
