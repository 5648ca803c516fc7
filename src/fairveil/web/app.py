"""What the page's server answers."""

import asyncio
import io
import json
import logging
import mimetypes
import secrets
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from fairveil.base.errors import FairveilError
from fairveil.faces.by_hand import SMALLEST_FRAME
from fairveil.protection.protecting import SMALLEST_FACE
from fairveil.web.guard import AccessGuard, Endpoint, browser_cookie, browser_of, is_loopback
from fairveil.web.limits import Limits
from fairveil.web.studio import Studio, Tools
from fairveil.web.tabs import Tab, Tabs
from fairveil.web.uploaded import Result, Stage, UploadedPhoto
from fairveil.web.uploads import receive

_HERE = Path(__file__).parent
mimetypes.add_type("text/javascript", ".js")  # which Windows may take for something that no browser runs
_LOOK, _PULSE = 0.15, 2.0  # seconds between looks for news of a page, and between signs of life to it
_LONGEST_MESSAGE = 64_000  # bytes of what the page asks for, but for photos


_Pixels = Annotated[int, Field(ge=0, le=1_000_000)]


class VeilRequest(BaseModel):
    """What a page asks to be done.

    Attributes:
        strength: by name.
        faces: which faces of which photos, by the photos' ids.
        frames: for some of these photos, left, top, width and height in pixels of frames around faces that were missed.
    """

    strength: str
    faces: dict[str, list[Annotated[int, Field(ge=0)]]] = Field(min_length=1)
    frames: dict[str, Annotated[list[tuple[_Pixels, _Pixels, _Pixels, _Pixels]], Field(max_length=100)]] = {}


