"""The search page and its API over HTTP. What the routes answer is computed in pipelines.gallery.service."""

import secrets
import socket
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs

import uvicorn
from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.middleware.trustedhost import TrustedHostMiddleware

from msclnet.errors import UserError
from msclnet.images.decode import UnreadableImageError
from pipelines.gallery.marked_images import marks_archive, marks_table
from pipelines.gallery.service import MOST_RESULTS, Filters, SearchService, UnknownImageError
from pipelines.gallery.work import open_gallery, open_model_of
from pipelines.settings import LOOPBACK, home

PAGE = Path(__file__).with_name("page")
PAGE_FILES = ("index.html", "style.css", "page.js")
MOST_BYTES = 16 * 2**20  # of an uploaded image; its pixels are limited by msclnet.images.decode
MOST_CONNECTIONS = 100  # at once: with MOST_BYTES this bounds the memory of uploads
COOKIE = "msclnet_token"

# Only this server's own files: no foreign script, style, picture, frame or address.
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
UPLOAD = {
    "requestBody": {
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    }
}


class Mark(BaseModel):
    """Whether a query and an image of the gallery show the same person."""

    query: str = Field(description="As a search returned it, or the id of an image of the gallery.")
    image: str = Field(description="The id of an image of the gallery.")
    mark: Literal["same", "another"] | None = Field(description="null removes the mark.")


