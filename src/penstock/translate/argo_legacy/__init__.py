"""Legacy Argo: OpenAI's requests in its own JSON, and its answers in OpenAI's words.

Enters: bodies of Chat, Completions, Responses and Embeddings; the gateway's bodies, and the raw text of its stream. Leaves: what it is asked
(`Asked`), neutral events, and the notes of what was left out.

- `request`: a client's body -> `Asked`, with `messages` (roles, `[continue]`), `responses` (items -> messages), `tools` (each family's own
  form) and `prompted` (tools in words, for models that have none).
- `answer`: a body -> text and calls -> neutral events. `told`: all of it in the client's protocol: frames of raw text, frames of a body, a body.
- `tokens`: estimates, since the gateway counts nothing.

Laws: 2, 3, 4, 5. Facts of the wire: `docs/protocols/argo_legacy.md`. Not here: URLs, names of models and who asks (`providers`), sockets.
"""

from penstock.translate.argo_legacy.answer import AnswerError
from penstock.translate.argo_legacy.request import Asked, Resource, ask
from penstock.translate.argo_legacy.told import Told, told_error

__all__ = ["AnswerError", "Asked", "Resource", "Told", "ask", "told_error"]
