"""What keeps a run's files whole: sealing, leases, orphans, stops, provenance."""
