"""Finds the Prefect server that runs are recorded by, if there is one."""

import base64
import http.client
import os
import urllib.error
import urllib.request

from msclnet.errors import UserError
from msclnet.tracking.masking import mask
from pipelines.settings import read_settings


def server_address() -> str | None:
    """The API address of the Prefect server to use, or None to run without one.

    PREFECT_API_URL counts where it is set; otherwise a server that answers on this machine's PREFECT_PORT (4200), which
    is what `make up` starts.

    Raises:
        UserError: PREFECT_API_URL is set and does not answer.
    """
    given = os.environ.get("PREFECT_API_URL")
    address = given or f"http://127.0.0.1:{read_settings().prefect_port}/api"
    if is_prefect(address):
        return address
    if given:
        raise UserError(
            f"PREFECT_API_URL={mask(given)}: no Prefect server answers there; start it (make up), or unset the variable"
        )
    return None


def is_prefect(api: str) -> bool:
    """Whether a Prefect server answers at an API address; the answer of any other server differs from `true`."""
    return answers(f"{api}/health", expected=b"true")


def answers(url: str, *, login: str = "", expected: bytes | None = None) -> bool:
    """Whether a GET of the address succeeds.

    Args:
        url: the address.
        login: `user:password`. Without one a server that asks for it counts as answering.
        expected: what the answer must be.
    """
    try:
        request = urllib.request.Request(url)
        if login:
            request.add_header("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")
        with urllib.request.urlopen(request, timeout=3.0) as response:
            return expected in (None, response.read(100).strip())
    except urllib.error.HTTPError as error:
        return not login and error.code in (401, 403)  # it is there, and the flow itself has the key
    except (OSError, ValueError, http.client.HTTPException):  # the last for an address that is none
        return False
