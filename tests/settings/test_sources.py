from __future__ import annotations

import importlib.util
import itertools
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
from botocore.exceptions import NoRegionError
from botocore.loaders import create_loader
from botocore.session import Session

from aiosmrt.errors import ConfigurationError
from aiosmrt.settings.endpoints import resolve_endpoint
from aiosmrt.settings.sources import Setting, resolve_settings, shared_files_exist

CONFIG = """\
[default]
region = sa-east-1

[profile dev]
region = eu-north-1
endpoint_url = https://profile.example
services = private
ca_bundle = {bundle}
max_attempts = 7
retry_mode = standard
sdk_ua_app_id = dev-app

[profile plain]
region = ca-central-1
endpoint_url = https://plain.example
s3 =
  addressing_style = path

[profile secure]
region = us-east-2
use_fips_endpoint = TRUE
use_dualstack_endpoint = true

[profile ignoring]
region = us-east-1
endpoint_url = https://ignored.example
ignore_configured_endpoint_urls = true

[profile lost-services]
services = nowhere

[profile half-services]
services = half
endpoint_url = https://half.example

[profile broken]
region =
use_fips_endpoint = maybe

[services private]
sagemaker_runtime =
  endpoint_url = https://service.example
s3 =
  endpoint_url = https://s3.example

[services half]
sagemaker_runtime = https://not-nested.example
s3 =
  addressing_style = path
"""


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Take every AWS variable away, and the home folder with them; give what to resolve from."""
    for name in list(os.environ):
        if name.startswith("AWS_") or name == "REQUESTS_CA_BUNDLE":
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    return {}


@pytest.fixture
def bundle(tmp_path: Path) -> str:
    path = tmp_path / "bundle.pem"
    path.write_text("")
    return str(path)


@pytest.fixture
def shared(environ: dict[str, str], tmp_path: Path, bundle: str) -> dict[str, str]:
    """Write a shared config file and point the environment at it."""
    config = tmp_path / "shared-config"
    config.write_text(CONFIG.format(bundle=bundle))
    environ["AWS_CONFIG_FILE"] = str(config)
    return environ


def test_nothing_said_gives_the_defaults(environ: dict[str, str]) -> None:
    settings = resolve_settings(environ=environ)
    for setting in attrs.asdict(settings, recurse=False).values():
        assert setting.source == "default"
    assert settings.verify.value is True
    assert settings.use_fips_endpoint.value is False
    assert settings.use_dualstack_endpoint.value is False
    assert settings.region_name == settings.endpoint_url == Setting(None, "default")
    assert settings.max_attempts == settings.retry_mode == Setting(None, "default")


def test_the_process_environment_is_asked_unless_another_is_given(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REGION", "us-west-1")
    assert resolve_settings().region_name.value == "us-west-1"
    assert resolve_settings(environ=environ).region_name.value is None


def test_an_argument_beats_everything(shared: dict[str, str], tmp_path: Path) -> None:
    shared |= {
        "AWS_PROFILE": "secure",
        "AWS_DEFAULT_REGION": "us-west-2",
        "AWS_ENDPOINT_URL": "https://variable.example",
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
        "AWS_USE_FIPS_ENDPOINT": "true",
        "AWS_USE_DUALSTACK_ENDPOINT": "true",
        "AWS_CA_BUNDLE": str(tmp_path / "missing"),
        "AWS_MAX_ATTEMPTS": "9",
        "AWS_RETRY_MODE": "legacy",
        "AWS_SDK_UA_APP_ID": "variable",
    }
    settings = resolve_settings(
        profile_name="dev",
        region_name="eu-west-1",
        endpoint_url="https://argument.example",
        s3_endpoint_url="https://s3.argument.example",
        use_fips_endpoint=False,
        use_dualstack_endpoint=False,
        verify=False,
        max_attempts=2,
        retry_mode="adaptive",
        user_agent_appid="argument",
        environ=shared,
    )
    values = {}
    for name, setting in attrs.asdict(settings, recurse=False).items():
        assert setting.source == "argument"
        values[name] = setting.value
    assert values == {
        "profile_name": "dev",
        "region_name": "eu-west-1",
        "endpoint_url": "https://argument.example",
        "s3_endpoint_url": "https://s3.argument.example",
        "use_fips_endpoint": False,
        "use_dualstack_endpoint": False,
        "verify": False,
        "max_attempts": 2,
        "retry_mode": "adaptive",
        "user_agent_appid": "argument",
    }


def test_a_variable_beats_the_profile(shared: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "other.pem").write_text("")
    shared |= {
        "AWS_PROFILE": "dev",
        "AWS_DEFAULT_REGION": "us-west-2",
        "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": "https://variable.example",
        "AWS_ENDPOINT_URL_S3": "https://s3.variable.example",
        "AWS_USE_FIPS_ENDPOINT": "True",
        "AWS_USE_DUALSTACK_ENDPOINT": "false",
        "AWS_CA_BUNDLE": str(tmp_path / "other.pem"),
        "AWS_MAX_ATTEMPTS": "9",
        "AWS_RETRY_MODE": "legacy",
        "AWS_SDK_UA_APP_ID": "variable",
    }
    settings = resolve_settings(environ=shared)
    assert settings.profile_name == Setting("dev", "environment variable AWS_PROFILE")
    assert settings.region_name == Setting("us-west-2", "environment variable AWS_DEFAULT_REGION")
    assert settings.endpoint_url == Setting(
        "https://variable.example", "environment variable AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME"
    )
    assert settings.s3_endpoint_url == Setting(
        "https://s3.variable.example", "environment variable AWS_ENDPOINT_URL_S3"
    )
    assert settings.use_fips_endpoint == Setting(
        value=True, source="environment variable AWS_USE_FIPS_ENDPOINT"
    )
    assert settings.use_dualstack_endpoint == Setting(
        value=False, source="environment variable AWS_USE_DUALSTACK_ENDPOINT"
    )
    assert settings.verify == Setting(
        str(tmp_path / "other.pem"), "environment variable AWS_CA_BUNDLE"
    )
    assert settings.max_attempts == Setting(9, "environment variable AWS_MAX_ATTEMPTS")
    assert settings.retry_mode == Setting("legacy", "environment variable AWS_RETRY_MODE")
    assert settings.user_agent_appid == Setting(
        "variable", "environment variable AWS_SDK_UA_APP_ID"
    )


def test_the_profile_beats_the_default(shared: dict[str, str], bundle: str) -> None:
    settings = resolve_settings(profile_name="dev", environ=shared)
    assert settings.region_name == Setting("eu-north-1", "region of profile 'dev'")
    assert settings.endpoint_url == Setting(
        "https://service.example", "section 'services private' of profile 'dev'"
    )
    assert settings.s3_endpoint_url.value == "https://s3.example"
    assert settings.verify == Setting(bundle, "ca_bundle of profile 'dev'")
    assert settings.max_attempts == Setting(7, "max_attempts of profile 'dev'")
    assert settings.retry_mode == Setting("standard", "retry_mode of profile 'dev'")
    assert settings.user_agent_appid == Setting("dev-app", "sdk_ua_app_id of profile 'dev'")

    secure = resolve_settings(profile_name="secure", environ=shared)
    assert secure.use_fips_endpoint == Setting(
        value=True, source="use_fips_endpoint of profile 'secure'"
    )
    assert secure.use_dualstack_endpoint.value is True


def test_the_default_profile_counts_when_none_is_named(shared: dict[str, str]) -> None:
    settings = resolve_settings(environ=shared)
    assert settings.profile_name == Setting(None, "default")
    assert settings.region_name == Setting("sa-east-1", "region of profile 'default'")


@pytest.mark.parametrize("credentials_file", ["variable", "home"])
def test_a_profile_may_stand_in_the_credentials_file_alone(
    environ: dict[str, str], tmp_path: Path, credentials_file: str
) -> None:
    path = tmp_path / ".aws" / "credentials"
    path.parent.mkdir()
    if credentials_file == "variable":
        path = path.with_name("elsewhere")
        environ["AWS_SHARED_CREDENTIALS_FILE"] = "~/.aws/elsewhere"
    path.write_text("[keys]\nregion = ap-south-1\n")
    settings = resolve_settings(profile_name="keys", environ=environ)
    assert settings.region_name.value == "ap-south-1"


@pytest.mark.parametrize("variable", ["AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"])
def test_whether_there_are_files_can_be_asked_first(
    environ: dict[str, str], tmp_path: Path, variable: str
) -> None:
    assert not shared_files_exist(environ)
    assert not shared_files_exist()
    environ[variable] = str(tmp_path)  # a folder is no file
    assert not shared_files_exist(environ)
    environ[variable] = str(tmp_path / "file")
    (tmp_path / "file").touch()
    assert shared_files_exist(environ)


def test_aws_region_counts_after_aws_default_region(environ: dict[str, str]) -> None:
    environ["AWS_REGION"] = "us-west-1"
    settings = resolve_settings(environ=environ)
    assert settings.region_name == Setting("us-west-1", "environment variable AWS_REGION")
    environ["AWS_DEFAULT_REGION"] = "us-west-2"
    assert resolve_settings(environ=environ).region_name.value == "us-west-2"


def test_aws_default_profile_counts_before_aws_profile(shared: dict[str, str]) -> None:
    shared |= {"AWS_PROFILE": "dev", "AWS_DEFAULT_PROFILE": "plain"}
    settings = resolve_settings(environ=shared)
    assert settings.profile_name == Setting("plain", "environment variable AWS_DEFAULT_PROFILE")
    assert settings.region_name.value == "ca-central-1"


def test_an_empty_value_counts_as_unset(shared: dict[str, str]) -> None:
    shared |= {
        "AWS_DEFAULT_PROFILE": "",
        "AWS_PROFILE": "",
        "AWS_DEFAULT_REGION": "",
        "AWS_REGION": "us-west-1",
        "AWS_MAX_ATTEMPTS": "",
        "AWS_USE_FIPS_ENDPOINT": "",
        "AWS_CA_BUNDLE": "",
    }
    settings = resolve_settings(environ=shared)
    assert settings.profile_name == Setting(None, "default")
    assert settings.region_name.value == "us-west-1"
    assert settings.max_attempts.value is None
    assert settings.use_fips_endpoint.value is False
    assert settings.verify.value is True
    del shared["AWS_REGION"]
    shared["AWS_USE_FIPS_ENDPOINT"] = "false"
    assert resolve_settings(profile_name="broken", environ=shared).region_name.value is None


@pytest.mark.parametrize("ignored_by", ["variable", "profile"])
def test_ignored_endpoint_urls_leave_only_the_argument(
    shared: dict[str, str], ignored_by: str
) -> None:
    shared["AWS_ENDPOINT_URL"] = "https://variable.example"
    profile = "ignoring" if ignored_by == "profile" else "dev"
    if ignored_by == "variable":
        shared["AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"] = "true"
    settings = resolve_settings(profile_name=profile, environ=shared)
    assert settings.endpoint_url == Setting(None, "default")
    assert settings.s3_endpoint_url == Setting(None, "default")
    given = resolve_settings(
        profile_name=profile, endpoint_url="https://argument.example", environ=shared
    )
    assert given.endpoint_url.value == "https://argument.example"


def test_requests_ca_bundle_counts_last(shared: dict[str, str], tmp_path: Path) -> None:
    shared["REQUESTS_CA_BUNDLE"] = str(tmp_path)  # a folder of certificates
    assert resolve_settings(environ=shared).verify == Setting(
        str(tmp_path), "environment variable REQUESTS_CA_BUNDLE"
    )
    assert "profile" in resolve_settings(profile_name="dev", environ=shared).verify.source


@pytest.mark.parametrize("given", ["argument", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
def test_a_missing_ca_bundle_is_named(environ: dict[str, str], given: str) -> None:
    argument = "/nowhere/ca.pem" if given == "argument" else None
    if argument is None:
        environ[given] = "/nowhere/ca.pem"
    with pytest.raises(ConfigurationError, match="does not exist") as caught:
        resolve_settings(verify=argument, environ=environ)
    assert given in str(caught.value)
    assert "'/nowhere/ca.pem'" in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("AWS_MAX_ATTEMPTS", "abc", "whole number"),
        ("AWS_MAX_ATTEMPTS", "0", "1 or more"),
        ("AWS_MAX_ATTEMPTS", "-1", "1 or more"),
        ("AWS_MAX_ATTEMPTS", "2.5", "whole number"),
        ("AWS_RETRY_MODE", "eager", "'legacy', 'standard' or 'adaptive'"),
        ("AWS_USE_FIPS_ENDPOINT", "maybe", "'true' or 'false'"),
        ("AWS_USE_DUALSTACK_ENDPOINT", "1", "'true' or 'false'"),
        ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "yes", "'true' or 'false'"),
    ],
)
def test_a_malformed_variable_is_named_with_what_is_allowed(
    environ: dict[str, str], variable: str, value: str, allowed: str
) -> None:
    environ[variable] = value
    with pytest.raises(ConfigurationError) as caught:
        resolve_settings(environ=environ)
    for words in (f"environment variable {variable}", repr(value), allowed):
        assert words in str(caught.value)


def test_a_malformed_profile_value_is_named_with_what_is_allowed(shared: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        resolve_settings(profile_name="broken", environ=shared)
    for words in ("use_fips_endpoint of profile 'broken'", "'maybe'", "'true' or 'false'"):
        assert words in str(caught.value)


@pytest.mark.parametrize("named_by", ["argument", "AWS_DEFAULT_PROFILE", "AWS_PROFILE"])
def test_a_missing_profile_is_answered_with_the_ones_there_are(
    shared: dict[str, str], named_by: str
) -> None:
    argument = "prod" if named_by == "argument" else None
    if argument is None:
        shared[named_by] = "prod"
    with pytest.raises(ConfigurationError, match="profile 'prod' does not exist") as caught:
        resolve_settings(profile_name=argument, environ=shared)
    for words in (named_by, "'default', 'dev'", "'secure'", shared["AWS_CONFIG_FILE"]):
        assert words in str(caught.value)


def test_a_profile_without_any_file_is_missing_too(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="none"):
        resolve_settings(profile_name="dev", environ=environ)


def test_a_services_section_that_is_missing_is_named(shared: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match=r"\[services nowhere\]"):
        resolve_settings(profile_name="lost-services", environ=shared)


def test_a_services_section_without_a_url_leaves_the_profiles(shared: dict[str, str]) -> None:
    settings = resolve_settings(profile_name="half-services", environ=shared)
    assert settings.endpoint_url.value == "https://half.example"
    assert settings.s3_endpoint_url.value == "https://half.example"


@pytest.mark.parametrize("variable", ["AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"])
def test_an_unreadable_file_is_named_without_its_lines(
    environ: dict[str, str], tmp_path: Path, variable: str
) -> None:
    path = tmp_path / "broken"
    path.write_text("[default]\naws_secret_access_key hunter2\n")
    environ[variable] = str(path)
    with pytest.raises(ConfigurationError, match="cannot be read") as caught:
        resolve_settings(environ=environ)
    assert str(path) in str(caught.value)
    assert caught.value.__cause__ is not None
    assert "hunter2" not in f"{caught.value}{caught.value.__cause__}"


URL_VARIABLES: list[Mapping[str, str]] = [
    {},
    {"AWS_ENDPOINT_URL": "https://global.example"},
    {"AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": "https://own.example", "AWS_ENDPOINT_URL": "https://g"},
    {
        "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": "https://own.example",
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
    },
]
PROFILE_VARIABLES: list[Mapping[str, str]] = [
    {},
    {"AWS_PROFILE": "dev"},
    {"AWS_DEFAULT_PROFILE": "plain", "AWS_PROFILE": "dev"},
    {"AWS_PROFILE": "secure"},
    {"AWS_PROFILE": "ignoring"},
]
ARGUMENTS: list[Mapping[str, Any]] = [
    {},
    {"profile_name": "dev"},
    {"region_name": "eu-west-1"},
    {"endpoint_url": "https://argument.example"},
]


def test_region_and_endpoint_are_the_ones_botocore_finds(
    shared: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = create_loader()
    found = set()
    combinations = itertools.product(
        PROFILE_VARIABLES,
        URL_VARIABLES,
        [{}, {"AWS_DEFAULT_REGION": "us-west-2"}],
        [{}, {"AWS_CONFIG_FILE": shared["AWS_CONFIG_FILE"]}],
        ARGUMENTS,
    )
    # Three has a factor in common with none of these lengths: a third has each with each other.
    step = 1 if "AIOSMRT_EXAMPLES" in os.environ else 3
    for profile, urls, region, file, arguments in itertools.islice(combinations, None, None, step):
        if not file and (profile or "profile_name" in arguments):
            continue
        environ = {**profile, **urls, **region, **file}
        with monkeypatch.context() as patch:
            for name, value in environ.items():
                patch.setenv(name, value)
            theirs = _ask_botocore(loader, **arguments)
        settings = resolve_settings(**arguments, environ=environ)
        ours = None
        if settings.region_name.value is not None:
            custom = settings.endpoint_url.value
            url = resolve_endpoint(
                settings.region_name.value,
                endpoint_url=custom,
                # Together with a custom endpoint botocore ignores them; here that is an error.
                use_fips_endpoint=not custom and settings.use_fips_endpoint.value,
                use_dualstack_endpoint=not custom and settings.use_dualstack_endpoint.value,
            )
            ours = (settings.region_name.value, url)
        assert ours == theirs, (environ, arguments)
        found.add(ours)
    assert len(found) > 20


def _ask_botocore(
    loader: object,
    *,
    profile_name: str | None = None,
    region_name: str | None = None,
    endpoint_url: str | None = None,
) -> tuple[str, str] | None:
    """Give region and endpoint of a client of botocore, `None` where it finds no region."""
    session = Session(profile=profile_name, include_builtin_handlers=False)  # twice as fast
    session.register_component("data_loader", loader)
    session.set_credentials("id", "secret")
    try:
        client = session.create_client(
            "sagemaker-runtime", region_name=region_name, endpoint_url=endpoint_url
        )
    except NoRegionError:
        return None
    return client.meta.region_name, client.meta.endpoint_url


def test_botocore_is_imported_only_for_files(environ: dict[str, str], tmp_path: Path) -> None:
    code = (
        "import sys, aiosmrt.settings.sources as s; r = s.resolve_settings();"
        "print(r.region_name.value, any('botocore' in m for m in sys.modules))"
    )
    spec = importlib.util.find_spec("aiosmrt")
    assert spec is not None
    assert spec.origin is not None
    root = Path(spec.origin).parent.parent
    config = tmp_path / ".aws" / "config"

    def ask(**extra: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", code],
            cwd=root,
            env={**os.environ, **extra},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    assert ask(AWS_REGION="us-east-1") == "us-east-1 False"
    config.parent.mkdir()
    config.write_text("[default]\nregion = us-west-2\n")
    assert ask() == "us-west-2 True"
