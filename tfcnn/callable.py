"""Packages that are functions too: `tfcnn.export(run, ...)` beside a folder `tfcnn/export/`.

Importing a subpackage binds its name in the parent, so a function of the same name would turn into a module as soon as anything
imports from the folder. A module may be given a class that can be called.
"""

import inspect
import sys
import types
from collections.abc import Callable


def make_callable(module: str, function: Callable) -> None:
    """Lets a module be called as a function of it.

    Args:
        module: its name in `sys.modules`.
        function: what a call of the module calls.
    """
    kind = type("CallableModule", (types.ModuleType,), {"__call__": staticmethod(function), "__signature__": inspect.signature(function)})
    sys.modules[module].__class__ = kind
