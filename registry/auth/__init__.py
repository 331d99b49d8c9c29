"""Who asks: credentials, and what they are checked against. No HTTP server, no store; imports `oci` alone."""
