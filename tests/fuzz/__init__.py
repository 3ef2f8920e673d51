"""Coverage-guided fuzzing of what takes bytes from outside: ``make fuzz``; see ``targets/`` and ``corpus/``."""
