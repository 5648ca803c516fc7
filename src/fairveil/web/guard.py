"""Who may speak to the page's server: the browser that opened the page, and no other site, machine or name."""

import hmac
import ipaddress
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
"""What the page may load and whom it may speak to: this server, and nothing outside."""

_HEADERS = {
    "content-security-policy": CONTENT_POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",  # photos do not stay in a browser's cache
}
_READING = {"GET", "HEAD"}
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server bound to `host`.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    address = _address(host)
    return host == "localhost" if address is None else address.is_loopback


@dataclass(frozen=True)
class Endpoint:
    """Where the server listens, and what it takes to come in.

    Attributes:
        host: the name or address it is bound to.
        port: it listens on.
        token: the secret that a visitor has to bring once; None where only this machine can reach the server.
        pass_value: the cookie that a visitor who brought it is given, so that the token itself is kept nowhere.
    """

    host: str
    port: int
    token: str | None = None
    pass_value: str = field(default_factory=lambda: secrets.token_urlsafe(32))

    @classmethod
    def at(cls, host: str, port: int) -> "Endpoint":
        """An endpoint that asks for a new token wherever others than this machine could reach it."""
        return cls(host, port, None if is_loopback(host) else secrets.token_urlsafe(24))

    @property
    def address(self) -> str:
        """What to open in a browser."""
        given = _address(self.host)
        host = self.host
        if given is not None and given.is_unspecified:
            host = _own_address() or socket.gethostname()
        elif given is not None and given.version == 6:
            host = f"[{self.host}]"
        return f"http://{host}:{self.port}/" + (f"?token={self.token}" if self.token else "")

    def answers_to(self, name: str) -> bool:
        """Whether a Host header names this server.

        A site that lets its own name point to this machine (DNS rebinding) is told by that name. Where the server is
        bound to all addresses, any address will do, since an address cannot be rebound.
        """
        host, separator, port = name.rpartition(":")
        if not separator or port != str(self.port):
            return name.lower() in self._names() and self.port == 80
        bound = _address(self.host)
        if bound is not None and bound.is_unspecified and _address(host.strip("[]")) is not None:
            return True
        return host.lower() in self._names()

    def _names(self) -> set[str]:
        bound = _address(self.host)
        if is_loopback(self.host):
            return {*_LOOPBACK_NAMES, self.host, f"[{self.host}]"}
        if bound is not None and bound.is_unspecified:
            own = socket.gethostname().lower()
            return {*_LOOPBACK_NAMES, own, f"{own}.local"}
        return {self.host.lower(), f"[{self.host.lower()}]"}


class AccessGuard:
    """In front of the application: refuses what does not come from its own page, and adds the headers that confine it.

    Args:
        app: what is guarded.
        endpoint: where it listens, and the token if it takes one.
    """

    def __init__(self, app: ASGIApp, endpoint: Endpoint) -> None:
        self.app, self.endpoint = app, endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # the page uses no sockets
            return

        async def confined(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        answer = self._refusal(scope) or self._entrance(scope)
        await (answer or self.app)(scope, receive, confined)

    def _refusal(self, scope: Scope) -> Response | None:
        """The answer to a request of another site."""
        headers = Headers(scope=scope)
        if headers.getlist("host") != [headers.get("host", "")] or not self.endpoint.answers_to(
            headers.get("host", "")
        ):
            return PlainTextResponse("fairveil does not answer to this name. Open the address it printed.", 421)
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
        if origin is None:
            # A link from another site may open the page itself, which shows nothing until a person acts.
            opens_page = scope["path"] == "/" and headers.get("sec-fetch-mode", "navigate") == "navigate"
            foreign = scope["method"] not in _READING or (site not in ("none", "same-origin") and not opens_page)
        else:
            foreign = origin != f"http://{headers['host']}"
        if foreign:
            return PlainTextResponse("fairveil answers to its own page only, not to other sites.", 403)
        return None

    def _entrance(self, scope: Scope) -> Response | None:
        """The answer to a visitor who has not shown the token yet, or shows it now."""
        if self.endpoint.token is None:
            return None
        cookie = f"fairveil-pass-{self.endpoint.port}"
        if _same(_cookies(scope).get(cookie, ""), self.endpoint.pass_value):
            return None
        brought = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])
        if scope["path"] == "/" and scope["method"] == "GET" and _same(brought[0], self.endpoint.token):
            welcome = RedirectResponse("/", 303)  # so that the token leaves the address bar
            # Lax, or a link to this address on another site, such as one for mail, would lead to the refusal below.
            welcome.set_cookie(cookie, self.endpoint.pass_value, httponly=True, samesite="lax")
            return welcome
        return PlainTextResponse(
            "This page needs its token. Open the whole address that fairveil printed when it was started, with the "
            "part after “?token=”.",
            401,
        )


def browser_of(scope: Scope, port: int) -> str | None:
    """The name by which a browser is known, if it has been here before."""
    value = _cookies(scope).get(browser_cookie(port), "")
    return value if len(value) == 43 else None


def browser_cookie(port: int) -> str:
    """What the cookie that tells browsers apart is called; cookies know no ports, so the name holds it."""
    return f"fairveil-{port}"


def _cookies(scope: Scope) -> Mapping[str, str]:
    return cookie_parser(Headers(scope=scope).get("cookie", ""))


def _same(given: str, secret: str) -> bool:
    """Compared in a time that does not tell how much of it is right."""
    return hmac.compare_digest(given.encode(), secret.encode())


def _own_address() -> str | None:
    """The address by which this machine is known on its network, if it is on one."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))  # an address of nobody; looking up the way there sends nothing
            return str(probe.getsockname()[0])
    except OSError:
        return None


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
