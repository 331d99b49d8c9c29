"""Bytes and names on a medium. Synchronous, no HTTP, no registry meaning."""
