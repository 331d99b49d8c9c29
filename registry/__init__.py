"""swarm-registry: an OCI Distribution registry for Docker Swarm and self-hosting."""

__version__ = "0.1.0"
