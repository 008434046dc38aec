"""The command as people run it: processes, pipes and exit statuses."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

StartCommand: TypeAlias = Callable[..., subprocess.Popen[Any]]
RunCommand: TypeAlias = Callable[..., subprocess.CompletedProcess[Any]]
Call: TypeAlias = Callable[..., tuple[int, bytes, str]]
Token: TypeAlias = Callable[..., tuple[int, str, str]]

# As a shell starts it; most tests have `start_command` and `run_command` fork it.
COMMAND = [sys.executable, "-m", "aiosmrt"]

MODEL = """
from aiosmrt.local import ModelFailure, ModelResponse

async def run(request):
    if request.session_id == "NEW_SESSION":
        return ModelResponse(b"{}", new_session_id="5a6b")
    if request.operation == "InvokeEndpointWithResponseStream":
        return stream(request)
    if request.body == b"fail":
        raise ModelFailure(400, "no such tensor")
    return {"body": request.body.decode(), "accept": request.accept}

async def stream(request):
    for word in request.body.split():
        yield word
    if b"fail" in request.body:
        raise ModelFailure(500, "broke")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("model")
    (made / "my_model.py").write_text(MODEL)
    return made


@pytest.fixture(scope="module")
def url(start_command: StartCommand, folder: Path) -> Iterator[str]:
    arguments = ("serve", "--model", "my_model:run")
    with start_command(*arguments, stdout=subprocess.PIPE, text=True, cwd=folder) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.send_signal(signal.SIGTERM)
            assert server.wait(10) == 0


KEYS = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local-secret"}


@pytest.fixture
def call(run_command: RunCommand) -> Call:
    """Give what runs a command that calls: its status, standard output and standard error."""

    def call(url: str, command: str, *arguments: str, given: bytes = b"") -> tuple[int, bytes, str]:
        where = ("--endpoint-url", url, "--region", "us-east-1", "--endpoint-name", "e")
        done = run_command(command, *where, *arguments, given=given, environment=KEYS)
        return done.returncode, done.stdout, done.stderr.decode()

    return call


def test_the_first_line_of_serve_is_its_url(url: str) -> None:
    assert url.startswith("http://127.0.0.1:")


def test_invoke_prints_the_answer(url: str, call: Call) -> None:
    status, out, err = call(url, "invoke", "--body", "hello", "--accept", "text/csv")
    assert (status, err) == (0, "")
    assert json.loads(out) == {"body": "hello", "accept": "text/csv"}


def test_a_body_comes_from_a_file_or_from_standard_input(
    url: str, tmp_path: Path, call: Call
) -> None:
    (tmp_path / "body").write_bytes(b"from a file")
    assert b"from a file" in call(url, "invoke", "--body", f"@{tmp_path / 'body'}")[1]
    assert b"from stdin" in call(url, "invoke", given=b"from stdin")[1]
    assert b"from stdin" in call(url, "invoke", "--body", "-", given=b"from stdin")[1]


def test_stream_prints_the_parts(url: str, call: Call) -> None:
    assert call(url, "stream", "--body", "a b c") == (0, b"abc", "")


@pytest.mark.parametrize(
    ("view", "body", "printed"),
    [
        ("text", "zw ö lf", "zwölf"),
        ("lines", '"a" "b"', '"a""b"\n'),
        ("json", '{"a":"ö"} [1,2] 3', '{"a":"ö"}\n[1,2]\n3\n'),
        ("sse", "data:a", '{"event":"message","data":"a"}\n'),
        ("tokens", '{"choices":[{"delta":{"content":"Hel"}}]}', "Hel"),
        ("json", '"\\ud83d"', '"?"\n'),
        ("tokens:tgi", '{"token":{"text":"\\ud83d"}}', "\ufffd"),
        ("tokens:a.b", '{"a":{"b":"Hel"}} {"a":{"b":"lo"}}', "Hello"),
    ],
)
def test_stream_prints_a_view(url: str, view: str, body: str, printed: str, call: Call) -> None:
    status, out, err = call(url, "stream", "--as", view, "--body", body)
    assert (status, out.decode(), err) == (0, printed, "")


