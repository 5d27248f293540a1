"""Who asks the hub: signing in, by a token or in the browser. The token is kept in the hub's own place, for all programs."""

import json
import logging

from huggingface_hub import constants, get_session, login
from huggingface_hub.errors import DeviceCodeError, HfHubHTTPError

from maya_core.errors import SignInNeeded
from maya_core.weights.hub_errors import told


def sign_in(token: str | None = None) -> None:
    """Keep a person's token, if the hub knows it; without one, the hub's own dialogue in the terminal asks for it.

    Raises SignInNeeded for what is no token, and the other DownloadErrors.
    """
    if token is not None and not token.strip():
        raise SignInNeeded("There is no token; make one on the hub's page for access tokens, and paste it.")
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it names the token's place
    with told("The hub"):
        get_session().timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
        try:
            login(token=token and token.strip(), skip_if_logged_in=False)
        except json.JSONDecodeError:
            raise  # no answer of the hub's
        except (DeviceCodeError, ValueError) as error:
            raise SignInNeeded(f"The hub did not let you in ({error}); try again.") from None
        except HfHubHTTPError as error:
            if error.response.status_code == 401:
                raise SignInNeeded("The hub does not know this token; copy it whole, or make another.") from None
            raise
