"""`gfpgan serve-page`: a page in the browser to drop a photo on. Gradio draws it.

The page is for this machine, unless `--host` says otherwise. Neither the server nor the browser
connects to anyone else: Gradio's analytics are off, and the page's policy names this server alone.
"""

from __future__ import annotations

import argparse
import functools
import html
import importlib.util
import json
import os
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from gfpgan_core.cli.described import face_line
from gfpgan_core.cli.pairs import escaped, marks, pair, resource
from gfpgan_core.cli.report import Report
from gfpgan_core.client_errors import errors_for_clients
from gfpgan_core.config import Background, RestoreOptions
from gfpgan_core.errors import InputError, error_text
from gfpgan_core.serving import MAX_PHOTO_BYTES, RequestFiles
from gfpgan_core.weights.releases import RELEASES

if TYPE_CHECKING:
    from gfpgan_core.pipeline import FaceRestorer
    from gfpgan_core.result import Restoration

SCALES = ("auto", "1", "2", "4")

_PREVIEW_SIDE_PX, _FACE_SIDE_PX = 1200, 320
_KEPT_S = 3600  # photos and results; a page that stays open longer has to restore again
_CLEAN_EVERY_S = 300
_RESTORERS = 2  # kept loaded: the large networks take 0.4 GB each

# Gradio's page has its scripts and styles in itself, and compiles some.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self'"
    " 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:;"
    " connect-src 'self' blob: data:; form-action 'self'; base-uri 'self'; frame-ancestors 'none'"
)

# Gradio puts its own page's name before each rule that it is given, so that `.live` finds nothing.
_SCRIPT = f"""() => {{
const style = document.createElement("style");
style.textContent = {json.dumps(resource("pairs.css"))};
document.head.append(style);
{resource("pairs.js")}}}"""


def serve_page(options: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C; return 1 if it can't be, and say why."""
    report = Report()
    try:
        if importlib.util.find_spec("gradio") is None:
            raise InputError("the page needs Gradio: pip install 'gradio>=6,<7'")
        listener = _listener(options.host, options.port)
        files = RequestFiles(MAX_PHOTO_BYTES)
        # Gradio hands out everything in its folder: the lock beside it is not in there.
        folder = files.folder / "page"
        folder.mkdir()
        app = make_app(folder, options.version, options.device, options.host)
    except InputError as error:
        report.note(error_text(error))
        return 1
    import uvicorn

    # uvicorn ends in order, and then repeats the signal: only an exit removes the folder.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    host, port = listener.getsockname()[:2]
    report.line(f"the page is at http://{host}:{port}/ (Ctrl-C ends it)")
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2)
    uvicorn.Server(config).run(sockets=[listener])
    return 0


def _listener(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port))
    except (OSError, OverflowError) as error:
        raise InputError(
            f"the page can't be served at {host}, port {port} ({error}): choose another --port,"
            " 0 for any that is free"
        ) from error


def make_app(folder: Path, version: str, device: str | None, host: str) -> Any:
    """Return the page as an ASGI application, its files all in `folder`.

    Raises:
        InputError: there is no such device.
    """
    # Read when Gradio and the hub's library are imported.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = os.environ["DO_NOT_TRACK"] = "1"
    os.environ["GRADIO_TEMP_DIR"] = tempfile.tempdir = str(folder)
    import gradio
    from fastapi import FastAPI
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    from gfpgan_core.runtime import checked_device, configure_process

    configure_process()
    _forbid_fetching()
    blocks = _blocks(folder, version, checked_device(device))
    # Where this is off, as in any page that is mounted, Gradio reads whatever file a client names.
    blocks.has_launched = True
    app = FastAPI(openapi_url=None)

    async def with_policy(request: Any, call_next: Any) -> Any:
        response = await call_next(request)
        response.headers["Content-Security-Policy"] = _POLICY
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    app.middleware("http")(with_policy)
    # A stranger's site can't reach the page under a name of its own (DNS rebinding).
    hosts = ["127.0.0.1", "localhost", host] if host not in ("0.0.0.0", "::") else ["*"]  # noqa: S104
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts)
    return gradio.mount_gradio_app(
        app,
        blocks,
        path="/",
        max_file_size=MAX_PHOTO_BYTES,
        js=_SCRIPT,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
    )


def _forbid_fetching() -> None:
    """Let Gradio fetch nothing for a client that names an address in place of a file.

    It would: from public addresses, whose names it looks up at Google.
    """
    import gradio
    import safehttpx

    async def refuse(*_: Any, **__: Any) -> Any:
        text = "addresses are not read: download the photo, and send the file"
        raise gradio.Error(text, print_exception=False)

    safehttpx.get = safehttpx.async_validate_url = refuse


