"""Who asks the hub: signing in, by a token or in the browser. The token is kept in the hub's own place, for all programs."""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx2
from huggingface_hub import constants, get_session, login
from huggingface_hub.errors import DeviceCodeError, HfHubHTTPError

from maya_core.errors import SignInNeeded
from maya_core.weights.hub_errors import not_the_hub, told


def sign_in(token: str | None = None) -> None:
    """Keep a person's token, if the hub knows it; without one, the hub's own dialogue in the terminal asks for it.

    Raises SignInNeeded for what is no token, and the other DownloadErrors.
    """
    if token is not None and not token.strip():
        raise SignInNeeded("There is no token; make one on the hub's page for access tokens, and paste it.")
    with _signing_in():
        login(token=token and token.strip(), skip_if_logged_in=False)


def sign_in_by_code(show: Callable[[str, str], None]) -> None:
    """Sign in by a short code that a person, who is signed in there, types on a page of the hub's, on any device (RFC 8628).

    show: told that page's address and the code. Then this waits, a quarter of an hour at most. Raises SignInNeeded where
    the person refuses or does nothing, and the other DownloadErrors.
    """
    try:
        # the library has this beneath its dialogue in the terminal alone
        from huggingface_hub._login import _save_oauth_token
        from huggingface_hub.utils._oauth_device import poll_device_token, request_device_code
    except ImportError:
        raise SignInNeeded("This huggingface_hub does not know codes; sign in with a token.") from None
    with _signing_in():
        asked = request_device_code()
        show(asked["verification_uri_complete"], asked["user_code"])
        _save_oauth_token(poll_device_token(asked))


@contextmanager
def _signing_in() -> Iterator[None]:
    """What goes wrong meanwhile, as one of our errors."""
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it names the token's place
    with told("The hub"):
        get_session().timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
        try:
            yield
        except json.JSONDecodeError:
            raise  # no answer of the hub's
        except KeyError as error:
            raise not_the_hub() from error
        except (DeviceCodeError, ValueError) as error:
            if isinstance(error.__cause__, httpx2.HTTPError):  # of the request itself
                raise error.__cause__ from None
            raise SignInNeeded(f"The hub did not let you in ({error}); try again.") from None
        except HfHubHTTPError as error:
            if error.response.status_code == 401:
                raise SignInNeeded("The hub does not know this token; copy it whole, or make another.") from None
            raise
