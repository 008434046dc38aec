from __future__ import annotations

import pytest

from aiosmrt.errors import ServiceError
from aiosmrt.local import ObjectStore, StoredObject


def test_an_object_is_found_where_it_was_put() -> None:
    objects = ObjectStore()
    location = "s3://bucket//a key/ä?"
    assert location not in objects
    objects.put(location, StoredObject(b"1", "text/csv"))
    objects.put("s3://bucket/other", StoredObject(b"2"))
    assert location in objects
    assert objects.get(location).body == b"1"
    assert objects.get(location).content_type == "text/csv"
    assert objects.get("s3://bucket/other").content_type == "binary/octet-stream"
    objects.put(location, StoredObject(b"3"))
    assert objects.get(location).body == b"3"


def test_an_object_knows_its_hash_and_its_time() -> None:
    stored = StoredObject(b"hello")
    assert stored.etag == '"5d41402abc4b2a76b9719d911017c592"'
    assert stored.last_modified.microsecond == 0
    assert str(stored.last_modified.tzinfo) == "UTC"


def test_keys_are_found_by_prefix_in_order() -> None:
    objects = ObjectStore()
    for key in ("b", "a/2", "a/1", "ä"):
        objects.put(f"s3://bucket/{key}", StoredObject(b""))
    objects.put("s3://other/a/3", StoredObject(b""))
    assert objects.find_keys("bucket") == ["a/1", "a/2", "b", "ä"]
    assert objects.find_keys("bucket", "a/") == ["a/1", "a/2"]


def test_what_is_missing_is_named() -> None:
    objects = ObjectStore()
    with pytest.raises(ServiceError, match="bucket does not exist: bucket") as caught:
        objects.get("s3://bucket/key")
    assert (caught.value.status, caught.value.code) == (404, "NoSuchBucket")
    with pytest.raises(ServiceError, match="bucket does not exist"):
        objects.find_keys("bucket")
    objects.put("s3://bucket/other", StoredObject(b""))
    objects.make_bucket("bucket")
    assert objects.find_keys("bucket") == ["other"]
    with pytest.raises(ServiceError, match="key does not exist: s3://bucket/key") as caught:
        objects.get("s3://bucket/key")
    assert (caught.value.status, caught.value.code) == (404, "NoSuchKey")


@pytest.mark.parametrize("location", ["s3://bucket", "s3://bucket/", "s3:///key", "https://b/k"])
def test_what_is_no_location_is_refused(location: str) -> None:
    with pytest.raises(ServiceError, match="write it as s3://<bucket>/<key>") as caught:
        ObjectStore().put(location, StoredObject(b""))
    assert (caught.value.status, caught.value.code) == (400, "InvalidURI")
