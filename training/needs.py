"""The packages that training needs and the server does not, checked before anything of training is imported.

They are those of the extra `training` that its modules import, and the exporter's are the same.
"""

from importlib.util import find_spec

for _name in ("torch", "onnx", "spox", "safetensors"):
    if find_spec(_name) is None:
        raise ModuleNotFoundError(
            f"The package {_name} is missing. Install it with: pip install 'estimator-serving[training]'", name=_name
        )
