"""Matching of REST paths."""

from __future__ import annotations

import pytest

from lambay.api import model, uris

REST = ["efs", "lambda", "s3", "route53", "apigateway", "cloudfront"]


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("/2017-03-31/tags/arn:aws:lambda:us-east-1:1:function:f", "arn:aws:lambda:us-east-1:1:function:f"),
        (
            "/2017-03-31/tags/arn%3Aaws%3Alambda%3Aus-east-1%3A1%3Afunction%3Af",
            "arn:aws:lambda:us-east-1:1:function:f",
        ),
        ("/2017-03-31/tags/a%2Fb", "a/b"),
        ("/2017-03-31/tags/%C3%A9", "é"),
    ],
)
def test_labels_are_decoded(path: str, label: str) -> None:
    found = uris.table("lambda").match("GET", path, "", {})
    assert found is not None
    assert (found[0].name, found[1]) == ("ListTags", {"Resource": label})


@pytest.mark.parametrize(
    ("path", "key"),
    [("/b/k", "k"), ("/b/a/b/c", "a/b/c"), ("/b/dir/", "dir/"), ("/b//x", "/x"), ("/b/a%2Fb%20c", "a/b c")],
)
def test_a_greedy_label_takes_slashes(path: str, key: str) -> None:
    found = uris.table("s3").match("GET", path, "", {})
    assert found is not None
    assert (found[0].name, found[1]) == ("GetObject", {"Bucket": "b", "Key": key})


def test_a_copy_is_told_from_an_upload_by_its_header() -> None:
    table = uris.table("s3")
    copy = table.match("PUT", "/b/k", "", {"x-amz-copy-source": "other/key"})
    upload = table.match("PUT", "/b/k", "", {})
    assert copy is not None
    assert upload is not None
    assert (copy[0].name, upload[0].name) == ("CopyObject", "PutObject")


def test_an_asterisk_is_no_path() -> None:
    assert uris.table("s3").match("OPTIONS", "*", "", {}) is None


@pytest.mark.parametrize("service", REST)
def test_every_operation_is_found_at_its_own_path(service: str) -> None:
    """With every label filled and every required query parameter and header given."""
    loaded, table = model.load(service), uris.table(service)
    for name in loaded.operation_names:
        operation = loaded.operation(name)
        assert operation is not None
        path, _, literals = operation.uri.partition("?")
        query, headers = [literals] if literals else [], {}
        for member in (
            (operation.input.members[key] for key in operation.input.required) if operation.input else ()
        ):
            if member.location == "uri":
                path = path.replace(f"{{{member.wire}}}", "label").replace(f"{{{member.wire}+}}", "a/label")
            elif member.location == "querystring":
                query.append(f"{member.wire}=1")
            elif member.location == "header":
                headers[member.wire.lower()] = "1"
        found = table.match(operation.http_method, path, "&".join(query), headers)
        assert found is not None, operation.uri
        twins = {name, *(_same_place(loaded, operation))}
        assert found[0].name in twins, f"{name} at {path}?{query} became {found[0].name}"


def _same_place(loaded: model.ServiceModel, operation: model.Operation) -> set[str]:
    """Operations that a model gives one method and path: outdated forms of each other."""
    return {
        name
        for name in loaded.operation_names
        if loaded.http_trait(name).get("requestUri") == operation.uri
        and loaded.http_trait(name).get("method") == operation.http_method
    }
