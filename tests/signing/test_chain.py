"""Where botocore's chain has found credentials."""

from __future__ import annotations

import pathlib

import pytest

from aiosmrt.signing.chain import find_credentials


@pytest.fixture(autouse=True)
def nothing_but_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    shared = tmp_path / "credentials"
    shared.write_text("[mine]\naws_access_key_id = key\naws_secret_access_key = secret\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(shared))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))


def test_what_is_found_says_where() -> None:
    found = find_credentials("mine", "us-east-1")
    assert getattr(found, "method", None) == "shared-credentials-file"


def test_what_cannot_be_had_is_not_found() -> None:
    assert find_credentials(None, "us-east-1") is None
    assert find_credentials("not there", "us-east-1") is None
