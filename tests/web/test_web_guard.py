import json
import socket

import pytest

from fairveil.base.errors import FairveilError
from fairveil.web.guard import Endpoint, is_loopback
from fairveil.web.serving import listen


def test_the_page_and_its_parts_say_that_nothing_may_be_loaded_from_outside(serving):
    visitor = serving().visitor()
    for path in ("/", "/page/page.js", "/nowhere"):
        _, headers, _ = visitor.ask("GET", path, Origin=None)
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "connect-src 'self'" in policy and "unsafe" not in policy
        assert headers["cache-control"] == "no-store" and headers["referrer-policy"] == "no-referrer"
        assert "server" not in headers


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "127.0.0.1.evil.example:{port}", ""]
)
def test_a_name_that_is_not_ours_is_not_answered(serving, host):
    running = serving()
    status, _, body = running.visitor().ask("GET", "/", Host=host.format(port=running.endpoint.port), Origin=None)
    assert status in (400, 421) and b"<html" not in body


def test_a_request_without_a_host_is_not_answered(serving):
    status, _, _ = serving().visitor().ask("GET", "/", Host=None, Origin=None)
    assert status == 400


@pytest.mark.parametrize("host", ["localhost:{port}", "LOCALHOST:{port}", "[::1]:{port}"])
def test_other_names_of_this_machine_are_answered(serving, host):
    running = serving()
    assert running.visitor().ask("GET", "/", Host=host.format(port=running.endpoint.port), Origin=None)[0] == 200


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "https://127.0.0.1:{port}", "http://127.0.0.1:1", "http://localhost:{port}", None],
)
def test_other_sites_can_have_nothing_done(serving, origin):
    running = serving()
    visitor = running.visitor().open()
    origin = origin and origin.format(port=running.endpoint.port)
    for method, path in (("POST", "/tabs"), ("PUT", f"{visitor.tab}/photos"), ("POST", f"{visitor.tab}/close")):
        assert visitor.ask(method, path, b"", Origin=origin)[0] == 403
    assert visitor.upload(b"")[0] == 200  # the page itself still can


def test_other_sites_can_link_to_the_page_but_not_embed_what_it_holds(serving):
    visitor = serving().visitor()
    crossing = {"Origin": None, "Sec_Fetch_Site": "cross-site"}
    assert visitor.ask("GET", "/", Sec_Fetch_Mode="navigate", **crossing)[0] == 200
    assert visitor.ask("GET", "/", Sec_Fetch_Mode="no-cors", **crossing)[0] == 403
    assert visitor.ask("GET", "/page/page.js", Sec_Fetch_Mode="no-cors", **crossing)[0] == 403
    same_site = {"Origin": None, "Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "cors"}  # another port of ours
    assert visitor.ask("GET", "/page/page.js", **same_site)[0] == 403


def test_where_others_can_reach_the_server_nothing_is_given_without_the_token(serving):
    visitor = serving(token="the-secret").visitor()
    for path in (
        "/",
        "/page/page.js",
        "/?token=",
        "/?token=the-secre",
        "/?token=the-secret-",
        "/tabs/x/news?token=the-secret",
    ):
        status, headers, body = visitor.ask("GET", path, Origin=None)
        assert status == 401 and b"?token=" in body and "set-cookie" not in headers
    assert visitor.ask("POST", "/tabs")[0] == 401


def test_the_token_is_asked_for_once_and_leaves_the_address_bar(serving):
    visitor = serving(token="the-secret").visitor()
    status, headers, _ = visitor.ask("GET", "/?token=the-secret", Origin=None)
    assert status == 303 and headers["location"] == "/"
    cookie = headers["set-cookie"]
    assert "HttpOnly" in cookie and "samesite=lax" in cookie.lower() and "the-secret" not in cookie
    assert visitor.ask("GET", "/", Origin=None)[0] == 200
    assert visitor.ask("POST", "/tabs")[0] == 200


def test_a_server_for_others_makes_a_token_of_its_own_and_one_for_this_machine_does_not():
    assert Endpoint.at("127.0.0.1", 80).token is None and Endpoint.at("::1", 80).token is None
    tokens = {Endpoint.at(host, 80).token for host in ("0.0.0.0", "192.168.1.5", "::", "photos.example")}
    assert len(tokens) == 4 and all(len(token) >= 32 for token in tokens)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.5", True),
        ("localhost", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
        ("localhost.evil.example", False),
    ],
)
def test_only_addresses_of_this_machine_count_as_such(host, loopback):
    assert is_loopback(host) is loopback


def test_a_server_on_all_addresses_answers_to_addresses_and_to_no_foreign_name():
    endpoint = Endpoint("0.0.0.0", 7447)
    assert (
        endpoint.answers_to("192.168.1.5:7447")
        and endpoint.answers_to("localhost:7447")
        and endpoint.answers_to("[fe80::1]:7447")
    )
    assert not endpoint.answers_to("evil.example:7447") and not endpoint.answers_to("192.168.1.5:80")
    assert Endpoint("192.168.1.5", 7447).answers_to("192.168.1.5:7447")
    assert not Endpoint("192.168.1.5", 7447).answers_to("10.0.0.1:7447")


def test_addresses_can_be_opened():
    assert Endpoint("127.0.0.1", 7447).address == "http://127.0.0.1:7447/"
    assert Endpoint("::1", 7447).address == "http://[::1]:7447/"
    endpoint = Endpoint.at("192.168.1.5", 7447)
    assert endpoint.address == f"http://192.168.1.5:7447/?token={endpoint.token}"


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_all_addresses_include_those_of_ipv4():
    with listen("::", 0, 0) as sock, socket.create_connection(("127.0.0.1", sock.getsockname()[1]), timeout=5):
        pass


def test_an_address_that_there_is_not_is_told_of():
    with pytest.raises(FairveilError, match=r"no nowhere\.invalid .* --host"):
        listen("nowhere.invalid", 0, 0)


def test_the_page_has_one_address(serving):
    visitor = serving().visitor()
    assert [visitor.ask("GET", path, Origin=None)[0] for path in ("/", "/page/index.html", "/page/")] == [200, 404, 404]


def test_what_is_refused_is_refused_in_json_that_the_page_can_show(serving):
    visitor = serving().visitor().open()
    status, _, body = visitor.ask("POST", "/tabs/unknown/stop")
    assert status == 404 and "reload" in json.loads(body)["problem"]
