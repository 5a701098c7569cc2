"""Files for servers and phones. The package is also the function: `tfcnn.export(run, ...)` is `tfcnn.export.gate.export`.

Importing a subpackage binds its name in the parent, so a function `tfcnn.export` beside a folder `tfcnn/export/` would
turn into a module as soon as anything imports from the folder. A module may be given a class that can be called.
"""

import inspect
import sys
import types

from tfcnn.export.gate import export


class _Callable(types.ModuleType):
    __call__ = staticmethod(export)
    __signature__ = inspect.signature(export)


sys.modules[__name__].__class__ = _Callable