def test_stream_fails_in_a_view_after_what_was_sound(url: str, call: Call) -> None:
    status, out, err = call(url, "stream", "--as", "json", "--body", "{} ]")
    assert (status, out) == (1, b"{}\n")
    assert err.startswith("aiosmrt: InvalidJSON: ")
    assert err.count("\n") == 1


def test_stream_fails_after_the_parts_that_came(url: str, call: Call) -> None:
    status, out, err = call(url, "stream", "--body", "a fail")
    assert (status, out) == (1, b"afail")
    assert err.startswith("aiosmrt: ModelStreamError: ")
    assert err.count("\n") == 1
    assert "after 2 parts" in err


def test_invoke_async_prints_where_the_output_will_be(url: str, call: Call) -> None:
    status, out, _ = call(
        url, "invoke-async", "--input-location", "s3://b/k", "--request-ttl-seconds", "60"
    )
    assert status == 0
    located = json.loads(out)
    assert located.keys() >= {"inference_id", "output_location", "failure_location"}
    assert located["output_location"].startswith("s3://")


def test_invoke_async_takes_its_body_from_standard_input(url: str, call: Call) -> None:
    s3 = ("--s3-endpoint-url", f"{url}/s3")
    for arguments in ((), ("--body", "-")):
        status, out, _ = call(
            url, "invoke-async", *arguments, "--wait", "10", *s3, given=b'{"a": 1}'
        )
        assert status == 0
        assert json.loads(json.loads(out)["body"]) == {"a": 1}
    # What is in S3 is not asked of who sits at the keyboard.
    status, _, _ = call(url, "invoke-async", "--input-location", "s3://b/k", given=b"unread")
    assert status == 0
    status, _, told = call(url, "invoke-async", given=b"")
    assert status == 2
    assert "one of --body and --input-location is required" in told


def test_invoke_async_waits_for_the_output(url: str, call: Call) -> None:
    s3 = ("--s3-endpoint-url", f"{url}/s3")
    status, out, err = call(url, "invoke-async", *s3, "--body", "later", "--wait", "20")
    assert (status, err) == (0, "")
    assert json.loads(out)["body"] == "later"
    status, out, err = call(url, "invoke-async", *s3, "--body", "fail", "--wait")
    assert (status, out) == (1, b"")
    assert "AsyncInferenceError" in err
    assert "no such tensor" in err


def test_a_later_process_waits_on(
    url: str, tmp_path: Path, run_command: RunCommand, call: Call
) -> None:
    _, saved, _ = call(url, "invoke-async", "--body", "later")
    (tmp_path / "saved").write_bytes(saved)
    where = ("--endpoint-url", url, "--s3-endpoint-url", f"{url}/s3", "--region", "us-east-1")
    for given in (f"@{tmp_path / 'saved'}", saved.decode()):
        done = run_command("result", given, *where, "--wait", "20", environment=KEYS)
        assert (done.returncode, done.stderr) == (0, b"")
        assert json.loads(done.stdout)["body"] == "later"


