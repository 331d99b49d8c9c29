"""All that knows uvicorn: listening, TLS, HTTP on a connection, and stopping without breaking what is under way."""

from registry.server.listening import Tls, listen
from registry.server.running import Service, serve

__all__ = ["Service", "Tls", "listen", "serve"]
