"""Whether a bucket does what is assumed of it, found out by trying, before anything is trained.

Six requests on an object of a random name below `probe/`, which is removed. They catch a service
that overwrites what was to be new, or lists late. They prove no consistency: a service that is late
once in a thousand times passes.
"""

import secrets

from lab.bucket import Bucket, NoBucket
from lab.errors import Failed, Refused

PLACE = "probe"


def probe(bucket: Bucket) -> None:
    """Raise Refused where an assumption does not hold; Failed where the service does not answer."""
    name = f"{PLACE}/{secrets.token_hex(8)}"
    first, second = b"first", b"again"
    try:
        if not bucket.put_new(name, first):
            raise _refused(bucket, "an object that was just written reads as another")
        try:
            if bucket.put_new(name, second) or bucket.get(name, len(first)) != first:
                raise _refused(
                    bucket, "it replaces an object that was to be new: there is no put-if-absent"
                )
            if name not in _names(bucket):
                raise _refused(bucket, "a listing lacks an object that was just written")
        finally:
            bucket.delete(name)
        if name in _names(bucket):
            raise _refused(bucket, "a listing shows an object that was just removed")
    except NoBucket as error:
        raise Refused(str(error)) from None
    except (OSError, ValueError, TypeError, NotImplementedError) as error:
        if isinstance(error, Refused):
            raise
        raise Failed(f"{bucket.url} cannot be tried: {bucket.why(error)}") from None


def _names(bucket: Bucket) -> set[str]:
    return {one.name for one in bucket.list(PLACE)}


def _refused(bucket: Bucket, what: str) -> Refused:
    return Refused(f"{bucket.url} cannot hold a sweep: {what}")