class Site:
    """Answers of the page's server.

    Args:
        folder: where photos lie, private to this process.
        tools: to find, veil and judge faces with.
        endpoint: where it listens.
        limits: on what it takes.
        workers: how many photos are veiled at once.

    Attributes:
        ending: whether the process is about to end, so that no page is kept listening.
    """

    def __init__(self, folder: Path, tools: Tools, endpoint: Endpoint, limits: Limits, workers: int = 1) -> None:
        self.endpoint, self.limits = endpoint, limits
        self.ending: Callable[[], bool] = lambda: False
        self.studio = Studio(tools, limits, workers)
        self.tabs = Tabs(folder, limits)

    def app(self, *, on_ready: Callable[[], None]) -> ASGIApp:
        """The application, with the guard in front of it.

        Args:
            on_ready: called when it begins to answer.
        """

        @asynccontextmanager
        async def alive(app: Starlette) -> AsyncIterator[None]:
            watch = asyncio.create_task(self._watch())
            on_ready()
            yield
            watch.cancel()

        tab, photo = "/tabs/{tab}", "/tabs/{tab}/photos/{photo}"
        routes = [
            Route("/", self._page),
            Mount("/page", StaticFiles(directory=_HERE / "page")),
            Route("/tabs", self._open, methods=["POST"]),
            Route(f"{tab}/news", self._news),
            Route(f"{tab}/photos", self._receive, methods=["PUT"]),
            Route(f"{tab}/veil", self._veil, methods=["POST"]),
            Route(f"{tab}/stop", self._stop, methods=["POST"]),
            Route(f"{tab}/close", self._close, methods=["POST"]),
            Route(f"{tab}/all.zip", self._zip),
            Route(photo, self._remove, methods=["DELETE"]),
            Route(f"{photo}/{{run}}/file", self._download),
            Route(f"{photo}/{{run}}/receipt", self._receipt),
            Route(f"{photo}/{{run}}/{{picture}}", self._picture),
        ]
        errors: dict[Any, Callable[[Request, Any], Awaitable[Response]]] = {
            FairveilError: _sentence,
            HTTPException: _plain_error,
        }
        return AccessGuard(Starlette(routes=routes, lifespan=alive, exception_handlers=errors), self.endpoint)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(min(1.0, self.limits.stop_after / 2))
            try:
                self.tabs.look_after()
            except Exception:  # or pages would be forgotten no more
                logging.getLogger(__name__).exception("Pages could not be looked after.")

    async def _page(self, request: Request) -> Response:
        return FileResponse(_HERE / "index.html")

    async def _open(self, request: Request) -> Response:
        known = browser_of(request.scope, self.endpoint.port)
        browser = known or secrets.token_urlsafe(32)
        answer = JSONResponse(
            {
                "tab": self.tabs.open(browser).id,
                "strengths": list(self.studio.tools.strengths),
                "limits": self.limits.model_dump(),
                "too_large": self.limits.too_large("{name}"),
                "too_many": self.limits.too_many("{name}"),
                "smallest_face": SMALLEST_FACE,
                "smallest_frame": SMALLEST_FRAME,
                "at_home": is_loopback(self.endpoint.host),
            }
        )
        if known is None:  # set here and not with the page, which a link on another site opens without this cookie
            answer.set_cookie(browser_cookie(self.endpoint.port), browser, httponly=True, samesite="strict")
        return answer

    async def _news(self, request: Request) -> Response:
        """A stream of the page's state, whenever it has changed; the page is there for as long as it listens.

        Of the photos it holds those that changed, and null for those that are gone, as in RFC 7386.
        """
        tab = self._tab(request)

        async def stream() -> AsyncIterator[str]:
            version, quiet, told = -1, 0.0, dict[str, Any]()
            tab.arrived()
            try:
                while not (tab.closed or self.ending()):
                    if tab.version != version:
                        version, quiet, state = tab.version, 0.0, tab.state()
                        yield f"data: {json.dumps(_changes(told, state))}\n\n"
                        told = state["photos"]
                    elif quiet >= _PULSE:
                        quiet = 0.0
                        yield ": here\n\n"  # a connection that is gone is noticed when it is written to
                    await asyncio.sleep(_LOOK)
                    quiet += _LOOK
            finally:
                tab.departed()

        return StreamingResponse(stream(), media_type="text/event-stream")

    async def _receive(self, request: Request) -> Response:
        tab = self._tab(request)
        try:
            photo = await receive(request, tab, self.tabs, self.limits)
        except ClientDisconnect:
            return Response(status_code=204)
        self.studio.look(tab, photo)
        return JSONResponse({"photo": photo.id})

    async def _veil(self, request: Request) -> Response:
        tab = self._tab(request)
        try:
            asked = VeilRequest.model_validate_json(await _short_body(request))
        except ValidationError:
            raise HTTPException(422, "This is not what the page asks for: reload it.") from None
        if self.tabs.full():
            raise FairveilError(self.limits.full())
        self.studio.veil(tab, asked.faces, asked.strength, asked.frames)
        return JSONResponse({"version": tab.version})

    async def _stop(self, request: Request) -> Response:
        self._tab(request).stop()
        return Response(status_code=204)

    async def _close(self, request: Request) -> Response:
        self.tabs.close(self._tab(request))
        return Response(status_code=204)

    async def _remove(self, request: Request) -> Response:
        tab = self._tab(request)
        photo = tab.photos.get(request.path_params["photo"])
        if photo is not None:  # else it is gone already, as was asked
            tab.remove(photo)
        return Response(status_code=204)

    async def _picture(self, request: Request) -> Response:
        _, photo = self._photo(request)
        run, picture = request.path_params["run"], request.path_params["picture"]
        folder = photo.folder if run == "original" else _result_folder(photo, run)
        # The names that are there are looked through: no path is ever made of what a request says.
        file = next((file for file in folder.glob("*.jpg") if file.name == picture), None)
        if file is None:
            raise HTTPException(404)
        return FileResponse(file, media_type="image/jpeg")

    async def _download(self, request: Request) -> Response:
        _, photo = self._photo(request)
        _result_folder(photo, request.path_params["run"])
        assert photo.result is not None
        return FileResponse(photo.result.file, filename=photo.result.name)

    async def _receipt(self, request: Request) -> Response:
        _, photo = self._photo(request)
        page = _result_folder(photo, request.path_params["run"]) / "receipt.html"
        if not page.exists():
            raise HTTPException(404)
        # Saved, not shown: this server shows its own page and nothing else.
        return FileResponse(page, filename=f"{photo.name}.receipt.html", media_type="application/octet-stream")

    async def _zip(self, request: Request) -> Response:
        tab = self._tab(request)
        done = [photo.result for photo in list(tab.photos.values()) if photo.result]
        if not done:
            raise HTTPException(404)
        named = {"content-disposition": 'attachment; filename="protected-photos.zip"'}
        return StreamingResponse(zipped(done), media_type="application/zip", headers=named)

    def _tab(self, request: Request) -> Tab:
        tab = self.tabs.find(browser_of(request.scope, self.endpoint.port), request.path_params["tab"])
        if tab is None:
            raise HTTPException(404, "This page is no longer known to fairveil: reload it.")
        return tab

    def _photo(self, request: Request) -> tuple[Tab, UploadedPhoto]:
        tab = self._tab(request)
        photo = tab.photos.get(request.path_params["photo"])
        if photo is None or photo.stage is Stage.arriving:
            raise HTTPException(404, "This photo is no longer there.")
        return tab, photo