def make_app(service: SearchService, *, token: str | None = None, host: str = LOOPBACK[0]) -> FastAPI:
    """The application.

    Args:
        service: What answers.
        token: What each request has to carry, in the header `Authorization: Bearer TOKEN` or in the cookie that the
            page's own form sets; None asks for none.
        host: The address that it listens on. On loopback only requests that name this machine are answered, so that a
            page of another site cannot reach it under a name of its own.
    """
    app = FastAPI(
        title="Find a person",
        description=f"Search in the gallery {service.name}.",
        docs_url=None,  # FastAPI's own pages load scripts from other machines
        redoc_url=None,
    )
    for kind, status in ((UserError, 400), (UnknownImageError, 404), (UnreadableImageError, 422)):
        app.exception_handler(kind)(
            lambda _, error, status=status: JSONResponse({"detail": str(error)}, status)
        )
    _add_api(app, service)
    _add_page(app)
    if token is not None:
        _ask_for_token(app, token)
    if host in LOOPBACK:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*LOOPBACK, "[::1]"])

    @app.middleware("http")
    async def with_headers(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await answer(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    return app


def _add_api(app: FastAPI, service: SearchService) -> None:
    @app.post("/search", openapi_extra=UPLOAD)
    async def search(
        request: Request,
        image: Annotated[
            str | None, Query(description="Search with this image of the gallery; the body is empty.")
        ] = None,
        box: Annotated[
            str | None, Query(description="Of the uploaded image: left,top,width,height in pixels.")
        ] = None,
        query_modality: Annotated[
            Literal["visible", "infrared"] | None,
            Query(
                description="Of the uploaded image; by its pixels if left out: three equal channels are infrared."
            ),
        ] = None,
        modality: Annotated[
            Literal["other", "visible", "infrared", "any"], Query(description="Of the images to find.")
        ] = "other",
        camera: Annotated[list[str] | None, Query(description="May be repeated.")] = None,
        after: Annotated[datetime | None, Query(description="Not before this time.")] = None,
        before: Annotated[datetime | None, Query(description="Not after this time.")] = None,
        top: Annotated[int, Query(ge=1, le=MOST_RESULTS)] = 20,
        exact: Annotated[
            bool, Query(description="Compare with every image, also where there is an index.")
        ] = False,
    ) -> dict[str, Any]:
        """The most similar images. The query is the request's body, an image file of at most 16 MiB, or `image`.

        Nothing of an uploaded image is stored. The last 64 are in memory, as the network sees them, for heat maps.
        """
        filters = Filters(modality, tuple(camera or ()), _naive(after), _naive(before), top, exact)
        data = await _body(request)
        if bool(data) == (image is not None):
            raise HTTPException(
                400, "send one image as the request's body, or name one of the gallery as ?image=ID"
            )
        if image is not None:
            return await run_in_threadpool(service.search_image, image, filters)
        return await run_in_threadpool(
            service.search_upload, data, filters, box=_box(box), modality=query_modality
        )

    @app.get("/images/{id}", response_class=Response, responses={200: {"content": {"image/jpeg": {}}}})
    def image(id: str) -> Response:
        """An image of the gallery as the network sees it, a JPEG."""
        return Response(service.image(id), media_type="image/jpeg")

    @app.get(
        "/pairs/{query}/{id}/heatmap",
        response_class=Response,
        responses={200: {"content": {"image/png": {}}}},
    )
    def heatmap(query: str, id: str) -> Response:
        """Query and image next to each other, a PNG: bright places speak for the other image (Grad-CAM)."""
        return Response(service.heatmap(query, id), media_type="image/png")

    @app.get("/marks")
    def marks() -> list[dict[str, Any]]:
        """All marks, in the order in which they were set."""
        return service.marks()

    @app.post("/marks")
    def mark(mark: Mark) -> dict[str, Any]:
        """Keep that two images show the same person or not. An uploaded query is stored with its first mark."""
        service.mark(mark.query, mark.image, mark.mark)
        return {"mark": mark.mark}

    @app.get(
        "/marks/export",
        response_class=Response,
        responses={200: {"content": {"text/csv": {}, "application/zip": {}}}},
    )
    def export(
        images: Annotated[
            bool, Query(description="A zip archive with marks.csv and the images as the network sees them.")
        ] = False,
    ) -> Response:
        """The marked images for training on own data, as a table with the columns path, identity, modality and camera.

        Images that marks of the same person join have one identity. The path of an uploaded query is its name in the
        archive.
        """
        name = f"marks.{'zip' if images else 'csv'}"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        if images:
            return Response(marks_archive(service.gallery), media_type="application/zip", headers=headers)
        return Response(marks_table(service.gallery), media_type="text/csv", headers=headers)

    @app.get("/galleries")
    def galleries() -> list[dict[str, Any]]:
        """The gallery that this server searches: its size, cameras, model and calibration."""
        return [service.describe()]

    @app.get("/health")
    def health() -> dict[str, Any]:
        """Whether the gallery can be read."""
        return {"status": "ok", "gallery": service.name, "images": len(service.gallery)}

    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    def metrics() -> Response:
        """Counts, times and memory in Prometheus' text form."""
        return Response(generate_latest(service.metrics), media_type=CONTENT_TYPE_PLAIN_0_0_4)


def _add_page(app: FastAPI) -> None:
    for name in PAGE_FILES:
        path = "/" if name == "index.html" else f"/{name}"
        app.get(path, include_in_schema=False)(lambda name=name: FileResponse(PAGE / name))
    templates = Environment(
        loader=FileSystemLoader(PAGE), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return HTMLResponse(templates.get_template("docs.html").render(api=app.openapi()))


def _ask_for_token(app: FastAPI, token: str) -> None:
    """Refuse what carries no token. The page's form sends it once; from then on a cookie does."""

    def right(given: str) -> bool:
        return secrets.compare_digest(given.encode(), token.encode())

    @app.middleware("http")
    async def refuse(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        if request.url.path in ("/token", "/style.css"):
            return await answer(request)
        if right(request.headers.get("authorization", "").removeprefix("Bearer ")) or right(
            request.cookies.get(COOKIE, "")
        ):
            return await answer(request)
        if "text/html" in request.headers.get("accept", ""):
            return FileResponse(PAGE / "token.html", status_code=401)
        return JSONResponse({"detail": "a token is needed, in the header `Authorization: Bearer TOKEN`"}, 401)

    @app.post("/token", include_in_schema=False)
    async def enter(request: Request) -> Response:
        given = parse_qs((await _body(request, most=2**12)).decode(errors="replace")).get("token", [""])[0]
        response = RedirectResponse("/", status_code=303)
        if right(given):
            response.set_cookie(COOKIE, given, httponly=True, samesite="strict")
        return response


async def _body(request: Request, most: int = MOST_BYTES) -> bytes:
    """The request's body, read no further than the limit."""
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > most:
            raise HTTPException(
                413, f"the image has more than {most // 2**20} MiB; send a smaller one, or the crop alone"
            )
    return bytes(data)


def _naive(given: datetime | None) -> datetime | None:
    """Times of galleries are the cameras' own, without a zone."""
    return given.replace(tzinfo=None) if given else None


def _box(text: str | None) -> tuple[int, int, int, int] | None:
    if text is None:
        return None
    try:
        left, top, width, height = (int(part) for part in text.split(","))
    except ValueError:
        raise HTTPException(
            400, f"box={text}: give left,top,width,height in pixels, such as 10,20,100,250"
        ) from None
    return left, top, width, height


def serve(name: str, *, host: str, port: int, token: str | None) -> None:
    """Serve a gallery's page and API until SIGINT or SIGTERM.

    Args:
        name: Of the gallery, its folder or its address.
        host: Address to listen on.
        port: 1 to 65535.
        token: What requests have to carry; needed beyond this machine.

    Raises:
        UserError: There is no such gallery or model, the host is not this machine's and there is no token, or the port
            is in use.
    """
    if host not in LOOPBACK and not token:
        raise UserError(
            f"--host {host}: other machines could search and mark; set --token or MSCLNET_TOKEN to a secret, or leave "
            "--host out"
        )
    gallery = open_gallery(name)
    try:
        listening = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        )
    except OSError as error:
        raise UserError(f"--host {host} --port {port}: {error.strerror}; give another --port") from error
    with listening:
        service = SearchService(
            gallery,
            open_model_of,
            name=PurePosixPath(name).name,
            champion=_champion_of(gallery.model.address),
        )
        app = make_app(service, token=token, host=host)
        shown = f"[{host}]" if ":" in host else host
        print(f"http://{shown}:{port} searches {name}, {len(gallery)} images; Ctrl-C ends it", flush=True)
        config = uvicorn.Config(
            app,
            access_log=False,  # it would keep who searched what
            log_level="warning",
            limit_concurrency=MOST_CONNECTIONS,
            timeout_graceful_shutdown=5,
        )
        uvicorn.Server(config).run(sockets=[listening])


def _champion_of(address: str) -> Callable[[], str | None]:
    """What asks the registry for the version of the champion of a gallery's model."""
    _, registered, name = address.rpartition("/")[0].partition("models:/")

    def ask() -> str | None:
        if not registered:
            return None
        from msclnet.tracking.champion import champion_version

        try:
            return champion_version(name, home=home())
        except UserError:  # a registry that does not answer ends no search
            return None

    return ask
