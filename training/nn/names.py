"""The names that one call of model_fn has used so far, by TensorFlow's rules for layers, scopes and reuse.

Owns the numbers behind names (`dense_1`) and the question whether two layers may share a variable. Does not know
variables: it is told names with their scopes in front.
"""

from __future__ import annotations

AUTO_REUSE = "auto_reuse"
"""As `reuse`: take the variable that an earlier layer made, or make it."""

Reuse = bool | str | None


class Names:
    """What one call has used. Begin the next call with `clear`."""

    def __init__(self) -> None:
        self._by_scope: dict[str, set[str]] = {}
        self._claimed: set[str] = set()
        self._asked: set[str] = set()

    def clear(self) -> None:
        """Forget the names of the last call."""
        self._by_scope.clear()
        self._claimed.clear()
        self._asked.clear()

    def unique(self, name: str) -> str:
        """`name`, `name_1`, `name_2`, …: the first that no layer and no scope of this call has. `name` may have `/`."""
        prefix, _, last = name.rpartition("/")
        taken = self._by_scope.setdefault(prefix and f"{prefix}/", set())
        candidate, number = last, 0
        while candidate in taken:
            number += 1
            candidate = f"{last}_{number}"
        taken.add(candidate)
        return f"{name}_{number}" if number else name

    def open_scope(self, prefix: str, name: str) -> None:
        """Take the scope's name and begin its numbers anew: a scope that is entered again finds its layers again."""
        self._by_scope.setdefault(prefix, set()).add(name)
        self._by_scope.pop(f"{prefix}{name}/", None)

    def is_new(self, name: str) -> bool:
        """Whether this call has not asked for the variable `name` by itself before."""
        known = name in self._asked
        self._asked.add(name)
        return not known

    def claim(self, name: str, reuse: Reuse) -> bool:
        """Note that a layer uses the variable `name`. Returns whether it is the first layer that does, in this call.

        Two layers share a variable only if `reuse` allows it. Raises ValueError with TF's texts for a variable that is
        used twice without reuse, and for one that is not there with reuse=True.
        """
        if name in self._claimed:
            if not reuse:
                raise ValueError(
                    f"Variable {name} already exists, disallowed. Did you mean to set reuse=True or "
                    "reuse=tf.AUTO_REUSE in VarScope? Only then do two layers share weights; else rename one."
                )
            return False
        if reuse is True:
            raise ValueError(
                f"Variable {name} does not exist, or was not created with tf.get_variable(). Did you mean to set "
                "reuse=tf.AUTO_REUSE in VarScope? With reuse=True an earlier layer of this model_fn must have made it."
            )
        self._claimed.add(name)
        return True
