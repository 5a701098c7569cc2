"""The graphs that were loaded last, by their digest: facts of data, which go into a record, name theirs, and a network that is built of it finds it here."""

from typing import Any

from tfcnn.errors import InputError

MOST = 4
_GRAPHS: dict[str, Any] = {}


def keep_graph(digest: str, graph: Any) -> None:
    """Keeps a graph, `tfcnn.data.graph_rows.Parts`, in place of the oldest of `MOST`."""
    _GRAPHS.pop(digest, None)
    _GRAPHS[digest] = graph
    while len(_GRAPHS) > MOST:
        del _GRAPHS[next(iter(_GRAPHS))]


def kept_graph(digest: str) -> Any:
    """The graph of this digest.

    Raises:
        InputError: it is not among the last ones.
    """
    if digest not in _GRAPHS:
        raise InputError("expected the graph of the data to be loaded, but others were since; load the data again")
    return _GRAPHS[digest]
