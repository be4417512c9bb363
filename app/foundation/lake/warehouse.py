"""Where data files lie: a folder, or a URL of an object store with what is needed to reach it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from app.errors import SettingsError, StoreUnavailableError

KNOWN = ("endpoint_override", "region", "scheme")  # as pyarrow's URLs have them, which sources take


def warehouse_properties(warehouse: str) -> dict[str, str]:
    """The catalog's properties for a warehouse. Keys to an object store stay in the environment, for its client.

    Args:
        warehouse: `file:///folder`, `s3://bucket/folder`, or for a store other than Amazon's
            `s3://bucket/folder?endpoint_override=host:9000&scheme=http&region=us-east-1`.

    Raises:
        SettingsError: the URL says something else after its question mark.

    >>> warehouse_properties("s3://lake/tables?endpoint_override=store:9000&scheme=http")
    {'warehouse': 's3://lake/tables', 's3.endpoint': 'http://store:9000'}
    """
    parts = urlsplit(warehouse)
    if parts.scheme != "s3" or not parts.query:
        return {"warehouse": warehouse}
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = sorted(set(given) - set(KNOWN))
    if unknown:
        raise SettingsError(
            f"the URL in MILLRACE_WAREHOUSE gives {', '.join(map(repr, unknown))}; expected after the question mark "
            f"only {', '.join(KNOWN)}. Keys belong into the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY).",
            variable="MILLRACE_WAREHOUSE",
        )
    properties = {"warehouse": urlunsplit(parts._replace(query=""))}
    if "endpoint_override" in given:
        properties["s3.endpoint"] = f"{given.get('scheme', 'https')}://{given['endpoint_override']}"
    if "region" in given:
        properties["s3.region"] = given["region"]
    return properties


@contextmanager
def files_of(identifier: str, warehouse: str) -> Iterator[None]:
    """Names the table and the warehouse when files cannot be read or written.

    Raises:
        StoreUnavailableError: the store does not answer, refuses, or lacks a file.
    """
    try:
        yield
    except OSError as error:
        raise StoreUnavailableError(
            f"cannot read or write the files of table {identifier} in the warehouse {warehouse}: {error}. Check that "
            "it can be reached and that the keys to it are in the environment, or set MILLRACE_WAREHOUSE.",
            store=warehouse, table=identifier,
        ) from error
