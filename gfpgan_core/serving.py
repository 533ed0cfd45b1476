"""Request files of one server process: received, checked, named, removed.

Cog passes the files that it downloaded to a prediction, but also any other string; it doesn't
limit downloads, and leaves results and broken downloads in the temporary folder. This module
checks, limits and removes them.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import hashlib
import logging
import os
import re
import shutil
import signal
import stat
import tempfile
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from gfpgan_core.errors import NO_ROOM_ON_SERVER, InputError
from gfpgan_core.fetching import Incoming, copy_bounded

MAX_PHOTO_BYTES = 256 * 2**20
"""Of a photo: 64 megapixels of 16-bit RGB take 384 MB without compression, in no usual file."""
MAX_ARCHIVE_BYTES = 8 * 2**30
"""Of a training's photos."""
MIN_FETCH_S = 60
"""That a download may take in all, however small it is."""
MIN_FETCH_BYTES_PER_S = 2**20
"""A download may take as long beside that as its largest size takes at this pace: a host that sends
a byte now and then would hold the only slot for ever."""

# A result is read by Cog within milliseconds of its prediction's end, and there is no call that
# says so. The next request removes it at once; without one, it goes after this time.
RESULT_KEPT_S = 60.0

_NO_ADDRESS = (
    "an address can't be read: give that of a file (http:// or https://), or the file itself as a"
    " data: URL in base64"
)

_PREFIX = "gfpgan-requests-"
_CHUNK_BYTES = 2**20

_logger = logging.getLogger(__name__)


