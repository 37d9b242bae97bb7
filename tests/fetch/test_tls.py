"""Over TLS, as nearly all of the web: certificates are checked, and the guard's connections carry media."""

import importlib.util
import shutil
import ssl
import subprocess
import threading
from pathlib import Path

import certifi
import pytest

from audioclf.audio.ledger import State
from audioclf.audio.store import AudioStore
from audioclf.clips.clip import Clip
from audioclf.config import FetchConfig
from audioclf.fetch.cut import fetch_recording
from audioclf.fetch.failures import Reason
from audioclf.fetch.recording import Outcome, Recording
from audioclf.fetch.session import Session


@pytest.fixture
def secure(media, media_folder, tmp_path):
    """The test server behind TLS: its address and the certificate that it made for itself."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the program openssl, to make a certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    spec = importlib.util.spec_from_file_location("media_server", Path(__file__).with_name("server.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    media("m4a")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with module.Server(media_folder) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"https://localhost:{server.server_address[1]}/short.m4a", certificate
        server.shutdown()
        thread.join()


def fetched(url: str, folder: Path) -> Outcome:
    clip = Clip("a", url, 5.0, 8.0, ("x",), url)
    with Session(FetchConfig(allow_private=True)) as session:
        return next(iter(fetch_recording(Recording(url, "localhost", (clip,)), session, AudioStore(folder))))


def test_a_clip_comes_over_tls_from_a_server_whose_certificate_is_known(secure, tmp_path, monkeypatch):
    url, certificate = secure
    monkeypatch.setattr(certifi, "where", lambda: str(certificate))
    outcome = fetched(url, tmp_path / "audio")
    assert outcome.row is not None
    assert outcome.row.state is State.OK


def test_a_certificate_that_nobody_vouches_for_is_refused(secure, tmp_path):
    outcome = fetched(secure[0], tmp_path / "audio")
    assert outcome.row is None
    assert outcome.fault.reason is Reason.CONNECTION
    assert "CERTIFICATE_VERIFY_FAILED" in outcome.fault.message
