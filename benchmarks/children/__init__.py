"""Programs that benchmarks start, so that what they use is told apart from what is measured."""
