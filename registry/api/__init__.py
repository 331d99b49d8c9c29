"""HTTP: one file per section of the specification, over `store.base.Store`."""