def test_serve_logs_a_line_for_each_request(start_command: StartCommand, call: Call) -> None:
    with start_command(
        "serve", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        assert server.stderr is not None
        served = server.stdout.readline().strip()
        call(served, "invoke", "--body", "x")
        call(served, "invoke", "--body", "x", "--no-sign")
        server.send_signal(signal.SIGTERM)
        logged = [line.split(" INFO ")[1] for line in server.stderr.read().splitlines()]
        assert server.wait(10) == 0
    good, refused = logged
    assert good.startswith("POST /endpoints/e/invocations: 200 [")
    assert refused.startswith("POST /endpoints/e/invocations: 403 [")


def test_serve_has_a_certificate_of_its_own(
    tmp_path: Path, start_command: StartCommand, run_command: RunCommand
) -> None:
    with start_command(
        *("serve", "--tls", "--service-limits"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as server:
        assert server.stdout is not None
        assert server.stderr is not None
        name, _, bundle = server.stderr.readline().strip().partition("=")
        served = server.stdout.readline().strip()
        assert served.startswith("https://127.0.0.1:")
        done = run_command(
            *("invoke", "--endpoint-url", served, "--region", "us-east-1"),
            *("--endpoint-name", "e", "--body", "x"),
            environment={**KEYS, name: bundle},
        )
        assert (done.returncode, json.loads(done.stdout)["echo"]) == (0, "x")
        server.send_signal(signal.SIGTERM)
        assert server.wait(10) == 0
    assert list(tmp_path.iterdir()) == []


def test_serve_uses_an_s3_elsewhere(url: str, start_command: StartCommand, call: Call) -> None:
    s3 = f"{url}/s3"
    with start_command(
        *("serve", "--s3-endpoint", s3),
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **KEYS},
    ) as server:
        assert server.stdout is not None
        second = server.stdout.readline().strip()
        waiting = ("--s3-endpoint-url", s3, "--wait", "20")
        done = call(second, "invoke-async", *waiting, "--body", "to be echoed")
        server.send_signal(signal.SIGTERM)
        assert server.wait(10) == 0
    assert (done[0], json.loads(done[1])["echo"], done[2]) == (0, "to be echoed", "")


def test_a_call_that_fails_says_why_in_one_line(url: str, call: Call) -> None:
    status, out, err = call(url, "invoke", "--body", "fail")
    assert (status, out) == (1, b"")
    assert err.startswith("aiosmrt: ModelError (HTTP 424): ")
    assert err.count("\n") == 1
    assert "no such tensor" in err
    assert "request id" in err


def test_nobody_there(call: Call) -> None:
    status, _, err = call("http://127.0.0.1:1", "invoke", "--body", "x")
    assert status == 1
    assert "no connection to http://127.0.0.1:1" in err
    assert "not attempted again: this was the last attempt" in err
    assert err.count("\n") == 1


def test_no_region(run_command: RunCommand) -> None:
    done = run_command("invoke", "--endpoint-name", "e", "--body", "x", environment=KEYS)
    assert done.returncode == 1
    assert b"AWS_DEFAULT_REGION" in done.stderr
    assert b"Pass --region, set" in done.stderr
    assert b"region_name" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("invoke", "--body", "x"),
        ("stream", "--body", "x"),
        ("invoke-async", "--body", "x"),
        ("config",),
        ("demo",),
        ("chat", "--local"),
        ("serve",),
        ("--help",),
        ("invoke", "--help"),
        ("--version",),
    ],
)
def test_a_full_disk_is_not_wrong_usage(
    url: str, run_command: RunCommand, arguments: tuple[str, ...]
) -> None:
    if arguments[0] in ("invoke", "stream", "invoke-async") and "--help" not in arguments:
        where = ("--endpoint-url", url, "--region", "us-east-1", "--endpoint-name", "e")
        arguments = (*arguments, *where)
    elif arguments == ("config",):
        arguments = ("config", "--region", "us-east-1")
    with Path("/dev/full").open("wb") as full:
        done = run_command(*arguments, given="hello\n", stdout=full, environment=KEYS)
    assert done.returncode == 3
    *said, complaint = done.stderr.splitlines()
    assert complaint == (
        "aiosmrt: OSError: standard output could not be written: No space left on device"
    )
    # What is about an answer comes before it.
    assert said == (["[reasoning: That is question 1. ]"] if arguments[0] == "chat" else [])


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("invoke",),
        ("invoke", "--endpoint-name", "e", "--boddy", "x"),
        ("invoke", "--endpoint-name", "e", "--body", "@/nowhere/at/all"),
        ("invoke-async", "--endpoint-name", "e", "--request-ttl-seconds", "soon"),
        ("invoke", "--endpoint-name", "not a name", "--region", "us-east-1", "--body", "x"),
        ("serve", "--model", "a:b", "--upstream", "http://127.0.0.1:1"),
        ("stream", "--endpoint-name", "e", "--as", "xml"),
        ("stream", "--endpoint-name", "e", "--as", "json:x"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], run_command: RunCommand) -> None:
    done = run_command(*arguments)
    assert done.returncode == 2
    assert done.stderr


