"""What the kit costs, measured against plain references in the same run. ``python -m benchmarks`` runs all."""
