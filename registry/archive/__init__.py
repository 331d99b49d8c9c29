"""Images outside of a registry: image layouts, in directories and tar files, written and read."""