def test_config_shows_values_and_their_sources(tmp_path: Path, run_command: RunCommand) -> None:
    (tmp_path / "config").write_text("[profile dev]\nregion = eu-west-1\nmax_attempts = 7\n")
    done = run_command(
        *("config", "--profile", "dev", "--timeout", "9"),
        environment={
            "AWS_CONFIG_FILE": str(tmp_path / "config"),
            "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": "http://localhost:8080/",
            "AWS_ENDPOINT_URL_S3": "http://my-name:my-password@localhost:9000",
            "AWS_RETRY_MODE": "adaptive",
            "HTTP_PROXY": "http://me:my-password@localhost:3128",
        },
    )
    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode()
    rows = {line.split()[0]: line for line in text.splitlines()}
    assert rows["profile_name"].split()[1:] == ["dev", "argument"]
    assert rows["region_name"].endswith("region of profile 'dev'")
    assert "http://localhost:8080" in rows["endpoint_url"]
    assert rows["endpoint_url"].endswith("environment variable AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME")
    assert rows["s3_endpoint_url"].split(maxsplit=2)[1:] == [
        "http://****@localhost:9000",
        "environment variable AWS_ENDPOINT_URL_S3",
    ]
    assert rows["retry.mode"].split(maxsplit=2)[1:] == [
        "adaptive",
        "environment variable AWS_RETRY_MODE",
    ]
    assert "7" in rows["retry.max_attempts"]
    assert "profile" in rows["retry.max_attempts"]
    assert rows["retry.quota"].split()[1:] == ["500", "default"]
    assert rows["retry.capacity_wait"].split()[1:] == ["0.0", "default"]
    assert rows["timeout.total"].split()[1:] == ["9.0", "argument"]
    assert rows["timeout.connect"].split()[1:] == ["5.0", "default"]
    assert rows["use_ssl"].split()[1:] == ["True", "default"]
    assert "http://****@localhost:3128" in rows["proxy"]
    assert "my-password" not in text


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize("columns", [40, 80])
@pytest.mark.parametrize("arguments", [("config", "--region", "us-east-1"), ("config",)])
def test_config_fits_a_terminal(
    start_command: StartCommand, arguments: tuple[str, ...], columns: int
) -> None:
    shown = _show(start_command, *arguments, columns=columns)
    assert "timeout.first_byte" in shown
    assert "https://runtime.sagemaker.us-east-1" in shown or arguments == ("config",)
    # What stands on standard error is one line, which the terminal wraps.
    lines = [line for line in shown.splitlines() if not line.startswith("aiosmrt: ")]
    assert max(map(len, lines)) <= columns


def _show(start_command: StartCommand, *arguments: str, columns: int) -> str:
    """Give what a terminal of this width gets to show."""
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    with start_command(
        *arguments,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env={**environment, **KEYS},
    ):
        os.close(theirs)
        shown = b""
        # At its end a terminal's other side gives nothing, or an error (Linux).
        with contextlib.suppress(OSError):
            while some := os.read(ours, 65536):
                shown += some
    os.close(ours)
    return shown.decode().replace("\r\n", "\n")


@pytest.mark.parametrize(
    ("encoding", "arguments", "given", "shown"),
    [
        ("cp1252", ["demo"], b"", b"checked twice. \\u2713"),
        ("ascii", ["config", "--json", "--profile", "zw\xf6lf"], b"", b'"zw\\xf6lf"'),
        ("utf-8:strict", ["chat", "--local"], b"zw\xf6lf", "You said: zw\ufffdlf".encode()),
        ("latin-1", ["chat", "--local"], b"zw\xf6lf", "You said: zw\xf6lf".encode()),
    ],
)
def test_what_a_locale_has_not_stops_nothing(
    encoding: str, arguments: list[str], given: bytes, shown: bytes, tmp_path: Path
) -> None:
    profiles = tmp_path / "config"
    profiles.write_text("[profile zw\xf6lf]\nregion = us-east-1\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "aiosmrt", *arguments],
        env={
            **os.environ,
            **KEYS,
            "PYTHONIOENCODING": encoding,
            "PYTHONUTF8": "1",
            "AWS_CONFIG_FILE": str(profiles),
        },
        input=given,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, shown in done.stdout) == (0, True), (done.stdout, done.stderr)


@pytest.mark.parametrize(
    ("url", "environment", "is_exposed"),
    [
        ("http://127.0.0.1:1", {}, False),
        ("http://127.0.0.1:1", {"AWS_MAX_ATTEMPTS": "many"}, False),
        ("https://example.invalid:x", {}, True),
    ],
)
def test_a_secret_is_exposed_where_it_is_no_local_one(
    url: str, environment: dict[str, str], is_exposed: bool, run_command: RunCommand
) -> None:
    """What is wrong with another setting says nothing of that."""
    keys = ("--access-key-id", "local", "--secret-access-key", "local-secret")
    where = ("--region", "us-east-1", "--endpoint-url", url)
    command = ("invoke", "--endpoint-name", "e", "--body", "x", *keys, *where)
    done = run_command(*command, environment=environment)
    assert (done.returncode, b"is not this machine" in done.stderr) == (1, is_exposed)


