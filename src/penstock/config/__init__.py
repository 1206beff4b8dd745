"""Configuration: file, environment and command line -> one frozen `Config`, or every error at once.

Enters: the path of a file (or none), the environment, what the command line says. Leaves: `Config`, whose values other rooms get as
settings of their own; or `ConfigErrors`, each with its file, line, key and what to write instead.

Laws: command line beats environment beats file. The working directory is never searched: a cloned repository could send keys
elsewhere. How an exchange is conducted (timers, retries, keep-alive) may be said at the top, on a provider and on a route: the nearest wins,
key by key (`conduct_keys`, `conduct`, `levels`), and what makes another setting useless is noted (`advice`). `resolve` reads the addresses
that are pinned. What argo-proxy's users bring along is translated (`argo`, `argo_keys`, `argo_text`), and every key of it told. No secret
stands in an error, a note or a `repr`. A file that is wrong is refused whole.

Not here: what the settings do. No room below `app` imports this one.
"""

from penstock.config.errors import ConfigError, ConfigErrors
from penstock.config.load import default_file, find, load
from penstock.config.rules import exposure
from penstock.config.schema import schema
from penstock.config.settings import AUTO_TOKEN, Address, Config, Limits, Listening

__all__ = [
    "AUTO_TOKEN", "Address", "Config", "ConfigError", "ConfigErrors", "Limits", "Listening", "default_file", "exposure", "find", "load", "schema",
]
