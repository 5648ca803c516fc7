"""The command `fairveil serve`."""

import signal
import threading
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from fairveil.base.errors import missing_extra
from fairveil.cli.terminal import print_sentence, say

USUAL_PORT = 7447


def serve(
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on. Where others can reach it, the page asks for the token that is printed."
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help=f"Port to listen on, by default {USUAL_PORT} or any free one; 0 is any free one."
        ),
    ] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the address, and open no browser.")] = False,
) -> None:
    """Protect photos on a page in the browser, on this machine.

    No photo leaves this machine. Photos are removed when the page is closed or the command ends.

    Example: fairveil serve
    """
    try:
        from fairveil.protection.spreading import workers_for
        from fairveil.web.guard import Endpoint, is_loopback
        from fairveil.web.limits import Limits
        from fairveil.web.serving import listen, run
        from fairveil.web.studio import Tools
    except ImportError as error:
        raise missing_extra(error) from error

    sock = listen(host, port, USUAL_PORT)
    endpoint = Endpoint.at(host, sock.getsockname()[1])
    tools = Tools.pretrained()
    if not is_loopback(host):
        say(
            "Others on this network can open the page with this address, and what they send is not encrypted: use this "
            "only on networks you trust."
        )

    def ready(folder: Path) -> None:
        print_sentence(endpoint.address)
        say("Open this address in a browser; Ctrl-C ends it.")
        if not no_browser:  # in a thread, since some browsers hold up whoever opens them
            opened = _leading_to(endpoint.address, folder) if endpoint.token else endpoint.address
            threading.Thread(target=webbrowser.open, args=(opened,), daemon=True).start()

    # A process that is told to end removes the photos first, as after Ctrl-C.
    signal.signal(signal.SIGTERM, _end)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, lambda number, frame: signal.raise_signal(signal.SIGTERM))
    limits = Limits()
    workers = workers_for(limits.photo_pixels, "face", most=limits.photos)
    try:
        run(sock, endpoint, tools, limits=limits, workers=workers, on_ready=ready)
    except KeyboardInterrupt:
        say("Stopped, and all photos removed.")


def _leading_to(address: str, folder: Path) -> str:
    """A page in a private folder that leads to an address, since everybody may see what programs are started with."""
    page = folder / "open.html"
    page.write_text(f'<!doctype html><meta http-equiv="refresh" content="0; url={address}">', encoding="utf-8")
    return page.as_uri()


def _end(number: int, frame: object) -> None:
    raise SystemExit(0)