def _blocks(folder: Path, version: str, device: str) -> Any:
    """Return Gradio's description of the page."""
    import gradio as gr

    page = _Page(folder, device)

    def restore(
        photo: Any,
        version: Any,
        scale: Any,
        blend: Any,
        is_auto: Any,
        background: Any,
        upscale_faces: Any,
        progress: Any = gr.Progress(),
    ) -> tuple[Any, ...]:
        chosen = version, scale, blend, is_auto, background, upscale_faces
        try:
            return page.restore(photo, *chosen, progress)
        except (InputError, RuntimeError) as error:
            text = html.escape(error_text(error), quote=False)
            raise gr.Error(text, duration=None, print_exception=False) from None

    with gr.Blocks(
        title="Restore faces", analytics_enabled=False, delete_cache=(_CLEAN_EVERY_S, _KEPT_S)
    ) as blocks:
        gr.Markdown("# Restore faces\nThe photo goes to this server, and from it to nobody else.")
        with gr.Row():
            with gr.Column(scale=1):
                inputs = [
                    # Not gr.Image, which decodes a stranger's file itself.
                    gr.File(label="Photo", type="filepath", elem_id="photo"),
                    gr.Dropdown([*RELEASES], value=version, label="Version"),
                    gr.Dropdown([*SCALES], value="auto", label="Scale"),
                    gr.Slider(0, 1, 1, step=0.05, label="Blend: share of the restored face"),
                    gr.Checkbox(label="Blend as much as each face's damage asks for"),
                    gr.Dropdown([*get_args(Background)], value="none", label="Background"),
                    gr.Checkbox(label="Background's network over faces, too, at scale 4"),
                ]
                button = gr.Button("Restore", variant="primary", elem_id="restore")
            with gr.Column(scale=2):
                outputs = [
                    gr.HTML(label="Before and after", elem_id="slider"),
                    gr.Markdown(elem_id="said"),
                    gr.File(label="Result", interactive=False, elem_id="result"),
                    gr.HTML(label="Faces, before and after", elem_id="faces"),
                ]
        button.click(restore, inputs, outputs, concurrency_limit=1, api_visibility="private")
    return blocks


class _Page:
    """Restores the photos that users send, one at a time; has no state but the loaded networks."""

    def __init__(self, folder: Path, device: str) -> None:
        self._folder = folder
        self._device = device
        self._restorer = functools.lru_cache(maxsize=_RESTORERS)(self._load)

    def _load(self, version: str) -> FaceRestorer:
        from gfpgan_core.pipeline import FaceRestorer

        return FaceRestorer.from_release(version, device=self._device)

    def restore(
        self,
        photo: str | None,
        version: str,
        scale: str,
        blend: float,
        is_blend_auto: bool,
        background: Background,
        upscale_faces: bool,
        progress: Any,
    ) -> tuple[str, str, str, str]:
        """Return what the page shows: both pictures, a text, the result's file, the faces.

        Raises:
            InputError: the photo or an option can't be used; the page shows the text.
            RuntimeError: a defect of ours.
        """
        if not photo:
            raise InputError("there is no photo yet: drop one on the page first")
        with errors_for_clients("choose another version or background"):
            from gfpgan_core import images

            progress(0.1, desc="reading")
            options = RestoreOptions(
                scale="auto" if scale == "auto" else float(scale),
                blend="auto" if is_blend_auto else blend,
                background=background,
                upscale_faces=upscale_faces,
            )
            path = Path(photo)
            if path.stat().st_size > MAX_PHOTO_BYTES:
                raise InputError(f"the photo has more than {MAX_PHOTO_BYTES / 2**20:.0f} MiB")
            before = images.read(path)
            progress(0.2, desc="loading the network")
            restorer = self._restorer(version)
            progress(0.4, desc="finding and restoring faces")
            result = restorer.restore(before, options)
            progress(0.9, desc="writing")
            return self._shown(path.stem, before, result)

    def _shown(self, stem: str, before: Any, result: Restoration) -> tuple[str, str, str, str]:
        from gfpgan_core import images

        # In Gradio's own folder, where it removes files in time.
        made = Path(tempfile.mkdtemp(prefix="made-", dir=self._folder))
        height, width = result.image.shape[:2]
        size_wh = images.preview_size_wh(result.image, _PREVIEW_SIDE_PX)
        before_jpeg = images.preview(before.rgb, before.alpha, size_wh)
        after_jpeg = images.preview(result.image, result.alpha, size_wh)
        shown = pair("the photo", before_jpeg, after_jpeg, size_wh, marks(result))
        file = result.save(made / f"{stem}_restored.{result.format_for('auto')}")
        seconds = f"{sum(result.seconds.values()):.1f} s"
        said = ", ".join([*result.remarks(), f"{width} x {height} px", seconds])
        return shown, said, str(file), _faces(result)


def _faces(result: Restoration) -> str:
    """Return each face before and after, with what is known of it, as HTML."""
    from gfpgan_core import images

    size_wh = (_FACE_SIDE_PX, _FACE_SIDE_PX)
    figures = []
    pairs = zip(result.crops, result.restored_crops, strict=True)
    for n, (number, crops) in enumerate(zip(result.numbers(), pairs, strict=True)):
        before, after = (images.preview(crop, None, size_wh) for crop in crops)
        line = f"{face_line(result.faces[n], result.damages[n])}, share {result.blends[n]:.2g}"
        shown = pair(f"face {number}", before, after, size_wh)
        figures.append(f"<figure>{shown}<figcaption>{escaped(line)}</figcaption></figure>")
    return f'<div class="faces">{"".join(figures)}</div>'
