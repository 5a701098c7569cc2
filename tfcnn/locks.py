"""`Lock`: who may use a folder; the system takes a lock back from a process that ends, however it does."""

import fcntl
import logging
import os
from pathlib import Path

NAME = ".lock"  # a file, since network file systems lock no folders

logger = logging.getLogger(__name__)


class Lock:
    """A lock on a folder that is there, held until it is released or the object is gone.

    Raises:
        BlockingIOError: `alone`, and another process has a lock, or the other way round where it is not to `wait`.
    """

    def __init__(self, folder: Path, *, alone: bool, wait: bool = False):
        self.path, self.holds = folder / NAME, True
        kind = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
        while True:
            self._file = -1
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(self._file, kind if wait else kind | fcntl.LOCK_NB)
            except BlockingIOError:
                self.release()
                raise
            except OSError as error:  # some file systems of clusters have no locks
                logger.info("'%s' cannot be locked (%s): let no other process write to it", folder, error.strerror)
                self.holds = False
            if not self.holds or _is_at(self._file, self.path):
                return
            self.release()  # the file was removed by the process that had the lock

    def release(self, *, remove: bool = False) -> None:
        """Gives the lock back; with `remove` its file goes too."""
        if self._file >= 0:
            if remove:
                self.path.unlink(missing_ok=True)
            os.close(self._file)
        self._file = -1

    def __del__(self, close=os.close) -> None:  # when Python ends, the module may be gone before the object
        if self._file >= 0:
            close(self._file)


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False
