"""How the page's server starts and ends."""

import logging
import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn

from fairveil.base.errors import FairveilError
from fairveil.web.app import Site
from fairveil.web.guard import Endpoint
from fairveil.web.limits import Limits
from fairveil.web.studio import Tools
from fairveil.web.workspace import private_folder


def listen(host: str, port: int | None, usual_port: int) -> socket.socket:
    """Take a port to listen on: the one asked for, else the usual one, else any; all addresses include those of IPv4.

    Raises:
        FairveilError: it cannot be had.
    """
    tries = [port] if port is not None else [usual_port, 0]
    try:
        family = socket.getaddrinfo(host, tries[0], type=socket.SOCK_STREAM)[0][0]
    except socket.gaierror as error:
        raise FairveilError(f"There is no {host} to listen on: {error.strerror}. Name another with --host.") from error
    both = family == socket.AF_INET6 and socket.has_dualstack_ipv6()
    for attempt in tries:
        try:
            return socket.create_server((host, attempt), family=family, dualstack_ipv6=both)
        except OSError as error:
            reason = error.strerror or str(error)
    raise FairveilError(
        f"fairveil cannot listen on {host}, port {tries[-1]}: {reason}. Choose another with --port, or with --host."
    )


def run(
    sock: socket.socket,
    endpoint: Endpoint,
    tools: Tools,
    *,
    limits: Limits | None = None,
    workers: int = 1,
    base: Path | None = None,
    on_ready: Callable[[Path], None] = lambda folder: None,
    on_server: Callable[[uvicorn.Server], None] = lambda server: None,
) -> None:
    """Serve the page until the process is told to end; then nothing of anybody's photos is left.

    Args:
        sock: to listen on, see `listen`.
        endpoint: where that is.
        tools: to find, veil and judge faces with.
        limits: on what is taken.
        workers: how many photos are veiled at once.
        base: see `private_folder`.
        on_ready: called when the page can be opened, with a folder that nobody else may read.
        on_server: called with the server before it runs, by whoever wants to end it.

    Raises:
        FairveilError: photos cannot be kept anywhere.
    """
    with private_folder(base) as folder:
        site = Site(folder, tools, endpoint, limits or Limits(), workers)
        config = uvicorn.Config(
            site.app(on_ready=lambda: on_ready(folder)),
            access_log=False,  # addresses hold what only the page may know
            log_level=logging.ERROR,
            ws="none",
            server_header=False,
            proxy_headers=False,
            limit_concurrency=128,
            timeout_graceful_shutdown=1,  # pages listen for news as long as they are open
        )
        running = uvicorn.Server(config)
        site.ending = lambda: running.should_exit
        on_server(running)
        try:
            running.run(sockets=[sock])
        finally:
            site.tabs.close_all()
            site.studio.close()