def test_a_key_without_a_certificate_is_refused(run_command: RunCommand) -> None:
    """It was served without TLS."""
    done = run_command("serve", "--tls-key", "key.pem")
    assert (done.returncode, b"--tls-cert" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ("invoke --endpoint-name e", 2, "aiosmrt: OSError: standard input is closed\n"),
        ("invoke-async --endpoint-name e", 2, "aiosmrt: OSError: standard input is closed\n"),
        ("result -", 2, "aiosmrt: OSError: standard input is closed\n"),
        ("chat --local", 0, ""),
    ],
)
def test_an_input_that_is_closed_is_no_empty_body(arguments: str, status: int, said: str) -> None:
    done = subprocess.run(
        f"{sys.executable} -m aiosmrt {arguments} <&-",
        shell=True,
        env={**os.environ, **KEYS, "AWS_ENDPOINT_URL": "http://127.0.0.1:1"},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (status, said)


def test_config_is_json_where_that_is_asked_for(run_command: RunCommand) -> None:
    done = run_command("config", "--json", "--region", "us-east-1", environment=KEYS)
    assert done.returncode == 0
    found = json.loads(done.stdout)
    assert found["region_name"] == {"value": "us-east-1", "source": "argument"}
    assert found["proxy"] == {"value": None, "source": "default"}
    assert found["aws_secret_access_key"]["value"] == "****"
    assert b"local-secret" not in done.stdout
    done = run_command("config", "--json", environment=KEYS)
    assert done.returncode == 1
    assert json.loads(done.stdout)["region_name"]["value"] is None


def test_config_masks_keys(run_command: RunCommand) -> None:
    done = run_command(
        "config",
        environment={
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "my-secret",
            "AWS_SESSION_TOKEN": "my-token",
        },
    )
    text = done.stdout.decode()
    assert done.returncode == 0
    assert "****MPLE" in text
    for name in ("aws_access_key_id", "aws_secret_access_key", "aws_session_token"):
        assert re.search(
            rf"^{name} +\*{{4}}\S* +environment variable {name.upper()}$", text, re.MULTILINE
        )
    assert "AKIDEXAMPLE" not in text
    assert "my-secret" not in text
    assert "my-token" not in text
    assert run_command("config").returncode == 1


@pytest.mark.parametrize(
    ("environment", "wrong", "shown"),
    [
        ({}, "--region", {"region_name": "-", "endpoint_url": "-", "retry.mode": "standard"}),
        ({"AWS_REGION": "no region"}, "no region", {"region_name": "no region"}),
        (
            {"AWS_REGION": "eu-west-1", "AWS_ENDPOINT_URL": "ftp://x"},
            "ftp://x",
            {"region_name": "eu-west-1", "endpoint_url": "ftp://x"},
        ),
        ({"AWS_REGION": "eu-west-1", "AWS_MAX_ATTEMPTS": "x"}, "AWS_MAX_ATTEMPTS", {}),
        ({"AWS_REGION": "eu-west-1", "AWS_CA_BUNDLE": "missing.pem"}, "missing.pem", {}),
        ({"AWS_PROFILE": "none"}, "none", {}),
    ],
)
def test_config_shows_what_there_is_beside_what_is_wrong(
    environment: dict[str, str], wrong: str, shown: dict[str, str], run_command: RunCommand
) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "my-secret"}
    done = run_command("config", environment={**keys, **environment})
    assert done.returncode == 1
    (complaint,) = done.stderr.decode().splitlines()
    assert complaint.startswith("aiosmrt: ConfigurationError: ")
    assert wrong in complaint
    rows = {line.split("  ")[0]: line for line in done.stdout.decode().splitlines()}
    assert "****MPLE" in rows["aws_access_key_id"]
    assert rows["max_connections"].split() == ["max_connections", "100", "default"]
    for name, value in shown.items():
        assert re.split(" {2,}", rows[name])[1] == value


