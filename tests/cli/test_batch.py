"""`aiosmrt batch` as people run it: processes, files, signals, and an endpoint that counts."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol, TypeAlias, cast

import attrs
import pytest

from aiosmrt.async_inference import S3Location
from aiosmrt.batch_files import FORMATS as KNOWN_FORMATS
from aiosmrt.batch_files.answer_view import VIEWS as KNOWN_VIEWS
from aiosmrt.cli import main
from aiosmrt.cli.batch_arguments import FORMATS, VIEWS, find_longest_wait
from aiosmrt.cli.batch_stop import take_signals, was_refused
from aiosmrt.cli.batch_upload import store_output
from aiosmrt.errors import ParameterError
from aiosmrt.hooks import OnRetry

StartCommand: TypeAlias = Callable[..., subprocess.Popen[Any]]
Begin: TypeAlias = Callable[..., subprocess.Popen[str]]

MODEL = """
import asyncio, collections, json
from aiosmrt.local import ModelFailure, ModelResponse

counts = collections.Counter()

async def run(request):
    if request.body == b"counts":
        return counts
    row = json.loads(request.body) if request.body[:1] == b"{" else {}
    counts[str(row.get("id"))] += 1
    if request.operation == "InvokeEndpointWithResponseStream":
        return stream(row)
    if row.get("fail") or request.custom_attributes == "fail":
        raise ModelFailure(400, "no such tensor")
    if row.get("fail once") and counts[str(row.get("id"))] == 1:
        raise ModelFailure(500, "out of memory")
    await asyncio.sleep(row.get("sleep", 0))
    if row.get("bytes"):
        return ModelResponse(b"\\0\\xff", content_type="image/png")
    return {"length": len(request.body), "accept": request.accept}

async def stream(row):
    yield b"a stream "
    yield b"of two"
