"""Connection to an Elasticsearch cluster: address, credentials, and errors that say what to do."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from elasticsearch import (
    ApiError,
    AuthenticationException,
    AuthorizationException,
    ConnectionError,  # noqa: A004 - the client's own name
    ConnectionTimeout,
    Elasticsearch,
    TransportError,
    UnsupportedProductError,
)
from elasticsearch import SSLError as TlsError

from mlaudit.errors import ClusterError
from mlaudit.safety.network import INSECURE, in_the_clear, insecure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: A user name and password, an API key, or nothing.
Auth = tuple[str, str] | str | None

USERNAME: Final = "MLAUDIT_ES_USERNAME"
PASSWORD: Final = "MLAUDIT_ES_PASSWORD"  # noqa: S105 - the name of a variable
API_KEY: Final = "MLAUDIT_ES_API_KEY"

_TIMEOUT_SECONDS: Final = 30


def credentials(environment: Mapping[str, str]) -> Auth:
    """Credentials from ``MLAUDIT_ES_*`` variables, each of which may be a ``…_FILE`` that holds the value.

    Raises:
        ClusterError: contradictory or half credentials, or a file that cannot be read.
    """
    api_key = _value(environment, API_KEY)
    username = _value(environment, USERNAME)
    password = _value(environment, PASSWORD)
    if api_key and (username or password):
        raise ClusterError(f"expected either {API_KEY} or {USERNAME} and {PASSWORD}, found both; unset one")
    if bool(username) != bool(password):
        missing = PASSWORD if username else USERNAME
        raise ClusterError(f"expected both {USERNAME} and {PASSWORD}; set {missing} or {missing}_FILE")
    if api_key:
        return api_key
    return (username, password) if username else None


def connect(url: str, auth: Auth, ca_file: Path | None = None) -> Elasticsearch:
    """A client for the cluster at ``url``; nothing is sent yet. Certificate and host name are always checked.

    Raises:
        ClusterError: the address is not one, carries a password, is http beyond this machine (unless
            ``MLAUDIT_INSECURE`` accepts it), or the CA file is absent.
    """
    try:
        parts = urlsplit(url)
        host, given_port = parts.hostname, parts.port
    except ValueError:  # the standard library's word for a port that is no number, or half a bracket
        host = None
    if not host or parts.scheme not in ("http", "https"):
        raise ClusterError(
            f"expected an address such as https://localhost:9200, found {_without_secret(url)!r}"
        )
    if parts.username or parts.password:
        raise ClusterError(
            f"the address carries credentials, which others can see; set {USERNAME} and {PASSWORD} instead"
        )
    if in_the_clear(url) and not insecure():
        raise ClusterError(
            f"expected an https address beyond this machine, found {_without_secret(url)}; password and records "
            f"could be read on the way, which {INSECURE}=true accepts"
        )
    if ca_file is not None and not ca_file.is_file():
        raise ClusterError(f"expected a CA certificate at {ca_file}, found no such file")
    if ca_file is not None and parts.scheme == "http":
        raise ClusterError(
            f"expected an https address with --ca-file, found {url}; http has no certificate to check"
        )
    trust: dict[str, Any] = {} if ca_file is None else {"ca_certs": str(ca_file)}
    port = given_port or (443 if parts.scheme == "https" else 80)
    host = f"[{host}]" if ":" in host else host
    return Elasticsearch(
        f"{parts.scheme}://{host}:{port}{parts.path.rstrip('/')}",
        basic_auth=auth if isinstance(auth, tuple) else None,
        api_key=auth if isinstance(auth, str) else None,
        request_timeout=_TIMEOUT_SECONDS,
        max_retries=2,
        retry_on_timeout=True,
        **trust,
    )


@contextmanager
def explained(url: str, doing: str) -> Iterator[None]:
    """Turns the client's errors into a ``ClusterError`` that says what was expected and what to do."""
    where = _without_secret(url)
    try:
        yield
    except AuthenticationException as error:
        raise ClusterError(
            f"{where} refuses the credentials; set {USERNAME} and {PASSWORD}, or {API_KEY}, to valid ones"
        ) from error
    except AuthorizationException as error:
        raise ClusterError(f"{where} does not allow it while {doing}: {reason(error)}") from error
    except UnsupportedProductError as error:
        raise ClusterError(f"expected Elasticsearch at {where}, found another product") from error
    except ApiError as error:
        raise ClusterError(f"{where} answered {error.status_code} while {doing}: {reason(error)}") from error
    except TlsError as error:
        raise ClusterError(
            f"no trusted TLS connection to {where}: {error}; give its CA with --ca-file"
        ) from error
    except ConnectionTimeout as error:
        raise ClusterError(f"{where} did not answer within {_TIMEOUT_SECONDS} s while {doing}") from error
    except (ConnectionError, TransportError) as error:
        raise ClusterError(f"cannot reach Elasticsearch at {where}: {error}; is it running?") from error


def reason(error: ApiError) -> str:
    """The innermost reason that Elasticsearch gives for an error."""
    body = error.body
    found = ""
    node = body.get("error") if isinstance(body, dict) else body
    while isinstance(node, dict):
        found = str(node.get("reason", found))
        node = node.get("caused_by")
    return found or (node if isinstance(node, str) else str(error))


def _value(environment: Mapping[str, str], name: str) -> str:
    value, file = environment.get(name, ""), environment.get(f"{name}_FILE", "")
    if value and file:
        raise ClusterError(f"expected one of {name} and {name}_FILE, found both; unset one")
    if not file:
        return value
    try:
        value = Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ClusterError(f"{name}_FILE: cannot read {file}: {error}") from error
    if not value:
        raise ClusterError(f"{name}_FILE: {file} is empty")
    return value


def _without_secret(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}" if separator else url.rpartition("@")[2]
