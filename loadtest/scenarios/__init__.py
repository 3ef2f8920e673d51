"""One question a file; each is a locustfile. The first line of its docstring is the question, `answer` reads the figures."""
