"""An object store as a store of entries: its faults, its leases, its keys."""
