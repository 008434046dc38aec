"""Bearer tokens: made of credentials that hold, and kept while they do."""

from __future__ import annotations

import datetime
import logging
import math

from aiosmrt.config import Credentials
from aiosmrt.errors import CredentialsError
from aiosmrt.models import BearerToken
from aiosmrt.signing.bearer_token import check_expires_in, make_bearer_token
from aiosmrt.signing.credentials import CredentialProvider
from aiosmrt.signing.source import end_of

__all__ = ["TokenProvider"]

_logger = logging.getLogger(__name__)

# Seconds before its end at which a token is given no longer, or the last tenth of a shorter life:
# time enough for a request to arrive.
_MARGIN = 60.0


class TokenProvider:
    """Gives bearer tokens that hold: the one at hand, until shortly before its end."""

    def __init__(self) -> None:
        self._token: BearerToken | None = None
        self._made_of: tuple[Credentials, str, int] | None = None
        # Seconds since the epoch, by the service's clock.
        self._good_from = self._good_until = -math.inf

    async def get(
        self,
        credentials: CredentialProvider,
        region: str,
        expires_in: int,
        *,
        limit: float | None,
        refresh: bool,
    ) -> BearerToken:
        """Give a token of credentials that are the present ones.

        Args:
            credentials: where these come from.
            region: of the endpoints.
            expires_in: seconds that a new token lives, 1 to 43,200; less where its credentials end
                before.
            limit: seconds to wait for credentials, `None` is no limit.
            refresh: whether the one at hand was refused, so that its credentials are fetched anew.

        Raises:
            ParameterError: there is no such life.
            CredentialsError, ConfigurationError: there are no credentials, or they end too soon.
        """
        check_expires_in(expires_in)
        if refresh and self._made_of is not None:
            credentials.invalidate(self._made_of[0])
            self._token = self._made_of = None
        found = credentials.find()
        if (
            self._token is not None
            and self._made_of == (found, region, expires_in)
            # The clock may have been corrected: one that begins later is refused until then.
            and self._good_from <= credentials.source.now() < self._good_until
        ):
            return self._token
        # It ends with its credentials: it is not made of such as are being replaced.
        found = await credentials.get_renewed(limit)
        began = math.floor(credentials.source.now())
        life = int(min(expires_in, end_of(found) - began))
        if life < 1:
            raise CredentialsError(
                f"{credentials.source.place} gave keys that end at {found.expires_at}, too soon "
                "for a bearer token"
            )
        if life < expires_in:
            _logger.info(
                "A bearer token lives for %d s and not for %d s: its credentials end then",
                life,
                expires_in,
            )
        now = datetime.datetime.fromtimestamp(began, datetime.UTC)
        self._token = make_bearer_token(found, region, now, life)
        self._made_of = (found, region, expires_in)
        self._good_from = began
        self._good_until = began + life - min(_MARGIN, life / 10)
        return self._token
