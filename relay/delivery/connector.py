"""Opens connections for lanes: the route's addresses in order, until one takes us."""

from pathlib import Path

from relay.delivery.outcome import tries_next_host
from relay.delivery.routing import Route, RouteError, Router
from relay.smtp.client.connect import ClientTls, Timeouts, connect
from relay.smtp.client.connection import Connection
from relay.smtp.client.model import Credentials, SessionError, Stage
from relay_config.schema import Route as RouteSettings
from relay_config.schema import Settings


class Connector:
    """Shared by all lanes of a worker; holds the TLS contexts."""

    def __init__(self, settings: Settings, router: Router) -> None:
        self._router = router
        self._tls = ClientTls()
        self.reload(settings)

    def reload(self, settings: Settings) -> None:
        """Take new settings for connections to come."""
        self._settings = settings
        self._timeouts = Timeouts.of(settings.delivery)

    async def open(self, route: Route) -> Connection | RouteError | SessionError:
        """The first connection that comes up, or why none did (the last address's error)."""
        targets = await self._router.addresses(route)
        if isinstance(targets, RouteError):
            return targets
        try:
            credentials = _credentials(route.smarthost)
        except OSError as error:
            return SessionError(Stage.AUTH, "local", f"password file cannot be read: {error.strerror}")
        delivery = self._settings.delivery
        failure: SessionError | None = None
        for target in targets:
            source = delivery.source_ipv6 if ":" in target.address else delivery.source_ipv4
            try:
                return await connect(
                    target,
                    route.tls,
                    hostname=self._settings.hostname,
                    tls=self._tls,
                    credentials=credentials,
                    source=source,
                    timeouts=self._timeouts,
                )
            except SessionError as error:
                failure = error
                if not tries_next_host(error):
                    break
        assert failure is not None, "a route has at least one address"
        return failure


def _credentials(smarthost: RouteSettings | None) -> Credentials | None:
    """Read at each connection: rare, and a changed password counts at once."""
    if smarthost is None or smarthost.user is None or smarthost.password_file is None:
        return None
    lines = Path(smarthost.password_file).read_text(encoding="utf-8").splitlines()
    return Credentials(smarthost.user, lines[0] if lines else "")
