"""Files for servers and phones. The package is also the function: `tfcnn.export(run, ...)` is `tfcnn.export.gate.export`."""

from tfcnn.callable import make_callable
from tfcnn.export.gate import export

make_callable(__name__, export)