def zipped(results: Sequence[Result]) -> Iterator[bytes]:
    """A zip of protected photos, photo by photo, so that it never lies on the disk; without those that are gone."""
    taken: set[str] = set()
    pieces = _Pieces()
    # Photos are compressed already, and deflate at level 0 stores them; but unlike ZIP_STORED it tells where they end.
    with zipfile.ZipFile(pieces, "w", zipfile.ZIP_DEFLATED, compresslevel=0) as archive:
        for result in results:
            with suppress(FileNotFoundError):
                archive.writestr(unique_name(result.name, taken), result.file.read_bytes())
            yield pieces.take()
    yield pieces.take()


class _Pieces(io.RawIOBase):
    """What is written, until it is taken."""

    def __init__(self) -> None:
        self._written = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._written += data
        return len(data)

    def take(self) -> bytes:
        taken = bytes(self._written)
        self._written.clear()
        return taken


def _changes(told: Mapping[str, Any], state: dict[str, Any]) -> dict[str, Any]:
    """A page's state with those photos only that are not as they were told."""
    photos = state["photos"]
    changed = {id: photo for id, photo in photos.items() if told.get(id) != photo}
    return state | {"photos": changed | dict.fromkeys(told.keys() - photos.keys())}


def unique_name(name: str, taken: set[str]) -> str:
    """A name that is not taken yet, in a system that does not tell capitals; it is then taken.

    >>> taken = set()
    >>> [unique_name("me.jpg", taken), unique_name("Me.jpg", taken)]
    ['me.jpg', 'Me-2.jpg']
    """
    path, number, unique = Path(name), 1, name
    while unique.casefold() in taken:
        number += 1
        unique = f"{path.stem}-{number}{path.suffix}"
    taken.add(unique.casefold())
    return unique


def _result_folder(photo: UploadedPhoto, run: str) -> Path:
    if photo.result is None or photo.result.folder.name != run:
        raise HTTPException(404, "This photo was protected anew meanwhile: reload the page.")
    return photo.result.folder


async def _short_body(request: Request) -> bytes:
    body = b""
    with suppress(ClientDisconnect):
        async for chunk in request.stream():
            body += chunk
            if len(body) > _LONGEST_MESSAGE:
                raise HTTPException(413)
    return body


async def _sentence(request: Request, error: FairveilError) -> Response:
    return JSONResponse({"problem": str(error)}, 409)


async def _plain_error(request: Request, error: HTTPException) -> Response:
    return JSONResponse({"problem": error.detail}, error.status_code, headers=error.headers)
