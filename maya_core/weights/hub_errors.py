"""What the hub's client raises, told in one sentence that says what to do."""

import errno
import json
import ssl
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import httpx2
from huggingface_hub import constants, get_session, get_token
from huggingface_hub.errors import (
    DisabledRepoError,
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from maya_core.errors import (
    CheckpointNotFound,
    DiskFull,
    DownloadInterrupted,
    HubBusy,
    HubUnreachable,
    MayaError,
    NotTheHub,
    ProxyRefused,
    RepositoryGated,
    SignInNeeded,
)

FULL = (errno.ENOSPC, errno.EDQUOT)
SIGN_IN = "sign in with `maya login`"
_PASSING = (408, 425, 429, 500, 502, 503, 504)


def licence_page(repo: str) -> str:
    """Where a repository's licence is read and accepted."""
    return f"{constants.ENDPOINT}/{repo}"


def is_passing(error: Exception) -> bool:
    """Whether what failed may work when it is tried again in a moment."""
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in _PASSING
    return isinstance(error, httpx2.TransportError) and not isinstance(
        error, httpx2.ProxyError | httpx2.UnsupportedProtocol
    )


def refused(*repositories: str) -> RepositoryGated | SignInNeeded:
    """The sentence for repositories whose licence is not accepted yet, or not by anybody whom the hub knows."""
    licences = " and ".join(f"that of {repo} at {licence_page(repo)}" for repo in repositories)
    if get_token():
        return RepositoryGated(
            f"Accept the licence, {licences}, as the person who is signed in here; then try again.", repositories
        )
    return SignInNeeded(
        f"The hub gives this only to people who have accepted the licence, {licences}; accept it, {SIGN_IN}, and try again."
    )


@contextmanager
def told(repo: str) -> Iterator[None]:
    """What goes wrong as `repo` is asked for, as one of our errors."""
    try:
        get_session()
    except (ValueError, ImportError, httpx2.InvalidURL):
        raise ProxyRefused(
            f"The proxy that this computer's settings name ({_proxy() or 'none'}) is not one that Maya can use; "
            "give its address as http://host:port."
        ) from None
    try:
        yield
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise not_the_hub() from error
    except (httpx2.HTTPError, OSError, EntryNotFoundError) as error:
        raise _sentence(error, repo) from error


def _sentence(error: Exception, repo: str) -> MayaError:
    hub = _host()
    if isinstance(error, GatedRepoError):
        return refused(repo)
    if isinstance(error, OfflineModeIsEnabled):
        return HubUnreachable(
            f"{repo} is not on this computer, and Maya was started offline; start it without --offline or HF_HUB_OFFLINE."
        )
    if isinstance(error, DisabledRepoError | RevisionNotFoundError | EntryNotFoundError):
        return CheckpointNotFound(f"{repo} is on the hub, but not what was asked for; check the name and the commit.")
    if isinstance(error, RepositoryNotFoundError):
        either = "check the name" if get_token() else f"check the name, or {SIGN_IN} if it is private"
        return CheckpointNotFound(f"There is no repository {repo} on the hub that you may read; {either}.")
    if isinstance(error, HfHubHTTPError):
        return _by_status(error.response, repo)
    if isinstance(error, httpx2.ProxyError) or (isinstance(error, httpx2.ConnectError) and _proxy()):
        return ProxyRefused(f"The proxy {_proxy()} does not let Maya through to {hub} ({error}); check its settings.")
    if isinstance(error, httpx2.ConnectError):
        if isinstance(_root(error), ssl.SSLError):
            return not_the_hub()
        return HubUnreachable(f"{hub} cannot be reached ({_root(error)}); connect to the network and try again.")
    if isinstance(error, httpx2.TimeoutException):
        return HubBusy(f"{hub} does not answer; what has come is kept, and the same command continues later.")
    if isinstance(error, httpx2.TooManyRedirects):
        return not_the_hub()
    if isinstance(error, OSError) and error.errno in FULL:
        return DiskFull(
            f"The disk filled up as {repo} was fetched; make room, and the same command continues where it stopped."
        )
    reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
    return DownloadInterrupted(
        f"Fetching {repo} stopped ({reason}); what has come is kept, and the same command continues."
    )


def _by_status(response: httpx2.Response, repo: str) -> MayaError:
    hub, status = _host(), response.status_code
    if status == 401:
        return _unknown_person(repo)
    if status == 403:
        return SignInNeeded(
            f"The hub does not let this token read {repo}; give it the right to read gated repositories, or {SIGN_IN} anew."
        )
    if status == 404:
        return CheckpointNotFound(f"There is no repository {repo} at that commit on the hub; check the name.")
    if status == 407:
        return ProxyRefused(f"The proxy {_proxy()} wants a name and a password; put them in its address and try again.")
    if status == 511:
        return not_the_hub()
    if status in _PASSING:
        later = response.headers.get("Retry-After", "")
        when = f"in {later} seconds" if later.isdigit() else "later"
        return HubBusy(
            f"{hub} refuses for now (status {status}); what has come is kept, and the same command continues {when}."
        )
    return DownloadInterrupted(f"{hub} answered with status {status} for {repo}; try again later.")


def _unknown_person(repo: str) -> SignInNeeded:
    if get_token():
        return SignInNeeded(f"The hub does not accept your token; {SIGN_IN} anew, and try again.")
    return SignInNeeded(f"The hub gives {repo} only to people whom it knows; {SIGN_IN}, and try again.")


def not_the_hub() -> NotTheHub:
    """The sentence for an answer that cannot be the hub's."""
    return NotTheHub(
        f"What answers is not {_host()}, but maybe the login page of this network, or a filter in it; "
        "open a page in the browser, sign in to the network, and try again."
    )


def _host() -> str:
    return urlsplit(constants.ENDPOINT).netloc


def _proxy() -> str:
    """The proxy that requests to the hub go through, without a password; empty where there is none."""
    endpoint = urlsplit(constants.ENDPOINT)
    proxies = urllib.request.getproxies()
    if urllib.request.proxy_bypass(endpoint.hostname or ""):
        return ""
    return (proxies.get(endpoint.scheme) or proxies.get("all") or "").rpartition("@")[2]


def _root(error: BaseException) -> BaseException:
    while inner := error.__cause__ or error.__context__:
        error = inner
    return error