"""


@attrs.define
class Endpoint:
    """An endpoint in a process of its own."""

    url: str
    environment: dict[str, str]

    def count(self) -> collections.Counter[str]:
        """Give how often each row was carried out."""
        request = urllib.request.Request(
            f"{self.url}/endpoints/e/invocations", data=b"counts", method="POST"
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return collections.Counter(json.loads(answer.read()))


@pytest.fixture(scope="module")
def endpoint(
    start_command: StartCommand, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Endpoint]:
    folder = tmp_path_factory.mktemp("model")
    (folder / "counting.py").write_text(MODEL)
    with start_command(
        *("serve", "--model", "counting:run", "--no-auth"),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=folder,
    ) as server:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        yield Endpoint(
            url,
            {
                "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": url,
                "AWS_ENDPOINT_URL_S3": f"{url}/s3",
                "AWS_REGION": "us-east-1",
                "AWS_ACCESS_KEY_ID": "local",
                "AWS_SECRET_ACCESS_KEY": "local-secret",
                "PYTHONWARNINGS": "error",
            },
        )
        server.kill()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def begin(start_command: StartCommand, endpoint: Endpoint) -> Begin:
    """Give what starts the command in a process of its own."""

    def begin(*arguments: str, **options: Any) -> subprocess.Popen[str]:
        return start_command(
            *("batch", "--endpoint-name", "e", *arguments),
            env={**os.environ, **endpoint.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    return begin


class Run(Protocol):
    """Runs the command in this process."""

    def __call__(self, *arguments: str) -> tuple[int, str]:
        """Give the exit status and standard error."""


@pytest.fixture
def run(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    for name, value in endpoint.environment.items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        try:
            status = main(["batch", "--endpoint-name", "e", *arguments])
        except SystemExit as error:  # argparse's own
            status = int(error.code or 0)
        return status, capsys.readouterr().err

    return run


def _write(name: str, *rows: object) -> None:
    Path(name).write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def _read(name: str = "out.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(name).read_text().splitlines()]


FILES = ("--input", "rows.jsonl", "--output", "out.jsonl", "--key-path", "id")


def test_each_row_has_a_line_with_key_index_and_response(run: Run, folder: Path) -> None:
    _write("rows.jsonl", {"id": "one"}, {"id": "two", "more": "text"})
    status, said = run(*FILES, "--param", "accept=text/csv")
    assert (status, said) == (0, "aiosmrt: 2 of 2 rows done\n")
    lines = {line["key"]: line for line in _read()}
    assert lines["two"]["index"] == 1
    assert lines["two"]["response"] == {"length": 29, "accept": "text/csv"}
    assert lines["two"]["attempts"] == 1
    assert lines["two"]["seconds"] > lines["two"]["first_byte"] > 0
    assert {path.name for path in folder.iterdir()} == {
        *("rows.jsonl", "out.jsonl", "out.jsonl.journal"),
    }


@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_a_terminal_that_can_be_wiped_shows_how_much_was_looked_at(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, term: str
) -> None:
    _write("rows.jsonl", *([{}] * 1000), "not the right one")
    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda _: True, raising=False)
    status, said = run("--input", "rows.jsonl", "--output", "out.jsonl", "--body-path", "id")
    assert status == 2
    shown = "\r\x1b[Kchecking rows.jsonl: 1,000 rows\r\x1b[K"
    assert said.startswith(shown if term == "xterm" else "aiosmrt: rows.jsonl:1: there is no body")


def test_rows_that_fail_stop_nothing_and_are_an_input_of_their_own(
    endpoint: Endpoint, run: Run, folder: Path
) -> None:
    _write("rows.jsonl", {"id": "f1", "fail": 1}, {"id": "f2"}, {"id": "f3", "fail once": 1})
    status, said = run(*FILES, "--report", "report.html")
    assert status == 1
    assert "3 of 3 rows done, 2 failed (2 may have run)" in said
    assert "the rows that failed are in out.failed.jsonl" in said
    errors: dict[str, Any] = {line["key"]: line.get("error") for line in _read()}
    assert errors["f2"] is None
    assert errors["f1"]["type"] == errors["f1"]["code"] == "ModelError"
    assert errors["f1"]["may_have_run"] is True
    assert "no such tensor" in errors["f1"]["message"]
    assert [row["id"] for row in _read("out.failed.jsonl")] == ["f1", "f3"]
    report = Path("report.html").read_text()
    assert "no such tensor" in report
    # They were paid for, so that only all are asked again.
    assert run(*FILES, "--retry-failed")[0] == 1
    assert endpoint.count()["f1"] == endpoint.count()["f3"] == 1
    assert run(*FILES, "--retry-failed=all")[0] == 1
    assert [endpoint.count()[key] for key in ("f1", "f2", "f3")] == [2, 1, 2]
    assert sorted(line["key"] for line in _read()) == ["f1", "f2", "f3"]
    assert [row["id"] for row in _read("out.failed.jsonl")] == ["f1"]
    status, said = run("--input", "out.failed.jsonl", "--output", "again.jsonl", "--key-path", "id")
    assert (status, len(_read("again.jsonl"))) == (1, 1)


def test_a_run_that_is_done_has_nothing_left_to_do(
    endpoint: Endpoint, run: Run, folder: Path
) -> None:
    _write("rows.jsonl", {"id": "once"})
    assert run(*FILES)[0] == 0
    before = Path("out.jsonl").read_bytes()
    assert run(*FILES, "--resume") == (0, "aiosmrt: 1 of 1 rows done\n")
    assert Path("out.jsonl").read_bytes() == before
    with Path("out.jsonl.journal").open("ab") as journal:
        journal.write(b"\0\0\0\n")
    status, said = run(*FILES, "--resume")
    assert (status, "1 line of out.jsonl.journal is damaged: more rows may" in said) == (0, True)
    assert endpoint.count()["once"] == 1


def _wait_for_lines(process: subprocess.Popen[str], count: int) -> None:
    output = Path("out.jsonl")
    while not output.exists() or output.read_bytes().count(b"\n") < count:
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


def test_ctrl_c_has_rows_under_way_finished_and_says_how_to_go_on(
    begin: Begin, endpoint: Endpoint, run: Run, folder: Path
) -> None:
    _write("rows.jsonl", *({"id": f"c{row}", "sleep": 0.05} for row in range(200)))
    arguments = (*FILES, "--max-in-flight", "4")
    with begin(*arguments) as process:
        _wait_for_lines(process, 8)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert re.search(r"stopping: \d rows? under way will be finished; Ctrl-C again breaks", said)
    done = len(_read())
    assert 8 <= done < 200
    assert f"{200 - done} rows left: the same command goes on with --resume" in said
    assert sum(key.startswith("c") for key in endpoint.count()) == done
    status, said = run(*FILES, "--max-in-flight", "16", "--resume")
    assert (status, said) == (0, "aiosmrt: 200 of 200 rows done\n")
    assert {endpoint.count()[f"c{row}"] for row in range(200)} == {1}


def test_rows_that_are_refused_are_left_to_the_next_run(
    begin: Begin, run: Run, folder: Path
) -> None:
    _write("rows.jsonl", *({"id": f"x{row}"} for row in range(9)))
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as server:
        nobody = f"http://127.0.0.1:{server.getsockname()[1]}"
    with begin(*FILES, "--endpoint-url", nobody, "--max-in-flight", "4") as process:
        while b"begin" not in _read_journal():
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130, said
    assert "broken off" not in said
    assert "9 rows left: the same command goes on with --resume" in said
    assert run(*FILES, "--max-in-flight", "4", "--resume") == (0, "aiosmrt: 9 of 9 rows done\n")


def _read_journal() -> bytes:
    path = Path("out.jsonl.journal")
    return path.read_bytes() if path.exists() else b""


def test_the_end_of_a_session_is_taken_as_ctrl_c(begin: Begin, folder: Path) -> None:
    _write("rows.jsonl", *({"id": f"g{row}", "sleep": 0.2} for row in range(40)))
    with begin(*FILES, "--max-in-flight", "2") as process:
        _wait_for_lines(process, 2)
        process.send_signal(signal.SIGHUP)
        _, said = process.communicate(timeout=30)
    assert (process.returncode, "broken off" not in said) == (130, True)
    assert "rows left: the same command goes on with --resume" in said


@pytest.mark.parametrize(
    ("service", "may_have_run", "refused"),
    [
        ("sagemaker-runtime", False, True),
        ("sagemaker-runtime", True, False),
        ("s3", False, False),  # a look for the output of a row that was taken
    ],
)
def test_no_row_that_a_model_may_have_is_left(
    service: str, may_have_run: bool, refused: bool
) -> None:
    event = SimpleNamespace(service=service, error=SimpleNamespace(may_have_run=may_have_run))
    assert was_refused(cast("OnRetry", event)) is refused


def test_nohup_stays_in_force() -> None:
    async def look() -> object:
        with take_signals(lambda: None):
            return signal.getsignal(signal.SIGHUP)

    assert callable(asyncio.run(look()))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    assert asyncio.run(look()) is signal.SIG_IGN


def test_a_second_ctrl_c_breaks_rows_off_and_they_are_asked_again(
    begin: Begin, endpoint: Endpoint, folder: Path
) -> None:
    _write("rows.jsonl", {"id": "d0"}, {"id": "d1", "sleep": 30}, {"id": "d2"})
    with begin(*FILES) as process:
        _wait_for_lines(process, 2)
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        assert "stopping: 1 row under way" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "1 row broken off, for which a model may have run" in said
    _write("rows.jsonl", {"id": "d0"}, {"id": "d1", "sleep": 30}, {"id": "d2"})
    with begin(*FILES, "--resume", "--timeout", "0.1") as process:
        _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "1 row in flight when the last run was stopped: asked again, may run twice" in said
    assert "1 call made again" in said
    assert endpoint.count()["d1"] == 2


def test_wrong_rows_are_named_by_file_and_line_before_anything_is_sent(
    endpoint: Endpoint, run: Run, folder: Path
) -> None:
    Path("rows.jsonl").write_text('{"id": "w1"}\nnope\n{"id": "w1"}\n{}\n')
    status, said = run(*FILES)
    assert status == 2
    first, second, third, last = said.splitlines()
    assert first.startswith("aiosmrt: rows.jsonl:2: this is no JSON: ")
    assert second == "aiosmrt: rows.jsonl:3: the key 'w1' is that of rows.jsonl:1, too"
    assert third.startswith("aiosmrt: rows.jsonl:4: there is no key: --key-path id finds nothing")
    assert "rows.jsonl: 3 of 4 rows cannot be sent; none was" in last
    assert endpoint.count()["w1"] == 0
    assert [path.name for path in folder.iterdir()] == ["rows.jsonl"]


def test_an_output_that_exists_is_left_alone(run: Run, folder: Path) -> None:
    _write("rows.jsonl", {"id": "e"})
    for name in ("out.jsonl", "out.jsonl.journal", "out.failed.jsonl"):
        Path(name).write_text("mine")
        status, said = run(*FILES)
        assert status == 2
        assert f"{name} exists: --resume goes on, or choose another output" in said
        assert Path(name).read_text() == "mine"
        Path(name).unlink()
    Path("out.jsonl").write_text("mine")
    status, said = run(*FILES, "--resume")
    assert (status, "out.jsonl has no journal" in said) == (2, True)
    assert [path.name for path in folder.iterdir() if path.name != "rows.jsonl"] == ["out.jsonl"]


def test_another_input_or_other_parameters_are_refused(
    endpoint: Endpoint, run: Run, folder: Path
) -> None:
    _write("rows.jsonl", {"id": "o1"})
    assert run(*FILES)[0] == 0
    status, said = run(*FILES, "--resume", "--param", "custom_attributes=secret")
    assert status == 2
    assert "out.jsonl.journal:1: this run is another one: --param custom_attributes was" in said
    assert "secret" not in said
    _write("rows.jsonl", {"id": "o2"})
    status, said = run(*FILES, "--resume")
    assert status == 2
    assert "the input has another content" in said
    assert endpoint.count()["o2"] == 0


def test_a_second_process_at_one_output_is_refused(begin: Begin, run: Run, folder: Path) -> None:
    _write("rows.jsonl", {"id": "p1"}, {"id": "p2", "sleep": 30})
    with begin(*FILES) as process:
        _wait_for_lines(process, 1)
        status, said = run(*FILES, "--resume")
        process.kill()
        process.communicate()
    assert status == 2
    assert "out.jsonl.journal: another process is at work on it" in said


def test_what_hits_every_row_stops_at_once(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write("rows.jsonl", *({"id": f"h{row}"} for row in range(50)))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    status, said = run(*FILES)
    assert status == 1
    assert "aiosmrt: CredentialsError: " in said
    assert "may have run" not in said
    assert "50 rows left: the same command goes on with --resume" in said
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local")
    assert run(*FILES, "--resume") == (0, "aiosmrt: 50 of 50 rows done\n")


def test_wrong_keys_stop_a_run(
    start_command: StartCommand, run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write("rows.jsonl", *({"id": f"k{row}"} for row in range(500)))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with start_command(
        "serve", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        status, said = run(*FILES, "--endpoint-url", url)
        server.kill()
    assert status == 1
    first, *others = said.splitlines()
    assert first.startswith("aiosmrt: ServiceError: InvalidSignatureException (HTTP 403): ")
    assert others[-2:] == [
        "aiosmrt: 0 of 500 rows done",
        "aiosmrt: 500 rows left: the same command goes on with --resume",
    ]


def test_too_many_failures_stop_a_run(run: Run, folder: Path) -> None:
    _write("rows.jsonl", *({"id": f"m{row}", "fail": 1} for row in range(50)))
    status, said = run(*FILES, "--max-failures", "3", "--max-in-flight", "1")
    assert status == 1
    assert "aiosmrt: TooManyFailures: 4 of 4 rows have failed" in said
    assert len(_read()) == 4
    assert "46 rows left" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--param", "acept=a"), "did you mean 'accept'?"),
        (("--param", "accept"), "write it as NAME=VALUE"),
        (("--param", "body=x"), "it has another place than this one"),
        (("--param", "accept=a\nb"), "no row can be sent: accept contains CR, LF"),
        (("--endpoint-name", "a/b"), "no row can be sent: endpoint_name must match"),
        (("--operation", "invoke-async", "--param", "filename=x"), "would be one file"),
        (("--operation", "invoke-async", "--param", "inference_id=x"), "would be one file"),
        (("--body-path", "a["), "--body-path 'a[' is no JMESPath expression"),
        (("--max-in-flight", "0"), "'0' is neither auto nor a whole number of 1 or more"),
        (("--max-in-flight", "auto", "--operation", "invoke-async"), "give a number"),
        (("--max-failures", "200%"), "'200%' is no number of rows, nor percent below 100%"),
        (("--operation", "embed"), "'embed' is none of invoke, stream, invoke-async"),
        (("--view", "xml"), "'xml' is none of json, text, raw, chat, chat:SHAPE"),
        (("--input", "nothing.jsonl"), "nothing.jsonl: there is no such file or folder"),
        (("--output", "-", "--resume"), "--output -: only a file can be gone on with"),
        (("--output", "-", "--report", "-"), "--report -: standard output has the rows"),
        (("--output", "-", "--report", "rows.jsonl"), "--report rows.jsonl: this is the input"),
        (("--input", "s3://b/", "--input-format", "jsonl"), "'s3://b/' is a bucket"),
        (("--input", "s3://b/rows.parquet"), "of S3 only lines are read (jsonl, csv)"),
        (("--input-format", "folder"), "rows.jsonl: this is no folder"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_sent(
    arguments: tuple[str, ...], said: str, run: Run, folder: Path
) -> None:
    _write("rows.jsonl", {"id": "u"})
    status, told = run(*FILES, *arguments)
    assert status == 2
    assert said in told
    assert [path.name for path in folder.iterdir()] == ["rows.jsonl"]


def test_an_output_that_takes_nothing_is_told(run: Run, folder: Path) -> None:
    _write("rows.jsonl", {"id": "n"})
    status, said = run(*FILES, "--output", "/dev/full")
    assert status == 3
    assert "/dev/full: No space left on device" in said
    assert "1 answer came and could not be written" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--output", "nowhere/out.jsonl"), "--output nowhere/out.jsonl: there is no folder nowhe"),
        (("--output", "."), "--output .: this names no file"),
        (("--output", "rows.jsonl", "--resume"), "--input rows.jsonl: this is to be the output: "),
        (("--output", "rows", "--input", "rows.failed.jsonl"), "this is to be the list of rows th"),
        (("--report", "out.jsonl"), "--report out.jsonl: this is the output"),
        (("--report", "link.html"), "--report link.html: this is the input"),
        (("--report", "nowhere/r.html"), "--report nowhere/r.html: there is no folder nowhere"),
        (("--input", "."), "--output out.jsonl: it would be a row of the input .: choose another"),
        (("--input", ".", "--output", ".out", "--report", "r"), "--report r: it would be a row of"),
    ],
)
def test_no_file_of_a_run_is_another_one_too(
    run: Run, folder: Path, arguments: tuple[str, ...], said: str
) -> None:
    _write("rows.jsonl", {"id": "o"})
    _write("rows.failed.jsonl", {"id": "o"})
    Path("link.html").symlink_to("rows.jsonl")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    status, told = run(*FILES, *arguments)
    assert (status, said in told) == (2, True), told
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_what_cannot_be_written_beside_the_output_hides_nothing(run: Run, folder: Path) -> None:
    _write("rows.jsonl", {"id": "p", "fail": 1})
    status, said = run(*FILES, "--report", "/dev/full")
    assert status == 3
    assert "/dev/full: No space left on device" in said
    assert "1 of 1 rows done, 1 failed" in said
    assert "the rows that failed are in out.failed.jsonl" in said
    assert len(_read()) == 1


def test_a_report_that_cannot_be_written_leaves_the_one_before(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill_the_disk(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    _write("rows.jsonl", {"id": "r"})
    Path("report.html").write_text("before")
    # What was written may find no room until then.
    monkeypatch.setattr("aiosmrt.batch_files.whole_file.os.fsync", fill_the_disk)
    status, said = run("--input", "rows.jsonl", "--output", "-", "--report", "report.html")
    assert status == 3
    assert "report.html: No space left on device" in said
    assert Path("report.html").read_text() == "before"
    assert {path.name for path in folder.iterdir()} == {"rows.jsonl", "report.html"}


def test_a_report_goes_to_standard_output(begin: Begin, folder: Path) -> None:
    _write("rows.jsonl", {"id": "s"})
    with begin(*FILES, "--report", "-") as process:
        page, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (0, "aiosmrt: 1 of 1 rows done\n")
    assert '<b class="">1</b><span>rows done</span>' in page
    assert not Path("-").exists()


def test_an_output_is_stored_without_being_held_in_memory(folder: Path) -> None:
    async def put(location: object, body: bytes, content_type: str) -> None:
        with memoryview(body) as view:
            stored.append((len(view), bytes(view[-4:])))

    def store() -> None:
        asyncio.run(store_output("out.jsonl", s3, S3Location("bucket", "out.jsonl")))

    stored: list[tuple[int, bytes]] = []
    s3: Any = SimpleNamespace(put=put)
    with Path("out.jsonl").open("wb") as file:
        file.seek(300 << 20)
        file.write(b"end\n")
    tracemalloc.start()
    store()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert stored == [((300 << 20) + 4, b"end\n")]
    assert most < 4 << 20
    with Path("out.jsonl").open("wb") as file:
        file.truncate((5 << 30) + 1)
    with pytest.raises(ParameterError, match=r"aws s3 cp out\.jsonl s3://bucket/out\.jsonl"):
        store()


@pytest.mark.parametrize("waits", [False, True])
def test_ctrl_c_while_failed_rows_are_written_leaves_them_to_the_next_run(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, *, waits: bool
) -> None:
    over = threading.Event()

    def copy(_: object, chosen: collections.abc.Container[int], __: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        while not over.wait(0.01):  # where it waits, for a server that does not answer
            assert waits or 0 in chosen

    _write("rows.jsonl", {"id": "u", "fail": 1})
    with monkeypatch.context() as patch:
        patch.setattr("aiosmrt.batch_files.JSONLinesInput.copy", copy)
        patch.setattr("aiosmrt.cli.batch._PATIENCE", 0.1)
        status, said = run(*FILES, "--report", "report.html")
        over.set()
    assert status == 130
    assert "out.failed.jsonl: broken off before it was whole; --resume writes it anew" in said
    assert "1 of 1 rows done, 1 failed" in said
    assert Path("report.html").exists()
    assert waits or not Path("out.failed.jsonl.part").exists()
    assert run(*FILES, "--resume")[0] == 1
    assert [row["id"] for row in _read("out.failed.jsonl")] == ["u"]


def test_an_input_that_gives_fewer_rows_than_it_had_is_told(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(rows: object, reader: object, tell: object) -> int:
        Path("rows.jsonl").write_text('{"id": "q"}\n')
        return 3

    monkeypatch.setattr("aiosmrt.cli.batch.check_input", check)
    _write("rows.jsonl", {"id": "q"}, {"id": "r"}, {"id": "s"})
    status, said = run(*FILES)
    assert status == 2
    assert "rows.jsonl has changed since it was looked at: it had 3 rows, and 2 of those" in said
    assert "1 of 3 rows done" in said


def test_a_pipe_is_kept_as_standard_input_is(run: Run, folder: Path) -> None:
    def give(*rows: object) -> None:
        def write() -> None:
            Path("pipe.csv").write_text("".join(f"{row}\n" for row in rows))

        threading.Thread(target=write).start()

    os.mkfifo("pipe.csv")
    files = ("--input", "pipe.csv", "--output", "out.jsonl", "--key-path", "id")
    give("id,n", "1")
    status, said = run(*files)
    assert (status, "out.jsonl.input:2: 1 values" in said) == (2, True)
    give("id", "1")
    assert run(*files)[0] == 0
    give("id", "1")
    assert run(*files, "--resume")[0] == 0
    give()
    assert run(*files, "--resume")[0] == 0
    give("id", "2")
    status, said = run(*files, "--resume")
    assert (status, "out.jsonl.input has what the input was" in said) == (2, True)
    assert [line["key"] for line in _read()] == ["1"]
    assert Path("out.jsonl.input").read_text() == "id\n1\n"
    assert not Path("out.jsonl.input.part").exists()


@pytest.mark.parametrize(
    ("redirected", "status", "said"),
    [
        ("--input rows.jsonl --output - >&-", 2, "--output -: standard output is closed"),
        ("--input - --output - <&-", 2, "--input -: standard input is closed"),
        ("--input rows.jsonl --output out.jsonl >&- 2>&-", 0, ""),
    ],
)
def test_streams_that_are_closed_are_not_taken_for_files(
    endpoint: Endpoint, folder: Path, redirected: str, status: int, said: str
) -> None:
    _write("rows.jsonl", {"id": "t"})
    done = subprocess.run(
        f"{sys.executable} -m aiosmrt batch --endpoint-name e {redirected}",
        shell=True,
        env={**os.environ, **endpoint.environment},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert (done.returncode, said in done.stderr) == (status, True), done.stderr
    assert Path("out.jsonl").exists() == (status == 0)


def test_pipes_are_read_and_written(begin: Begin, folder: Path) -> None:
    given = '{"id": "s1"}\n{"id": "s2"}\n'
    with begin(
        "--input", "-", "--output", "-", "--body-path", "id", stdin=subprocess.PIPE
    ) as process:
        out, said = process.communicate(given, timeout=30)
    assert (process.returncode, said) == (0, "aiosmrt: 2 rows done\n")
    assert [json.loads(line)["response"]["length"] for line in out.splitlines()] == [2, 2]
    assert not list(folder.iterdir())


def test_what_standard_input_gave_is_kept_for_a_run_that_goes_on(
    begin: Begin, run: Run, folder: Path
) -> None:
    files = ("--input", "-", "--output", "out.jsonl", "--key-path", "id")
    given = '{"id": "i1"}\n{"id": "i2", "sleep": 30}\n'
    with begin(*files, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(given)
        process.stdin.close()
        _wait_for_lines(process, 1)
        process.kill()
        process.wait()
    status, _ = run(*files, "--resume", "--timeout", "0.1")
    assert status == 1
    assert sorted(line["key"] for line in _read()) == ["i1", "i2"]
    assert Path("out.failed.jsonl").read_text() == '{"id": "i2", "sleep": 30}\n'


def test_objects_in_s3_are_read_and_stored(endpoint: Endpoint, run: Run, folder: Path) -> None:
    _write("rows.jsonl", {"id": "t1"}, {"id": "t2"})
    _put(endpoint, "bucket")
    _put(endpoint, "bucket/in/rows.jsonl", Path("rows.jsonl").read_bytes())
    files = ("--input", "s3://bucket/in/rows.jsonl", "--output", "s3://bucket/out/done.jsonl")
    status, said = run(*files, "--key-path", "id")
    assert status == 0
    assert "done.jsonl is stored as s3://bucket/out/done.jsonl" in said
    with urllib.request.urlopen(f"{endpoint.url}/s3/bucket/out/done.jsonl") as answer:
        assert answer.read() == Path("done.jsonl").read_bytes()
    status, said = run(*files)
    assert (status, "s3://bucket/out/done.jsonl exists" in said) == (2, True)
    assert run(*files, "--key-path", "id", "--resume")[0] == 0
    elsewhere = (*files[:3], "s3://bucket/done.jsonl", "--key-path", "id", "--resume")
    status, said = run(*elsewhere)
    assert (status, "--output was 's3://bucket/out/done.jsonl', and is " in said) == (2, True)
    Path("done.jsonl").unlink()
    Path("done.jsonl.journal").unlink()
    status, said = run(*files, "--key-path", "id", "--resume")
    assert (status, "exists, and there is no done.jsonl.journal to say whose" in said) == (2, True)
    status, said = run("--input", "s3://bucket/x.jsonl", "--output", "x.jsonl")
    assert (status, "s3://bucket/x.jsonl: there is no such object" in said) == (2, True)


def _put(endpoint: Endpoint, path: str, body: bytes = b"") -> None:
    request = urllib.request.Request(f"{endpoint.url}/s3/{path}", data=body, method="PUT")
    urllib.request.urlopen(request, timeout=30).close()


def test_ctrl_c_while_an_output_is_stored_says_how_to_go_on(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def put(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(60)

    _write("rows.jsonl", {"id": "v"})
    with monkeypatch.context() as patch:
        patch.setattr("aiosmrt.async_inference.S3.put", put)
        status, said = run("--input", "rows.jsonl", "--output", "s3://b/stopped.jsonl")
    assert status == 130
    assert "stopped.jsonl has all of it; the same command stores it with --resume" in said
    assert run("--input", "rows.jsonl", "--output", "s3://b/stopped.jsonl", "--resume")[0] == 0


@pytest.mark.parametrize(
    ("view", "response"),
    [
        ((), {"response": "\0ÿ", "encoding": "base64"}),
        (("--view", "raw"), {"response": "AP8=", "encoding": "base64"}),
        (("--view", "json"), {"body_base64": "AP8="}),
        (("--view", "text"), {"body_base64": "AP8="}),
        (("--view", "chat"), {"body_base64": "AP8="}),
    ],
)
def test_an_answer_stands_there_as_it_is_wanted_and_none_is_lost(
    view: tuple[str, ...], response: dict[str, str], run: Run, folder: Path
) -> None:
    _write("rows.jsonl", {"id": "v", "bytes": 1})
    status, _ = run(*FILES, *view)
    (line,) = _read()
    if "response" in response:
        assert status == 0
        assert (line["response"], line["encoding"]) == ("AP8=", "base64")
    else:
        assert status == 1
        assert line["body_base64"] == "AP8="
        assert line["error"]["may_have_run"] is True


def test_parameters_that_every_call_has_reach_the_model(run: Run, folder: Path) -> None:
    _write("rows.jsonl", {"id": "q"})
    assert run(*FILES, "--param", "custom-attributes=fail")[0] == 1


def test_a_report_tells_of_all_runs(run: Run, folder: Path) -> None:
    _write("rows.jsonl", *({"id": f"r{row}"} for row in range(30)))
    assert run(*FILES)[0] == 0
    assert run(*FILES, "--resume", "--report", "report.html")[0] == 0
    assert '<b class="">30</b><span>rows done</span>' in Path("report.html").read_text()


def test_the_parser_knows_what_can_be_chosen() -> None:
    assert tuple(KNOWN_FORMATS) == FORMATS
    assert VIEWS == KNOWN_VIEWS


def test_an_asynchronous_row_is_waited_for_as_long_as_the_service_keeps_it() -> None:
    assert find_longest_wait({}) == 21_600 + 900 + 60
    given = {"request_ttl_seconds": 60, "invocation_timeout_seconds": 3600, "accept": "x"}
    assert find_longest_wait(given) == 60 + 3600 + 60
