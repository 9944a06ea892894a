"""`head get`: a published file by https, checked and imported, or nothing. Here it is served by this machine."""

import hashlib
import http.server
import socket
import threading

import numpy as np
import pytest
from gnm_files import full_layout

from diverse3d._errors import InputError
from diverse3d.cli import main
from diverse3d.head import head_metadata, load_head
from diverse3d.head.gnm import _get
from diverse3d.head.gnm._get import GNM, Published, fetch


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    path = tmp_path_factory.mktemp("published") / "gnm_head.npz"
    np.savez_compressed(path, **full_layout())
    return path.read_bytes()


@pytest.fixture
def server():
    """Serves what each test says: path → (status, headers, body, declared length)."""
    answers = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            status, headers, body, length = answers.get(self.path, (404, {}, b"", 0))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if length is not None:
                self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    class Quiet(http.server.ThreadingHTTPServer):
        def handle_error(self, *_):  # a client that hangs up early is part of the tests
            pass

    with Quiet(("127.0.0.1", 0), Handler) as listener:
        thread = threading.Thread(target=listener.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.server_port}", answers
        listener.shutdown()
        thread.join()


@pytest.fixture
def published(content, server, monkeypatch):
    """Put the server's file in the place of the real one."""
    base, answers = server
    source = Published(f"{base}/gnm_head.npz", hashlib.sha256(content).hexdigest(), 1 << 20, loopback=True)
    answers["/gnm_head.npz"] = 200, {}, content, len(content)
    monkeypatch.setattr(_get, "GNM", source)
    return source, answers


def test_what_is_published_is_pinned():
    assert GNM.url.startswith("https://huggingface.co/google/gnm-v3/") and len(GNM.sha256) == 64 and not GNM.loopback
    assert GNM.largest_bytes < 100 << 20


def test_get_downloads_checks_and_imports(published, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["head", "get", "gnm"]) == 0
    printed = capsys.readouterr()
    assert "downloading" in printed.err and "GNM Head 3.0" in printed.out
    assert [path.name for path in tmp_path.iterdir()] == ["gnm.safetensors"]
    assert load_head("gnm.safetensors").n_vertices == len(full_layout()["template_vertex_positions"])
    assert head_metadata("gnm.safetensors")["source"] == published[0].url
    assert main(["head", "get", "gnm", "--quiet"]) == 2 and "exists" in capsys.readouterr().err
    out = tmp_path / "other.safetensors"
    assert main(["head", "get", "gnm", "--out", str(out), "--quiet"]) == 0
    assert out.read_bytes() == (tmp_path / "gnm.safetensors").read_bytes()


def test_a_redirect_on_this_machine_is_followed_in_tests(published, content, server, tmp_path):
    source, answers = published
    answers["/elsewhere"] = answers["/gnm_head.npz"]
    answers["/gnm_head.npz"] = 302, {"Location": f"{server[0]}/elsewhere"}, b"", 0
    assert fetch(source, tmp_path).read_bytes() == content


WRONG = {
    "another content": (lambda c: (200, {}, c[:-1] + b"x", len(c)), "is not the file it should be"),
    "cut": (lambda c: (200, {}, c[:1000], len(c)), "broke off after 1000"),
    "cut at once": (lambda c: (200, {}, b"", len(c)), "broke off after 0"),
    "longer than declared possible": (lambda c: (200, {}, b"", 1 << 40), "far more than the file it should be"),
    "endless": (lambda c: (200, {}, c * 200, None), "far larger than the file it should be"),
    "missing": (lambda c: (404, {}, b"", 0), "the server answers 404"),
    "broken server": (lambda c: (503, {}, b"", 0), "the server answers 503"),
    "to http": (lambda c: (302, {"Location": "http://example.org/gnm_head.npz"}, b"", 0), "without https"),
    "to a file": (lambda c: (302, {"Location": "file:///etc/passwd"}, b"", 0), "not allowed"),
}


@pytest.mark.parametrize("case", WRONG)
def test_whatever_goes_wrong_leaves_nothing(case, published, content, tmp_path, capsys):
    answer, expected = WRONG[case]
    published[1]["/gnm_head.npz"] = answer(content)
    out = tmp_path / "gnm.safetensors"
    assert main(["head", "get", "gnm", "--out", str(out), "--quiet"]) == 2
    said = capsys.readouterr().err
    assert expected in said and len(said.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_no_server_and_a_silent_one(published, tmp_path, monkeypatch, capsys):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        source = published[0]._replace(url=f"http://127.0.0.1:{port}/gnm_head.npz")
        with pytest.raises(InputError, match="can't be had .*refused"):
            fetch(source, tmp_path)
        silent.listen()
        monkeypatch.setattr(_get, "_SECONDS_SILENT", 0.2)
        with pytest.raises(InputError, match="can't be had: nothing came"):
            fetch(source, tmp_path)
    assert not list(tmp_path.iterdir())


def test_plain_http_is_refused_outside_tests(published, tmp_path):
    with pytest.raises(InputError, match="not at an https address"):
        fetch(published[0]._replace(loopback=False), tmp_path)


def test_a_full_disk_is_said(published, tmp_path, monkeypatch):
    class Full:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def write(self, _):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(_get, "_opened", lambda target: Full())
    with pytest.raises(InputError, match="No space left on device"):
        fetch(published[0], tmp_path)


def test_progress_tells_the_time_left(published, content, tmp_path, capsys):
    from diverse3d.cli._head import _Download

    heard = []
    fetch(published[0], tmp_path, progress=lambda *at: heard.append(at))
    assert heard[-1][:2] == (len(content), len(content))
    say = _Download(quiet=False)
    say(10_000_000, 53_000_000, 1.0)
    say(20_000_000, 53_000_000, 4.0)
    assert capsys.readouterr().err == "20 of 53 MB (about 7 s left)\n"


def test_an_unknown_name_is_refused(capsys):
    assert main(["head", "get", "gmn"]) == 2
    assert "did you mean 'gnm'" in capsys.readouterr().err
