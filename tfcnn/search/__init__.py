"""Hyperparameters. The package is also the function: `tfcnn.search(source, ...)` is `tfcnn.search.search.search`."""

from tfcnn.callable import make_callable
from tfcnn.search.search import search

make_callable(__name__, search)
