"""Who looks at a page: a token in a cookie becomes the caller that the API knows.

The cookie goes to `/ui` alone, no script reads it, and no page of another site has it sent (SameSite=Strict). What changes
something must besides come from a page of this very origin, as the browser says by Sec-Fetch-Site, or else by Origin.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import urlsplit

COOKIE: Final = "extproc_ui"
HOME: Final = "/ui/"
_LONGEST: Final = 4096
_FORWARDED: Final = "x-forwarded-for"
_SENT_BY_PAGES: Final = ("origin", "sec-fetch-site")


def token_of(headers: Mapping[str, str]) -> str | None:
    """The token in the cookie; None when there is none."""
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        return None if morsel is None else base64.urlsafe_b64decode(morsel.value.encode()).decode("ascii") or None
    except (CookieError, binascii.Error, UnicodeDecodeError, ValueError):
        return None


def cookie(token: str, headers: Mapping[str, str]) -> str:
    """Set-Cookie for this token; '' takes it away. Gone with the browser's session."""
    value = base64.urlsafe_b64encode(token.encode("ascii")).decode()
    words = [f"{COOKIE}={value}", "Path=/ui", "HttpOnly", "SameSite=Strict"]
    if not token:
        words.append("Max-Age=0")
    if headers.get("x-forwarded-proto", "http").lower() == "https":
        words.append("Secure")
    return "; ".join(words)


def presentable(token: str) -> bool:
    """Whether it can be a token at all: visible ASCII."""
    return 0 < len(token) <= _LONGEST and all("!" <= letter <= "~" for letter in token)


def as_caller(headers: Mapping[str, str], *, changes: bool) -> dict[str, str]:
    """The headers by which the API's guard knows this visitor.

    Whoever has followed a link from elsewhere may look: what such a page sees of it is nothing. So where a page came from is
    told to the guard only of what is no such visit.
    """
    told = {name: headers[name] for name in ("authorization", _FORWARDED) if name in headers}
    token = token_of(headers)
    if token is not None:
        told["authorization"] = f"Bearer {token}"
    if changes or headers.get("sec-fetch-dest") != "document":
        told |= {name: headers[name] for name in _SENT_BY_PAGES if name in headers}
    return told


def from_here(headers: Mapping[str, str]) -> bool:
    """Whether a page of this origin has sent it. Browsers say so at `https` and on this machine by Sec-Fetch-Site."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = headers.get("origin", "")
    try:
        return bool(origin) and urlsplit(origin).netloc.lower() == headers.get("host", "").lower()
    except ValueError:
        return False


def arrived_by_link(headers: Mapping[str, str]) -> bool:
    """Whether a link on another site led here: then the cookie was not sent, whether there is one or not."""
    return headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-dest") == "document"


def home(path: str) -> str:
    """Where a visitor goes after the login: the page that was wanted, if it is one of ours."""
    good = path.startswith(HOME) and not path.startswith(HOME + "/") and "\\" not in path
    return path if good and path.isascii() and path.isprintable() else HOME
