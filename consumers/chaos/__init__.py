"""A seeded random campaign of faults against the consumer of order streams: plan, live through, compare."""