@pytest.mark.parametrize(
    ("arguments", "source"),
    [
        ((), "the default chain: shared-credentials-file"),
        (("--profile", "dev"), "the profile 'dev': custom-process"),
        (("--access-key-id", "ID", "--secret-access-key", "s"), "the keys given as arguments"),
        (("--profile", "none"), None),
    ],
)
def test_config_tells_where_keys_are_from(
    tmp_path: Path, arguments: tuple[str, ...], source: str | None, run_command: RunCommand
) -> None:
    keys = '{"Version": 1, "AccessKeyId": "I", "SecretAccessKey": "s"}'
    (tmp_path / "keys").write_text(keys)
    process = f"credential_process = cat {tmp_path / 'keys'}"
    (tmp_path / "config").write_text(f"[profile dev]\n{process}\n")
    shared = "[default]\naws_access_key_id = A\naws_secret_access_key = s\n"
    (tmp_path / "credentials").write_text(shared)
    done = run_command(
        *("config", "--region", "us-east-1", *arguments),
        environment={
            "AWS_CONFIG_FILE": str(tmp_path / "config"),
            "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
        },
    )
    if source is None:
        assert done.returncode == 1
        assert b"profile 'none' does not exist" in done.stderr
    else:
        rows = [line for line in done.stdout.decode().splitlines() if line.startswith("aws_")]
        assert [row.endswith(f"  {source}") for row in rows] == [True, True]


def test_the_demo_runs_all_three_operations(run_command: RunCommand) -> None:
    done = run_command("demo")
    assert (done.returncode, done.stderr) == (0, b"")
    lines = done.stdout.decode().splitlines()
    assert [line for line in lines if line.startswith("Invoke")] == [
        "InvokeEndpoint",
        "InvokeEndpointAsync",
        "InvokeEndpointWithResponseStream",
    ]
    assert "  18 parts, 86 bytes verified" in lines


