"""What a registry means: links, tags, mounts, referrers. Asynchronous; no HTTP."""
