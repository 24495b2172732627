"""HParams: hyperparameters as attributes (tf.contrib.training).

    hparams = HParams(learning_rate=0.1, hidden_units=[64, 32], activation="relu")
    hparams.parse("learning_rate=0.3,hidden_units=[128]")
    hparams.learning_rate                                             # 0.3

Owns the types that values keep. `Estimator(params=hparams)` hands a copy of it to model_fn and input_fn.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_SETTING = re.compile(
    r"\s*(?P<name>\w+)\s*(\[\s*(?P<index>\d+)\s*\])?\s*=\s*(\[(?P<list>[^\]]*)\]|(?P<value>[^,\[]*))\s*(,|$)"
)


class HParams:
    """Hyperparameters: numbers, strings, bools, None, and lists of one of them. A value keeps the type it is made with.

    Raises ValueError for a name that a method has, and for a value that does not fit the type.
    """

    def __init__(self, **values: Any) -> None:
        for name, value in values.items():
            self.add_hparam(name, value)

    def add_hparam(self, name: str, value: Any) -> None:
        """A new hyperparameter. Raises ValueError if there is one of this name, or an attribute."""
        if getattr(self, name, None) is not None:
            raise ValueError(f"Hyperparameter name is reserved: {name}")
        if isinstance(value, list | tuple):
            value = list(value)
            if not value:
                raise ValueError(
                    f"Multi-valued hyperparameters cannot be empty: {name}. An empty list does not say what it holds."
                )
        vars(self)[name] = value

    def set_hparam(self, name: str, value: Any) -> None:
        """Another value for a hyperparameter that is there, of its type. Raises KeyError and ValueError."""
        if name not in self:
            raise KeyError(f"Hyperparameter {name!r} does not exist. There are {sorted(vars(self))}.")
        old = vars(self)[name]
        if isinstance(old, list) != isinstance(value, list | tuple):
            kind = "a list" if isinstance(old, list) else "one value"
            raise ValueError(f"The hyperparameter {name!r} is {kind}, got {value!r}.")
        if isinstance(old, list):
            vars(self)[name] = [_converted(name, each, old[0]) for each in value]
        else:
            vars(self)[name] = _converted(name, value, old)

    def del_hparam(self, name: str) -> None:
        """Remove a hyperparameter, if it is there."""
        vars(self).pop(name, None)

    def parse(self, values: str) -> HParams:
        """Set values from text: `name=value,list=[1,2],list[0]=5`. Returns itself.

        Raises ValueError for text of another form, for an unknown name, and for a value that does not fit the type.
        """
        at = 0
        while at < len(values):
            found = _SETTING.match(values, at)
            if found is None or found.end() == at:
                raise ValueError(f"Malformed hyperparameter value: {values[at:]}. Write name=value, or name=[a,b].")
            at, name = found.end(), found["name"]
            if name not in self:
                raise ValueError(f"Unknown hyperparameter type for {name}. There are {sorted(vars(self))}.")
            if found["list"] is not None:
                self.set_hparam(name, [each.strip() for each in found["list"].split(",")])
            elif found["index"] is not None:
                items = vars(self)[name]
                items[int(found["index"])] = _converted(name, found["value"].strip(), items[0])
            else:
                self.set_hparam(name, found["value"].strip())
        return self

    def override_from_dict(self, values_dict: Mapping[str, Any]) -> HParams:
        """Set values that are there. Returns itself. Raises as set_hparam."""
        for name, value in values_dict.items():
            self.set_hparam(name, value)
        return self

    def parse_json(self, values_json: str) -> HParams:
        """As override_from_dict, from a JSON object."""
        return self.override_from_dict(json.loads(values_json))

    def to_json(
        self, indent: int | None = None, separators: tuple[str, str] | None = None, sort_keys: bool = False
    ) -> str:
        """The values as a JSON object."""
        return json.dumps(self.values(), indent=indent, separators=separators, sort_keys=sort_keys)

    def values(self) -> dict[str, Any]:
        """The values by name."""
        return dict(vars(self))

    def get(self, key: str, default: Any = None) -> Any:
        """The value, or `default` without one."""
        return vars(self).get(key, default)

    def __contains__(self, key: object) -> bool:
        return key in vars(self)

    def __repr__(self) -> str:
        return f"HParams({', '.join(f'{name}={value!r}' for name, value in sorted(vars(self).items()))})"


def _converted(name: str, value: Any, old: Any) -> Any:
    """The value as the type of the old one. Text is read; an int may stand for a float, and None for anything."""
    if old is None or value is None:
        return value
    kind = type(old)
    if isinstance(value, str) and kind is not str:
        if kind is bool and value.lower() in ("true", "false", "1", "0"):
            return value.lower() in ("true", "1")
        if kind in (int, float):
            try:
                return kind(value)
            except ValueError:
                pass
    elif isinstance(value, kind) and not (isinstance(value, bool) and kind is int):
        return value
    elif kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    raise ValueError(
        f"Could not cast hparam {name!r} of type {kind.__name__} from value {value!r}. Give a value of that type."
    )
