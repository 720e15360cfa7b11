"""One HTTP request for a file or the rest of it."""

import base64
import http.client
import re
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from msclnet.datasets.acquire.address import shown, without_login
from msclnet.errors import UserError

RANGE_NOT_SATISFIABLE = 416
PARTIAL = 206
RESUMES = "started again, the download goes on from where it stopped"
REMEDIES = {
    401: "user or password is wrong or missing (https://USER:PASSWORD@host/path)",
    403: "reading it is not allowed; ask those who keep the data set",
    404: "there is nothing at this address",
    410: "there is nothing at this address any more",
}
LOST = "it leads in a circle, or to an address that is neither http nor https"
OTHERWISE = "try again later, or get the archive by other means and give its path"
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


@dataclass(frozen=True)
class Answer:
    """A server's answer with the bytes of a file.

    Attributes:
        body: Read it with `read_some`.
        start: Position in the file of the first byte that comes.
        size: Bytes of the whole file; None where the server does not say.
        validator: What the server calls this version of the file; empty where it has no name for it.
        is_page: Whether it calls the file a web page.
    """

    body: http.client.HTTPResponse
    start: int
    size: int | None
    validator: str
    is_page: bool


def ask(url: str, *, start: int, validator: str, timeout: float) -> Answer | None:
    """Ask for a file from a position on.

    Args:
        url: http or https, with user and password or without.
        start: Bytes that are there already.
        validator: The version that they are of; the server sends the whole file when it has another one by now.
        timeout: Seconds without any byte.

    Returns:
        The answer, which may start at 0 nevertheless; None when the server cannot go on from `start`.

    Raises:
        UserError: No answer, or a refusal.
    """
    plain, user, password = without_login(url)
    request = urllib.request.Request(plain, headers={"User-Agent": "msclnet", "Accept-Encoding": "identity"})
    if user or password:
        token = base64.b64encode(f"{user}:{password}".encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {token}")
    if start:
        request.add_header("Range", f"bytes={start}-")
        if validator:
            request.add_header("If-Range", validator)
    try:
        response = urllib.request.build_opener(_Redirects).open(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        if start and error.code == RANGE_NOT_SATISFIABLE:
            return None
        remedy = LOST if error.code < 400 else REMEDIES.get(error.code, OTHERWISE)
        raise UserError(f"{shown(url)}: the server answers {error.code}; {remedy}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        # ValueError: what urllib says of a redirection to an address that is none.
        raise no_connection(url, error) from error
    return _read_headers(response, start=start, validator=validator)


def read_some(url: str, answer: Answer, most: int) -> bytes:
    """The next bytes as they come; none at the end.

    Raises:
        UserError: The connection broke.
    """
    try:
        return answer.body.read1(most)
    except (OSError, http.client.HTTPException) as error:
        raise no_connection(url, error) from error


def no_connection(url: str, error: Exception) -> UserError:
    """What to say about a connection that failed; nothing of the address but what may be seen."""
    reason = getattr(error, "reason", error)
    # A message of the library may quote the address; those of the system do not.
    cause = str(reason) if isinstance(reason, OSError) else type(reason).__name__
    return UserError(f"{shown(url)}: the connection failed ({cause}); {RESUMES}")


def _read_headers(response: Any, *, start: int, validator: str) -> Answer | None:
    headers = response.headers
    length = headers.get("Content-Length", "")
    size = int(length) if re.fullmatch(r"\d{1,18}", length) else None
    name = headers.get("ETag", "")
    if not name or name.startswith("W/"):  # weak: equal in meaning, not in bytes
        name = headers.get("Last-Modified", "")
    is_page = headers.get_content_type() == "text/html"
    if response.status != PARTIAL:
        return Answer(response, 0, size, name, is_page)
    found = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
    if not found or int(found[1]) != start or (validator and name and name != validator):
        response.close()
        return None
    return Answer(response, start, None if found[2] == "*" else int(found[2]), validator or name, is_page)


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req, fp, code, msg, headers, newurl):
        if urlsplit(newurl).scheme not in ("http", "https"):
            raise UserError(
                f"{shown(req.full_url)} leads to {shown(newurl)}, which is neither http nor https"
            )
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        login = req.unredirected_hdrs.get("Authorization")
        # The password is for the host that it was given for, and for no other one.
        if request and login and (request.type, request.host) == (req.type, req.host):
            request.add_unredirected_header("Authorization", login)
        return request