# SIGINT, sent when a module is about to be imported.
_INTERRUPTED = """
import signal, sys

class Finder:
    def find_spec(name, *_):
        if name == sys.argv[1]:
            signal.raise_signal(signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Finder)
from aiosmrt.cli import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize("module", ["aiosmrt.cli.command", "argparse", "aiosmrt.cli.call"])
def test_ctrl_c_while_the_command_starts_is_no_error(module: str) -> None:
    arguments = (module, "invoke", "--endpoint-name", "e", "--body", "x")
    ended = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED, *arguments], capture_output=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (130, b"")


def test_a_reader_that_goes_away_is_no_error(url: str) -> None:
    arguments = ["stream", "--endpoint-url", url, "--region", "us-east-1", "--endpoint-name", "e"]
    with subprocess.Popen(
        [*COMMAND, *arguments, "--body", "a " * 20_000],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **KEYS},
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(10) == 0


def test_the_log_is_shown_where_it_is_asked_for(url: str, call: Call) -> None:
    quiet = call(url, "invoke", "--body", "x")
    assert quiet[2] == ""
    one = call("http://127.0.0.1:1", "invoke", "-v", "--max-attempts", "2", "--body", "x")
    assert " INFO " in one[2]
    assert " DEBUG " not in one[2]
    two = call(url, "invoke", "-vv", "--body", "x")
    assert two[0] == 0
    assert two[1] == quiet[1]
    assert " DEBUG " in two[2]


def test_how_often_a_call_is_attempted(run_command: RunCommand, call: Call) -> None:
    for arguments, attempts in (
        (("--max-attempts", "1"), 1),
        (("--max-attempts", "2"), 2),
        (("--retry-mode", "off"), 1),
        (("--retry-mode", "standard"), 3),
    ):
        err = call("http://127.0.0.1:1", "invoke", "--body", "x", *arguments)[2]
        assert f"attempt {attempts}," in err
    status, _, err = call("http://127.0.0.1:1", "invoke", "--body", "x", "--max-attempts", "0")
    assert (status, err.count("\n")) == (1, 1)
    # What is not named is as the environment says.
    done = run_command(
        *("config", "--region", "us-east-1", "--max-attempts", "4"),
        environment={**KEYS, "AWS_RETRY_MODE": "adaptive"},
    )
    rows = {line.split()[0]: line.split() for line in done.stdout.decode().splitlines()}
    assert rows["retry.mode"][1] == "adaptive"
    assert rows["retry.max_attempts"][1] == "4"


def test_a_call_without_a_signature(url: str, run_command: RunCommand) -> None:
    where = ("--endpoint-url", url, "--region", "us-east-1", "--endpoint-name", "e")
    done = run_command("invoke", *where, "--body", "x", "--no-sign", "--max-attempts", "1")
    assert done.returncode == 1
    assert b"MissingAuthenticationTokenException (HTTP 403)" in done.stderr


@pytest.mark.parametrize(
    ("host", "warned"),
    [("127.0.0.1", False), ("localhost", False), ("[::1]", False), ("10.255.0.1", True)],
)
def test_a_secret_among_the_arguments_is_for_local_endpoints(
    host: str, run_command: RunCommand, *, warned: bool
) -> None:
    keys = ("--access-key-id", "I", "--secret-access-key", "my-secret")
    where = ("--region", "us-east-1", "--endpoint-url", f"http://{host}:1", "--allow-http")
    done = run_command("config", *where, *keys)
    assert done.returncode == 0
    assert (b"AWS_SECRET_ACCESS_KEY" in done.stderr) is warned
    assert b"my-secret" not in done.stderr + done.stdout


def test_a_url_that_is_none_beside_a_secret(run_command: RunCommand) -> None:
    keys = ("--access-key-id", "I", "--secret-access-key", "my-secret")
    done = run_command("config", "--region", "us-east-1", "--endpoint-url", "http://[bad", *keys)
    assert done.returncode == 1
    assert b"ConfigurationError" in done.stderr
    assert b"Traceback" not in done.stderr


def test_an_answer_with_all_that_is_known_of_it(url: str, call: Call) -> None:
    status, out, _ = call(url, "invoke", "--body", "x", "--json")
    found = json.loads(out)
    assert (status, out.count(b"\n")) == (0, 1)
    assert json.loads(found["body"])["body"] == "x"
    assert found["metadata"]["status"] == 200
    assert found["metadata"]["attempts"] == 1
    status, out, _ = call(url, "stream", "--body", "ab", "--json")
    found = json.loads(out)
    assert (status, found["body"], found["metadata"]["status"]) == (0, "ab", 200)
    for command in ("invoke", "stream", "invoke-async"):
        status, out, _ = call(url, command, "--body", "x", "-i")
        head, _, body = out.partition(b"\n\n")
        assert status == 0
        assert b"request_id: " in head
        assert b"x" in body or b"output_location" in body
    _, out, _ = call(url, "invoke-async", "--body", "x", "--json")
    assert json.loads(out)["metadata"]["request_id"]


def test_a_session_that_was_opened_can_be_used(url: str, call: Call) -> None:
    arguments = ("--session-id", "NEW_SESSION", "--body", "x")
    status, _, err = call(url, "invoke", *arguments)
    assert status == 0
    assert err.startswith("aiosmrt: for the next call of this session: --session-id ")
    session_id = err.split()[-1]
    assert call(url, "invoke", "--session-id", session_id, "--body", "x")[0] == 0
    status, out, err = call(url, "invoke", *arguments, "--json")
    assert (status, err) == (0, "")
    assert json.loads(out)["new_session_id"]
    assert b"\nnew_session_id: " in call(url, "invoke", *arguments, "-i")[1]


def test_many_outputs_are_awaited_at_once(
    url: str, tmp_path: Path, run_command: RunCommand, call: Call
) -> None:
    saved = b"".join(call(url, "invoke-async", "--body", body)[1] for body in ("one", "fail"))
    assert saved.count(b"\n") == 2
    (tmp_path / "saved").write_bytes(saved)
    where = ("--endpoint-url", url, "--s3-endpoint-url", f"{url}/s3", "--region", "us-east-1")
    done = run_command("result", f"@{tmp_path / 'saved'}", *where, "--wait", "20", environment=KEYS)
    assert done.returncode == 1
    assert done.stderr.startswith(b"aiosmrt: AsyncInferenceError")
    found = {record["inference_id"]: record for record in map(json.loads, done.stdout.splitlines())}
    one, fail = (found[json.loads(line)["inference_id"]] for line in saved.splitlines())
    assert json.loads(one["body"])["body"] == "one"
    assert fail["error"]["type"] == "AsyncInferenceError"
    assert run_command("result", "nothing", *where, environment=KEYS).returncode == 2


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_shell_completes_the_command(shell: str, run_command: RunCommand) -> None:
    pytest.importorskip("shtab")
    done = run_command("--print-completion", shell)
    assert (done.returncode, done.stderr) == (0, b"")
    for word in (b"invoke-async", b"--session-id", b"--no-sign"):
        assert word in done.stdout


def test_completion_says_what_it_needs(tmp_path: Path) -> None:
    (tmp_path / "shtab.py").write_text("raise ModuleNotFoundError('no shtab')")
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    done = subprocess.run(
        [*COMMAND, "--print-completion", "bash"],
        capture_output=True,
        timeout=30,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"pip install 'aiosmrt[completion]'" in done.stderr


@pytest.fixture
def token(run_command: RunCommand) -> Token:
    """Give what runs `aiosmrt token`: its status, standard output and standard error."""

    def token(*arguments: str, **environment: str) -> tuple[int, str, str]:
        given = ("token", "--region", "us-east-1", *arguments)
        done = run_command(*given, given="", environment={**KEYS, **environment})
        return done.returncode, done.stdout, done.stderr

    return token


def test_token_prints_a_token_alone(token: Token) -> None:
    status, out, err = token()
    assert (status, err) == (0, "")
    assert re.fullmatch(r"sagemaker-api-key-[\w+/]+=*\n", out)


def test_token_is_json_where_that_is_asked_for(token: Token) -> None:
    began = datetime.datetime.now(datetime.UTC)
    status, out, err = token("--json", "--endpoint-name", "e", "--expires-in", "3600")
    assert (status, err) == (0, "")
    assert out.count("\n") == 1
    told = json.loads(out)
    assert told.keys() == {"token", "expires_at", "region", "base_url"}
    assert told["region"] == "us-east-1"
    assert told["base_url"].endswith(".us-east-1.amazonaws.com/endpoints/e/openai/v1")
    life = datetime.datetime.fromisoformat(told["expires_at"]) - began
    assert 3590 < life.total_seconds() <= 3660
    assert json.loads(token("--json")[1])["base_url"] is None


def test_token_says_where_it_ends_with_its_credentials(token: Token) -> None:
    end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=350)
    status, out, err = token("--json", AWS_CREDENTIAL_EXPIRATION=end.isoformat())
    assert status == 0
    assert datetime.datetime.fromisoformat(json.loads(out)["expires_at"]) <= end
    assert re.fullmatch(r"aiosmrt: the token lives for 3\d\d s: its credentials end then\n", err)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("--expires-in", "0"), 2, "ParameterError: --expires-in=0: a token lives for"),
        (("--expires-in", "soon"), 2, "invalid int value: 'soon'"),
        (("--endpoint-name", "a/b"), 2, "endpoint_name must match"),
        (("--inference-component-name", "c"), 2, "endpoint_name is required"),
        (("--no-sign",), 1, "ConfigurationError: A bearer token is a signature"),
    ],
)
def test_no_token_is_printed_where_there_can_be_none(
    arguments: tuple[str, ...], status: int, said: str, token: Token
) -> None:
    done = token(*arguments)
    assert done[:2] == (status, "")
    assert said in done[2]


def test_a_token_opens_the_openai_route(url: str, token: Token) -> None:
    where = ("--endpoint-url", url, "--endpoint-name", "e")
    told = json.loads(token(*where, "--json")[1])
    request = urllib.request.Request(
        f"{told['base_url']}/chat/completions",
        data=b'{"stream": true, "words": "a b"}',
        headers={"Authorization": f"Bearer {told['token']}"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.read() == b'{"stream":true,"words":"ab"}'


def test_serve_takes_tokens_of_one_region(
    folder: Path, start_command: StartCommand, call: Call
) -> None:
    arguments = ("serve", "--model", "my_model:run", "--region", "eu-west-1")
    with start_command(*arguments, stdout=subprocess.PIPE, text=True, cwd=folder) as server:
        assert server.stdout is not None
        try:
            url = server.stdout.readline().strip()
            status, _, err = call(url, "invoke", "--body", "x")
        finally:
            server.send_signal(signal.SIGTERM)
    assert status == 1
    assert "valid region: 'eu-west-1', not 'us-east-1'" in err
