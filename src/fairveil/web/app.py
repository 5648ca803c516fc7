"""What the page's server answers."""

import asyncio
import json
import secrets
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from fairveil.errors import FairveilError
from fairveil.web.guard import Endpoint, Guard, browser_cookie, browser_of, is_loopback
from fairveil.web.limits import Limits
from fairveil.web.studio import Studio, Tools
from fairveil.web.tabs import Tab, Tabs
from fairveil.web.uploaded import Stage, UploadedPhoto
from fairveil.web.uploads import receive

_PAGE = files("fairveil.web") / "page"
_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_LOOK, _PULSE = 0.15, 2.0  # seconds between looks for news of a page, and between signs of life to it
_LONGEST_MESSAGE = 64_000  # bytes of what the page asks for, but for photos


class VeilRequest(BaseModel):
    """What a page asks to be done.

    Attributes:
        strength: by name.
        faces: which faces of which photos, by the photos' ids.
    """

    strength: str
    faces: dict[str, list[Annotated[int, Field(ge=0)]]] = Field(min_length=1)


class Site:
    """Answers of the page's server.

    Args:
        folder: where photos lie, private to this process.
        tools: to find, veil and judge faces with.
        endpoint: where it listens.
        limits: on what it takes.

    Attributes:
        ending: whether the process is about to end, so that no page is kept listening.
    """

    def __init__(self, folder: Path, tools: Tools, endpoint: Endpoint, limits: Limits) -> None:
        self.endpoint, self.limits = endpoint, limits
        self.ending: Callable[[], bool] = lambda: False
        self.studio = Studio(tools, limits)
        self.tabs = Tabs(folder, limits, on_gone=self.studio.clear)

    def app(self, *, on_ready: Callable[[], None] = lambda: None) -> ASGIApp:
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
            Route("/page/{name}", self._part_of_page),
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
        return Guard(Starlette(routes=routes, lifespan=alive, exception_handlers=errors), self.endpoint)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(min(1.0, self.limits.stop_after / 2))
            self.tabs.look_after()

    async def _page(self, request: Request) -> Response:
        answer = Response((_PAGE / "index.html").read_bytes(), media_type="text/html")
        if browser_of(request.scope, self.endpoint.port) is None:
            name = browser_cookie(self.endpoint.port)
            answer.set_cookie(name, secrets.token_urlsafe(32), httponly=True, samesite="strict")
        return answer

    async def _part_of_page(self, request: Request) -> Response:
        name = request.path_params["name"]
        part = next((part for part in _PAGE.iterdir() if part.name == name), None)
        if part is None:
            raise HTTPException(404)
        return Response(part.read_bytes(), media_type=_TYPES.get(name.rpartition(".")[2], "text/html"))

    async def _open(self, request: Request) -> Response:
        browser = browser_of(request.scope, self.endpoint.port)
        if browser is None:
            raise FairveilError("fairveil needs a cookie to keep your photos apart from others': allow it, and reload.")
        return JSONResponse(
            {
                "tab": self.tabs.open(browser).id,
                "strengths": list(self.studio.tools.strengths),
                "limits": self.limits.model_dump(),
                "at_home": is_loopback(self.endpoint.host),
            }
        )

    async def _news(self, request: Request) -> Response:
        """A stream of the page's state, whenever it has changed; the page is there for as long as it listens."""
        tab = self._tab(request)

        async def stream() -> AsyncIterator[str]:
            told, quiet = -1, 0.0
            tab.arrived()
            try:
                while not (tab.closed or self.ending()):
                    if tab.version != told:
                        told, quiet = tab.version, 0.0
                        yield f"data: {json.dumps(tab.state())}\n\n"
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
            photo = await receive(request, tab, self.limits, self.tabs.uploaded_bytes)
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
        self.studio.veil(tab, asked.faces, asked.strength)
        return Response(status_code=204)

    async def _stop(self, request: Request) -> Response:
        self.studio.stop(self._tab(request))
        return Response(status_code=204)

    async def _close(self, request: Request) -> Response:
        self.tabs.close(self._tab(request))
        return Response(status_code=204)

    async def _remove(self, request: Request) -> Response:
        tab, photo = self._photo(request)
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
        bundle = tab.folder / f"{secrets.token_hex(8)}.zip"

        def pack() -> None:
            taken: set[str] = set()
            with zipfile.ZipFile(bundle, "w", zipfile.ZIP_STORED) as archive:  # photos are compressed already
                for result in done:
                    archive.write(result.file, unique_name(result.name, taken))

        await asyncio.to_thread(pack)
        return FileResponse(
            bundle, filename="protected-photos.zip", background=BackgroundTask(bundle.unlink, missing_ok=True)
        )

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
