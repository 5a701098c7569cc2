"""LiteRT.js, which runs TFLite files in a browser: fetched once with npm, at the versions and hashes of `web/package-lock.json`."""

import hashlib
import logging
import shutil
import subprocess
from pathlib import Path

from tfcnn.data.store import cache_folder
from tfcnn.errors import InputError, WorkError
from tfcnn.files import write_aside

WEB = Path(__file__).with_name("web")
LICENSE = Path(__file__).with_name("LICENSE-apache")  # of LiteRT.js, and of what tfcnn puts into a bundle
# What the page loads. The builds with threads and for accelerators are left out: the first needs headers that a plain server does not
# send, the second is for graphics processors. The compatible one is for browsers without relaxed SIMD.
FILES = ("core/dist/index.js", "core/package.json", "core/wasm/litert_wasm_internal.js", "core/wasm/litert_wasm_internal.wasm",
         "core/wasm/litert_wasm_compat_internal.js", "core/wasm/litert_wasm_compat_internal.wasm",
         "wasm-utils/dist/index.js", "wasm-utils/package.json")
FETCH_SECONDS = 600  # 12 MB over a slow line

logger = logging.getLogger(__name__)


def fetch_litertjs() -> dict[str, Path]:
    """The files of LiteRT.js that the page loads, by their names below `litert/`; from the cache, or from npm into the cache.

    npm compares what it gets with the hashes of the lock file, and runs no script of a package.

    Raises:
        InputError: npm is not installed.
        WorkError: npm cannot fetch the packages, or they are not those of the lock file.
    """
    pins = [WEB / "package.json", WEB / "package-lock.json"]
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in pins)).hexdigest()[:16]
    folder = cache_folder() / "litertjs" / digest
    if not folder.is_dir():  # it is renamed when it is complete
        npm = shutil.which("npm")
        if npm is None:
            raise InputError("expected npm, which fetches LiteRT.js for the page, but it is not installed; install Node.js, which brings it")
        logger.info("fetching LiteRT.js with npm (12 MB, once)")
        with write_aside(folder) as aside:
            aside.mkdir()
            for file in pins:
                shutil.copy(file, aside)
            _run_npm(npm, aside)
    files = {name: folder / "node_modules" / "@litertjs" / name for name in FILES}
    missing = [name for name, file in files.items() if not file.is_file()]
    if missing:
        raise WorkError(f"expected '{missing[0]}' in '{folder}', but it is not there; remove this folder and start again")
    return files | {"LICENSE": LICENSE}


def _run_npm(npm: str, folder: Path) -> None:
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=FETCH_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise WorkError(f"expected npm to fetch LiteRT.js in {FETCH_SECONDS} s, but it did not; check the network and start again") from error
    if done.returncode:
        codes = [line.split()[-1] for line in done.stderr.splitlines() if line.startswith("npm error code")]
        reason = codes[0] if codes else f"exit code {done.returncode}"
        raise WorkError(f"expected npm to fetch LiteRT.js as pinned, but it failed ({reason}); check the network and 'npm config', and start again")
