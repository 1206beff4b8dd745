"""`python -m penstock.config > docs/penstock.schema.json`."""

from penstock.config.schema import text

print(text(), end="")
