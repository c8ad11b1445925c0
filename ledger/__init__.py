"""The meaning: pure functions over plain values; only store/ and cli/ touch the world."""
