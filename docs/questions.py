"""Ask the search of the built site what users ask: does its first page answer?

`python docs/questions.py build/docs`; needs Node.js, for the search is a browser's.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

# What is typed into the field; the page that is to come first; words of the answer there.
QUESTIONS = [
    # limits, retries, options
    (
        "How do I set a per-call limit?",
        "how-to/timeouts-and-retries",
        "is the parameter timeout",
    ),
    ("per-call limit", "how-to/timeouts-and-retries", "is the parameter timeout"),
    ("timeout of one call", "how-to/call", "timeout= holds for one call"),
    (
        "first_byte of the client and timeout of the call",
        "how-to/timeouts-and-retries",
        "take the place of the client's, the others stay",
    ),
    (
        "Why was my call not retried?",
        "how-to/timeouts-and-retries",
        "not_retried says in words",
    ),
    ("not retried", "how-to/timeouts-and-retries", "not_retried says in words"),
    ("quota", "how-to/timeouts-and-retries", "each endpoint name has 500 tokens"),
    ("What does None mean here?", "reference/options", "not said here: the environment"),
    ("None", "reference/options", "not said here: the environment"),
    ("how options meet", "reference/options", "a limit that was given wins"),
    ("with_options hooks", "how-to/telemetry", "with_options adds hooks"),
    (
        "How many connections for 500 streams?",
        "operations/connections",
        "max_connections=500",
    ),
    ("max_connections streams", "operations/connections", "max_connections=500"),
    ("warm_up", "reference/client", "warm_up"),
    # hooks
    ("Which fields has OnEnd?", "reference/hooks", "bytes_received"),
    ("OnEnd", "reference/hooks", "bytes_received"),
    ("fields of hook events", "reference/hooks", "bytes_received"),
    ("on_end stream left early", "reference/hooks", "was a stream that was left early"),
    ("on_end dropped stream", "how-to/telemetry", "once of every call that was begun"),
    ("on_end ParameterError", "reference/hooks", "refused parameters (ParameterError)"),
    ("on_end duration failed", "reference/hooks", "its duration in seconds"),
    # calls
    ("list of parameters", "reference/parameters", "request_ttl_seconds"),
    ("NaN", "how-to/call", "NaN included, is refused"),
    ("pickle client", "how-to/call", "cannot be pickled"),
    ("multiprocessing", "how-to/call", "make one in each process"),
    ("NEW_SESSION", "how-to/sessions", "The first call opens the session"),
    # a browser, an agent, a batch
    ("chat server", "how-to/relay", "RelayResponse"),
    ("stop the model when the browser leaves", "how-to/relay", "and closes the stream"),
    ("agent", "how-to/agents", "aiosmrt.openai.connect"),
    ("batch", "how-to/batch", "aiosmrt batch"),
    # errors
    (
        "secret in error message",
        "reference/errors",
        "repeats of a request's secrets is ****",
    ),
    ("what may strangers read", "operations/reading-an-error", "error.public_text"),
    ("may_have_run", "reference/errors", "whether the model may have done the work"),
    ("TruncatedStream", "reference/errors", "the stream was cut"),
    # the command
    (
        "invoke-async standard input",
        "reference/cli",
        "- (the default) for standard input",
    ),
    ("aiosmrt config", "how-to/command", "every setting and its source"),
    (
        "config without a region",
        "how-to/command",
        "the error comes last, and all else is shown",
    ),
    # the local endpoint
    ("What may a local model return?", "how-to/testing", "a dict, list, number"),
    ("local model return", "how-to/testing", "a dict, list, number"),
    ("ModelFailure", "reference/local", "ModelFailure"),
    ("local model raises ThrottlingException", "how-to/testing", "that very error"),
    ("large part", "how-to/testing", "several of just under 16 MiB"),
    ("serve", "how-to/local-endpoint", "aiosmrt serve"),
    ("test", "how-to/testing", "sagemaker_runtime"),
    # where to go on
    ("boto3", "how-to/migrate", "boto3"),
    ("proxy", "how-to/proxies-and-tls", "proxy"),
    ("shutdown", "operations/shutdown", "grace"),
    ("alert", "operations/monitoring", "Not worth an alert"),
]


def read(page: Path) -> str:
    """Give the text of a page, with single spaces."""
    text = re.sub(r"<[^>]*>", "", page.read_text(encoding="utf-8"))
    return re.sub(r"\s+", " ", html.unescape(text)).replace(
        "\N{RIGHT SINGLE QUOTATION MARK}", "'"
    )


def main(built: Path) -> int:
    """Print each question that is not answered, and give how many there are."""
    node = shutil.which("node")
    if node is None:
        print("the search was not asked: there is no Node.js")
        return 0
    done = subprocess.run(
        [node, str(Path(__file__).with_name("search.js")), str(built)],
        input=json.dumps([query for query, _, _ in QUESTIONS]),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    wrong = 0
    for (query, page, words), found in zip(
        QUESTIONS, json.loads(done.stdout), strict=True
    ):
        is_answer = found == page and words in read(built / page / "index.html")
        if not is_answer:
            wrong += 1
            print(f"{query!r}: {found} comes first; {page} is to, and to say {words!r}")
    print(f"{len(QUESTIONS) - wrong} of {len(QUESTIONS)} questions are answered")
    return wrong


if __name__ == "__main__":
    sys.exit(1 if main(Path(sys.argv[1])) else 0)
