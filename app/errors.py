"""Every error Millrace raises on purpose, as one tree.

    MillraceError                    code on the wire, exit code 2 on the command line
    ├── ProjectError                 the user's project is wrong or cannot be found
    ├── SettingsError                an environment variable or URL is wrong
    ├── DataError                    rows or columns are not as declared
    │   ├── MissingColumnError       a declared column is not in the data
    │   ├── SchemaMismatchError      a column has another type than declared
    │   └── TimestampError           a timestamp cannot be read
    ├── UnknownNameError             no view, feature, version, table or key of that name
    ├── FeatureStoreError            a read, write or definition the feature store refuses
    │   ├── AccessDeniedError        the project's access policy does not let this principal do it
    │   └── StoreUnavailableError    a store that cannot be reached, read or written
    ├── TrainingError                a run that cannot start or must stop
    ├── ModelError                   an artefact that cannot be exported, loaded or served
    ├── NotReproducedError           a run trained again from its record gave another model
    ├── UncommittedCodeError         code that no commit holds would train a model that cannot be made again
    ├── GateError                    a candidate that did not pass its gates
    ├── RolloutError                 a change of traffic that is not allowed in this state
    ├── StateConflictError           somebody else changed the same record first
    ├── RequestError                 an HTTP request the caller must change (4xx)
    ├── UnauthenticatedError         no token, or one that is not in force (401)
    ├── ScopeMissingError            a token that may not do this (403)
    ├── OverloadedError              more requests than are taken; ask again later (429)
    └── RequestTimeoutError          an answer that did not come in time (504)

A message says what, where, what was expected and what to do.
"""

from __future__ import annotations


class MillraceError(Exception):
    """Base of all errors that a user can act on.

    ``code`` is machine-readable and stable; ``detail`` names the things concerned.
    """

    code = "millrace_error"
    http_status = 500

    def __init__(self, message: str, **detail: object) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.detail))


def _rebuild(kind: type[MillraceError], message: str, detail: dict[str, object]) -> MillraceError:
    return kind(message, **detail)


class ProjectError(MillraceError):
    code = "project_invalid"


class SettingsError(MillraceError):
    code = "settings_invalid"


class DataError(MillraceError):
    code = "data_invalid"
    http_status = 422


class MissingColumnError(DataError):
    code = "column_missing"


class SchemaMismatchError(DataError):
    code = "type_mismatch"


class TimestampError(DataError):
    code = "timestamp_invalid"


class UnknownNameError(MillraceError):
    code = "name_unknown"
    http_status = 404


class FeatureStoreError(MillraceError):
    code = "feature_store_refused"
    http_status = 409


class AccessDeniedError(FeatureStoreError):
    code = "access_denied"
    http_status = 403


class StoreUnavailableError(FeatureStoreError):
    code = "store_unavailable"
    http_status = 503


class TrainingError(MillraceError):
    code = "training_failed"


class ModelError(MillraceError):
    code = "model_invalid"


class NotReproducedError(MillraceError):
    code = "not_reproduced"


class UncommittedCodeError(MillraceError):
    code = "code_uncommitted"
    http_status = 409


class GateError(MillraceError):
    code = "gate_failed"
    http_status = 409


class RolloutError(MillraceError):
    code = "rollout_refused"
    http_status = 409


class StateConflictError(MillraceError):
    code = "state_conflict"
    http_status = 409


class RequestError(MillraceError):
    code = "request_invalid"
    http_status = 422


class UnauthenticatedError(MillraceError):
    """`code` says what is wrong with the token."""

    http_status = 401

    def __init__(self, message: str, code: str = "token_unknown", **detail: object) -> None:
        super().__init__(message, **detail)
        self.code = code

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_coded, (type(self), self.message, self.code, self.detail))


def _rebuild_coded(
    kind: type[UnauthenticatedError], message: str, code: str, detail: dict[str, object]
) -> UnauthenticatedError:
    return kind(message, code, **detail)


class ScopeMissingError(MillraceError):
    code = "scope_missing"
    http_status = 403


class OverloadedError(MillraceError):
    """`retry_after_s`: how long the caller should wait."""

    code = "overloaded"
    http_status = 429

    def __init__(self, message: str, retry_after_s: float, **detail: object) -> None:
        super().__init__(message, retry_after_s=retry_after_s, **detail)
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.detail))


class RateLimitedError(OverloadedError):
    code = "rate_limited"


class RequestTimeoutError(MillraceError):
    code = "request_timeout"
    http_status = 504
