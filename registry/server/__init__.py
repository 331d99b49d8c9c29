"""All that knows uvicorn: listening, TLS, HTTP on a connection, and stopping without breaking what is under way."""

from registry.server.listening import listen
from registry.server.renewal import Renewal
from registry.server.running import Service, serve
from registry.server.tls import Tls, UnusableTls

__all__ = ["Renewal", "Service", "Tls", "UnusableTls", "listen", "serve"]
