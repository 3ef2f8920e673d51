"""One target a file: ``run(data)`` raises for bytes that the product treats wrongly, whatever they are.

They need nothing of the fuzzer, so that tests replay every input that was ever worth keeping.
"""
