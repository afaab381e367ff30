"""The resource types, one module a service; each module's `TYPES` are its entries."""