class RequestFiles:
    """One private folder for everything that requests bring and get.

    Cog runs one request at a time in a worker process. What lies in the folder and does not belong
    to the running request is removed: when a request starts, when it ends, some time after the last
    one, and when the process ends. A killed process's folder is removed by the next `RequestFiles`.
    """

    def __init__(
        self,
        max_bytes: int,
        parent: Path | None = None,
        kept_s: float = RESULT_KEPT_S,
        fetch_s: float | None = None,
    ) -> None:
        """Prepare the folder's place; the folder itself is made when it is first used.

        Args:
            max_bytes: Larger downloads are stopped.
            parent: Where the folder is made; by default the system's temporary folder.
            kept_s: Seconds that a result stays when no further request comes.
            fetch_s: Seconds that a download may take; by default what `max_bytes` takes at the
                least pace.
        """
        self._max_bytes = max_bytes
        self._parent = parent
        self._kept_s = kept_s
        self.fetch_s = fetch_s or MIN_FETCH_S + max_bytes / MIN_FETCH_BYTES_PER_S
        """Seconds that a download may take."""
        self._state = threading.Lock()
        self._running = False
        self._downloads = 0
        self._ended = threading.Event()
        self._made: Path | None = None
        self._lock: IO[bytes] | None = None

    @property
    def folder(self) -> Path:
        """Return the folder, made and locked at the first call; readable by this user alone.

        Made anew where the system's cleaning of old temporary files has removed it.
        """
        with self._state:
            if self._made is None or not self._made.is_dir():
                self._made = self._make()
            return self._made

    def _make(self) -> Path:
        parent = self._parent or Path(tempfile.gettempdir())
        remove_abandoned(parent)
        hidden = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}", dir=parent))
        self._lock = (hidden / "lock").open("wb")
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Another process that looks for abandoned folders never sees this one without its lock.
        folder = hidden.rename(hidden.with_name(hidden.name.removeprefix(".")))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return folder

    def is_usable(self) -> bool:
        """Return whether a file can be written to the folder."""
        try:
            with tempfile.TemporaryFile(dir=self.folder) as file:
                file.write(b"x")
        except OSError:
            return False
        return True

    def start(self) -> None:
        """Receive what Cog's server fetches, and remove old files beside it.

        Called once, before the first request. Requests themselves start no thread: a cancellation
        that meets a Python thread's start can hit the new thread in place of the request's, which
        then waits for it for ever. Cog's own download starts one for each input, and a server whose
        only slot hung so answered nothing more. So inputs are fetched in the request's own thread.
        """
        import cog  # the library itself works without it

        fetch = cog.Path.validate

        def validate(_: type[cog.Path], value: Any) -> Any:
            try:
                found = fetch(value)
            except ValueError as error:  # Python's words for it tell a client nothing
                _logger.warning("an address: %s", error)
                raise InputError(_NO_ADDRESS) from None
            return cog.Path(self._receive(found)) if hasattr(found, "fileobj") else found

        cog.Path.validate = classmethod(validate)
        threading.Thread(target=self._remove_when_idle, daemon=True).start()

    def _receive(self, found: Any) -> Path:
        """Write what Cog made of an address to the folder.

        Raises:
            InputError: it is too large, takes too long, or can't be had. The text doesn't say why
                not: it would tell a client what answers inside the server's network.
        """
        try:
            return self._written(Incoming(found, self.fetch_s))
        except OSError as error:
            _logger.warning("a download can't be written: %s", error)
            raise InputError(NO_ROOM_ON_SERVER) from None

    def _written(self, source: Incoming) -> Path:
        folder = self.folder
        with self._state:
            self._downloads += 1
            if not self._running:  # a new request comes: the last one's result has been read
                self._remove(folder.glob("results/*"))
        try:
            # The name and the file are made before anything can fail or be canceled.
            file = tempfile.NamedTemporaryFile(prefix="received-", dir=folder, delete=False)  # noqa: SIM115
            try:
                with file, contextlib.closing(source):
                    copy_bounded(source, file, self._max_bytes)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
        finally:
            with self._state:
                self._downloads -= 1
            self._ended.set()
        return Path(file.name)

    @contextlib.contextmanager
    def request(self, *inputs: object) -> Iterator[None]:
        """Keep in the folder what belongs to this request; after it, only its result.

        Args:
            inputs: What Cog passed; those that are files in the folder stay until the end.
        """
        folder = self.folder
        with self._state:
            self._running = True
        try:
            self._remove_all_but({Path(os.fspath(i)) for i in inputs if isinstance(i, os.PathLike)})
            yield
        except InputError as error:
            self._remove_all_but(set())
            raise InputError(self._with_names_only(str(error))) from error
        except BaseException:
            self._remove_all_but(set())
            raise
        else:
            self._remove_all_but(set(folder.glob("results/*")))
        finally:
            with self._state:
                self._running = False
            self._ended.set()

    def _with_names_only(self, text: str) -> str:
        """Return an error's text with the names of files in the folder in place of their paths."""
        return re.sub(re.escape(str(self.folder)) + r"(/[^/\s:'\"]+)*/", "", text)

    def work_folder(self) -> Path:
        """Return an empty folder for the running request's own files."""
        return Path(tempfile.mkdtemp(prefix="work-", dir=self.folder))

    def publish(self, made: Path, kind: str) -> Path:
        """Give a finished file the name under which it is handed to Cog, which may upload it.

        Args:
            made: A file in the work folder.
            kind: What it is; the name is that and the start of the content's sha256, so that
                different results never share a name.
        """
        digest = hashlib.sha256()
        with made.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
        results = self.folder / "results"
        results.mkdir(exist_ok=True)
        return made.replace(results / f"{kind}-{digest.hexdigest()[:20]}{made.suffix}")

    def received(self, value: object, name: str, max_bytes: int) -> Path:
        """Return the file of an input, checked before it is read.

        Raises:
            InputError: it isn't one that Cog fetched, no regular file, or too large. The text is
                the same whether a path that a client sent exists or not.
        """
        if isinstance(value, str) and not value.strip():
            raise InputError(f"{name} is empty: give the address of a file, or a data: URL of it")
        path = Path(os.fspath(value)) if isinstance(value, os.PathLike) else None
        if path is None or path.parent != self.folder or not stat.S_ISREG(path.lstat().st_mode):
            raise InputError(
                f"{name} must be the address of a file (http:// or https://) or the file itself as"
                " a data: URL; paths are not read"
            )
        size = path.stat().st_size
        if size > max_bytes:
            raise InputError(
                f"{name} has {size / 2**20:.0f} MiB; allowed are {max_bytes / 2**20:.0f} MiB"
            )
        return path

    def _remove_when_idle(self) -> None:
        """Wait for the end of requests; some time after each without another, remove its files."""
        while True:
            self._ended.wait()
            self._ended.clear()
            while self._ended.wait(self._kept_s):
                self._ended.clear()
            self.remove_if_idle()

    def remove_if_idle(self) -> None:
        """Remove all that no running request and no download needs; the thread's work."""
        with self._state:
            if not self._running and not self._downloads:
                self._remove_all_but(set())

    def _remove_all_but(self, kept: set[Path]) -> None:
        if self._made is None:
            return
        found = {*self._made.glob("results/*"), *self._made.iterdir()}
        self._remove(found - kept - {self._made / "lock", self._made / "results"})

    @staticmethod
    def _remove(paths: Iterable[Path]) -> None:
        for path in paths:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def remove_on_sigterm(self) -> None:
        """Remove the folder when the process is told to end, and end; main thread only.

        Python runs signal handlers in its main thread, which waits inside Cog's server: the
        signal's number is read from a pipe by a thread of ours.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, lambda *_: None)
        threading.Thread(target=self._end_on_signal, args=(reader,), daemon=True).start()

    def _end_on_signal(self, reader: int) -> None:
        while signal.SIGTERM not in os.read(reader, 64):
            pass
        if self._made is not None:
            shutil.rmtree(self._made, ignore_errors=True)
        os._exit(128 + signal.SIGTERM)


def remove_abandoned(parent: Path) -> None:
    """Remove the folders of processes that were killed: those whose lock nobody holds."""
    for folder in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            found = folder.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
                continue
            with (folder / "lock").open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
